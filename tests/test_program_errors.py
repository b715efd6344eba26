"""What programs refuse, in which words; and that a call that raises has changed nothing."""

import math

import numpy as np
import pytest
from oracles import refused, state_of

import fastgrad
from fastgrad import Program, TraceError, Value, functional

BY_HAND = "a Value made by hand: build it from operators and functions"


# ---- Arguments


@pytest.fixture
def program():
    w = [Value(2.0), Value(3)]
    w[0].grad = 0.5

    @fastgrad.compile
    def loss(x, y, *, scale=1.0, power=2):
        return (w[0] * x[0] + w[1] * x[1] - y) ** power * scale

    loss.backward([[1.0, 2.0]], [0.5])
    return loss


X, Y = [[1.0, 2.0], [3.0, 4.0]], [1.0, 2.0]
ARGUMENTS = {
    "other batch": (
        (X, [1.0, 2.0, 3.0]),
        {},
        ValueError,
        "y has 3 samples (shape (3,)), but the arguments before have 2: expected the same number",
    ),
    "no batch axis": (
        (X, 1.5),
        {},
        ValueError,
        "y must have a batch axis in front, got the number 1.5: for one sample pass a list of one",
    ),
    "ragged": (
        ([[1.0, 2.0], [3.0]], Y),
        {},
        ValueError,
        "x must be an array of numbers, got rows of different lengths: [[1.0, 2.0], [3.0]]",
    ),
    "object array": (
        (X, np.array([1.0, None])),
        {},
        TypeError,
        "y must be an array of numbers, got object of shape (2,): array([1.0, None], dtype=object)",
    ),
    "Values": (
        (X, [Value(1.0), Value(2.0)]),
        {},
        TypeError,
        "y must be an array of numbers, got object of shape (2,): "
        "[Value(data=1.0, grad=0), Value(data=2.0, grad=0)]",
    ),
    "strings": (
        (X, ["1", "2"]),
        {},
        TypeError,
        "y must be an array of numbers, got <U1 of shape (2,): ['1', '2']",
    ),
    "a string": (
        ("samples", Y),
        {},
        TypeError,
        "x must be an array of numbers, got <U7 of shape (): 'samples'",
    ),
    "complex": (
        (X, [1j, 2.0]),
        {},
        TypeError,
        "y must be an array of numbers, got complex128 of shape (2,): [1j, 2.0]",
    ),
    "dates": (
        (X, np.array(["2020-01-01"], dtype="datetime64[D]")),
        {},
        TypeError,
        "y must be an array of numbers, got datetime64[D] of shape (1,): "
        "array(['2020-01-01'], dtype='datetime64[D]')",
    ),
    "None": (
        (X, None),
        {},
        TypeError,
        "y must be an array of numbers, got object of shape (): None",
    ),
    "missing": ((X,), {}, TypeError, "missing argument y"),
    "nothing": ((), {}, TypeError, "missing argument x, y"),
    "too many": ((X, Y, Y), {}, TypeError, "expected 2 arguments ['x', 'y'], got 3"),
    "twice": ((X, Y), {"y": Y}, TypeError, "y was given twice"),
    "unknown": (
        (X, Y),
        {"scales": 1},
        TypeError,
        "unknown keyword argument scales: expected one of x, y, scale, power",
    ),
    "unhashable": (
        (X, Y),
        {"scale": [1.0]},
        TypeError,
        "scale is static, so it must be hashable, got list [1.0]: pass a tuple, or make it a "
        "positional argument",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("method", ["__call__", "backward", "value_and_grad"])
def test_arguments(program, method, name):
    args, kwargs, kind, text = ARGUMENTS[name]
    before = state_of(program)
    refused(lambda: getattr(program, method)(*args, **kwargs), kind, text)
    assert state_of(program) == before


def test_theta(program):
    before = state_of(program)
    text = "theta must have the shape (2,), a number for each of the program's parameters, got {}"
    for theta in (np.zeros(3), np.zeros((2, 1)), np.zeros((1, 2)), []):
        refused(
            lambda theta=theta: program.value_and_grad(X, Y, theta=theta),
            ValueError,
            text.format(np.shape(theta)),
        )
    refused(
        lambda: program.value_and_grad(X, Y, theta=["a", "b"]),
        TypeError,
        "theta must be an array of numbers, got <U1 of shape (2,): ['a', 'b']",
    )
    assert state_of(program) == before


def test_empty_batch(program):
    before = state_of(program)
    for call in (program.backward, program.value_and_grad):
        refused(
            lambda call=call: call(np.zeros((0, 2)), []),
            ValueError,
            "x has no samples: there is no mean, and no gradient",
        )
    assert state_of(program) == before


def test_backward_of_more_than_a_number():
    w = Value(1.0)
    program = fastgrad.compile(lambda x: [w * x, x])
    for call in (program.backward, program.value_and_grad):
        refused(
            lambda call=call: call(Y),
            ValueError,
            "backward needs one number a sample, this program gives (2,): "
            "return one Value, say the sum",
        )
    assert w.grad == 0


BAD = {"nan": math.nan, "fraction": 0.5, "negative": -1.0, "large": 3.0, "inf": math.inf}


@pytest.mark.parametrize("threads", [1, 7])
@pytest.mark.parametrize("size", [1, 3, 5, 33, 600])
@pytest.mark.parametrize("name", BAD)
def test_indices(name, size, threads):
    """The first bad sample is named, also where lanes repeat the last one, or threads race."""
    w = [Value(1.0), Value(2.0), Value(3.0)]
    program = fastgrad.compile(lambda x, i: functional.take(w, i[1]) * x, threads=threads)
    index = np.ones((size, 2))
    program.backward(np.ones(size), index)
    before = state_of(program)
    for first in {size - 1, size // 2, size // 3}:
        bad = index.copy()
        bad[[first, *range(first, size, 7)], 1] = BAD[name]
        for method in (program, program.backward, program.value_and_grad):
            refused(
                lambda method=method, bad=bad: method(np.ones(size), bad),
                IndexError,
                f"sample {first}: i, {BAD[name]!r} at place 1, is no index into the "
                "values given to take(): expected a whole number from 0 to their number less 1",
            )
    assert state_of(program) == before
    assert program.backward(np.ones(size), index) == 2.0


def test_computed_indices():
    """The slot of an input that is not needed any more may hold the computed index."""
    program = fastgrad.compile(lambda x, i: functional.take([x, 1.0, 2.0], i - 1))
    refused(
        lambda: program([5.0, 5.0], [1, 0]),
        IndexError,
        "sample 1: a computed index is no index into the values given to take(): expected a whole "
        "number from 0 to their number less 1",
    )
    nested = fastgrad.compile(lambda i: functional.take([0, 1], functional.take([0, 5], i)))
    refused(
        lambda: nested([0, 1, 2]),
        IndexError,
        "sample 1: a computed index is no index into the values given to take(): expected a whole "
        "number from 0 to their number less 1",
    )


# ---- Compiling


def test_compile():
    f = fastgrad.compile
    program = f(lambda x: x * 2, threads=2)
    refused(
        lambda: f(3), TypeError, "compile needs a function, or a module with __call__, got int 3"
    )
    for threads in (0, -1, 1.0, True, "2"):
        text = f"the number of threads must be an int of at least 1, got {threads!r}"
        refused(lambda n=threads: f(math.exp, threads=n), ValueError, text)
        refused(lambda n=threads: fastgrad.set_num_threads(n), ValueError, text)
        refused(lambda n=threads: setattr(program, "threads", n), ValueError, text)
        assert program.threads == 2
    refused(
        lambda: f(lambda x: x, parameters=[1.0]),
        TypeError,
        "parameters must be Values, got float 1.0",
    )
    refused(
        lambda: f(lambda x, **options: x),
        TypeError,
        "a compiled function cannot take **options: name the keyword arguments",
    )
    refused(
        lambda: f(lambda *, n: n)(n=1),
        TypeError,
        "a program needs at least one argument, an array of samples, got none",
    )


def test_from_values():
    x = Value(1.0)
    y = x * 2
    make = Program.from_values
    refused(
        lambda: make([y], y * 3),
        TraceError,
        "an input must be a leaf, got Value(data=2.0, grad=0), a result",
    )
    refused(
        lambda: make(["x"], y),
        TypeError,
        "input 0 must be a Value or nested lists of Values, got str 'x'",
    )
    refused(
        lambda: make([x], Value(1.0, (x,), "mine")),
        TraceError,
        f"a program cannot run the rule of Value(data=1.0, grad=0), {BY_HAND}",
    )
    refused(
        lambda: make([x, [x]], y),
        ValueError,
        "the same Value is given as input twice: make another Value",
    )
