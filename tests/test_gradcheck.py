"""The gradient checker passes what is right, and says what is wrong, where."""

import re

import numpy as np
import pytest

import fastgrad
from fastgrad import GradcheckError, Value, check_program, functional, gradcheck
from fastgrad.nn import MLP


def wrong_square(x):
    out = Value(x.data**2, (x,), "square")

    def rule():
        x.grad += x.data * out.grad  # forgets the 2

    out._backward = rule
    return out


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda x: x * x, 3.0),
        (lambda x: x * x, 3),
        (lambda x, y: (x * y).tanh() + x**3 / y, (0.5, -1.5)),
        (lambda x: functional.softmax(x), [0.5, -1.0, 2.0]),
        (lambda x: [[functional.logsumexp(row)] for row in x], [[0.5, -1.0], [2.0, 0.25]]),
        (lambda x, y: functional.mse(x, y), ([1.0, 2.0], [0.5, 0.75])),
        (lambda x: x.log(), 1e-3),
        (lambda x: x.sqrt() + x.gelu().softplus(), 0.04),
        (lambda x: x.maximum(0.3) * functional.rmsnorm([x, x * x])[1], 2.0),
        (lambda x: Value(2.0) * 3, 1.0),
    ],
)
def test_what_is_right_passes(function, inputs):
    assert gradcheck(function, inputs) is True


def test_a_model_passes():
    model = MLP(2, [3, 1])
    assert gradcheck(lambda x: model(x).tanh(), [0.3, -0.7])
    assert check_program(fastgrad.compile(lambda x: model(x).tanh()), np.array([[0.3, -0.7]] * 2))


def test_rules_by_hand_are_checked_by_backward_alone():
    def cube(x):
        out = Value(x.data**3, (x,), "cube")
        out._backward = lambda: setattr(x, "grad", x.grad + 3 * x.data**2 * out.grad)
        return out

    assert gradcheck(cube, 1.5)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda x: wrong_square(x) * 3, 4.0)
    text = str(caught.value)
    assert text.startswith("by input 0, 4.0: backward() gives 12.0, the difference is ")
    assert float(re.search(r"the difference is ([\d.]+)", text)[1]) == pytest.approx(24)
    line = wrong_square.__code__.co_firstlineno + 3
    assert text.endswith(f"made by hand are the rules of 'square' ({__file__}:{line})")


def test_a_kink_is_told_with_its_line():
    def function(x):
        return [x[0] * 2, (x[1] * 3).relu()]

    with pytest.raises(GradcheckError) as caught:
        gradcheck(function, [1.0, 0.0])
    line = function.__code__.co_firstlineno + 1
    assert str(caught.value) == (
        "by input 0[1], 0.0: backward() gives 0.0, the difference is 1.5; "
        f"{__file__}:{line}: the partial of ReLU of 0.0 by operand 0 is 0.0, the difference 0.5"
    )
    program = fastgrad.compile(function)
    with pytest.raises(GradcheckError) as caught:
        check_program(program, [[5.0, 1.0], [1.0, 0.0]])
    assert str(caught.value).startswith(
        "by sample 1, x[1]: the reverse sweep gives 0.0, the difference is 1.5"
    )
    assert str(caught.value).endswith(
        f"{__file__}:{line}: the partial of ReLU of 0.0 by operand 0 is 0.0, the difference 0.5"
    )


def test_a_second_derivative_at_a_kink_of_the_first():
    def function(x):
        return x.relu() * x  # its second derivative jumps from 0 to 2

    assert gradcheck(function, 0.0, order=1)
    with pytest.raises(GradcheckError, match=r"reverse over forward gives 0.0, the difference is"):
        gradcheck(function, 0.0)


def test_programs_with_indices_parameters_and_static_arguments():
    table = [[Value(0.1 * i + 0.3 * j) for i in range(2)] for j in range(3)]
    w = Value(0.7)

    def function(i, x, *, power):
        row = functional.take(table, i)
        return functional.sum([r * x * w for r in row]) ** power

    program = fastgrad.compile(function)
    assert check_program(program, ([0, 2, 1], [0.5, 1.5, -2.0]), power=2)
    with pytest.raises(GradcheckError, match="parameter"):
        check_program(fastgrad.compile(lambda x: (w - 0.7).relu() + x), [1.0])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: gradcheck(lambda x: x, "a"), TypeError, "input 0 must be an array of numbers"),
        (lambda: gradcheck(lambda x: x, 1.0, order=3), ValueError, "order must be 1 or 2, got 3"),
        (lambda: gradcheck(lambda x: 1.0, 1.0), TypeError, "the function's result must be a Value"),
        (lambda: gradcheck(lambda x: x.log(), -1.0), ValueError, "expected a positive number"),
        (lambda: check_program(abs, [1.0]), TypeError, "check_program needs a Program, got"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
