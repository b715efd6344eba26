"""State dicts hold plain content, are copies, and are taken whole or not at all."""

import io
import math

import numpy as np
import pytest

from fastgrad import Value, optim


def stepped(kind, count=3, steps=4, **settings):
    """An optimizer that has made steps, and its parameters."""
    values = [Value(float(k)) for k in range(count)]
    optimizer = kind(values, **settings)
    for step in range(steps):
        for k, p in enumerate(values):
            p.grad = 0.5 * k - 0.25 * step
        optimizer.step()
    return optimizer, values


EVERYTHING = [
    (optim.SGD, {"momentum": 0.5, "nesterov": True}),
    (optim.Adam, {"lr": np.float64(0.5), "betas": np.array([0.5, 0.75])}),
    (optim.AdamW, {"lr": 1, "betas": [0.5, np.float64(0.75)]}),
    (optim.RMSprop, {"momentum": 0.5, "centered": True}),
]


def same(a, b):
    assert list(a) == list(b)
    for name, content in a.items():
        assert type(content) is type(b[name])
        np.testing.assert_array_equal(content, b[name])


# ---- what is in a state


def test_what_a_state_holds():
    optimizer, _ = stepped(optim.Adam, steps=1)
    state = optimizer.state_dict()
    squares = [k * k * 0.25 * (1 - 0.999) for k in range(3)]
    np.testing.assert_allclose(state.pop("exp_avg"), [0.0, 0.05, 0.1], rtol=1e-12)
    np.testing.assert_allclose(state.pop("exp_avg_sq"), squares, rtol=1e-12)
    assert state.pop("betas").tolist() == [0.9, 0.999]
    assert state == {
        "optimizer": "Adam",
        "parameters": 3,
        "lr": 1e-3,
        "eps": 1e-8,
        "weight_decay": 0,
        "step": 1,
    }


@pytest.mark.parametrize(
    ("kind", "settings", "memory"),
    [
        (optim.SGD, {}, []),
        (optim.SGD, {"momentum": 0.5}, ["momentum_buffer"]),
        (optim.RMSprop, {}, ["square_avg"]),
        (optim.RMSprop, {"centered": True}, ["square_avg", "grad_avg"]),
        (optim.RMSprop, {"momentum": 0.5}, ["square_avg", "momentum_buffer"]),
    ],
)
def test_a_state_holds_no_more_than_is_needed(kind, settings, memory):
    state = stepped(kind, **settings)[0].state_dict()
    assert [name for name, content in state.items() if isinstance(content, np.ndarray)] == memory


@pytest.mark.parametrize(("kind", "settings"), EVERYTHING)
def test_content_is_plain(kind, settings):
    for content in stepped(kind, **settings)[0].state_dict().values():
        if isinstance(content, np.ndarray):
            assert (content.dtype, content.ndim) == (np.float64, 1)
        else:
            assert type(content) in (bool, int, float, str)


@pytest.mark.parametrize(("kind", "settings"), EVERYTHING)
def test_there_and_back_by_npz(kind, settings):
    """NumPy gives numbers and strings back as arrays without axes."""
    state = stepped(kind, **settings)[0].state_dict()
    file = io.BytesIO()
    np.savez(file, **state)
    file.seek(0)
    with np.load(file, allow_pickle=False) as loaded:
        other, _ = stepped(kind)
        other.load_state_dict(dict(loaded))
    same(other.state_dict(), state)
    other.step()


@pytest.mark.parametrize(("kind", "settings"), EVERYTHING)
def test_states_are_copies(kind, settings):
    optimizer, values = stepped(kind, **settings)
    state = optimizer.state_dict()
    other = kind(values)
    other.load_state_dict(state)
    before = {
        name: content.copy() if isinstance(content, np.ndarray) else content
        for name, content in state.items()
    }
    optimizer.step()
    other.step()
    same(state, before)
    for content in state.values():
        if isinstance(content, np.ndarray):
            content[:] = math.nan
    other.step()
    assert all(math.isfinite(p.data) for p in values)


def test_loading_keeps_the_group():
    """Whoever holds it, a schedule say, sees what was loaded; nobody's own entries go."""
    optimizer = optim.SGD([Value(1.0)])
    group = optimizer.param_groups[0]
    group["initial_lr"], group["mine"] = 3.0, "note"
    optimizer.load_state_dict(optim.SGD([Value(1.0)], lr=0.5, momentum=0.25).state_dict())
    assert (group["lr"], group["momentum"], group["initial_lr"]) == (0.5, 0.25, 3.0)
    assert group["mine"] == "note" and "mine" not in optimizer.state_dict()


def test_a_bad_group_has_no_state():
    optimizer = optim.SGD([Value(1.0)])
    optimizer.param_groups[0]["lr"] = math.nan
    with pytest.raises(ValueError, match="Invalid learning rate: nan"):
        optimizer.state_dict()


# ---- states that are refused


FITS = stepped(optim.Adam)[0].state_dict()


def without(*names):
    return {name: content for name, content in FITS.items() if name not in names}


NO_FIT = "the state does not fit this optimizer, which is unchanged:\n  "
BAD = {
    "another model": (
        stepped(optim.Adam, count=4)[0].state_dict(),
        ValueError,
        NO_FIT + "parameters: got 4, expected 3",
    ),
    "another class": (
        stepped(optim.SGD, momentum=0.5)[0].state_dict(),
        ValueError,
        NO_FIT + "optimizer: got 'SGD', expected 'Adam'\n"
        "  missing: betas, eps\n"
        "  unexpected: momentum, dampening, nesterov, momentum_buffer",
    ),
    "another class with the same names": (
        FITS | {"optimizer": "AdamW"},
        ValueError,
        NO_FIT + "optimizer: got 'AdamW', expected 'Adam'",
    ),
    "torch's": (
        {"state": {}, "param_groups": []},
        ValueError,
        NO_FIT + "missing: optimizer, parameters, lr, betas, eps, weight_decay, step\n"
        "  unexpected: state, param_groups",
    ),
    "no dict": (
        [1.0],
        TypeError,
        "a state must be a dict, as state_dict() returns it, got list",
    ),
    "names and arrays missing": (
        without("exp_avg"),
        ValueError,
        NO_FIT + "missing: exp_avg",
    ),
    "bad arrays": (
        FITS | {"exp_avg": np.zeros(2), "exp_avg_sq": [0.0] * 3},
        ValueError,
        NO_FIT + "exp_avg: got float64 of shape (2,), expected float64 of shape (3,)\n"
        "  exp_avg_sq: got list, expected float64 of shape (3,)",
    ),
    "float32, and steps": (
        FITS | {"exp_avg": np.zeros(3, np.float32), "step": -1},
        ValueError,
        NO_FIT + "exp_avg: got float32 of shape (3,), expected float64 of shape (3,)\n"
        "  step: got -1, expected an int of at least 0",
    ),
    "half a step": (
        FITS | {"step": 1.5},
        ValueError,
        NO_FIT + "step: got 1.5, expected an int of at least 0",
    ),
    "nan": (
        FITS | {"lr": math.nan},
        ValueError,
        "Invalid learning rate: nan, expected 0 <= lr < inf",
    ),
    "nan in a pair": (
        FITS | {"betas": np.array([0.9, math.nan])},
        ValueError,
        "Invalid beta parameter at index 1: nan, expected 0 <= betas[1] < 1",
    ),
    "a bad initial rate": (
        FITS | {"initial_lr": -1.0},
        ValueError,
        "Invalid initial learning rate: -1.0, expected 0 <= initial_lr < inf",
    ),
    "text": (FITS | {"eps": "small"}, TypeError, "eps must be a number, got str 'small'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_states(case):
    state, error, message = BAD[case]
    optimizer, values = stepped(optim.Adam, lr=0.5)
    twin, twins = stepped(optim.Adam, lr=0.5)
    with pytest.raises(error) as caught:
        optimizer.load_state_dict(state)
    assert str(caught.value) == message
    same(optimizer.state_dict(), twin.state_dict())
    optimizer.step()
    twin.step()
    assert [p.data for p in values] == [p.data for p in twins]


def test_a_bad_flag():
    optimizer, _ = stepped(optim.RMSprop)
    state = optimizer.state_dict()
    with pytest.raises(TypeError, match="centered must be True or False, got float nan"):
        optimizer.load_state_dict(state | {"centered": math.nan, "grad_avg": np.zeros(3)})
    same(optimizer.state_dict(), state)
