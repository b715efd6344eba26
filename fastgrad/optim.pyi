"""Types of ``optim.pyx``."""

from collections.abc import Iterable
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from typing_extensions import disjoint_base

from fastgrad.program import Program
from fastgrad.value import Value

__all__ = ["SGD", "Adam", "Optimizer"]

_Number: TypeAlias = SupportsFloat | SupportsIndex

@disjoint_base
class Optimizer:
    param_groups: tuple[dict[str, Any]]
    lr: Any

    def __init__(self, params: Iterable[Value], settings: dict[str, Any]) -> None: ...
    def step(self) -> None: ...
    def minimize(self, program: Program, *args: Any, **kwargs: Any) -> float: ...
    def zero_grad(self) -> None: ...

@disjoint_base
class SGD(Optimizer):
    def __init__(
        self,
        params: Iterable[Value],
        lr: _Number = 1e-3,
        momentum: _Number = 0,
        dampening: _Number = 0,
        weight_decay: _Number = 0,
        nesterov: bool = False,
    ) -> None: ...

@disjoint_base
class Adam(Optimizer):
    def __init__(
        self,
        params: Iterable[Value],
        lr: _Number = 1e-3,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-8,
        weight_decay: _Number = 0,
    ) -> None: ...
