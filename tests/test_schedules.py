"""Schedules: what they refuse, and what else sets the rate. Their numbers: test_optim_torch.py."""

import math

import pytest

from fastgrad import Value, optim


def made(lr=0.5):
    return optim.SGD([Value(1.0)], lr=lr)


def test_a_rate_changed_by_hand_is_honoured():
    optimizer = made()
    schedule = optim.StepLR(optimizer, step_size=2, gamma=0.5)
    schedule.step()
    optimizer.lr = 4.0
    assert schedule.get_last_lr() == [0.5]
    schedule.step()
    assert optimizer.lr == 2.0 and schedule.get_last_lr() == [2.0]


def test_the_first_rate_stays_the_base_of_later_schedules():
    optimizer = made()
    first = optim.LinearLR(optimizer, start_factor=0.25)
    assert (optimizer.lr, first.base_lrs) == (0.125, [0.5])
    assert optim.StepLR(optimizer, step_size=1).base_lrs == [0.5]
    assert optimizer.state_dict()["initial_lr"] == 0.5


def test_states_are_plain():
    schedule = optim.CosineAnnealingLR(made(), T_max=4)
    schedule.step()
    lr = schedule.optimizer.lr
    assert schedule.state_dict() == {
        "schedule": "CosineAnnealingLR",
        "T_max": 4,
        "eta_min": 0.0,
        "base_lr": 0.5,
        "last_epoch": 1,
        "last_lr": lr,
    }


SCHEDULES = [
    (optim.StepLR, {"step_size": 3}),
    (optim.CosineAnnealingLR, {"T_max": 3}),
    (optim.LinearLR, {}),
]
BAD = [
    (0, {"step_size": 0}, ValueError, "step_size must be at least 1, got 0"),
    (0, {"step_size": 2.5}, TypeError, "step_size must be an int, got float 2.5"),
    (0, {"gamma": math.nan}, ValueError, "Invalid gamma: nan, expected 0 <= gamma < inf"),
    (0, {"gamma": "x"}, TypeError, "gamma must be a number, got str 'x'"),
    (1, {"T_max": 0}, ValueError, "T_max must be at least 1, got 0"),
    (1, {"T_max": True}, TypeError, "T_max must be an int, got bool True"),
    (1, {"eta_min": -0.5}, ValueError, "Invalid eta_min: -0.5, expected 0 <= eta_min < inf"),
    (
        2,
        {"start_factor": 0},
        ValueError,
        "start_factor must be above 0 and at most 1, got 0.0",
    ),
    (
        2,
        {"start_factor": 1.5},
        ValueError,
        "start_factor must be above 0 and at most 1, got 1.5",
    ),
    (2, {"end_factor": 1.5}, ValueError, "end_factor must be from 0 to 1, got 1.5"),
    (
        2,
        {"end_factor": math.nan},
        ValueError,
        "Invalid end_factor: nan, expected 0 <= end_factor < inf",
    ),
    (2, {"total_iters": 0}, ValueError, "total_iters must be at least 1, got 0"),
]
LAST_EPOCHS = [
    (-2, ValueError, "last_epoch must be at least -1, got -2"),
    (1.0, TypeError, "last_epoch must be an int, got float 1.0"),
    (
        3,
        ValueError,
        "last_epoch=3 goes on with an earlier schedule, but the optimizer has had none: load the "
        "optimizer's state first, or leave last_epoch out",
    ),
]


@pytest.mark.parametrize(("which", "settings", "error", "message"), BAD)
def test_bad_settings(which, settings, error, message):
    kind, good = SCHEDULES[which]
    optimizer = made()
    group = dict(optimizer.param_groups[0])
    with pytest.raises(error) as caught:
        kind(optimizer, **good | settings)
    assert str(caught.value) == message
    assert optimizer.param_groups[0] == group


@pytest.mark.parametrize(("last_epoch", "error", "message"), LAST_EPOCHS)
@pytest.mark.parametrize(("kind", "settings"), SCHEDULES)
def test_bad_last_epochs(kind, settings, last_epoch, error, message):
    optimizer = made()
    group = dict(optimizer.param_groups[0])
    with pytest.raises(error) as caught:
        kind(optimizer, **settings, last_epoch=last_epoch)
    assert str(caught.value) == message
    assert optimizer.param_groups[0] == group


def test_no_optimizer():
    with pytest.raises(TypeError) as caught:
        optim.StepLR([Value(1.0)], step_size=1)
    assert str(caught.value) == (
        "optimizer must be an Optimizer, say optim.SGD(model.parameters()), got list"
    )
    with pytest.raises(TypeError, match="use StepLR, CosineAnnealingLR or LinearLR"):
        optim.LRScheduler(made(), {}, -1)


FITS = {
    "schedule": "StepLR",
    "step_size": 3,
    "gamma": 0.1,
    "base_lr": 0.5,
    "last_epoch": 2,
    "last_lr": 0.5,
}
NO_FIT = "the state does not fit this schedule, which is unchanged:\n  "


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (
            optim.LinearLR(made()).state_dict(),
            ValueError,
            NO_FIT + "schedule: got 'LinearLR', expected 'StepLR'\n"
            "  missing: step_size, gamma\n"
            "  unexpected: start_factor, end_factor, total_iters",
        ),
        (FITS | {"gamma": math.nan}, ValueError, "Invalid gamma: nan, expected 0 <= gamma < inf"),
        (FITS | {"last_epoch": -1}, ValueError, "last_epoch must be at least 0, got -1"),
        (
            FITS | {"base_lr": math.inf},
            ValueError,
            "Invalid learning rate: inf, expected 0 <= base_lr < inf",
        ),
        (
            FITS | {"last_lr": None},
            TypeError,
            "last_lr must be a number, got NoneType None",
        ),
        ("StepLR", TypeError, "a state must be a dict, as state_dict() returns it, got str"),
    ],
)
def test_bad_states(state, error, message):
    schedule = optim.StepLR(made(), step_size=7)
    before = schedule.state_dict()
    with pytest.raises(error) as caught:
        schedule.load_state_dict(state)
    assert str(caught.value) == message
    assert schedule.state_dict() == before
    schedule.load_state_dict(FITS)
    assert schedule.state_dict() == FITS


def test_rates_that_have_become_bad():
    optimizer = made()
    schedule = optim.StepLR(optimizer, step_size=1)
    before = schedule.state_dict()
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(TypeError):
        schedule.step()
    assert schedule.state_dict() == before
    with pytest.raises(TypeError, match="lr must be a number, got NoneType None"):
        optim.LinearLR(optimizer)
    optimizer.lr = 0.5
    schedule.step()
    assert optimizer.lr == 0.05
