"""Optimizers do to float64 numbers what PyTorch's do; bad settings raise and change nothing."""

import importlib.util
import math
import pickle
import subprocess
import sys

import pytest

import fastgrad
from fastgrad import Value, optim
from fastgrad.nn import MLP
from fastgrad.tape import reclaim

STEPS = 100
START = [0.75, -1.25, 3.0]
CURVES = [0.5, 2.0, 0.125]
TARGETS = [1.0, 0.0, -2.0]

# torch.optim's parameters after STEPS of `gradient`, by torch 2.13.0 on a CPU; the rate is halved
# half way.
CASES = [
    ("SGD", {"lr": 0.1}, [1.0165813547796767, 0.01902764230138905, -0.06473003969233433]),
    (
        "SGD",
        {"lr": 0.1, "weight_decay": 0.01},
        [0.9977396737265113, 0.019022946720173104, -0.1124733603250789],
    ),
    (
        "SGD",
        {"lr": 0.05, "momentum": 0.9},
        [0.9988070736916468, 0.018539434660200756, -2.0613185441185764],
    ),
    (
        "SGD",
        {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        [0.833396374477261, 0.003048375495055569, -1.1683695408778139],
    ),
    (
        "SGD",
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
        [0.8456358122879796, 0.024339798125976846, -1.0933497882672103],
    ),
    ("Adam", {}, [0.7768312395705005, -1.1761462487574252, 2.9327534884095225]),
    (
        "Adam",
        {"lr": 0.1, "betas": (0.85, 0.99)},
        [1.0005682101400202, 0.00884575621326955, -1.3441136981096078],
    ),
    (
        "Adam",
        {"lr": 0.05, "betas": (0.0, 0.5), "eps": 0.1, "weight_decay": 0.1},
        [0.8725812114800506, 0.0252631706024862, 0.3211002973965319],
    ),
]
NAMES = [f"{name} {' '.join(settings)}" for name, settings, _ in CASES]


def gradient(numbers, step):
    """Of a parabola for each number, and a disturbance that has a period of 11 steps."""
    return [
        curve * (number - target) + 0.1 * ((7 * step + 3 * k) % 11 - 5)
        for k, (number, curve, target) in enumerate(zip(numbers, CURVES, TARGETS))
    ]


def run(optimizer, read, write):
    """STEPS steps; `write` sets the grads, `read` gives the parameters' numbers."""
    for step in range(STEPS):
        if step == STEPS // 2:
            optimizer.param_groups[0]["lr"] /= 2
        optimizer.zero_grad()
        write(gradient(read(), step))
        optimizer.step()
    return read()


def run_ours(name, settings, parameters):
    def write(grads):
        for p, grad in zip(parameters, grads):
            p.grad += grad

    return run(getattr(optim, name)(parameters, **settings), lambda: data(parameters), write)


def data(parameters):
    return [p.data for p in parameters]


def close(numbers):
    return pytest.approx(numbers, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(("name", "settings", "expected"), CASES, ids=NAMES)
def test_what_torch_gave(name, settings, expected):
    assert run_ours(name, settings, list(map(Value, START))) == close(expected)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize(("name", "settings", "expected"), CASES, ids=NAMES)
def test_what_torch_gives(name, settings, expected):
    import torch

    p = torch.tensor(START, dtype=torch.float64, requires_grad=True)

    def write(grads):
        p.grad = torch.tensor(grads, dtype=torch.float64)

    theirs = run(getattr(torch.optim, name)([p], **settings), lambda: p.tolist(), write)
    assert theirs == close(expected)
    assert theirs == close(run_ours(name, settings, list(map(Value, START))))


# ---- parameters, wherever they are


@pytest.mark.parametrize(("name", "settings", "expected"), CASES, ids=NAMES)
def test_slots_that_lie_apart(name, settings, expected):
    """The same bits, also after a collection has moved them."""
    others, parameters = [], []
    for number in START:
        others.append(Value(7.0))
        parameters.append(Value(number))
    consecutive = run_ours(name, settings, list(map(Value, START)))
    assert run_ours(name, settings, parameters[::-1][::-1]) == consecutive
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


def test_ten_thousand_parameters():
    """Whole vectors and what is left over are treated alike."""
    for count in (1, 2, 3, 4, 5, 10_001):
        parameters = [Value(1.0) for _ in range(count)]
        optimizer = optim.Adam(parameters, lr=0.25)
        for p in parameters:
            p.grad = 3.0
        optimizer.step()
        assert len(set(data(parameters))) == 1
        assert parameters[0].data == pytest.approx(0.75, rel=1e-8)


# ---- settings


def test_defaults_are_those_of_torch():
    (group,) = optim.SGD([Value(1.0)]).param_groups
    del group["params"]
    assert group == {
        "lr": 1e-3,
        "momentum": 0,
        "dampening": 0,
        "weight_decay": 0,
        "nesterov": False,
    }
    (group,) = optim.Adam([Value(1.0)]).param_groups
    del group["params"]
    assert group == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0}


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


W = Value(1.0)
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
]
NO_NUMBERS = [
    (optim.SGD, {"lr": "0.1"}, "lr must be a number, got str '0.1'"),
    (optim.SGD, {"lr": W}, "lr must be a number, got Value Value(data=1.0, grad=0)"),
    (optim.SGD, {"momentum": None}, "momentum must be a number, got NoneType None"),
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
    assert w.data == pytest.approx(0.999)


def test_a_bad_lr_is_not_taken():
    optimizer = optim.SGD([Value(1.0)], lr=0.5)
    for bad, error in ((-1, ValueError), ("fast", TypeError), (math.nan, ValueError)):
        with pytest.raises(error):
            optimizer.lr = bad
        assert optimizer.lr == 0.5


# ---- parameters that are none


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
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
            "can't optimize Value(data=2.0, grad=0), parameter 1: expected a leaf, "
            "got the result of '*'; detach() makes it a leaf",
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


def test_what_has_no_rule_or_is_not_carried():
    with pytest.raises(TypeError, match="use SGD or Adam"):
        optim.Optimizer([W], {})
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(optim.SGD([W]))


def test_no_numpy():
    program = "import sys, fastgrad.optim; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
