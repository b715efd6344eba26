"""Types of what Python sees of ``trace.pyx``."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from fastgrad.value import Value

_Fill: TypeAlias = Callable[[int, int], np.ndarray[Any, Any]]

class TraceError(TypeError): ...

REMEDY: str

def user_line() -> str: ...
def begin(
    numbers: list[float], lines: bool = False
) -> tuple[int, list[Value], list[tuple[int, _Fill]]]: ...
def hidden_inputs(count: int, fill: _Fill) -> list[Value]: ...
def end() -> None: ...
def is_tracing() -> bool: ...
