"""detect_anomaly and check_finite=True: the first nan or inf raises, naming op, numbers, line."""

import gc
import math
import random
import sys
import threading
import tracemalloc

import pytest
from oracles import node, pass_on

from fastgrad import Value, detect_anomaly, functional, nn, no_grad, tape

NAN, INF = math.nan, math.inf
PATIENCE = 120  # seconds until a thread that should have come counts as stuck
UNKNOWN = "(line unknown: recorded without detect_anomaly() or check_finite=True)"
LEAF = "; the operand {} is a leaf: look at what set it"


def next_line():
    """``file:line`` of the line below the call."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + 1}"


def line_of(function):
    """``file:line`` of a lambda."""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def message(function, *args):
    """What the FloatingPointError of a call says."""
    with pytest.raises(FloatingPointError) as caught:
        function(*args)
    return str(caught.value)


# ---- eager, forward

HUGE = [2.0, -1e200, 1.0]

FORWARD = [
    (lambda: Value(1e200) * 1e200, "* gave inf from (1e+200, 1e+200)"),
    (lambda: Value(1e308) + Value(1e308), "+ gave inf from (1e+308, 1e+308)"),
    (lambda: Value(0.0) ** -1.0, "** gave inf from (0.0, -1.0)"),
    (lambda: 1 / Value(0), "** gave inf from (0, -1)"),
    (lambda: Value(1.0) / 0.0, "** gave inf from (0.0, -1)"),
    (lambda: Value(-8.0) ** 0.5, "** gave nan from (-8.0, 0.5)"),
    (lambda: Value(-8.0) ** Value(0.5), "** gave nan from (-8.0, 0.5)"),
    (lambda: Value(0.0).log(), "log gave -inf from 0.0"),
    (lambda: Value(1000).exp(), "exp gave inf from 1000"),
    (lambda: Value(-1.0).sqrt(), "sqrt gave nan from -1.0"),
    (lambda: Value(INF) + 1.0, "+ gave inf from (inf, 1.0)" + LEAF.format(INF)),
    (lambda: 2.0 * Value(NAN), "* gave nan from (nan, 2.0)" + LEAF.format(NAN)),
    (lambda: Value(1.0) * INF, "* gave inf from (1.0, inf)" + LEAF.format(INF)),
    (lambda: Value(INF).sin(), "sin gave nan from inf" + LEAF.format(INF)),
    (lambda: Value(NAN).relu(), "ReLU gave nan from nan" + LEAF.format(NAN)),
    (lambda: Value(NAN).maximum(2), "maximum gave nan from (nan, 2)" + LEAF.format(NAN)),
    (lambda: Value(INF, (Value(3.0),), "own"), "own gave inf from 3.0"),
    (lambda: Value(NAN, (Value(3.0),)), "a hand-made operation gave nan from 3.0"),
    (lambda: functional.mse([Value(1e200)], [0.0]), "** gave inf from (1e+200, 2)"),
    (lambda: functional.sum([Value(1e308), 1e308]), "+ gave inf from (1e+308, 1e+308)"),
    (lambda: functional.softmax([Value(INF), 1]), "+ gave nan from (inf, -inf)" + LEAF.format(INF)),
    (lambda: functional.dot(HUGE, HUGE), "dot gave inf in term 2 of 3: 4.0 + -1e+200 * -1e+200"),
    (
        lambda: functional.dot([NAN], [1]),
        "dot gave nan in term 1 of 1: 0 + nan * 1" + LEAF.format(NAN),
    ),
    (lambda: nn.Neuron(1)([INF]), "* gave inf from (0.5, inf)" + LEAF.format(INF)),
    (lambda: nn.Layer(1, 1)([INF]), "* gave inf from (0.5, inf)" + LEAF.format(INF)),
    (lambda: nn.MLP(1, [1, 1])([INF]), "* gave inf from (0.5, inf)" + LEAF.format(INF)),
]


@pytest.mark.parametrize("function, text", FORWARD, ids=[text for _, text in FORWARD])
def test_an_operation_that_gives_nan_or_inf(function, text, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.5)
    with detect_anomaly():
        assert message(function) == f"{line_of(function)}: {text}"


def test_the_line_is_that_of_the_innermost_function():
    def deep(x):
        y = x * 1e200
        return y * y

    with detect_anomaly():
        told = message(deep, Value(1.0))
    assert (
        told == f"{__file__}:{deep.__code__.co_firstlineno + 2}: * gave inf from (1e+200, 1e+200)"
    )


def test_an_operand_from_before():
    x = Value(1e308) * 10
    line = next_line()
    told = message(detect_anomaly()(lambda: x + 1))
    assert told == (
        f"{line}: + gave inf from (inf, 1); "
        "the operand inf is from outside of detect_anomaly(): look at what set it"
    )


def test_data_set_afterwards():
    with detect_anomaly():
        x = Value(2.0) * 3
        x.data = NAN
        told = message(lambda: x.relu())
    assert told.endswith("the operand nan is a result whose data was set: look at what set it")


def test_an_error_leaves_the_graph_usable():
    x = Value(1e200)
    y = x * 2
    with detect_anomaly():
        message(lambda: y * y)
        message(lambda: functional.softmax([y, INF]))
        z = y * 3
        z.backward()
    assert (z.data, x.grad) == (6e200, 6.0)


# ---- eager, backward


def test_backward_names_the_operation_and_its_line():
    x = Value(1e-320)
    with detect_anomaly():
        line = next_line()
        y = x**0.5
        told = message((y * 1e200).backward)
    assert told == (
        f"{line}: the adjoint of **'s operand {1e-320!r} in ({1e-320!r}, 0.5) became inf "
        "(adjoint of the result 1e+200)"
    )
    assert y.grad == 1e200
    y.backward()  # outside nothing is checked
    assert x.grad == INF


def test_backward_where_python_would_raise():
    x = Value(2.0)
    with detect_anomaly():
        line = next_line()
        y = x.log() * 3
        x.data = 0.0
        told = message(y.backward)
    assert told == f"{line}: the adjoint of log's operand 0.0 became inf (adjoint of the result 3)"
    with pytest.raises(ZeroDivisionError):
        y.backward()


@pytest.mark.parametrize("label", ["", "own"])
def test_backward_of_a_user_made_rule(label):
    x = Value(3.0)

    def rule():
        x.grad += NAN * out.grad

    with detect_anomaly():
        line = next_line()
        out = Value(1.0, (x,), label)
        out._backward = rule
        told = message((out * 2).backward)
    label = label or "a hand-made operation"
    assert (
        told == f"{line}: the adjoint of {label}'s operand 3.0 became nan (adjoint of the result 2)"
    )


def test_backward_of_local_gradients():
    with detect_anomaly():
        line = next_line()
        y = Value(1.0, (Value(3.0), Value(4.0)), (2.0, INF)) * 2
        told = message(y.backward)
    assert told == (
        f"{line}: the adjoint of a hand-made operation's operand 4.0 in (3.0, 4.0) became inf "
        "(adjoint of the result 2)"
    )


def test_backward_of_a_dot():
    with detect_anomaly():
        line = next_line()
        y = functional.dot([Value(1e-150), Value(2.0)], [1e200, 3.0])
        told = message((y * 1e200).backward)
    assert told == (
        f"{line}: the adjoint of dot's operand 1e-150 in term 1 of 2, 1e-150 * 1e+200, became inf "
        "(adjoint of the result 1e+200)"
    )


def test_backward_of_a_rule_run_by_hand():
    with detect_anomaly():
        line = next_line()
        y = Value(1e200) * 2.0
        y.grad = 1e308
        told = message(y._backward)
    assert told == (
        f"{line}: the adjoint of *'s operand 1e+200 in (1e+200, 2.0) became inf "
        "(adjoint of the result 1e+308)"
    )


def test_backward_of_what_was_recorded_outside():
    y = Value(1e-320) ** 0.5 * 1e200
    told = message(detect_anomaly()(y.backward))
    assert told.startswith(f"{UNKNOWN}: the adjoint of **'s operand ")


def test_a_grad_that_was_nan_before():
    x = Value(2.0)
    x.grad = NAN
    with detect_anomaly():
        line = next_line()
        y = x * 3
        told = message(y.backward)
    assert told == (
        f"{line}: the adjoint of *'s operand 2.0 in (2.0, 3) was nan before this backward pass "
        "came to it: set the grads to 0 first"
    )


def test_an_error_leaves_no_marks():
    """A second sweep visits what it would have visited anyway, and nothing twice."""
    a, x = Value(2.0), Value(1e-320)
    with detect_anomaly():
        b = a * 3
        bad = (x**0.5 * 1e200 + b) * 1.0
        message(bad.backward)
    bad.grad = b.grad = a.grad = 0
    (b + a).backward()
    assert (a.grad, b.grad, bad.grad) == (4, 1, 0)


def test_a_sweep_inside_a_rule():
    inner = []

    def rule(x, out):
        with detect_anomaly():
            inner.append(message((Value(1e-320) ** 0.5 * 1e200).backward))
        pass_on(x, out)

    w = Value(2.0)
    (node(Value, w * 3, rule) * 5).backward()
    assert len(inner) == 1
    assert w.grad != 0


def test_lines_follow_their_entries():
    with detect_anomaly():
        garbage = [Value(i) * 2.0 for i in range(1000)]
        x = Value(1e-320)
        line = next_line()
        y = x**0.5
        z = y * 1e200
        before = tape.usage()["collections"]
        del garbage
        for _ in range(3):
            assert tape.reclaim() > 0
            [Value(i) * 2.0 for i in range(100)]
        assert tape.usage()["collections"] == before + 3
        assert message(z.backward).startswith(f"{line}: the adjoint of **'s")


def test_nothing_is_kept():
    def work(rounds):
        with detect_anomaly():
            for _ in range(rounds):
                loss = sum((Value(i) * 0.5 for i in range(100)), Value(0.0))
                loss.backward()
        del loss
        tape.reclaim()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    work(200)
    tracemalloc.start()
    try:
        work(20)
        before = work(20)
        assert abs(work(400) - before) < 10_000  # bytes; 80,000 entries have been recorded
    finally:
        tracemalloc.stop()


# ---- the context


def test_nesting_and_decorator():
    x = Value(1e200)
    guard = detect_anomaly()

    @detect_anomaly()
    def square(v):
        """Its docstring."""
        return v * v

    with guard, guard:
        message(lambda: x * x)
        with no_grad():
            message(lambda: x * x)
            assert (x + 1)._prev == set()
        assert len((x + 1)._prev) == 2
        message(lambda: x * x)
    assert (x * x).data == INF
    message(square, x)
    assert (square.__name__, square.__doc__) == ("square", "Its docstring.")
    with no_grad(), detect_anomaly():
        message(lambda: x * x)
        assert (x + 1)._prev == set()
    assert (x * x).data == INF


def test_it_is_per_thread():
    entered, checked = threading.Event(), threading.Event()
    x, found = Value(1e200), []

    def inside():
        with detect_anomaly():
            entered.set()
            assert checked.wait(PATIENCE)
            found.append(message(lambda: x * x))

    thread = threading.Thread(target=inside)
    thread.start()
    assert entered.wait(PATIENCE)
    assert (x * x).data == INF
    assert nn.Layer(1, 2)([1.0])[0]._prev != set()
    checked.set()
    thread.join(PATIENCE)
    assert len(found) == 1


def train(steps=5):
    random.seed(3)
    model = nn.MLP(2, [4, 4, 3])
    x = Value(2)
    numbers = []
    for _ in range(steps):
        rows = [[random.uniform(-1, 1), x * random.uniform(-1, 1)] for _ in range(4)]
        losses = [functional.cross_entropy(model(row), k % 3) for k, row in enumerate(rows)]
        extra = node(Value, functional.rmsnorm(model(rows[0]))[0], pass_on) + x**3 / 7 - x.tanh()
        loss = functional.mean(losses) + functional.dot([x, 2], [x, x]) + extra
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.05 * p.grad
        numbers += [loss.data, x.grad, *(p.data for p in model.parameters())]
    return [(type(number), number) for number in numbers]


def test_no_number_changes():
    expected = train()
    assert detect_anomaly()(train)() == expected
