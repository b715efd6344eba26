"""Types of ``clip.pyx``."""

from collections.abc import Iterable
from typing import Literal, SupportsFloat, SupportsIndex, TypeAlias

from fastgrad.value import Value

__all__ = ["clip_grad_norm_", "clip_grad_value_"]

_Number: TypeAlias = SupportsFloat | SupportsIndex

def clip_grad_norm_(
    parameters: Iterable[Value],
    max_norm: _Number,
    norm_type: float | Literal["inf"] = 2.0,
    error_if_nonfinite: bool = False,
) -> float: ...
def clip_grad_value_(parameters: Iterable[Value], clip_value: _Number) -> None: ...
