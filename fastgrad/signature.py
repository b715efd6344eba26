"""Signatures: what a program knows of arguments of certain shapes.

A program has one `Captured` for all of its signatures, its parameters.

Invariant: a `Captured` grows at its end only, so places in it stay right.
"""

import contextlib
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from fastgrad.engine import Value
from fastgrad.slots import Slots

Fill = Callable[[int, int], np.ndarray]


class Signature(NamedTuple):
    """What a program has traced: `Program.signatures` lists these.

    Attributes
    ----------
    shapes : tuple of tuple of int
        Of one sample of each argument.
    static : dict
        Keyword arguments.
    output : tuple of int
        Shape of the output for one sample.
    entries, operations : int
        Entries recorded, and what is left of them to be run for a sample after optimisation.
    lanes : int
        Samples of a block.
    workspace : int
        Bytes that a block works in.
    """

    shapes: tuple[tuple[int, ...], ...]
    static: dict[str, Any]
    output: tuple[int, ...]
    entries: int
    operations: int
    lanes: int
    workspace: int


class Captured:
    """The parameters of a program, in the order in which they were captured."""

    def __init__(self, values: list[Value]) -> None:
        self.values = values
        self.reader = Slots(values)

    def places(self, own: list[Value]) -> np.ndarray | None:
        """Where `own` stand in the list, new ones at its end; None if that is 0, 1, 2, ..."""
        if not self.values:
            self.values, self.reader = own, Slots(own)
            return None
        if len(own) <= len(self.values) and all(map(operator.is_, own, self.values)):
            return None  # the common case, without a table of ids
        index = {id(value): k for k, value in enumerate(self.values)}
        new = [value for value in own if id(value) not in index]
        if new:
            index |= {id(value): len(index) + k for k, value in enumerate(new)}
            self.values = self.values + new
            self.reader = Slots(self.values)
        return np.array([index[id(value)] for value in own], dtype=np.int64)

    def own(self, places: np.ndarray | None, count: int) -> list[Value]:
        """Those that stand there, or the first so many."""
        return self.values[:count] if places is None else [self.values[k] for k in places]


def order_of(own: list[Value], steered: tuple[Value, ...], name: str) -> np.ndarray:
    """Where an optimizer's parameters stand among those of the program of this name, or -1."""
    index = {id(value): k for k, value in enumerate(own)}
    order = np.array([index.get(id(value), -1) for value in steered], dtype=np.int64)
    if order.max() < 0:
        raise ValueError(
            f"the program {name} uses none of the optimizer's {len(steered)} parameters, but "
            f"{len(own)} others: make the optimizer of the program's parameters"
        )
    return order


def check_sums(grads: np.ndarray) -> None:
    """Raise FloatingPointError if samples' gradients that are finite have too large a sum."""
    for place in np.flatnonzero(~np.isfinite(grads)):
        raise FloatingPointError(
            f"the gradient of parameters[{place}] became {float(grads[place])!r} when those of "
            "the samples, each of them finite, were added up"
        )


# ---- nested lists


def nested(source: Iterator[Value], shape: tuple[int, ...]) -> Any:
    """Values in nested lists of this shape."""
    if not shape:
        return next(source)
    return [nested(source, shape[1:]) for _ in range(shape[0])]


def flatten(result: Any, what: str, numbers: bool = True) -> tuple[list[Value], tuple[int, ...]]:
    """Nested lists as a flat one, and their shape; numbers become Values, if they may."""
    if isinstance(result, Value):
        return [result], ()
    if isinstance(result, (list, tuple, np.ndarray)):
        parts = [flatten(part, what, numbers) for part in result]
        shapes = {shape for _, shape in parts}
        if len(shapes) > 1:
            raise ValueError(f"{what} must be rectangular, got parts of shapes {sorted(shapes)}")
        values = [value for part, _ in parts for value in part]
        if not values:
            raise ValueError(f"{what} must hold a Value at least, got {result!r:.100}")
        return values, (len(parts), *parts[0][1])
    if numbers:
        with contextlib.suppress(TypeError):
            return [Value(result)], ()
    raise TypeError(
        f"{what} must be a Value or nested lists of Values, got "
        f"{type(result).__name__} {result!r:.100}"
    )
