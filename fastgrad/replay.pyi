"""Types of what Python sees of ``replay.pyx``."""

from typing import Any

import numpy as np
from typing_extensions import disjoint_base

from fastgrad.batch import Batch
from fastgrad.optimizer import Optimizer
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
        batch: Batch,
        parameters: Slots,
        places: np.ndarray[Any, Any] | None,
        theta: np.ndarray[Any, Any] | None,
        mode: str,
        threads: int,
        optimizer: Optimizer | None = None,
        order: np.ndarray[Any, Any] | None = None,
    ) -> tuple[Any, np.ndarray[Any, Any]]: ...
    def cost(self, gradient: bool) -> float: ...
    def describe(self, gradient: bool, samples: int) -> tuple[int, int, int, int]: ...

VARIANTS: tuple[str, ...]

def variant() -> str: ...
