"""`custom_op`: functions of floats as operations, eager and in sweeps."""

import gc
import math
import random
import re

import numpy as np
import pytest
from customs import cube, cube_partials, cube_second, cubed, raises, twist, twist_partials, twisted
from oracles import refused, run_snippet

import fastgrad
from fastgrad import Value, custom_op, detect_anomaly, functional, no_grad


def by_hand(x, y, z):
    """As micrograd's users write it."""
    out = Value(twist(x.data, y.data, z.data), (x, y, z), "twist")

    def rule():
        for operand, partial in zip((x, y, z), twist_partials(x.data, y.data, z.data)):
            operand.grad += partial * out.grad

    out._backward = rule
    return out


# ---- eager


def test_data_gradients_and_what_the_entry_shows():
    x, y = Value(0.5), Value(-2.0)
    out = twisted(x, y, 3)
    assert (out.data, out._op, out.grad) == (twist(0.5, -2.0, 3.0), "twist", 0)
    assert [type(v) for v in out._children] == [Value] * 3
    assert out._children[0] is x
    assert {x, y} < out._prev
    (out * 2).backward()
    assert (x.grad, y.grad, out._children[2].grad) == (-4 * math.cos(0.5), 2 * math.sin(0.5), -2.0)
    assert type(x.grad) is float


def test_the_sweep_is_that_of_a_rule_by_hand():
    """Chains, shared operands, an operand twice, swept twice: to the last bit."""
    rng = random.Random(3)
    for _ in range(20):
        grads = []
        state = rng.getstate()
        for op in (twisted, by_hand):
            rng.setstate(state)
            leaves = [Value(rng.uniform(-1, 1)) for _ in range(3)]
            pool = list(leaves)
            for _ in range(30):
                pool.append(op(*rng.choices(pool, k=3)) * 0.3)
            root = functional.sum(pool)
            root.backward()
            grads.append([v.grad for v in leaves])
            root.backward()
            grads[-1] += [v.grad for v in leaves]
        assert grads[0] == grads[1]


def test_partials_are_taken_at_the_data_of_the_backward_pass():
    x = Value(2.0)
    out = cubed(x)
    x.data = 10
    out.backward()
    assert (out.data, x.grad) == (8.0, 300.0)


def test_functions_get_floats_and_may_return_any_numbers():
    got = []

    def forward(x, y):
        got.append((x, y))
        return np.float32(1.5)

    def partials(x, y):
        got.append((x, y))
        return np.array([2, 3])

    x = Value(3)
    out = custom_op(forward, partials)(x, np.int64(4))
    out.backward()
    assert got == [(3.0, 4.0)] * 2
    assert {type(number) for pair in got for number in pair} == {float}
    assert (out.data, type(out.data), x.grad, type(x.grad)) == (1.5, float, 2.0, float)


def test_nan_and_infinity_pass():
    x = Value(0.5)
    out = custom_op(lambda x: math.nan, lambda x: [math.inf], name="odd")(x)
    out.backward()
    assert math.isnan(out.data)
    assert x.grad == math.inf


def test_the_local_rule_by_hand():
    x = Value(2.0)
    out = cubed(x)
    out.grad = 0.5
    out._backward()
    assert x.grad == 6.0
    rule = out._backward
    out._backward = lambda: (rule(), setattr(x, "grad", x.grad * 10))
    out.backward()
    assert x.grad == 180.0


def test_no_grad_gives_a_leaf():
    x = Value(2.0)
    with no_grad():
        out = cubed(x)
    assert (out.data, out._prev, out._op) == (8.0, set(), "")


def test_detect_anomaly():
    x = Value(2.0)
    odd = custom_op(lambda x, y: x / y if y else math.inf, lambda x, y: (math.nan, 0), name="over")
    with detect_anomaly():
        with pytest.raises(FloatingPointError, match=r"over gave inf from \(2\.0, 0\)"):
            odd(x, 0)
        y = odd(x, 4.0) + x
        with pytest.raises(
            FloatingPointError,
            match=re.escape("the adjoint of over's operand 2.0 in (2.0, 4.0) became nan"),
        ):
            y.backward()
    assert math.isnan(x.grad)


def test_graphs_with_it_are_drawn_and_listed():
    out = twisted(Value(1.0), Value(2.0), 3.0) * 2
    assert "twist" in fastgrad.draw_dot(out).source
    assert " twist " in repr(fastgrad.tape_table(out))
    steps = list(fastgrad.backward_steps(out))
    assert [step.op for step in steps] == ["*", "twist"]
    assert steps[1].changes[2][2] == -2.0


def test_entries_outlive_their_handles_and_die_without_the_cyclic_collector():
    answer = run_snippet(
        """
import gc
from instruments import nodes_of
from fastgrad import Value, custom_op, tape
cubed = custom_op(lambda x: x * x * x, lambda x: (3 * x * x,))
x = Value(2.0)
y = cubed(cubed(x) * 0.5) + 1
for _ in range(100_000):
    Value(1.0) * 2
y.backward()
gc.collect()
gc.disable()
tape.reclaim()
before = tape.usage()["entries"]
for _ in range(1000):
    cubed(cubed(x) * 0.5).backward()
tape.reclaim()
answer([y.data, x.grad - 1000 * 3 * 4.0**2 * 0.5 * 12, tape.usage()["entries"] - before])
"""
    )
    assert answer == [65.0, 3 * 4.0**2 * 0.5 * 12, 0]


def test_a_long_chain():
    x = out = Value(1.0)
    same = custom_op(lambda x: x, lambda x: (1,))
    for _ in range(100_000):
        out = same(out)
    out.backward()
    assert x.grad == 1.0
    del out
    gc.collect()


# ---- what is refused


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: custom_op(3, cube_partials),
            "custom_op: forward must be a function of floats, got int 3",
        ),
        (
            lambda: custom_op(cube, [1.0]),
            "custom_op: partials must be a function of floats, got list [1.0]",
        ),
        (
            lambda: custom_op(cube, cube_partials, 1.0),
            "custom_op: second must be a function of floats, got float 1.0",
        ),
        (
            lambda: custom_op(cube, cube_partials, name=7),
            "custom_op: name must be a string, got int 7",
        ),
        (lambda: cubed(), "cube: expected at least one operand, a number or a Value"),
        (lambda: cubed("2"), "cube: operand 0 must be a number or a Value, got str '2'"),
        (
            lambda: twisted(1.0, [2.0], 3.0),
            "twist: operand 1 must be a number or a Value, got list [2.0]",
        ),
    ],
)
def test_wrong_arguments(make, text):
    refused(make, TypeError, text)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, "got NoneType None"),
        ("1.0", "got str '1.0'"),
        ([1.0], "got list [1.0]"),
        (1j, "got complex 1j"),
    ],
)
def test_forward_returns_no_number(result, text):
    op = custom_op(lambda x: result, cube_partials, name="op")
    refused(lambda: op(1.0), TypeError, f"op: forward must return a number, {text}")


def test_forward_returns_a_value():
    op = custom_op(lambda x: Value(x), cube_partials, name="op")
    text = (
        "op: forward must return a number, got Value Value(data=1.0, grad=0): compute with floats"
    )
    refused(lambda: op(1.0), TypeError, text)


@pytest.mark.parametrize(
    ("result", "kind", "text"),
    [
        (1.0, TypeError, "a sequence of 2 numbers, one for each operand, got float 1.0"),
        (None, TypeError, "a sequence of 2 numbers, one for each operand, got NoneType None"),
        ("12", TypeError, "a sequence of 2 numbers, one for each operand, got str '12'"),
        ([1.0], ValueError, "a sequence of 2 numbers, one for each operand, got list [1.0]"),
        (
            (1, 2, 3),
            ValueError,
            "a sequence of 2 numbers, one for each operand, got tuple (1, 2, 3)",
        ),
        ([1.0, None], TypeError, "numbers, got NoneType None"),
    ],
)
def test_partials_return_something_else(result, kind, text):
    x, y = Value(1.0), Value(2.0)
    out = custom_op(math.hypot, lambda x, y: result)(x, y) * 2
    refused(out.backward, kind, f"hypot: partials must return {text}")
    assert (x.grad, y.grad) == (0, 0)
    program = fastgrad.compile(lambda a: custom_op(math.hypot, lambda x, y: result)(x, a))
    refused(lambda: program.backward([1.0, 2.0]), kind, f"hypot: partials must return {text}")
    assert (x.grad, y.grad) == (0, 0)


def test_the_contract_of_second_partials():
    assert cubed.second_at([2.0]) == [[12.0]]
    assert (cubed.forward, cubed.partials, cubed.second) == (cube, cube_partials, cube_second)
    assert (cubed.name, repr(cubed)) == ("cube", "<custom op cube>")
    assert (cubed.value([2.0]), cubed.partials_at([2.0])) == (8.0, [12.0])
    refused(
        lambda: twisted.second_at([1.0, 2.0, 3.0]),
        TypeError,
        "twist has no second partials, which this derivative needs: give custom_op a function as "
        "`second`",
    )
    lame = custom_op(math.hypot, math.hypot, lambda x, y: ((1.0, 2.0), (3.0,)))
    refused(
        lambda: lame.second_at([1.0, 2.0]),
        ValueError,
        "hypot: second must return a sequence of 2 numbers, one for each operand, got tuple (3.0,)",
    )
    lame = custom_op(math.hypot, math.hypot, lambda x, y: 3.0)
    refused(
        lambda: lame.second_at([1.0, 2.0]),
        TypeError,
        "hypot: second must return a sequence of 2 rows, one for each operand, got float 3.0",
    )


def test_errors_of_the_functions_come_out_and_the_tape_goes_on():
    x = Value(2.0)
    with pytest.raises(KeyError, match="in the user's function"):
        custom_op(raises, cube_partials)(x)
    above = cubed(custom_op(cube, raises)(cubed(x)))
    for _ in range(2):
        with pytest.raises(KeyError, match="in the user's function"):
            above.backward()
    assert x.grad == 0
    cubed(x).backward()
    assert x.grad == 12.0
