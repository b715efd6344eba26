"""`Optimizer.minimize` does what zero_grad, backward and step do, and touches no grad."""

import random

import numpy as np
import pytest

import fastgrad
from fastgrad import TraceError, Value, optim
from fastgrad.nn import MLP
from fastgrad.optim import SGD, Adam

OPTIMIZERS = [
    lambda params: SGD(params, lr=0.05, weight_decay=0.01),
    lambda params: SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    lambda params: Adam(params, lr=0.02),
]


def batch(samples, columns=3):
    rng = np.random.default_rng(samples)
    return rng.normal(size=(samples, columns)), rng.choice([-1.0, 1.0], samples)


def model_and_loss():
    random.seed(5)
    model = MLP(3, [20, 30, 1])  # more numbers than are stepped at a time
    return model, fastgrad.compile(lambda x, y: (1 + -y * model(x)).relu())


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("samples", [1, 32, 45])
def test_the_same_bits_as_by_hand(make, samples):
    ends = []
    for at_once in True, False:
        model, loss = model_and_loss()
        optimizer = make(model.parameters())
        x, y = batch(samples)
        values = []
        for _ in range(5):
            if at_once:
                values.append(optimizer.minimize(loss, x, y))
                continue
            optimizer.zero_grad()
            values.append(loss.backward(x, y))
            optimizer.step()
        ends.append((values, [p.data for p in model.parameters()]))
    assert ends[0] == ends[1]
    assert ends[0][0][4] < ends[0][0][0]


def test_no_grad_is_read_or_written():
    model, loss = model_and_loss()
    start = [p.data for p in model.parameters()]
    for p in model.parameters():
        p.grad = 7
    optim.SGD(model.parameters(), lr=0.5).minimize(loss, *batch(4))
    assert {p.grad for p in model.parameters()} == {7}
    assert [p.data for p in model.parameters()] != start


@pytest.mark.parametrize("reverse", [False, True])
def test_other_parameters_in_another_order(reverse):
    v, w, b, alone = Value(2.0), Value(3.0), Value(-1.0), Value(5.0)
    loss = fastgrad.compile(lambda x: (v * w * x + b) ** 2)
    params = [alone, b, w][:: -1 if reverse else 1]
    optimizer = SGD(params, lr=0.125, weight_decay=0.5)
    assert optimizer.minimize(loss, [1.0]) == 25.0
    assert (v.data, w.data, b.data) == (
        2.0,
        3.0 - 0.125 * (2 * 5 * 2 + 1.5),
        -1 - 0.125 * (2 * 5 - 0.5),
    )
    assert alone.data == 5.0 - 0.125 * 2.5  # its gradient is 0


def test_signatures_with_other_parameters_and_two_optimizers():
    a, b = Value(1.0), Value(1.0)

    @fastgrad.compile
    def loss(x, *, first):
        return (a if first else b) * x

    by_a, by_both = SGD([a], lr=0.5), SGD([b, a], lr=0.25)
    by_a.minimize(loss, [1.0], first=True)
    by_both.minimize(loss, [1.0], first=True)
    by_both.minimize(loss, [1.0], first=False)
    by_a.minimize(loss, [1.0], first=True)
    assert (a.data, b.data) == (1 - 0.5 - 0.25 - 0.5, 1 - 0.25)


def test_data_becomes_float_and_the_rate_is_read_afresh():
    w = Value(4)
    loss = fastgrad.compile(lambda x: w * x)
    optimizer = SGD([w], lr=1)
    optimizer.minimize(loss, [1, 3])
    assert repr(w) == "Value(data=2.0, grad=0)"
    optimizer.lr = 0.5
    optimizer.minimize(loss, [1, 3])
    assert w.data == 1.0


def test_what_cannot_be_minimized_changes_nothing():
    w, other = Value(4), Value(2)
    loss = fastgrad.compile(lambda x: w * x)
    optimizer = SGD([w], lr=0.1, momentum=0.9)

    def message(error, optimizer, *args, **kwargs):
        with pytest.raises(error) as info:
            optimizer.minimize(*args, **kwargs)
        assert (repr(w), repr(other)) == ("Value(data=4, grad=0)", "Value(data=2, grad=0)")
        return str(info.value)

    assert message(TypeError, optimizer, lambda x: x, [1.0]).startswith(
        "minimize() needs a compiled program, got function <function"
    )
    assert message(ValueError, SGD([other]), loss, [1.0]) == (
        "the program <lambda> uses none of the optimizer's 1 parameters, but 1 others: "
        "make the optimizer of the program's parameters"
    )
    assert message(ValueError, optimizer, loss, []) == (
        "x has no samples: there is no mean, and no gradient"
    )
    assert message(TypeError, optimizer, loss, [1.0], z=1) == (
        "unknown keyword argument z: expected one of x"
    )
    vector = fastgrad.compile(lambda x: [w * x, w])
    assert message(ValueError, optimizer, vector, [1.0]).startswith(
        "backward needs one number a sample, this program gives (2,)"
    )
    with fastgrad.detect_anomaly():
        assert "* gave nan from (4.0, nan)" in message(
            FloatingPointError, optimizer, loss, [float("nan")]
        )
    optimizer.param_groups[0]["lr"] = float("nan")
    assert message(ValueError, optimizer, loss, [1.0]) == (
        "Invalid learning rate: nan, expected 0 <= lr < inf"
    )
    optimizer.lr = 0.1
    optimizer.minimize(loss, [1.0])
    assert w.data == 4 - 0.1  # no momentum came of the failures


def test_not_inside_of_a_program():
    w = Value(1.0)
    loss = fastgrad.compile(lambda x: w * x)
    optimizer = SGD([w])
    outer = fastgrad.compile(lambda x: optimizer.minimize(loss, [1.0]) * x)
    with pytest.raises(TraceError, match=r"minimize\(\)"):
        outer([1.0])
    assert w.data == 1.0


@pytest.mark.parametrize("make", [SGD, Adam])
def test_threads_share_a_step_and_no_bit_changes(make):
    """So many parameters that several tasks read and move them; some not used, some apart."""

    def trained(threads):
        random.seed(2)
        model = MLP(150, [150, 40, 1])
        apart = [Value(0.1 * k) for k in range(3)]
        parameters = [*model.parameters(), *apart[::2]]
        program = fastgrad.compile(
            lambda x: model(x) ** 2 + apart[0] * x[0] + apart[2], threads=threads
        )
        optimizer = make(parameters, lr=0.01)
        X = np.random.default_rng(1).normal(size=(70, 150))
        losses = [optimizer.minimize(program, X) for _ in range(3)]
        return losses, [p.data.hex() for p in parameters]

    one = trained(1)
    assert len(one[1]) > 3 * 2**13
    assert trained(2) == one
    assert trained(7) == one
