"""Types of what Python sees of ``recording.pyx``."""

from typing import Any, Self

from typing_extensions import disjoint_base

from fastgrad.custom import CustomOp
from fastgrad.value import Value

@disjoint_base
class Recording:
    parameters: int
    inputs: int
    size: int
    output_count: int
    pool_size: int
    arrays: tuple[Any, ...]
    lines: tuple[Any, tuple[str, ...]] | None
    customs: tuple[CustomOp, ...]

    def __init__(
        self,
        parameters: int,
        inputs: int,
        arrays: tuple[Any, ...],
        lines: tuple[Any, tuple[str, ...]] | None = None,
        customs: tuple[CustomOp, ...] = (),
    ) -> None: ...
    def line(self, entry: int) -> str | None: ...
    def input_numbers(self) -> Any: ...
    def with_lines_of(self, other: Self) -> Self: ...
    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]: ...

def freeze(
    first: int | None, inputs: list[Value], outputs: list[Value]
) -> tuple[Recording, list[Value]]: ...
def capture(outputs: list[Value], wanted: list[Value]) -> tuple[Recording, list[Value], Any]: ...
