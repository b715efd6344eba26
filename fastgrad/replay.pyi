"""Types of what Python sees of ``replay.pyx``."""

from typing import Any

import numpy as np
from typing_extensions import disjoint_base

from fastgrad.recording import Recording
from fastgrad.slots import Slots

@disjoint_base
class Memory: ...

@disjoint_base
class Replay:
    recording: Recording

    def __init__(self, recording: Recording) -> None: ...
    def run(
        self,
        columns: list[np.ndarray[Any, Any]],
        samples: int,
        theta: np.ndarray[Any, Any],
        gradient: bool,
        threads: int,
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]: ...
    def cost(self, gradient: bool) -> float: ...
    def describe(self, gradient: bool, samples: int) -> tuple[int, int, int, int]: ...

class Parameters(Slots):
    def read(self) -> np.ndarray[Any, Any]: ...
    def add_grads(self, grads: np.ndarray[Any, Any], divisor: float) -> None: ...

def processors() -> int: ...
