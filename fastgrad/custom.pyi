"""Types of ``custom.pyx``."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self, SupportsFloat, SupportsIndex, TypeAlias

from typing_extensions import disjoint_base

from fastgrad.value import Value

_Number: TypeAlias = SupportsFloat | SupportsIndex

@disjoint_base
class CustomOp:
    forward: Callable[..., _Number]
    partials: Callable[..., Iterable[_Number]]
    second: Callable[..., Iterable[Iterable[_Number]]] | None
    name: str

    def __init__(
        self,
        forward: Callable[..., _Number],
        partials: Callable[..., Iterable[_Number]],
        second: Callable[..., Iterable[Iterable[_Number]]] | None = None,
        name: str | None = None,
    ) -> None: ...
    def __call__(self, *operands: Value | _Number) -> Value: ...
    def value(self, xs: Sequence[float]) -> float: ...
    def partials_at(self, xs: Sequence[float]) -> list[float]: ...
    def second_at(self, xs: Sequence[float]) -> list[list[float]]: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: Any) -> Self: ...
    def __reduce__(self) -> tuple[type[CustomOp], tuple[Any, ...]]: ...

@disjoint_base
class Calls: ...

def custom_op(
    forward: Callable[..., _Number],
    partials: Callable[..., Iterable[_Number]],
    second: Callable[..., Iterable[Iterable[_Number]]] | None = None,
    *,
    name: str | None = None,
) -> CustomOp: ...
