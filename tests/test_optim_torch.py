"""Optimizers, schedules and clipping do to float64 numbers what PyTorch's do, within 1e-12.

Compared is with what torch.optim gave once, and also with torch itself where it is installed.
"""

import json

import pytest
from torch_cases import (
    CLIPS,
    EPOCHS,
    HAS_TORCH,
    OPTIMIZERS,
    SCHEDULES,
    START,
    STEPS,
    STORED,
    by_torch,
    descend,
    name_of,
    rates,
    scheduled,
)

from fastgrad import Value, optim

TORCH = json.loads(STORED.read_text())


def close(numbers):
    return pytest.approx(numbers, rel=1e-12, abs=1e-12, nan_ok=True)


def flat(thing):
    """All numbers of nested lists, in order; what clips without a norm gave None there."""
    if thing is None:
        return []
    return [n for part in thing for n in flat(part)] if isinstance(thing, list) else [thing]


def parameters():
    """Values of START's numbers, and how `descend` reads and writes them."""
    values = list(map(Value, START))

    def read():
        return [p.data for p in values]

    def write(grads):
        for p, grad in zip(values, grads):
            p.grad += grad

    return values, read, write


@pytest.mark.skipif(not HAS_TORCH, reason="torch is not installed")
def test_torch_still_gives_what_is_stored():
    theirs = by_torch()
    assert list(theirs) == list(TORCH)
    for name, numbers in theirs.items():
        assert flat(numbers) == close(flat(TORCH[name])), name


@pytest.mark.parametrize("case", OPTIMIZERS, ids=name_of)
def test_optimizers(case):
    name, settings, changes = case
    values, *access = parameters()
    rows = descend(getattr(optim, name)(values, **settings), *access, changes)
    assert len(rows) == STEPS // 20
    assert flat(rows) == close(flat(TORCH[name_of(case)]))


@pytest.mark.parametrize("stop", [0, 10, 35, 60])
@pytest.mark.parametrize("case", OPTIMIZERS, ids=name_of)
def test_optimizers_resumed(case, stop):
    """The same bits as without a stop, by an optimizer that was made with other settings."""
    name, settings, changes = case
    whole, *access = parameters()
    descend(getattr(optim, name)(whole, **settings), *access, changes)

    values, *access = parameters()
    first = getattr(optim, name)(values, **settings)
    descend(first, *access, changes, last=stop)
    second = getattr(optim, name)(values, lr=7.0)
    second.load_state_dict(first.state_dict())
    descend(second, *access, changes, first=stop)
    assert [p.data for p in values] == [p.data for p in whole]


@pytest.mark.parametrize("case", SCHEDULES, ids=name_of)
def test_schedules(case):
    fresh, resumed = scheduled(optim, optim, [Value(1.0)], case)
    assert (len(fresh), len(resumed)) == (EPOCHS + 1, EPOCHS - 20)
    assert fresh + resumed == close(flat(TORCH[name_of(case)]))


OTHER = {
    "StepLR": {"step_size": 3},
    "CosineAnnealingLR": {"T_max": 7},
    "LinearLR": {"start_factor": 0.125},
}


@pytest.mark.parametrize("stop", [0, 1, 12, 13, 59])
@pytest.mark.parametrize("case", SCHEDULES, ids=name_of)
def test_schedules_resumed(case, stop):
    """By their states the same bits go on, whatever the optimizer and schedule were made with."""
    first = optim.SGD([Value(1.0)], lr=0.5)
    schedules = [getattr(optim, name)(first, **settings) for name, settings in case]
    found = rates(first, schedules, stop)
    second = optim.SGD([Value(1.0)], lr=3.0)
    resumed = [getattr(optim, name)(second, **OTHER[name]) for name, _ in case]
    second.load_state_dict(first.state_dict())
    for old, new in zip(schedules, resumed):
        new.load_state_dict(old.state_dict())
        assert new.get_last_lr() == old.get_last_lr()
    found += rates(second, resumed, EPOCHS - stop)[1:]
    assert found == scheduled(optim, optim, [Value(1.0)], case)[0]


@pytest.mark.parametrize("case", CLIPS, ids=name_of)
def test_clipping(case):
    name, settings, grads = case
    norm, clipped = TORCH[name_of(case)]
    values = [Value(0.0) for _ in grads]
    for p, grad in zip(values, grads):
        p.grad = grad
    got = getattr(optim, name)(values, **settings)
    assert (got is None) == (norm is None)
    assert [got or 0.0] == close([norm or 0.0])
    assert [p.grad for p in values] == close(clipped)
