"""Values made and used from several threads: one tape, guarded by the interpreter's lock."""

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from oracles import node, pass_on

from fastgrad import nn, no_grad
from fastgrad.engine import Value

PATIENCE = 120  # seconds until a thread that should have come counts as stuck


@pytest.fixture(autouse=True)
def eager_switching():
    """Let the interpreter switch threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(work, arguments):
    """`work` on every argument, all at once; results in order, exceptions raised here."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        futures = [pool.submit(work, argument) for argument in arguments]
        return [future.result(PATIENCE) for future in futures]


def expression(seed):
    """A few thousand operations, several sweeps, garbage; all that they gave."""
    rng = random.Random(seed)
    leaves = [Value(rng.uniform(-1, 1)) for _ in range(5)]
    results = []
    for _ in range(30):
        pool = list(leaves)
        for _ in range(60):
            a, b = rng.choice(pool), rng.choice(pool)
            pool.append(rng.choice([a + b, a * b, a - b, (a * 2).relu(), (a * a + 1) ** -1]))
            if len(pool) > 20:
                pool.pop(rng.randrange(5, 20))
        root = sum(pool)
        root.backward()
        results.append(root.data)
    return results + [v.grad for v in leaves]


def train(seed):
    """Ten steps of a small model of the thread's own."""
    rng = random.Random(seed)
    model = nn.MLP(2, [4, 1])
    for p in model.parameters():
        p.data = rng.uniform(-1, 1)
    losses = []
    for _ in range(10):
        rows = [[rng.uniform(-1, 1), Value(rng.uniform(-1, 1))] for _ in range(5)]
        loss = sum((model(row) - 0.5) ** 2 for row in rows)
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.05 * p.grad
        losses.append(loss.data)
    return losses + [p.data for p in model.parameters()]


def user_rules(seed):
    """Own rules, labels and subclasses, each thread with its own."""

    class Own(Value):
        pass

    def double(x):
        out = Value(2 * x.data, (x,), "double")

        def rule():
            x.grad += 2 * out.grad

        out._backward = rule
        out.label = f"double of {seed}"
        return out

    grads = []
    for i in range(300):
        x = Own(float(seed + i))
        y = double(double(x * 3) + 1) * 5
        y.backward()
        grads.append((x.grad, sorted(v.label for v in y._prev)))
    return grads


@pytest.mark.parametrize("work", [expression, train, user_rules])
def test_threads_give_what_one_thread_gives(work):
    seeds = list(range(8))
    assert in_threads(work, seeds) == [work(seed) for seed in seeds]


def test_values_made_in_one_thread_are_used_in_another():
    (model,) = in_threads(lambda _: nn.MLP(3, [4, 1]), [None])
    (loss,) = in_threads(lambda m: m([1.0, Value(2.0), 3.0]) ** 2, [model])
    in_threads(lambda root: root.backward(), [loss])
    here = [p.grad for p in model.parameters()]
    model.zero_grad()
    again = model([1.0, Value(2.0), 3.0]) ** 2
    again.backward()
    assert again.data == loss.data
    assert [p.grad for p in model.parameters()] == here
    assert any(here) or loss.data == 0


def test_shared_parameters_collect_every_thread_s_gradient():
    """Integer-valued gradients, so that the sum does not depend on the order."""
    w = Value(3.0)
    lock = threading.Lock()

    def work(k):
        for _ in range(200):
            loss = (w * k + 1) * 2
            with lock:
                loss.backward()

    in_threads(work, [1, 2, 3, 4])
    assert w.grad == 200 * 2 * (1 + 2 + 3 + 4)


def test_handles_dropped_in_another_thread():
    batches = [[Value(float(i)) * 2 + 1 for i in range(2000)] for _ in range(6)]

    def work(batch):
        total = 0.0
        while batch:
            v = batch.pop()
            v.label = "seen"
            v.backward()
            total += v.grad
        return total

    assert in_threads(work, batches) == [2000] * 6


def test_no_grad_is_per_thread():
    entered, checked = threading.Event(), threading.Event()
    x = Value(2.0)

    def without(_):
        with no_grad():
            entered.set()
            assert checked.wait(PATIENCE)
            return len((x * 3)._prev)

    def with_gradients(_):
        assert entered.wait(PATIENCE)
        y = x * 3
        y.backward()
        checked.set()
        return len(y._prev)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(without, None), pool.submit(with_gradients, None)]
        assert [f.result(PATIENCE) for f in futures] == [0, 2]
    assert x.grad == 3


def test_no_grad_context_manager_decorator_and_nesting():
    x = Value(2.0)

    @no_grad()
    def evaluate(v):
        """Its docstring."""
        return v * 3

    def is_leaf(v):
        return v._prev == set() and v._op == ""

    assert is_leaf(evaluate(x))
    assert evaluate(x).data == 6.0
    assert (evaluate.__name__, evaluate.__doc__) == ("evaluate", "Its docstring.")
    assert not is_leaf(x * 3)
    guard = no_grad()
    with guard:
        assert is_leaf(x + 1)
        with guard, no_grad():
            assert is_leaf(x.relu())
        assert is_leaf(evaluate(x))
        assert is_leaf(x**2)
        assert is_leaf(nn.Neuron(2)([x, 1.0]))
        assert all(is_leaf(v) for v in nn.MLP(2, [3, 2])([x, 1.0]))
    assert not is_leaf(x + 1)


def test_no_grad_ends_with_an_exception():
    x = Value(2.0)
    with pytest.raises(ZeroDivisionError), no_grad():
        x / 0
    y = x * 3
    y.backward()
    assert x.grad == 3


def test_sweep_of_an_older_graph_under_no_grad():
    x = Value(2.0)
    y = x * x
    with no_grad():
        y.backward()
        x.data -= 0.5 * x.grad
    assert (x.grad, x.data) == (4.0, 0.0)


@pytest.mark.parametrize("shared", [False, True], ids=["own graph", "shared parameter"])
def test_another_thread_sweeps_while_a_rule_waits(shared):
    inside, done = threading.Event(), threading.Event()

    def waiting_rule(x, out):
        inside.set()
        assert done.wait(PATIENCE)
        pass_on(x, out)

    w, u = Value(2.0), Value(7.0)
    hidden = w * 3
    loss = (node(Value, hidden, waiting_rule) * 5 + w) * 2
    theirs = w if shared else u
    other_loss = (theirs * 10 + theirs) * (hidden if shared else 1)

    def other():
        assert inside.wait(PATIENCE)
        for i in range(50_000):
            Value(i) * 2.0
        other_loss.backward()
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    loss.backward()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    if shared:
        # other_loss = 11 w * hidden, hidden = 3 w: its sweep adds 22 to hidden.grad, and so
        # 11 * 6 + 22 * 3 to w.grad; hidden held 0 then, and gets 10 more from the waiting rule.
        assert hidden.grad == 32
        assert w.grad == 2 + 66 + 22 * 3 + 32 * 3
    else:
        assert (w.grad, u.grad) == (32, 11)


def test_failure_in_another_thread_s_sweep_while_a_rule_waits():
    inside, done, failures = threading.Event(), threading.Event(), []

    def waiting_rule(x, out):
        inside.set()
        assert done.wait(PATIENCE)
        pass_on(x, out)

    def other():
        assert inside.wait(PATIENCE)
        try:
            (node(Value, Value(1.0) * 2, lambda x, out: 1 / 0) * 2).backward()
        except ZeroDivisionError:
            failures.append("failed")
        done.set()

    w = Value(2.0)
    loss = node(Value, w * 3, waiting_rule) * 5 + w
    thread = threading.Thread(target=other)
    thread.start()
    loss.backward()
    thread.join(PATIENCE)
    assert failures == ["failed"]
    assert w.grad == 16
