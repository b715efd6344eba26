"""Types of ``recompute.pyx``."""

from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import disjoint_base

_Result = TypeVar("_Result")

@disjoint_base
class Segment: ...

@disjoint_base
class Result: ...

def checkpoint(fn: Callable[..., _Result], *xs: Any) -> _Result: ...
