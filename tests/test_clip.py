"""Clipping refuses what it cannot clip, and leaves be what needs none.

Whether its numbers are right is in test_optim_torch.py.
"""

import math

import pytest

import fastgrad
from fastgrad import Value, optim

BOTH = [
    (optim.clip_grad_norm_, "clip_grad_norm_()"),
    (optim.clip_grad_value_, "clip_grad_value_()"),
]


def with_grads(*grads):
    values = [Value(0.0) for _ in grads]
    for p, grad in zip(values, grads):
        p.grad = grad
    return values


def test_what_needs_no_clipping_stays_what_it_is():
    values = with_grads(1, 0, -1.5)
    optim.clip_grad_norm_(iter(values), 3.0)
    optim.clip_grad_value_(iter(values), 2)
    assert [repr(p.grad) for p in values] == ["1", "0", "-1.5"]


def test_what_is_clipped_is_a_float():
    (v,) = with_grads(3)
    optim.clip_grad_value_([v], 2)
    assert repr(v.grad) == "2.0"
    (v,) = with_grads(3)
    optim.clip_grad_norm_([v], 1)
    assert isinstance(v.grad, float) and v.grad == pytest.approx(1, rel=1e-6)


def test_slots_that_lie_apart():
    values = with_grads(*[3.0] * 7)
    assert optim.clip_grad_norm_(values[::-2], 3.0) == 6.0
    factor = 3.0 / (6.0 + 1e-6)
    assert [p.grad for p in values] == [3.0 * factor, 3.0] * 3 + [3.0 * factor]
    optim.clip_grad_value_(values[1::2], 1.0)
    assert [p.grad for p in values][1::2] == [1.0] * 3


def test_a_norm_that_is_not_finite():
    for bad in math.inf, math.nan:
        values = with_grads(1.0, bad)
        with pytest.raises(RuntimeError) as caught:
            optim.clip_grad_norm_(values, 1.0, error_if_nonfinite=True)
        assert str(caught.value) == (
            f"the norm of the gradients is {bad}, expected a finite one: nothing was clipped; "
            "fastgrad.detect_anomaly() finds where it comes from"
        )
        assert values[0].grad == 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_norm": -1}, ValueError, "Invalid max_norm: -1, expected 0 <= max_norm < inf"),
        ({"max_norm": math.nan}, ValueError, "Invalid max_norm: nan, expected 0 <= max_norm < inf"),
        ({"max_norm": "1"}, TypeError, "max_norm must be a number, got str '1'"),
        ({"max_norm": 1, "norm_type": 3}, ValueError, "norm_type must be 2 or inf, got 3"),
    ],
)
def test_bad_norms(arguments, error, message):
    (v,) = with_grads(5.0)
    with pytest.raises(error) as caught:
        optim.clip_grad_norm_([v], **arguments)
    assert str(caught.value) == message
    assert v.grad == 5.0


def test_bad_values():
    (v,) = with_grads(5.0)
    with pytest.raises(ValueError) as caught:
        optim.clip_grad_value_([v], math.nan)
    assert str(caught.value) == "Invalid clip_value: nan, expected 0 <= clip_value < inf"
    assert v.grad == 5.0


@pytest.mark.parametrize(("clip", "name"), BOTH)
def test_bad_parameters(clip, name):
    v, w = with_grads(5.0, 6.0)
    for bad, error, message in (
        ([], ValueError, f"{name} got an empty parameter list: expected at least one Value"),
        ([v, w, v], ValueError, "parameter 2 is the same Value as parameter 0: expected each once"),
        ([v, 1.0], TypeError, "parameter 1 must be a Value, got float 1.0: pass one flat list"),
        (v * w, TypeError, "params must be an iterable of Values, say model.parameters()"),
    ):
        with pytest.raises(error) as caught:
            clip(bad, 1.0)
        assert str(caught.value).startswith(message)
    assert (v.grad, w.grad) == (5.0, 6.0)


@pytest.mark.parametrize(("clip", "name"), BOTH)
def test_clipping_is_no_part_of_a_program(clip, name):
    (v,) = with_grads(5.0)
    with pytest.raises(fastgrad.TraceError, match="inside of a program would happen once"):
        fastgrad.compile(lambda x: clip([v], 1.0) or v * x)([1.0])
    assert v.grad == 5.0
