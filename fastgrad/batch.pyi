"""Types of what Python sees of ``batch.pyx``."""

from typing import Any

import numpy as np
from typing_extensions import disjoint_base

@disjoint_base
class Batch:
    shapes: tuple[tuple[int, ...], ...]
    samples: int

    def __init__(self, arguments: tuple[Any, ...], names: list[str]) -> None: ...
    def example(self) -> list[float]: ...
    def number(self, sample: int, column: int) -> float: ...
    def append(self, array: np.ndarray[Any, Any]) -> None: ...

def numbers_of(argument: Any, name: str) -> np.ndarray[Any, Any]: ...
