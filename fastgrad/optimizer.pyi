"""Types of ``optimizer.pyx``."""

from collections.abc import Iterable, Mapping
from typing import Any

from typing_extensions import disjoint_base

from fastgrad.program import Program
from fastgrad.value import Value

__all__ = ["Optimizer", "checked"]

@disjoint_base
class Optimizer:
    param_groups: tuple[dict[str, Any]]
    lr: Any

    def __init__(self, params: Iterable[Value], settings: dict[str, Any]) -> None: ...
    def step(self) -> None: ...
    def minimize(self, program: Program, *args: Any, **kwargs: Any) -> float: ...
    def zero_grad(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None: ...

def restored(
    cls: type[Optimizer], params: tuple[Value, ...], state_dict: Mapping[str, Any]
) -> Optimizer: ...
def checked(
    number: object, key: str, name: str, least: float = 0.0, below: float = ...
) -> float: ...
