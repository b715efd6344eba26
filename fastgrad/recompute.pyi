"""Types of ``recompute.pyx``."""

from collections.abc import Callable
from typing import Any, TypeVar

_Result = TypeVar("_Result")

def checkpoint(fn: Callable[..., _Result], *xs: Any) -> _Result: ...
