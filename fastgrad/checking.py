"""The gradient checker: derivatives from every sweep against differences of what they derive.

First derivatives are compared with central differences of the outputs, second ones with those of
the gradient.  Differences are extrapolated to step 0 by Ridders' method, which estimates its own
error too (C. Ridders, Accurate computation of F'(x) and F'(x)F''(x), Advances in Engineering
Software 4, 1982).  Where two numbers differ, the entries are checked one by one, so that the error
names the operation and the line that recorded it.

Limitations: at a kink (`relu` at 0) a central difference is no one-sided derivative; a check fails
there, and says so.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from fastgrad.anomaly import located
from fastgrad.batch import Batch, numbers_of
from fastgrad.contexts import detect_anomaly
from fastgrad.engine import Value
from fastgrad.linear import Linear
from fastgrad.program import Program
from fastgrad.recording import Recording, capture
from fastgrad.signature import flatten, nested
from fastgrad.trace import TraceError

FIRST_STEP = 0.05  # of a difference, for numbers up to 1; relative to larger ones
SHRINK = 2.0
STEPS = 9


class GradcheckError(AssertionError):
    """A derivative is not what differences say."""


def gradcheck(
    function: Callable[..., Any],
    inputs: Any,
    *,
    order: int = 2,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> bool:
    """Compare the derivatives of a function of Values with differences.

    Parameters
    ----------
    function : callable
        Gets a `Value`, or nested lists of them, for each argument, and returns a Value or nested
        lists of them. It is called many times and must give the same each time.
    inputs : tuple, or array_like
        The arguments where to check: numbers, or nested lists of them. What is no tuple is the only
        argument.
    order : {1, 2}
        Whether to check second derivatives too.
    rtol, atol : float
        A derivative may be ``atol + rtol * abs(difference)`` away from the difference, and what the
        difference itself may be wrong by.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        If they differ: says both numbers, the input, the sweep, the operation and its line.
    TypeError, ValueError
        If the inputs are no numbers, or `order` is neither 1 nor 2; what `function` raises.

    Notes
    -----
    Checked are ``backward()``, the reverse sweep of `grad`, the forward one of `jvp`, and reverse
    over forward, as in `hvp`. In a graph that holds rules made by hand only ``backward()`` can be.

    Examples
    --------
    >>> import fastgrad
    >>> fastgrad.gradcheck(lambda x, y: (x * y).tanh() + x**3, (0.5, -1.5))
    True
    """
    _check_order(order)
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    arrays = [numbers_of(argument, f"input {k}") for k, argument in enumerate(arguments)]
    shapes = [array.shape for array in arrays]
    start = np.concatenate([array.ravel() for array in arrays])
    names = [
        f"input {k}{_index(place)}, {float(array[place])!r}"
        for k, array in enumerate(arrays)
        for place in np.ndindex(array.shape)
    ]

    def record(x: np.ndarray) -> tuple[list[Value], list[Value]]:
        values = [Value(number) for number in x.tolist()]
        source = iter(values)
        result = function(*(nested(source, shape) for shape in shapes))
        return values, flatten(result, "the function's result", numbers=False)[0]

    def outputs(x: np.ndarray) -> np.ndarray:
        return np.array([out.data for out in record(x)[1]], dtype=np.float64)

    check = _Check(names, rtol, atol)
    expected, errors = _differences(outputs, start)
    with detect_anomaly():  # for the lines
        values, outs = record(start)
    points = []
    for place, out in enumerate(outs):
        try:
            point = _Point.of_values(out, values)
        except TraceError:  # rules made by hand: no other sweep can use them
            point = None
        suspect = point.suspect if point else functools.partial(_rules_by_hand, out)
        found = _backward(record, start, place)
        check.compare("backward()", found, expected[place], errors[place], suspect)
        if point is None:
            continue
        check.sweeps(point, expected[place], errors[place])
        points.append(point)
    for place, point in enumerate(points if order == 2 else []):

        def gradient(x: np.ndarray, place: int = place) -> np.ndarray:
            values, outs = record(x)
            return _Point.of_values(outs[place], values).adjoints()

        check.second(point, *_differences(gradient, start))
    return True


def check_program(
    program: Program,
    inputs: Any,
    *,
    order: int = 2,
    rtol: float = 1e-6,
    atol: float = 1e-8,
    **static: Any,
) -> bool:
    """Compare a program's derivatives with differences, by its arguments and its parameters.

    Parameters
    ----------
    program : Program
    inputs : tuple, or array_like
        The arguments, each with a batch axis in front; what is no tuple is the only argument.
        Arguments of ints are taken for indices: nothing is differentiated by them.
    order, rtol, atol
        As for `gradcheck`.
    **static
        The program's keyword arguments.

    Returns
    -------
    bool
        True.

    Raises
    ------
    GradcheckError
        If they differ: says both numbers, the sample, the input or parameter, the sweep, the
        operation and its line.
    TypeError, ValueError
        If `program` is no Program, or `order` neither 1 nor 2; else as a call of it.

    Notes
    -----
    Checked are the reverse sweep, the forward one, and reverse over forward, at each sample; and
    for one output ``value_and_grad``, which runs fused and in lanes, on the whole batch.

    Examples
    --------
    >>> import fastgrad
    >>> w = fastgrad.Value(0.5)
    >>> program = fastgrad.compile(lambda x, y: (w * x - y) ** 2)
    >>> fastgrad.check_program(program, ([1.0, 2.0], [0.0, 1.0]))
    True
    """
    _check_order(order)
    if not isinstance(program, Program):
        raise TypeError(
            f"check_program needs a Program, got {type(program).__name__} {program!r:.60}: "
            "fastgrad.compile a function, or use gradcheck"
        )
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    traced, batch, names = program._prepare(arguments, static)
    recording = program._with_lines(traced, batch)
    theta = traced.parameters(None)
    columns = recording.input_numbers()
    ends = np.cumsum([0, *map(math.prod, batch.shapes)])
    by = [(np.arange(recording.parameters), [f"parameter {k}" for k in range(len(theta))])]
    by += [
        (columns[ends[k] : ends[k + 1]], [f"{name}{_index(at)}" for at in np.ndindex(shape)])
        for k, (name, shape) in enumerate(zip(names, batch.shapes))
        if np.asarray(arguments[k]).dtype.kind not in "iub"
    ]
    everywhere = itertools.product(
        range(1, order + 1), range(batch.samples), range(recording.output_count), by
    )
    for which, sample, place, (numbers, labels) in everywhere:
        if not labels:
            continue
        point = _Point(_alone(recording, place), numbers, theta, batch, sample)
        check = _Check([f"sample {sample}, {label}" for label in labels], rtol, atol)
        start = point.start()
        if which == 1:
            check.sweeps(point, *_differences(point.at, start))
        else:
            check.second(point, *_differences(point.gradient_at, start))
    if traced.output == () and len(theta):
        single = [_Point(recording, by[0][0], theta, batch, k) for k in range(batch.samples)]
        expected = np.mean([point.adjoints() for point in single], axis=0)
        whole = program.value_and_grad(*arguments, **static)[1]
        found = whole if traced.places is None else whole[traced.places]
        check = _Check(by[0][1], rtol, atol)
        check.compare("value_and_grad()", found, expected, np.zeros_like(found), _unlocated)
    return True


class _Point:
    """A recording of one output at a point, linearised by some of its numbers."""

    def __init__(
        self,
        recording: Recording,
        numbers: np.ndarray,
        theta: np.ndarray,
        batch: Batch | None = None,
        sample: int = 0,
    ) -> None:
        self.recording, self.numbers = recording, numbers
        self.linear = Linear(recording, numbers)
        self.linear.set_parameters(theta)
        if batch is None:
            self.linear.set_recorded()
        elif not self.linear.set_sample(batch, sample):
            raise IndexError(f"sample {sample} has an index that names nothing")

    @classmethod
    def of_values(cls, out: Value, values: list[Value]) -> Self:
        recording, parameters, numbers = capture([out], values)
        return cls(recording, numbers, np.array([value.data for value in parameters], np.float64))

    def adjoints(self) -> np.ndarray:
        found = np.zeros((1, len(self.numbers)))
        self.linear.adjoints(None, found)
        return found.ravel()

    def tangents(self) -> np.ndarray:
        found = np.zeros((len(self.numbers), 1))
        self.linear.tangents(None, found)
        return found[:, 0]

    def bends(self) -> np.ndarray:
        found = np.zeros((len(self.numbers),) * 2)
        self.linear.bend_by(None, found)
        return found

    def start(self) -> np.ndarray:
        return np.array([self.linear.value(k) if k >= 0 else 0.0 for k in self.numbers])

    def at(self, x: np.ndarray) -> np.ndarray:
        """The output where the numbers are `x`."""
        self.linear.set_point(self.numbers, x)
        found = np.empty(1)
        self.linear.outputs(found)
        return found

    def gradient_at(self, x: np.ndarray) -> np.ndarray:
        self.at(x)
        return self.adjoints()

    def suspect(self, check: "_Check", order: int) -> str:
        """The first entry whose own partials are not what differences say, as a text."""
        for entry in self.linear.entries():
            text = self._wrong_entry(check, entry, order)
            if text:
                return located(self.recording.line(entry), text)
        return "every operation by itself agrees with its differences"

    def _wrong_entry(self, check: "_Check", entry: int, order: int) -> str:
        linear = self.linear
        operands = linear.operands(entry)
        what = f"{linear.label(entry)} of {', '.join(repr(linear.value(k)) for k in operands)}"
        varied = list(linear.local(entry)[1])
        for number in varied:

            def local(x: np.ndarray, number: int = number) -> np.ndarray:
                value, partials = linear.local(entry, number, float(x[0]))
                return np.array([value, *partials.values()])

            expected, errors = _differences(local, np.array([linear.value(number)]))
            found = linear.local(entry)[1][number]
            k = operands.index(number)
            if check.is_off(found, expected[0, 0], errors[0, 0]):
                return (
                    f"the partial of {what} by operand {k} is {found!r}, the difference "
                    + _rounded(expected[0, 0])
                )
            for row, other in enumerate(varied if order == 2 else [], start=1):
                second = linear.seconds(entry).get((min(number, other), max(number, other)), 0.0)
                if check.is_off(second, expected[row, 0], errors[row, 0]):
                    return (
                        f"the second partial of {what} by operands {operands.index(other)} and "
                        f"{k} is {second!r}, the difference {_rounded(expected[row, 0])}"
                    )
        return ""


class _Check:
    """What is compared: names of the numbers to differentiate by, and how close it must be."""

    def __init__(self, names: list[str], rtol: float, atol: float) -> None:
        self.names, self.rtol, self.atol = names, rtol, atol

    def is_off(self, found: float, expected: float, error: float) -> bool:
        bound = self.atol + self.rtol * abs(expected) + error
        return not abs(found - expected) <= bound

    def compare(
        self,
        sweep: str,
        found: np.ndarray,
        expected: np.ndarray,
        errors: np.ndarray,
        suspect: Callable[["_Check", int], str],
        order: int = 1,
    ) -> None:
        for index in np.ndindex(found.shape):
            numbers = float(found[index]), float(expected[index])
            if self.is_off(*numbers, float(errors[index])):
                by = " and ".join(self.names[k] for k in index)
                raise GradcheckError(
                    f"by {by}: {sweep} gives {numbers[0]!r}, the difference is "
                    f"{_rounded(numbers[1])}; {suspect(self, order)}"
                )

    def sweeps(self, point: _Point, expected: np.ndarray, errors: np.ndarray) -> None:
        """First derivatives; `expected` is one row, of the one output."""
        for sweep, found in (
            ("the reverse sweep", point.adjoints()),
            ("the forward sweep", point.tangents()),
        ):
            self.compare(sweep, found, expected.ravel(), errors.ravel(), point.suspect)

    def second(self, point: _Point, expected: np.ndarray, errors: np.ndarray) -> None:
        self.compare("reverse over forward", point.bends(), expected, errors, point.suspect, 2)


def _unlocated(check: _Check, order: int) -> str:
    return "entry by entry, the program's derivatives agree with differences"


def _check_order(order: int) -> None:
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2, got {order!r}")


def _rounded(difference: float) -> str:
    return f"{difference:.10g}"  # the digits that it has


def _index(place: tuple[int, ...]) -> str:
    return str(list(place)) if place else ""


def _alone(recording: Recording, place: int) -> Recording:
    """The recording with one of its outputs."""
    *arrays, outputs = recording.arrays
    single = (*arrays, outputs[place : place + 1].copy())
    return Recording(
        recording.parameters, recording.inputs, single, recording.lines, recording.customs
    )


def _backward(
    record: Callable[[np.ndarray], tuple[list[Value], list[Value]]], x: np.ndarray, place: int
) -> np.ndarray:
    values, outs = record(x)
    outs[place].backward()
    return np.array([value.grad for value in values], dtype=np.float64)


def _rules_by_hand(out: Value, check: _Check, order: int) -> str:
    """The rules that could not be checked by themselves, as a text."""
    found, seen, waiting = [], {out}, [out]
    while waiting:
        value = waiting.pop()
        rule = value._backward
        if getattr(rule, "__self__", None) is not value:
            code = getattr(rule, "__code__", None)
            where = f"{code.co_filename}:{code.co_firstlineno}" if code else repr(rule)
            found.append(f"{value._op!r} ({where})")
        waiting += value._prev - seen
        seen |= value._prev
    return f"made by hand are the rules of {', '.join(dict.fromkeys(found))}"


# ---- differences


def _differences(
    function: Callable[[np.ndarray], np.ndarray], start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives (m, n) of m numbers by n, and how far off they may be."""
    columns = [_difference(function, start, k) for k in range(len(start))]
    function(start)  # for functions that stay where they were called last
    shape = (len(function(start)), 0)
    derivatives = np.stack([d for d, _ in columns], axis=1) if columns else np.empty(shape)
    errors = np.stack([e for _, e in columns], axis=1) if columns else np.empty(shape)
    return derivatives, errors


def _difference(
    function: Callable[[np.ndarray], np.ndarray], start: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Ridders' table: central differences with ever smaller steps, extrapolated to step 0."""
    step = FIRST_STEP * max(1.0, abs(start[k]))
    best = _central(function, start, k, step)
    worst = np.full_like(best, np.inf)
    table = [best]
    for _ in range(1, STEPS):
        step /= SHRINK
        row = [_central(function, start, k, step)]
        factor = 1.0
        for j in range(len(table)):
            factor *= SHRINK**2
            row.append((row[j] * factor - table[j]) / (factor - 1))
            error = np.maximum(abs(row[-1] - row[j]), abs(row[-1] - table[j]))
            closer = error < worst  # no nan is
            best, worst = np.where(closer, row[-1], best), np.where(closer, error, worst)
        table = row
    return best, worst


def _central(
    function: Callable[[np.ndarray], np.ndarray], start: np.ndarray, k: int, step: float
) -> np.ndarray:
    """One central difference; nan where the function is not defined on both sides."""
    low, high = start.copy(), start.copy()
    low[k] -= step
    high[k] += step
    try:
        quotient: np.ndarray = (function(high) - function(low)) / (high[k] - low[k])
        return quotient
    except (ArithmeticError, ValueError):
        return np.full_like(function(start), np.nan)
