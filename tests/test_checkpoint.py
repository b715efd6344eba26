"""`checkpoint`: what is recorded again in the sweep gives the bits of the plain graph."""

import gc
import random

import pytest
from oracles import nodes_of

import fastgrad
from fastgrad import Value, checkpoint, custom_op, nn, tape


def plain(fn, *xs):
    return fn(*xs)


def both(build, passes=1):
    """What `build(run)` gives with and without checkpoints; it returns a root, Values to read."""
    answers = []
    for run in (plain, checkpoint):
        random.seed(7)
        root, values = build(run)
        seen = [root.data, *(v.data for v in values)]
        for _ in range(passes):
            root.backward()
            seen += [v.grad for v in values]
        answers.append([(type(x), x) for x in seen])
    return answers


SQUARE = custom_op(lambda x: x * x, lambda x: (2 * x,), name="square")


def by_hand(x):
    out = Value(x.data * 3, (x,), "three")

    def rule():
        x.grad += 3 * out.grad

    out._backward = rule
    return out


# ---- one segment in a graph


def one_segment(run):
    a, b = Value(0.5), Value(-1.5)
    x = a * b
    y = run(lambda x: (x * a + 2).tanh() * x, x)
    return y * x + a, [a, b, x, y]


def integers(run):
    a = Value(3)
    y = run(lambda x: x * x + a, a)
    return y + a, [a, y]


def captured_inner_values(run):
    a, b = Value(0.5), Value(-1.5)
    c, d = a * b, a + b
    y = run(lambda x: x * c + d.tanh() * c, a)
    return y * d + c, [a, b, c, d, y]


def an_argument_that_is_captured_too(run):
    a = Value(0.5)
    h = run(lambda x: x * a, a)
    y = run(lambda x: x * h + h * x * x + h, h)
    return y * h, [a, h, y]


def the_same_argument_twice(run):
    a = Value(0.5)
    h = run(lambda x: x * a, a)
    y = run(lambda x, y: x * y + x, h, h)
    return y, [a, h, y]


def nested_arguments_and_results(run):
    a = Value(0.7)

    def step(state, k, row):
        h, (c, d) = state
        assert type(state) is list
        assert type(row) is tuple
        return [(h * a + c * k).tanh(), [c * d + row[0], d - h * row[1]]], (h * c,)

    state, ys = [Value(0.1), [Value(0.2), Value(0.3)]], []
    start = [state[0], *state[1]]
    for k in range(5):
        state, (y,) = run(step, state, k, (Value(0.1), 2.0))
        assert type(state) is list
        ys.append(y)
    return sum(ys) + state[0] * state[1][1], [a, *start, *ys, state[0], *state[1]]


def results_used_in_the_function_and_outside(run):
    a = Value(0.7)

    def step(h):
        y = (h * a).tanh()
        return y, y * y + a, (y * 3, h)

    h, ys = Value(0.4), []
    for _ in range(4):
        h, y, (z, old) = run(step, h)
        ys += [y * z, old]
    return sum(ys) * h, [a, h, *ys]


def results_that_are_no_results(run):
    """An argument, captured values, a constant; one of them twice."""
    a, b = Value(0.7), Value(-0.2)
    c = a * b
    h = run(lambda x: x * a, b)

    def step(h, x):
        return [h, x, a, c, h * x], [Value(5.0), Value(2.0) * 3], h * x * c

    (h, x, same, d, p), (five, six), q = run(step, h, a)
    assert same is a
    assert (x is a, d is c, five._prev, six.data) == (True, True, five._prev, 6.0)
    return h * x + d * p * five + six * q, [a, b, c, h, p, q, five, six]


def the_same_result_twice(run):
    a = Value(0.5)

    def twice(x):
        y = x * a
        return y, [y, y * 2]

    y, (again, z) = run(twice, a)
    assert y is again
    return y * again + z, [a, y, z]


def rules_of_all_kinds(run):
    a = Value(0.4)

    def step(h):
        return by_hand(SQUARE(h) + a) * Value(2.0, (h,), (4.0,)).tanh() + abs(h) ** a

    h = a
    for _ in range(3):
        h = run(step, h)
    return by_hand(h), [a, h]


def layers(run):
    model = nn.MLP(3, [4, 4, 3])

    def step(h):
        for _ in range(3):
            h = model(h)
        return h

    h = [Value(0.1), Value(0.2), Value(0.3)]
    start = list(h)
    for _ in range(3):
        h = run(step, h)
    return sum(h), [*model.parameters(), *start, *h]


def nested_checkpoints(run):
    a = Value(0.9)

    def inner(h, c):
        for _ in range(3):
            h = (h * a + c).tanh()
        return h, h * c

    def outer(h, c):
        total = Value(0.0)
        for _ in range(3):
            h, y = run(inner, h, c)
            total = total + y * h
        return h, total

    h, c, totals = Value(0.3), a * 0.2, []
    for _ in range(3):
        h, total = run(outer, h, c)
        totals.append(total)
    return sum(totals), [a, c, h, *totals]


def dropout_and_noise(run):
    model, a = nn.Dropout(0.5), Value(0.5)

    def step(h):
        return (model([h * a + random.gauss(0, 1)] * 3)[0] + h * random.random()).tanh()

    h = a
    for _ in range(20):
        h = run(step, h)
    return h + random.random(), [a, h]


def nothing_to_differentiate(run):
    y = run(lambda: Value(2.0) * 3.0)
    return y * y, [y]


def huge_adjoints(run):
    a = Value(1e-160)
    y = run(lambda x: x * 1e160 * a, a)
    return y * 1e160 + a * 1e300 * 1e300, [a, y]


GRAPHS = [
    one_segment,
    integers,
    captured_inner_values,
    an_argument_that_is_captured_too,
    the_same_argument_twice,
    nested_arguments_and_results,
    results_used_in_the_function_and_outside,
    results_that_are_no_results,
    the_same_result_twice,
    rules_of_all_kinds,
    layers,
    nested_checkpoints,
    dropout_and_noise,
    nothing_to_differentiate,
    huge_adjoints,
]


@pytest.mark.parametrize("passes", [1, 2, 4])
@pytest.mark.parametrize("build", GRAPHS)
def test_the_bits_of_the_plain_graph(build, passes):
    want, got = both(build, passes)
    assert got == want


@pytest.mark.parametrize("build", GRAPHS)
def test_the_plain_graph_step_by_step(build):
    """By ``_backward()`` of each entry, as the lecture does it."""
    answers = []
    for run in (plain, checkpoint):
        random.seed(7)
        root, values = build(run)
        list(fastgrad.backward_steps(root))
        answers.append([v.grad for v in values])
    assert answers[0] == answers[1]


def test_random_graphs_of_segments():
    """Random sizes, captures, losses of their own, collections in between."""
    rng = random.Random(11)
    for _ in range(60):
        state, answers = rng.getstate(), []
        for run in (plain, checkpoint):
            rng.setstate(state)
            leaves = [Value(rng.uniform(-1, 1)) for _ in range(4)]
            pool = list(leaves)
            for _ in range(12):
                pool += segment_of(rng, run, pool)
            losses = [loss_of(rng.sample(pool, 3)) for _ in range(3)]
            grads = []
            for loss in losses:
                loss.backward()
                grads.append([v.grad for v in leaves])
            answers.append(grads)
            tape.reclaim()
        assert answers[0] == answers[1]


def loss_of(values):
    return values[0] * values[1] + values[2]


def segment_of(rng, run, pool):
    xs = rng.sample(pool, rng.randrange(1, 4))
    captured = rng.sample(pool, 2)
    choices = [(rng.randrange(4), rng.random(), rng.random()) for _ in range(rng.randrange(1, 12))]

    def fn(*xs):
        own = [*xs, *captured]
        for kind, i, j in choices:
            a, b = own[int(i * len(own))], own[int(j * len(own))]
            own.append([a + b, a * b, (a - b).tanh(), a.relu() * 0.5][kind])
        return own[-min(3, len(choices)) :]

    return run(fn, *xs)


def test_losses_with_graphs_in_common_are_swept_one_by_one():
    def grads(run):
        a, b = Value(0.5), Value(-1.5)
        c, d = a * b, a + b
        y, z = run(lambda x: (x * c, x * d.tanh()), a)
        for loss in (z * 2, y * 3, z * y, y + c):
            loss.backward()
            yield [v.grad for v in (a, b, c, d, y, z)]

    assert list(grads(checkpoint)) == list(grads(plain))


def test_setting_the_grads_of_a_graph_to_0():
    def grad(run):
        a = Value(0.5)
        y = run(lambda x: ((x * a).tanh() * x).tanh(), a)
        root = y * y
        for _ in range(3):
            root.backward()
            for v in nodes_of(root):
                v.grad = 0
        root.backward()
        return a.grad

    assert grad(checkpoint) == grad(plain)


# ---- how often, and when


def test_the_function_runs_once_and_then_once_a_sweep():
    calls = []
    a = Value(0.5)

    def step(x):
        calls.append(len(calls))
        return x * a, x + a, x - a

    ys = checkpoint(step, a)
    root = sum(ys) * ys[0]
    assert calls == [0]
    for n in (2, 3, 4):
        root.backward()
        assert len(calls) == n
    (a * 2).backward()
    assert len(calls) == 4


def test_arguments_are_those_of_the_call():
    a, row = Value(0.5), [Value(1.0), Value(2.0)]
    first = row[0]
    y = checkpoint(lambda row: row[0] * row[1] * a, row)
    row[0] = None
    y.backward()
    assert (a.grad, first.grad, row[1].grad) == (2.0, 1.0, 0.5)


def test_handles_of_results_may_die():
    answers = []
    for run in (plain, checkpoint):
        a, c = Value(0.5), Value(0.25)
        b = a * c

        def chain(run=run, a=a, b=b):
            h = run(lambda x: (x * b, x + b), a)[0]
            return run(lambda x: (x * b, x + a), h)[1] * 2

        root = chain()
        for _ in range(100_000):
            a * 2
        gc.collect()
        root.backward()
        answers.append((a.grad, c.grad, root.data))
    assert answers[0] == answers[1]


def test_what_leaves_the_function_otherwise_is_a_graph_of_its_own():
    a = Value(0.5)
    kept = []

    def step(h):
        kept.append(h * a)
        return (kept[-1] * a).tanh()

    first = checkpoint(lambda x: x * a, a)
    h = checkpoint(step, first)
    inner = kept[0]
    (inner * 2).backward()
    assert a.grad == 3 * 0.5**2 * 2
    a.grad = first.grad = 0
    h.backward()
    want = Value(0.5)
    (want * want * want * want).tanh().backward()
    assert a.grad == pytest.approx(want.grad, rel=1e-15)
    gc.collect()
    del h, first
    for _ in range(100_000):
        a * 2
    for v in nodes_of(inner):
        v.grad = 0
    inner.backward()
    assert a.grad == 3 * 0.5**2


def test_drawing_shows_the_operands():
    a, b = Value(0.5), Value(2.0)
    y = checkpoint(lambda x: x * a, b)
    (joint,) = y._prev
    assert (y._op, joint._op, joint._prev) == ("<lambda>", "checkpoint", {a, b})
    assert "checkpoint" in fastgrad.draw_dot(y).source
