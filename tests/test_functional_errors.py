"""What fastgrad.functional refuses: what the errors say, and that nothing is then recorded."""

import math

import pytest

from fastgrad import functional, tape
from fastgrad.engine import Value

INF, NAN = math.inf, math.nan


class Odd:
    def __repr__(self):
        return "Odd()"


def partial(name, *arguments, **keywords):
    return lambda: getattr(functional, name)(*arguments, **keywords)


ROW_FUNCTIONS = ["max", "argmax", "sum", "mean", "softmax", "log_softmax", "logsumexp", "rmsnorm"]
ERRORS = [
    *(
        (partial(name, *wrong), kind, f"{name}: {text}")
        for name in ROW_FUNCTIONS
        for wrong, kind, text in [
            (([],), ValueError, "values is empty, list []: expected at least one number or Value"),
            ((3.0,), TypeError, "values must be a sequence of numbers and Values, got float 3.0"),
            (("12",), TypeError, "values must be a sequence of numbers and Values, got str '12'"),
            (
                (None,),
                TypeError,
                "values must be a sequence of numbers and Values, got NoneType None",
            ),
            (([1, "2"],), TypeError, "values[1] must be a number or a Value, got str '2'"),
            (([[1, 2]],), TypeError, "values[0] must be a number or a Value, got list [1, 2]"),
            (([1j],), TypeError, "values[0] must be a number or a Value, got complex 1j"),
        ]
    ),
    (
        partial("sum", Value(1.0)),
        TypeError,
        "sum: values must be a sequence of numbers and Values, got Value Value(data=1.0, grad=0)",
    ),
    (
        partial("dot", [1, 2, 3], [1]),
        ValueError,
        "dot: xs has length 3, ys has length 1: expected the same length",
    ),
    (
        partial("dot", [1], [None]),
        TypeError,
        "dot: ys[0] must be a number or a Value, got NoneType None",
    ),
    *(
        (partial(name, *wrong), kind, f"{name}: {text}")
        for name in ("mse", "hinge")
        for wrong, kind, text in [
            (
                ([1, 2], [Value(1)]),
                ValueError,
                "outputs has length 2, targets has length 1: expected the same length",
            ),
            (
                (1.0, [1.0]),
                TypeError,
                "expected two sequences or two numbers, "
                "got outputs float 1.0 and targets list [1.0]",
            ),
            (
                ([], []),
                ValueError,
                "outputs is empty, list []: expected at least one number or Value",
            ),
            (
                ("a", "b"),
                TypeError,
                "outputs must be a sequence of numbers and Values, got str 'a'",
            ),
        ]
    ),
    (partial("maximum", 1, "a"), TypeError, "maximum: b must be a number or a Value, got str 'a'"),
    (
        partial("minimum", Odd(), 1),
        TypeError,
        "minimum: a must be a number or a Value, got Odd Odd()",
    ),
    (partial("where", [], 1, 2), TypeError, "where: c must be a number or a Value, got list []"),
    (
        partial("where", 0, None, 2),
        TypeError,
        "where: a must be a number or a Value, got NoneType None",
    ),
    (partial("where", 1, 1, "b"), TypeError, "where: b must be a number or a Value, got str 'b'"),
    *(
        (
            partial(name, [1, 2, 3], index),
            IndexError,
            f"{name}: index {shown} of 3 {what}: expected a whole number from 0 to 2",
        )
        for name, what in [("take", "values"), ("cross_entropy", "logits")]
        for index, shown in [
            (3, "int 3"),
            (-1, "int -1"),
            (0.5, "float 0.5"),
            (NAN, "float nan"),
            (INF, "float inf"),
            (Value(7.0), "Value Value(data=7.0, grad=0)"),
        ]
    ),
    (partial("take", [1], "0"), TypeError, "take: i must be a number or a Value, got str '0'"),
    (
        partial("take", [1, [2]], 0),
        TypeError,
        "take: values[1] must be a number or a Value, got list [2]",
    ),
    (
        partial("take", [[1], 2], 0),
        TypeError,
        "take: values[1] must be a sequence of numbers and Values, got int 2",
    ),
    (
        partial("take", [[1, 2], [3]], 0),
        ValueError,
        "take: values[0] has length 2, values[1] has length 1: expected rows of the same length",
    ),
    (
        partial("take", [[1, [2, None]]], 0),
        TypeError,
        "take: values[0][1][1] must be a sequence of numbers and Values, got NoneType None",
    ),
    (
        partial("cross_entropy", [1], None),
        TypeError,
        "cross_entropy: i must be a number or a Value, got NoneType None",
    ),
    (
        partial("mse", [Value(1e155), 0], [0, 0]),
        OverflowError,
        "1e+155 ** 2: the result is too large for a float64",
    ),
    (partial("rmsnorm", [1], eps="a"), TypeError, "rmsnorm: eps must be a number, got str 'a'"),
    (
        partial("rmsnorm", [1], eps=Value(1.0)),
        TypeError,
        "rmsnorm: eps must be a number, got Value Value(data=1.0, grad=0)",
    ),
    (
        partial("rmsnorm", [0, Value(0.0)], eps=0),
        ZeroDivisionError,
        "0.0 ** -0.5: zero cannot be raised to a negative power",
    ),
    (
        partial("rmsnorm", [Value(1.0)], eps=-2),
        ValueError,
        "(-1.0) ** -0.5: a negative number to a fractional power is complex, "
        "fastgrad computes in reals",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[text for _, _, text in ERRORS])
def test_errors_say_what_is_wrong_and_record_nothing(call, kind, text):
    before = tape.usage()["entries"]
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert str(caught.value) == text
    assert tape.usage()["entries"] == before


def test_a_list_that_contains_itself():
    endless = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r"^take: values are nested more than 64 deep$"):
        functional.take(endless, 0)


def test_errors_of_an_iterator_come_through():
    def numbers():
        yield 1.0
        raise TypeError("mine")

    with pytest.raises(TypeError, match=r"^mine$"):
        functional.sum(numbers())
