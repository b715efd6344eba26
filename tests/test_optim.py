"""Optimizers find their parameters wherever they are; bad settings raise and change nothing."""

import copy
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastgrad
from fastgrad import Value, optim
from fastgrad.nn import MLP
from fastgrad.tape import reclaim

START = [0.75, -1.25, 3.0]
KINDS = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop]
W = Value(1.0)


def data(parameters):
    return [p.data for p in parameters]


# ---- parameters, wherever they are


@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}])
@pytest.mark.parametrize("kind", KINDS)
def test_slots_that_lie_apart(kind, settings):
    """The same bits as in consecutive slots, and nobody else's entries are touched."""
    others, apart = [], []
    for number in START:
        others.append(Value(7.0))
        apart.append(Value(number))
    consecutive = list(map(Value, START))
    for parameters in consecutive, apart:
        optimizer = kind(parameters, lr=0.25, **settings)
        for step in range(3):
            for k, p in enumerate(parameters):
                p.grad = p.data - k * step
            optimizer.step()
    assert data(apart) == data(consecutive) != START
    assert data(others) == [7.0] * 3


def test_a_collection_between_steps():
    garbage = [Value(1.0) for _ in range(1000)]
    parameters = list(map(Value, START))
    apart = [Value(5.0), parameters[1], Value(5.0), parameters[0], parameters[2]]
    optimizer = optim.SGD([apart[1], apart[3], apart[4]], lr=1.0)
    for k, p in enumerate(parameters):
        p.grad = float(k)
    optimizer.step()
    del garbage
    reclaim()
    optimizer.step()
    assert data(parameters) == [0.75, -1.25 - 2, 3.0 - 4]
    assert [v.data for v in apart[::2]] == [5.0, 5.0, 3.0 - 4]
    optimizer.zero_grad()
    assert [repr(p.grad) for p in parameters] == ["0", "0", "0"]


def test_parameters_of_a_subclass():
    class Weight(Value):
        pass

    w = Weight(1.0)
    w.grad = 2.0
    optim.SGD(iter([w]), lr=0.5).step()
    assert w.data == 0.0


def test_a_step_makes_data_floats_and_keeps_grads():
    w = Value(3)
    (w * 2).backward()
    assert (repr(w.data), repr(w.grad)) == ("3", "2")
    optimizer = optim.SGD([w], lr=1)
    optimizer.step()
    assert (repr(w.data), repr(w.grad)) == ("1.0", "2")
    optimizer.zero_grad()
    assert repr(w.grad) == "0"


def test_a_step_on_a_graph_is_an_edit():
    """As with `p.data -= ...`, a backward pass reads the new data."""
    w, x = Value(3.0), Value(2.0)
    y = w * x
    y.backward()
    optim.SGD([w], lr=0.5).step()
    assert (y.data, w.data) == (6.0, 2.0)
    x.grad = 0
    y.backward()
    assert x.grad == 2.0 * y.grad


def test_the_same_as_the_loop_of_micrograd():
    def losses(step_of):
        import random

        random.seed(3)
        model = MLP(2, [4, 1])
        step = step_of(model)
        for _ in range(5):
            loss = sum((model([a, 1.0]) - a) ** 2 for a in (-1.0, 0.5, 2.0))
            model.zero_grad()
            loss.backward()
            step()
            yield loss.data

    def by_hand(model):
        def step():
            for p in model.parameters():
                p.data -= 0.01 * p.grad

        return step

    expected = list(losses(by_hand))
    assert list(losses(lambda model: optim.SGD(model.parameters(), lr=0.01).step)) == expected


def test_with_a_program():
    w, b = Value(0.0), Value(0.0)

    @fastgrad.compile
    def loss(x, y):
        return (w * x + b - y) ** 2

    optimizer = optim.Adam([w, b], lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        mean = loss.backward([0.0, 1.0, 2.0], [1.0, 4.0, 7.0])
        optimizer.step()
    assert (mean, w.data, b.data) == pytest.approx((0, 3, 1), abs=1e-2)


def test_a_step_is_no_part_of_a_program():
    w = Value(2.0)
    w.grad = 1.0
    optimizer = optim.SGD([w], lr=0.5)
    for method in (optimizer.step, optimizer.zero_grad):
        with pytest.raises(fastgrad.TraceError, match="inside of a program would happen once"):
            fastgrad.compile(lambda x, *, method=method: method() or w * x)([1.0])
        assert (w.data, w.grad) == (2.0, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_parameters(kind):
    """Whole vectors and what is left over are treated alike."""
    moved = set()
    for count in (1, 2, 3, 4, 5, 10_001):
        parameters = [Value(1.0) for _ in range(count)]
        optimizer = kind(parameters, lr=0.25)
        for p in parameters:
            p.grad = 3.0
        optimizer.step()
        moved.update(data(parameters))
    assert len(moved) == 1 and moved != {1.0}


# ---- settings


@pytest.mark.parametrize(
    ("kind", "defaults"),
    [
        (
            optim.SGD,
            {"lr": 1e-3, "momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False},
        ),
        (optim.Adam, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}),
        (optim.AdamW, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2}),
        (
            optim.RMSprop,
            {
                "lr": 1e-2,
                "alpha": 0.99,
                "eps": 1e-8,
                "weight_decay": 0,
                "momentum": 0,
                "centered": False,
            },
        ),
    ],
)
def test_defaults_are_those_of_torch(kind, defaults):
    (group,) = kind([W]).param_groups
    assert group == {"params": (W,)} | defaults


def test_lr_may_be_set_in_two_ways():
    w = Value(1.0)
    w.grad = 1.0
    optimizer = optim.SGD([w], 0.5)
    assert optimizer.lr == 0.5
    optimizer.lr = 0.25
    assert optimizer.param_groups[0]["lr"] == 0.25
    for group in optimizer.param_groups:
        group["lr"] = 2
    assert optimizer.lr == 2
    optimizer.step()
    assert w.data == -1.0


BAD = [
    (optim.SGD, {"lr": -1.0}, "Invalid learning rate: -1.0, expected 0 <= lr < inf"),
    (optim.SGD, {"lr": math.nan}, "Invalid learning rate: nan, expected 0 <= lr < inf"),
    (optim.SGD, {"lr": math.inf}, "Invalid learning rate: inf, expected 0 <= lr < inf"),
    (optim.SGD, {"momentum": -0.5}, "Invalid momentum value: -0.5, expected 0 <= momentum < inf"),
    (
        optim.SGD,
        {"weight_decay": -1},
        "Invalid weight_decay value: -1, expected 0 <= weight_decay < inf",
    ),
    (
        optim.SGD,
        {"dampening": math.nan},
        "Invalid dampening: nan, expected -inf <= dampening < inf",
    ),
    (
        optim.SGD,
        {"nesterov": True},
        "Nesterov momentum requires a momentum and zero dampening, got momentum=0 and dampening=0",
    ),
    (
        optim.SGD,
        {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
        "Nesterov momentum requires a momentum and zero dampening, "
        "got momentum=0.9 and dampening=0.1",
    ),
    (optim.Adam, {"lr": -1e-3}, "Invalid learning rate: -0.001, expected 0 <= lr < inf"),
    (optim.Adam, {"eps": -1e-8}, "Invalid epsilon value: -1e-08, expected 0 <= eps < inf"),
    (
        optim.Adam,
        {"betas": (1.0, 0.9)},
        "Invalid beta parameter at index 0: 1.0, expected 0 <= betas[0] < 1",
    ),
    (
        optim.Adam,
        {"betas": (0.9, -0.1)},
        "Invalid beta parameter at index 1: -0.1, expected 0 <= betas[1] < 1",
    ),
    (
        optim.Adam,
        {"weight_decay": -1},
        "Invalid weight_decay value: -1, expected 0 <= weight_decay < inf",
    ),
    (optim.AdamW, {"eps": math.nan}, "Invalid epsilon value: nan, expected 0 <= eps < inf"),
    (optim.RMSprop, {"lr": math.nan}, "Invalid learning rate: nan, expected 0 <= lr < inf"),
    (optim.RMSprop, {"alpha": 1.0}, "Invalid alpha value: 1.0, expected 0 <= alpha < 1"),
    (optim.RMSprop, {"eps": -1}, "Invalid epsilon value: -1, expected 0 <= eps < inf"),
    (
        optim.RMSprop,
        {"momentum": math.inf},
        "Invalid momentum value: inf, expected 0 <= momentum < inf",
    ),
    (
        optim.RMSprop,
        {"weight_decay": -1},
        "Invalid weight_decay value: -1, expected 0 <= weight_decay < inf",
    ),
]
NO_NUMBERS = [
    (optim.SGD, {"lr": "0.1"}, "lr must be a number, got str '0.1'"),
    (optim.SGD, {"lr": W}, "lr must be a number, got Value Value(data=1.0, grad=0)"),
    (optim.SGD, {"momentum": None}, "momentum must be a number, got NoneType None"),
    (optim.SGD, {"nesterov": "no"}, "nesterov must be True or False, got str 'no'"),
    (optim.RMSprop, {"centered": math.nan}, "centered must be True or False, got float nan"),
    (optim.Adam, {"betas": 0.9}, "betas must be two numbers, got float 0.9"),
    (optim.Adam, {"betas": (0.9,)}, "betas must be two numbers, got tuple (0.9,)"),
    (optim.Adam, {"betas": ("a", 0.9)}, "betas[0] must be a number, got str 'a'"),
]
BOTH = [(*case, ValueError) for case in BAD] + [(*case, TypeError) for case in NO_NUMBERS]


@pytest.mark.parametrize(("kind", "settings", "message", "error"), BOTH)
def test_bad_settings(kind, settings, message, error):
    with pytest.raises(error) as caught:
        kind([W], **settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(("kind", "settings", "message", "error"), BOTH)
def test_settings_that_have_become_bad(kind, settings, message, error):
    w = Value(1.0)
    w.grad = 1.0
    optimizer = kind([w])
    before = dict(optimizer.param_groups[0])
    optimizer.param_groups[0].update(settings)
    with pytest.raises(error):
        optimizer.step()
    assert (w.data, w.grad) == (1.0, 1.0)
    optimizer.param_groups[0].update(before)
    optimizer.step()
    assert 0.89 < w.data < 1


def test_a_bad_lr_is_not_taken():
    optimizer = optim.SGD([Value(1.0)], lr=0.5)
    for bad, error in ((-1, ValueError), ("fast", TypeError), (math.nan, ValueError)):
        with pytest.raises(error):
            optimizer.lr = bad
        assert optimizer.lr == 0.5


# ---- parameters that are none


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ([], ValueError, "optimizer got an empty parameter list: expected at least one Value"),
        (
            W,
            TypeError,
            "params must be an iterable of Values, say model.parameters(), "
            "got Value Value(data=1.0, grad=0)",
        ),
        (
            [W, 2.0],
            TypeError,
            "parameter 1 must be a Value, got float 2.0: pass one flat list of Values",
        ),
        (
            [[W]],
            TypeError,
            "parameter 0 must be a Value, got list [Value(data=1.0, grad=0)]: "
            "pass one flat list of Values",
        ),
        (
            [W, Value(2.0), W],
            ValueError,
            "parameter 2 is the same Value as parameter 0: expected each once",
        ),
        (
            [W, W * 2],
            ValueError,
            "parameter 1 must be a leaf, got Value(data=2.0, grad=0), the result of '*': "
            "detach() makes it a leaf",
        ),
    ],
)
def test_bad_parameters(kind, params, error, message):
    with pytest.raises(error) as caught:
        kind(params)
    assert str(caught.value) == message


def test_parameters_are_fixed():
    optimizer = optim.SGD([W])
    optimizer.param_groups[0]["params"] = [W, Value(2.0)]
    with pytest.raises(ValueError, match="fixed: make another optimizer"):
        optimizer.step()


def test_what_has_no_rule():
    with pytest.raises(TypeError, match="use SGD, Adam, AdamW or RMSprop"):
        optim.Optimizer([W], {})


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_copies_go_on_with_the_model_that_is_copied_with_them(copied):
    def step(model, optimizer):
        loss = model([0.5, -1.0]) ** 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model = MLP(2, [4, 1])
    adam = optim.Adam(model.parameters(), lr=0.1)
    step(model, adam)
    other, others_adam = copied((model, adam))
    for p, q in zip(other.parameters(), others_adam.param_groups[0]["params"], strict=True):
        assert p is q
    before = [p.data for p in model.parameters()]
    step(other, others_adam)
    assert [p.data for p in model.parameters()] == before
    step(model, adam)
    assert [p.data for p in other.parameters()] == [p.data for p in model.parameters()]


def test_methods_are_for_optimizers():
    for method in optim.SGD.step, optim.SGD.zero_grad, optim.SGD.state_dict, Value.tanh:
        with pytest.raises(TypeError, match="doesn't apply to a 'list' object"):
            method([])


def test_settings_are_numbers_of_their_own():
    lr = np.array(0.5)
    optimizer = optim.SGD([Value(1.0)], lr=lr)
    lr[...] = 100
    assert optimizer.lr == 0.5
    with pytest.raises(ValueError, match=r"Invalid learning rate: 10{59}, expected 0 <= lr < inf"):
        optimizer.lr = 10**400


def test_repr_tells_the_settings():
    assert repr(optim.SGD([W], lr=0.5)) == (
        "SGD(1 parameters, lr=0.5, momentum=0, dampening=0, weight_decay=0, nesterov=False)"
    )


def test_no_numpy():
    program = "import sys, fastgrad.optim; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
