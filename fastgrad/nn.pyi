"""Types of ``nn.py``: here, to leave micrograd's three classes as plain as they are there."""

import random as random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from fastgrad.engine import Value as Value
from fastgrad.module import Module as Module
from fastgrad.parts import Dropout as Dropout
from fastgrad.parts import Embedding as Embedding
from fastgrad.parts import LayerNorm as LayerNorm
from fastgrad.parts import RMSNorm as RMSNorm
from fastgrad.parts import Sequential as Sequential

_Number: TypeAlias = SupportsFloat | SupportsIndex
_Row: TypeAlias = Value | Iterable[Value | _Number]

class Neuron(Module):
    w: list[Value]
    b: Value
    nonlin: bool | str
    def __init__(
        self,
        nin: int,
        nonlin: bool = True,
        activation: str = "relu",
        init: str | Callable[[], _Number] = "uniform",
    ) -> None: ...
    def __call__(self, x: _Row) -> Value: ...

class Layer(Module):
    neurons: list[Neuron]
    def __init__(self, nin: int, nout: int, **kwargs: Any) -> None: ...
    # A Value or a list of them, by a number that types do not know.
    def __call__(self, x: _Row) -> Any: ...

class MLP(Module):
    layers: list[Layer]
    def __init__(self, nin: int, nouts: Sequence[int], **kwargs: Any) -> None: ...
    def __call__(self, x: _Row) -> Any: ...
