"""Types of what Python sees of ``record.pyx``."""

from contextlib import ContextDecorator
from contextvars import ContextVar
from typing import Literal, Self

pause_depth: ContextVar[int]

class no_grad(ContextDecorator):
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> Literal[False]: ...
