"""Types of what Python sees of ``record.pyx``."""

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Literal, Self

class Pause:
    is_open: bool
    outer: Pause | None

    def __init__(self, outer: Pause | None) -> None: ...

current_pause: ContextVar[Pause | None]

class no_grad(ContextDecorator):
    def __init__(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> Literal[False]: ...
