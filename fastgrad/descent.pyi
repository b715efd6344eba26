"""Types of ``descent.pyx``."""

from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex, TypeAlias

from typing_extensions import disjoint_base

from fastgrad.optimizer import Optimizer
from fastgrad.value import Value

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]

_Number: TypeAlias = SupportsFloat | SupportsIndex

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

class AdamW(Adam):
    def __init__(
        self,
        params: Iterable[Value],
        lr: _Number = 1e-3,
        betas: tuple[_Number, _Number] = (0.9, 0.999),
        eps: _Number = 1e-8,
        weight_decay: _Number = 1e-2,
    ) -> None: ...

@disjoint_base
class RMSprop(Optimizer):
    def __init__(
        self,
        params: Iterable[Value],
        lr: _Number = 1e-2,
        alpha: _Number = 0.99,
        eps: _Number = 1e-8,
        weight_decay: _Number = 0,
        momentum: _Number = 0,
        centered: bool = False,
    ) -> None: ...
