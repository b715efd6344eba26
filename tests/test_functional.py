"""fastgrad.functional against the same formulas written with Value operators.

`FORMULAS` spells each function out; values must agree to the bit, gradients to rounding. Errors are
in test_functional_errors.py, what is recorded while a program is traced in
test_functional_traced.py.
"""

import gc
import math
from collections import deque
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from oracles import close, node, number_key, outputs_of, pass_on, run_snippet

from fastgrad import functional, no_grad, tape
from fastgrad.engine import Value

INF, NAN = math.inf, math.nan


# ---- The formulas


def largest(values):
    """The largest data as a number; nan wins."""
    found = values[0]
    for v in values[1:]:
        found = found.maximum(v)
    return found.data


def spelled_max(xs):
    found = xs[0]
    for x in xs[1:]:
        found = found.maximum(x)
    return found


def spelled_softmax(xs):
    m = float(largest(xs))
    powers = [(x - m).exp() for x in xs]
    total = sum(powers)
    return [e / total for e in powers]


def spelled_logsumexp(xs):
    m = float(largest(xs))
    return sum((x - m).exp() for x in xs).log() + m


def spelled_log_softmax(xs):
    total = spelled_logsumexp(xs)
    return [x - total for x in xs]


def spelled_rmsnorm(xs, eps=1e-5):
    scale = (sum(x * x for x in xs) / len(xs) + eps) ** -0.5
    return [x * scale for x in xs]


def spelled_mse(ys, ts):
    return sum((y - t) ** 2 for y, t in zip(ys, ts)) / len(ys)


def spelled_hinge(ys, ts):
    return sum((1 + -t * y).relu() for y, t in zip(ys, ts)) / len(ys)


class Formula(NamedTuple):
    """A function on one row or two; its formula; entries it appends for n Values."""

    call: object
    spelled: object
    entries: object
    rows: int = 1


FORMULAS = {
    "max": Formula(functional.max, spelled_max, lambda n: n - 1),
    "sum": Formula(functional.sum, sum, lambda n: n + 1),
    "mean": Formula(functional.mean, lambda xs: sum(xs) / len(xs), lambda n: n + 3),
    "dot": Formula(
        functional.dot, lambda xs, ys: sum(x * y for x, y in zip(xs, ys)), lambda n: 2, rows=2
    ),
    "softmax": Formula(functional.softmax, spelled_softmax, lambda n: 4 * n + 4),
    "log_softmax": Formula(functional.log_softmax, spelled_log_softmax, lambda n: 4 * n + 7),
    "logsumexp": Formula(functional.logsumexp, spelled_logsumexp, lambda n: 3 * n + 5),
    "cross_entropy": Formula(
        lambda xs: functional.cross_entropy(xs, len(xs) // 2),
        lambda xs: spelled_logsumexp(xs) - xs[len(xs) // 2],
        lambda n: 3 * n + 8,
    ),
    "rmsnorm": Formula(functional.rmsnorm, spelled_rmsnorm, lambda n: n + 8),
    "mse": Formula(functional.mse, spelled_mse, lambda n: 4 * n + 5, rows=2),
    "hinge": Formula(functional.hinge, spelled_hinge, lambda n: 5 * n + 5, rows=2),
}


def values_of(row):
    return [x if isinstance(x, Value) else Value(x) for x in row]


def outcome(call, *rows):
    """Bits of what a call gives, or the error it raises."""
    try:
        return [number_key(out.data) for out in outputs_of(call(*rows))]
    except ArithmeticError as error:
        return type(error), str(error)


anything = st.one_of(
    st.floats(),
    st.integers(-(2**40), 2**40),
    st.floats(-5, 5),
    st.integers(-3, 3),
    st.sampled_from([0.0, -0.0, 0, 1e155, -1e308, INF, -INF, NAN]),
)
pairs = st.lists(st.tuples(anything, st.booleans(), anything, st.booleans()), min_size=1)


@pytest.mark.parametrize("name", FORMULAS)
@given(pairs)
@example([(0, True, 0, True)])
@example([(-0.0, True, 5, True), (0, True, -5, False)])
@example([(1e155, True, 0, False)])
def test_same_bits_as_the_formula(name, drawn):
    """Values, and numbers in place of some of them, ints and floats: also when it overflows."""
    formula = FORMULAS[name]
    xs = [Value(x) if is_value else x for x, is_value, _, _ in drawn]
    ys = [Value(y) if is_value else y for _, _, y, is_value in drawn]
    rows = [xs, ys][: formula.rows]
    spelled = [values_of(row) for row in rows]
    assert outcome(formula.call, *rows) == outcome(formula.spelled, *spelled)


@pytest.mark.parametrize("name", FORMULAS)
@given(st.lists(st.tuples(st.floats(-4, 4), st.floats(-4, 4)), min_size=1, max_size=8))
def test_same_gradients_as_the_formula(name, drawn):
    formula = FORMULAS[name]
    assume(name != "rmsnorm" or sum(x * x for x, _ in drawn) > 1e-3)
    # The formula's rounding shows where the gradient, a difference, all but vanishes.
    grads = []
    for call in (formula.call, formula.spelled):
        rows = [[Value(x) for x, _ in drawn], [Value(y) for _, y in drawn]][: formula.rows]
        sum(out * (k + 2.0) for k, out in enumerate(outputs_of(call(*rows)))).backward()
        grads.append([v.grad for row in rows for v in row])
    got, want = grads
    scale = max(1.0, *map(abs, want)) * len(drawn)
    assert got == pytest.approx(want, rel=1e-12, abs=1e-12 * scale)


@pytest.mark.parametrize("name", FORMULAS)
def test_operands_may_repeat(name):
    formula = FORMULAS[name]
    grads = []
    for call in (formula.call, formula.spelled):
        x, y = Value(1.5), Value(-0.5)
        rows = [[x, y, x], [x, x, y]][: formula.rows]
        sum(out * (k + 2.0) for k, out in enumerate(outputs_of(call(*rows)))).backward()
        grads += [x.grad, y.grad]
    assert grads[:2] == close(grads[2:])


@pytest.mark.parametrize("name", FORMULAS)
def test_backward_twice_accumulates_as_the_formula(name):
    formula = FORMULAS[name]
    grads = []
    for call in (formula.call, formula.spelled):
        x, y = Value(1.5), Value(-0.5)
        rows = [[x, y, x * y], [y, x, y]][: formula.rows]
        out = outputs_of(call(*rows))[0]
        out.backward()
        out.backward()
        grads += [x.grad, y.grad]
    assert grads[:2] == close(grads[2:])


# ---- One C call


@pytest.mark.parametrize("name", FORMULAS)
def test_appends_its_entries_without_handles(name):
    formula = FORMULAS[name]
    rows = [[Value(0.5 * k + 1) for k in range(7)] for _ in range(formula.rows)]
    tape.reclaim()
    before = tape.usage()["entries"]
    out = formula.call(*rows)
    assert tape.usage()["entries"] - before == formula.entries(7)
    del out
    tape.reclaim()
    assert tape.usage()["entries"] == before


def test_calls_no_operators():
    """In a process of its own: a patched operator leaves its mark on the type."""
    run_snippet(
        """
        from fastgrad import Value, functional

        def broken(*operands):
            raise AssertionError("a Python-level operator has been called")

        for name in "add mul neg pow sub truediv".split():
            setattr(Value, f"__{name}__", broken)
        for name in ("exp", "log", "maximum", "minimum", "relu", "detach"):
            setattr(Value, name, broken)
        xs = [Value(1.0), 2, Value(3.0)]
        for name in functional.__all__:
            given = {"where": (1, *xs[:2]), "take": (xs, 1), "cross_entropy": (xs, 1)}.get(name)
            if given is None:
                given = (xs, xs) if name in ("dot", "mse", "hinge") else (xs,)
            if name in ("maximum", "minimum"):
                given = xs[:2]
            getattr(functional, name)(*given)
        """
    )


def test_flat_memory():
    xs = [Value(float(k)) for k in range(20)]
    for k in range(3000):
        functional.cross_entropy(functional.rmsnorm(functional.softmax(xs)), k % 20).backward()
        functional.mse(xs, functional.take([xs, xs], 1))
    assert tape.usage()["entries"] < 1 << 17


@pytest.mark.parametrize("name", FORMULAS)
def test_while_entries_move(name):
    """Results and operands keep their meaning over collections, in the middle of a call too."""
    formula = FORMULAS[name]
    rows = [[Value(0.25 * k - 1) for k in range(9)] for _ in range(formula.rows)]
    want = outcome(formula.spelled, *rows)
    kept = []
    before = tape.usage()["collections"]
    while tape.usage()["collections"] < before + 3:
        kept.append(formula.call(*rows))
        del kept[:-5]
    for out in kept[-5:]:
        assert [number_key(v.data) for v in outputs_of(out)] == want
    tape.reclaim()
    outputs_of(kept[-1])[0].backward()
    got = [v.grad for row in rows for v in row]
    again = [[Value(v.data) for v in row] for row in rows]
    outputs_of(formula.spelled(*again))[0].backward()
    assert got == close([v.grad for row in again for v in row])


# ---- Choices


@pytest.mark.parametrize("number", [0.0, -0.0, 0, False, 1, -2.5, NAN, INF, np.float64(0)])
def test_where(number):
    a, b = Value(1.0), Value(2.0)
    want = a if number != 0 else b
    assert functional.where(number, a, b) is want
    assert functional.where(Value(number), a, b) is want
    assert functional.where(Value(number), 5, 6).data == (5 if number != 0 else 6)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@given(anything, anything)
def test_maximum_and_minimum(name, x, y):
    call = getattr(functional, name)
    want = number_key(getattr(Value(x), name)(y).data)
    for a, b in [(Value(x), Value(y)), (x, Value(y)), (Value(x), y), (x, y)]:
        assert number_key(call(a, b).data) == want


def test_a_tie_of_max_gives_the_gradient_to_the_first():
    xs = [Value(1.0), Value(3.0), Value(3.0), Value(2.0)]
    functional.max(xs).backward()
    assert [x.grad for x in xs] == [0, 1, 0, 0]
    assert functional.max(xs[:1]) is xs[0]
    assert functional.max([7]).data == 7


@given(st.lists(anything, min_size=1))
def test_argmax(numbers):
    got = functional.argmax([Value(x) for x in numbers])
    assert type(got) is int
    assert got == functional.argmax(numbers) == int(np.argmax(np.array(numbers, dtype=float)))


def test_take():
    xs = [Value(1.0), Value(2.0), 3]
    for k in (0, 0.0, Value(0), Value(0.0), np.int64(0), False):
        assert functional.take(xs, k) is xs[0]
    assert number_key(functional.take(xs, 2).data) == number_key(3)
    table = [[Value(1.0), 2], (x for x in (Value(3.0), 4.0)), np.array([5.0, 6.0])]
    row = functional.take(table, Value(0))
    assert row[0] is table[0][0]
    assert row[1].data == 2
    deep = [[[1, 2], [3, 4]], [[5, 6], [7, Value(8)]]]
    assert [[v.data for v in row] for row in functional.take(deep, 1)] == [[5, 6], [7, 8]]


# ---- Losses


def test_losses_of_two_numbers():
    """An MLP of one output gives a Value, not a list."""
    y, t = Value(3), Value(1)
    assert number_key(functional.mse(y, t).data) == number_key(4)
    assert number_key(functional.mse(y, 1.0).data) == number_key(4.0)
    assert number_key(functional.hinge(y, -1).data) == number_key(4)
    assert number_key(functional.hinge(2, 1).data) == number_key(0)
    functional.hinge(y, t * -1).backward()
    assert (y.grad, t.grad) == (1, 3)


@pytest.mark.parametrize("shift", [1000.0, -1000.0, 1e300])
def test_stable_far_from_zero(shift):
    xs = [Value(shift), Value(shift - 1), Value(-shift)]
    highest = max(0, 1 if shift > 0 else 2, key=lambda k: xs[k].data)
    probabilities = functional.softmax(xs)
    assert sum(p.data for p in probabilities) == pytest.approx(1)
    assert all(math.isfinite(p.data) for p in functional.log_softmax(xs))
    loss = functional.cross_entropy(xs, highest)
    loss.backward()
    assert 0 <= loss.data < 1
    assert [x.grad for x in xs] == close(
        [p.data - (k == highest) for k, p in enumerate(probabilities)]
    )
    assert functional.logsumexp(xs).data >= xs[highest].data


def test_against_numpy():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=10) * 20
    powers = np.exp(logits - logits.max())
    want = powers / powers.sum()
    assert [p.data for p in functional.softmax(logits)] == close(want.tolist())
    assert [p.data for p in functional.log_softmax(logits)] == close(np.log(want).tolist())
    assert functional.logsumexp(logits).data == close(float(np.log(np.exp(logits).sum())))


# ---- What may be given


@pytest.mark.parametrize(
    "row",
    [
        (1.0, 2.0, 3.0),
        [1, 2, 3],
        range(1, 4),
        deque([1.0, Value(2.0), 3]),
        np.array([1.0, 2.0, 3.0]),
        np.array([1, 2, 3], dtype=np.uint8),
        np.array([Value(1.0), 2, Value(3)], dtype=object),
        [np.float32(1), np.int64(2), Value(3.0)],
        {1.0: "a", 2.0: "b", 3.0: "c"},
        b"\x01\x02\x03",
    ],
    ids=lambda row: type(row).__name__,
)
def test_rows_of_many_kinds(row):
    assert functional.sum(row).data == 6
    assert functional.sum(x for x in row).data == 6
    assert functional.dot(row, row).data == 14
    assert functional.max(iter(row)).data == 3
    assert sum(p.data for p in functional.softmax(row)) == close(1.0)


def test_numbers_become_leaves():
    x = Value(2.0)
    out = functional.dot([x, 3], [4, 5.0])
    assert out._op == "dot"
    assert sorted(v.data for v in out._prev) == [0, 2.0, 3, 4, 5.0]
    assert {v._op for v in out._prev} == {""}


def test_no_grad_gives_leaves():
    xs = [Value(1.0), Value(2.0)]
    for formula in FORMULAS.values():
        with no_grad():
            outs = outputs_of(formula.call(*[xs] * formula.rows))
        assert all(out._prev == set() for out in outs if out not in xs)
        want = formula.spelled(*[xs] * formula.rows)
        assert [out.data for out in outs] == [out.data for out in outputs_of(want)]


@pytest.mark.parametrize("name", FORMULAS)
def test_user_made_rules_below(name):
    """A rule is called although nobody holds the entries between it and the result."""
    formula = FORMULAS[name]
    x, y = Value(1.5), Value(-2.0)
    rows = [[node(Value, x, pass_on), y], [y, node(Value, x, pass_on)]][: formula.rows]
    out = outputs_of(formula.call(*rows))[0] * 2
    rows.clear()
    tape.reclaim()
    out.backward()
    a, b = Value(1.5), Value(-2.0)
    (outputs_of(formula.spelled(*[[a, b], [b, a]][: formula.rows]))[0] * 2).backward()
    assert (x.grad, y.grad) == (close(a.grad), close(b.grad))


def test_instances_of_subclasses():
    class Parameter(Value):
        pass

    ps = [Parameter(1.0), Parameter(2.0)]
    out = functional.softmax(ps)
    assert {type(p) for p in out} == {Value}
    assert functional.take(ps, 1) is ps[1]
    total = functional.dot(ps, ps)
    del ps
    tape.reclaim()
    assert {type(v) for v in total._prev} == {Parameter, Value}


@pytest.mark.parametrize("name", FORMULAS)
def test_finalizers_record_in_the_middle_of_a_call(name):
    """Handles and links are allocated in a call, so the cyclic collector may run in it."""
    formula = FORMULAS[name]
    ran = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            ran.append(functional.sum([Value(float(k)) for k in range(40)]).data)

    rows = [[node(Value, Value(0.5 * k - 1), pass_on) for k in range(9)]] * formula.rows
    want = outcome(formula.spelled, *rows)
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(300):
            Cycle()
            assert outcome(formula.call, *rows) == want
    finally:
        gc.set_threshold(*threshold)
    assert set(ran) == {780.0}
