"""Types of what Python sees of ``record.pyx``."""

from collections.abc import Callable, Iterable
from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Any, Literal, Self

def set_dialect(
    *,
    int_grad: bool = True,
    int_seed: bool = True,
    floats: bool = False,
    no_reflected: int = 0,
    no_comparison: int = 0,
    no_value_power: bool = False,
    frozen: Iterable[str] = (),
    may_set: Callable[[Any, str], object] | None = None,
    hook: Callable[..., None] | None = None,
) -> None: ...

class Pause:
    is_open: bool
    outer: Pause | None

    def __init__(self, outer: Pause | None) -> None: ...

current_pause: ContextVar[Pause | None]

class no_grad(ContextDecorator):
    def __init__(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> Literal[False]: ...
