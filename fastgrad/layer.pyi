"""Types of what Python sees of ``layer.pyx``."""

from collections.abc import Iterable
from typing import Any, Self

from typing_extensions import disjoint_base

from fastgrad.nn import Layer, Neuron
from fastgrad.value import Value

@disjoint_base
class Seat:
    def __reduce__(self) -> tuple[type[Self], tuple[()]]: ...

def register(neuron: type[Neuron], layer: type[Layer]) -> None: ...
def forward(layers: list[Layer], inputs: Iterable[Any]) -> Any: ...
def zero_grads(parameters: Iterable[Value]) -> None: ...
