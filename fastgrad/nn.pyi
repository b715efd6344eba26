"""Types of ``nn.py``: here, so that its star import brings what micrograd's does and no more."""

import random as random
from collections.abc import Iterable, Sequence
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from fastgrad.engine import Value as Value

_Row: TypeAlias = Value | Iterable[Value | SupportsFloat | SupportsIndex]

class Module:
    def zero_grad(self) -> None: ...
    def parameters(self) -> list[Value]: ...

class Neuron(Module):
    w: list[Value]
    b: Value
    nonlin: bool
    def __init__(self, nin: int, nonlin: bool = True) -> None: ...
    def __call__(self, x: _Row) -> Value: ...

class Layer(Module):
    neurons: list[Neuron]
    def __init__(self, nin: int, nout: int, **kwargs: bool) -> None: ...
    # A Value or a list of them, by a number that types do not know.
    def __call__(self, x: _Row) -> Any: ...

class MLP(Module):
    layers: list[Layer]
    def __init__(self, nin: int, nouts: Sequence[int]) -> None: ...
    def __call__(self, x: _Row) -> Any: ...
