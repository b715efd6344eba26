"""The reverse sweep: what it reaches, what runs inside it, how deep it goes, how it fails.

Python rules may raise, record and sweep in the middle of a sweep; that other threads sweep
meanwhile is tested in test_threads.py.
"""

import random
import signal
import sys

import pytest
from micrograd.engine import Value as MicrogradValue
from oracles import LectureValue, node, nodes_of, pass_on, run_snippet

from fastgrad.engine import Value


def test_what_the_root_does_not_reach_is_left_alone():
    a, b = Value(2.0), Value(3.0)
    root = a * b
    calls = []
    younger = root * 5
    stranger = node(Value, a, lambda x, out: calls.append(out)) * 7
    younger.grad = stranger.grad = 1000.0
    root.backward()
    assert (a.grad, b.grad, younger.grad, stranger.grad) == (3.0, 2.0, 1000.0, 1000.0)
    assert calls == []


def test_leftover_gradients_of_another_loss_are_not_pushed_again():
    a, b, c = Value(2.0), Value(3.0), Value(5.0)
    first, second = a * b, a * c
    first.backward()
    second.backward()
    assert (a.grad, b.grad, c.grad) == (8.0, 2.0, 2.0)


def test_random_graphs_with_many_losses_and_compaction_between():
    """A pool of live values, most of each graph without handles, garbage in between."""
    rng = random.Random(5)
    for _ in range(60):
        start = [rng.uniform(-1, 1) for _ in range(6)]
        pool = [(MicrogradValue(x), Value(x)) for x in start]
        leaves = list(pool)
        for step in range(120):
            (a, x), (b, y) = rng.choice(pool), rng.choice(pool)
            kind = rng.randrange(5)
            if kind == 0:
                made = (a + b) * 0.5, (x + y) * 0.5
            elif kind == 1:
                made = (a * b - a).relu() * 0.9, (x * y - x).relu() * 0.9
            elif kind == 2:
                made = sum([a, b, a]) / 3, sum([x, y, x]) / 3
            elif kind == 3:
                made = (a * a + 1.0) ** -1, (x * x + 1.0) ** -1
            else:
                made = MicrogradValue(step), Value(step)
            pool[rng.randrange(len(pool))] = made
            if step % 40 == 39:
                for _ in range(3000):
                    x * 2.0
                mine, ours = rng.choice(pool)
                mine.backward()
                ours.backward()
        for mine, ours in leaves + pool:
            assert ours.data == mine.data
            assert ours.grad == pytest.approx(mine.grad, rel=1e-9, abs=1e-12)


class Boom(Exception):
    pass


def raiser(error):
    def rule(x, out):
        raise error

    return rule


@pytest.mark.parametrize("kind", [Boom, KeyboardInterrupt, SystemExit, MemoryError])
def test_exception_inside_a_rule(kind):
    error = kind()
    a, b = Value(2.0), Value(3.0)
    below = a * b
    bad = node(Value, below, raiser(error))
    loss = bad * 4 + a
    with pytest.raises(kind) as caught:
        loss.backward()
    assert caught.value is error
    assert (loss.grad, bad.grad) == (1, 4)

    other = b * b
    other.backward()
    assert b.grad == 6.0

    bad._backward = lambda: pass_on(below, bad)
    for v in nodes_of(loss):
        v.grad = 0
    loss.backward()
    assert (a.grad, b.grad) == (3.0 * 4 + 1, 2.0 * 4)


def test_keyboard_interrupt_by_a_signal_inside_a_rule():
    # A process started in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def rule(x, out):
        signal.raise_signal(signal.SIGINT)
        pass_on(x, out)

    a = Value(2.0)
    loss = node(Value, a * 3, rule) * 5
    try:
        with pytest.raises(KeyboardInterrupt):
            loss.backward()
    finally:
        signal.signal(signal.SIGINT, before)
    fresh = Value(7.0)
    (fresh * 2 + fresh).backward()
    assert fresh.grad == 3


def test_many_failed_sweeps():
    a = Value(1.0)
    bad = node(Value, a * 2, raiser(Boom()))
    loss = bad * 3
    for _ in range(10_000):
        with pytest.raises(Boom):
            loss.backward()
    loss = a * 5
    loss.backward()
    assert a.grad == 5


@pytest.mark.parametrize("root", [lambda x: x**0.5, lambda x: x.sqrt(), lambda x: x**0.5 + x])
def test_division_by_zero_in_backward(root):
    x, w = Value(0.0), Value(3.0)
    out = root(x)
    with pytest.raises(ZeroDivisionError):
        out.backward()
    loss = x * w
    loss.backward()
    assert w.grad == 0.0
    assert loss.grad == 1
    x.data, out.data = 4.0, 2.0
    out.backward()
    assert out.grad == 1


def records_little(cls, x, out):
    extra = (cls(2.0) * x + 1).relu()
    x.grad += out.grad * extra.data


def sweeps_another_graph(cls, x, out):
    inner = cls(5.0)
    (inner * inner).backward()
    x.grad += out.grad * inner.grad


def sweeps_a_graph_of_the_same_operand(cls, x, out):
    (x * x).backward()
    x.grad += out.grad


def sweeps_the_operand_itself(cls, x, out):
    x.grad += 2 * out.grad
    kept = x.grad
    x.backward()
    x.grad += kept


def runs_rules_by_hand(cls, x, out):
    t = x * 3
    t.grad = out.grad
    t._backward()


@pytest.mark.parametrize(
    "rule",
    [
        records_little,
        sweeps_another_graph,
        sweeps_a_graph_of_the_same_operand,
        sweeps_the_operand_itself,
        runs_rules_by_hand,
    ],
)
def test_rule_that_works_on_values(rule):
    def script(cls):
        a, b = cls(2.0), cls(-3.0)
        x = a * b + a
        middle = node(cls, x, lambda x, out: rule(cls, x, out)) * 3
        second = node(cls, middle + x, lambda x, out: rule(cls, x, out))
        (second * 2).backward()
        return [a.grad, b.grad, x.grad, middle.grad, second.grad]

    assert script(Value) == script(LectureValue)


def test_rule_that_records_more_than_the_tape_held():
    kept = []

    def rule(x, out):
        acc = Value(0.0)
        for i in range(200_000):
            acc = acc + i
        kept.append(acc)
        pass_on(x, out)

    a, b = Value(2.0), Value(3.0)
    inner = a * b
    loss = node(Value, node(Value, inner * 2, rule) + a, rule) * 10
    loss.backward()
    assert (a.grad, b.grad, inner.grad) == (70.0, 40.0, 20)
    kept[0].backward()
    assert kept[0].data == sum(range(200_000))
    assert (a.grad, b.grad) == (70.0, 40.0)


def test_rules_run_once_each_users_first():
    order = []

    def rule(name):
        def run(x, out):
            order.append((name, out.grad))
            pass_on(x, out)

        return run

    a = Value(1.0)
    first = node(Value, a, rule("first"))
    left, right = node(Value, first * 2, rule("left")), node(Value, first * 3, rule("right"))
    (left + right).backward()
    assert order == [("right", 1), ("left", 1), ("first", 5)]
    assert a.grad == 5


def test_rule_of_a_leaf_runs():
    """A hook on a parameter made long before; micrograd calls every node's `_backward`."""
    seen = []
    w = Value(2.0)
    w._backward = lambda: seen.append(w.grad)
    for i in range(1000):
        Value(i) * 2
    loss = (Value(3.0) * w + 1) * 2
    loss.backward()
    assert seen == [6.0]


def test_replaced_rule_of_an_operator():
    a, b = Value(2.0), Value(3.0)
    product = a * b
    product._backward = lambda: None
    loss = product + a
    loss.backward()
    assert (a.grad, b.grad) == (1, 0)


def test_wrapped_rule_of_an_operator():
    def script(cls):
        calls = []
        a, b = cls(2.0), cls(3.0)
        product = a * b
        original = product._backward

        def wrapped():
            calls.append(product.grad)
            original()
            a.grad = min(a.grad, 4.0)

        product._backward = wrapped
        (product * 7 + b).backward()
        return calls, a.grad, b.grad

    assert script(Value) == script(LectureValue) == ([7], 4.0, 15.0)


@pytest.mark.parametrize(
    "rule", ["y.backward", "lambda: (a * y).backward()", "lambda: y._backward()"]
)
def test_rule_without_end_is_a_recursion_error(rule):
    assert (
        run_snippet(
            f"""
        from fastgrad.engine import Value
        a = Value(2.0)
        y = a * 3
        y._backward = {rule}
        try:
            y.backward()
        except RecursionError:
            b = Value(5.0)
            (b * b).backward()
            answer(b.grad)
        """
        )
        == 10.0
    )


def test_built_in_rule_assigned_back():
    a = Value(2.0)
    y = a * 3
    original = y._backward
    y._backward = lambda: None
    y._backward = original
    (y * 5).backward()
    assert a.grad == 15


def test_rule_assigned_between_two_sweeps():
    a = Value(2.0)
    middle = a * 3
    loss = (middle + 1) * 5
    loss.backward()
    assert a.grad == 15
    middle._backward = lambda: setattr(a, "grad", a.grad + 1000)
    loss.backward()
    assert a.grad == 1015


def test_gradient_clipped_inside_a_rule():
    def clip(x, out):
        out.grad = max(-1.0, min(1.0, out.grad))
        x.grad += out.grad

    a = Value(2.0)
    loss = node(Value, a * 3, clip) * 50
    loss.backward()
    assert a.grad == 3.0


def test_chain_of_a_million():
    limit = sys.getrecursionlimit()
    x = first = Value(1.0)
    for _ in range(1_000_000):
        x = x * 1.0 + 1
    assert x.data == 1_000_001.0
    x.backward()
    assert first.grad == 1.0
    del x
    assert (first + 1).data == 2.0
    assert sys.getrecursionlimit() == limit


def test_chain_of_ten_million_in_its_own_process():
    assert run_snippet(
        """
        from fastgrad.engine import Value
        x = first = Value(1)
        for _ in range(10_000_000):
            x = x + 1
        x.backward()
        result = [x.data, first.grad, x.grad]
        del x
        y = first * 3
        y.backward()
        answer(result + [first.grad])
        """
    ) == [10_000_001, 1, 1, 4]


DEEP = """
import gc
from fastgrad.engine import Value

class V(Value):
    pass

def with_rule(x):
    out = Value(x.data, (x,), "id")
    def rule():
        x.grad += out.grad
    out._backward = rule
    return out

def with_late_rule(x):
    out = x * 1
    def rule():
        x.grad += out.grad
    out._backward = rule
    return out

makers = {
    "rule": with_rule,
    "late rule": with_late_rule,
    "local gradients": lambda x: Value(x.data, (x,), (1.0,)),
    "subclass": lambda x: V(0.0) + x,
    "operators above a rule": lambda x: x + 0.0,
    "labelled": lambda x: labelled(x + 0.0),
    "children kept by _prev": lambda x: holding(x + 0.0, x),
}

def labelled(v):
    v.label = "l"
    return v

def holding(v, x):
    v.mine = x
    return v

first = Value(2.0)
x = with_rule(first)
for _ in range(depth):
    x = makers[maker](x)
x.backward()
result = [x.data, first.grad]
if collected_by == "reference count":
    gc.disable()
    del x
    gc.enable()
else:
    cycle = [x]
    cycle.append(cycle)
    del x, cycle
gc.collect()
second = with_rule(first)
(second * 3).backward()
answer(result + [first.grad])
"""


@pytest.mark.parametrize("collected_by", ["reference count", "collector"])
@pytest.mark.parametrize(
    "maker",
    [
        "rule",
        "late rule",
        "local gradients",
        "subclass",
        "operators above a rule",
        "labelled",
        "children kept by _prev",
    ],
)
def test_deep_chain_of_python_nodes_made_swept_and_deleted(maker, collected_by):
    values = {"depth": 150_000, "maker": maker, "collected_by": collected_by}
    assert run_snippet(DEEP, **values) == [2.0, 1.0, 4.0]
