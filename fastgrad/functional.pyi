"""Types of ``functional.pyx``."""

from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex, TypeAlias

from fastgrad.choices import argmax, max, maximum, minimum, take, where
from fastgrad.value import Value

__all__ = [
    "argmax",
    "cross_entropy",
    "dot",
    "hinge",
    "log_softmax",
    "logsumexp",
    "max",
    "maximum",
    "mean",
    "minimum",
    "mse",
    "rmsnorm",
    "softmax",
    "sum",
    "take",
    "where",
]

_Number: TypeAlias = SupportsFloat | SupportsIndex
_Row: TypeAlias = Iterable[Value | _Number]

def sum(values: _Row) -> Value: ...
def mean(values: _Row) -> Value: ...
def dot(xs: _Row, ys: _Row) -> Value: ...
def softmax(values: _Row) -> list[Value]: ...
def log_softmax(values: _Row) -> list[Value]: ...
def logsumexp(values: _Row) -> Value: ...
def cross_entropy(logits: _Row, i: Value | _Number) -> Value: ...
def mse(outputs: _Row | Value | _Number, targets: _Row | Value | _Number) -> Value: ...
def hinge(outputs: _Row | Value | _Number, targets: _Row | Value | _Number) -> Value: ...
def rmsnorm(values: _Row, eps: _Number = 1e-5) -> list[Value]: ...
