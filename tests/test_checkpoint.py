"""`checkpoint`: what is recorded again in the sweep gives what the plain graph gives, to the bit."""

import gc
import random
import threading

import numpy as np
import pytest
from oracles import node, nodes_of, pass_on, refused, run_snippet

import fastgrad
from fastgrad import TraceError, Value, checkpoint, custom_op, detect_anomaly, nn, no_grad, tape

PATIENCE = 120  # seconds until a thread that should have come counts as stuck


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
            losses = [functional_sum(rng.sample(pool, 3)) for _ in range(3)]
            grads = []
            for loss in losses:
                loss.backward()
                grads.append([v.grad for v in leaves])
            answers.append(grads)
            tape.reclaim()
        assert answers[0] == answers[1]


def functional_sum(values):
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
    answers = []
    for run in (plain, checkpoint):
        a, b = Value(0.5), Value(-1.5)
        c, d = a * b, a + b
        y, z = run(lambda x: (x * c, x * d.tanh()), a)
        grads = []
        for loss in (z * 2, y * 3, z * y, y + c):
            loss.backward()
            grads.append([v.grad for v in (a, b, c, d, y, z)])
        answers.append(grads)
    assert answers[0] == answers[1]


def test_setting_the_grads_of_a_graph_to_0():
    answers = []
    for run in (plain, checkpoint):
        a = Value(0.5)
        y = run(lambda x: ((x * a).tanh() * x).tanh(), a)
        root = y * y
        for _ in range(3):
            root.backward()
            for v in nodes_of(root) if run is checkpoint else [a, y, root, *nodes_of(y)]:
                v.grad = 0
        root.backward()
        answers.append(a.grad)
    assert answers[0] == answers[1]


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


# ---- contexts


def test_inside_of_no_grad_it_is_a_call():
    a, calls = Value(0.5), []
    with no_grad():
        y = checkpoint(lambda x: calls.append(1) or x * a, a)
    assert (y.data, y._prev, calls) == (0.25, set(), [1])


def test_backward_inside_of_no_grad():
    a = Value(0.5)
    y = checkpoint(lambda x: x * a, a)
    with no_grad():
        y.backward()
        assert (a * 2)._prev == set()
    assert a.grad == 1.0


def test_no_grad_in_the_function():
    def step(x, a):
        with no_grad():
            c = x * 3
        return x * a + c

    a = Value(0.5)
    checkpoint(step, a, a).backward()
    assert a.grad == 1.0


def test_in_a_program_it_is_a_call():
    a = Value(0.5)
    program = fastgrad.compile(lambda x: checkpoint(lambda h: h * a + h, x))
    assert program([2.0, 3.0]).tolist() == [3.0, 4.5]
    outside = checkpoint(lambda x: x * a, a)
    with pytest.raises(TraceError, match="a program cannot be made of .*, a checkpoint's: of how"):
        fastgrad.Program.from_values([], outside * 2)
    with pytest.raises(TraceError, match="outside of it: compute it inside"):
        fastgrad.compile(lambda x: x * outside)([1.0])


def test_detect_anomaly_finds_what_is_recorded_again():
    a = Value(0.0)
    y = checkpoint(lambda x: (x * 1.0) ** 0.5 * 2, a)
    with detect_anomaly(), pytest.raises(FloatingPointError, match=r"the adjoint of \*\*") as error:
        (y * 3).backward()
    assert __file__ in str(error.value)
    with detect_anomaly():
        z = checkpoint(lambda x: x * 2, Value(3.0))
        (z * z).backward()


# ---- what goes wrong


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: checkpoint(3), TypeError, "checkpoint: fn must be a function, got int 3"),
        (
            lambda: checkpoint(lambda: None),
            TypeError,
            "checkpoint: fn must return a Value, or nested lists and tuples of Values, got "
            "NoneType None",
        ),
        (
            lambda: checkpoint(lambda x: [x, [2.0]], Value(1.0)),
            TypeError,
            "checkpoint: fn must return a Value, or nested lists and tuples of Values, got float 2.0",
        ),
    ],
)
def test_wrong_arguments(call, kind, text):
    refused(call, kind, text)


def test_lists_that_contain_themselves():
    endless = []
    endless.append(endless)
    text = "checkpoint: lists are nested more than 64 deep"
    refused(lambda: checkpoint(lambda x: Value(1.0), endless), ValueError, text)
    refused(lambda: checkpoint(lambda: endless), ValueError, text)


def test_errors_come_out_and_the_tape_goes_on():
    a, armed = Value(0.5), []

    def step(x):
        y = x * a
        if armed:
            raise KeyError("in the user's function")
        return y, y * x

    with pytest.raises(KeyError, match="in the user's function"):
        checkpoint(lambda x: armed.append(1) or step(x), a)
    armed.clear()
    y, z = checkpoint(step, *[checkpoint(lambda x: x * a, a)])
    root = y * z
    armed.append(1)
    for _ in range(2):
        with pytest.raises(KeyError, match="in the user's function"):
            root.backward()
    assert a.grad == 0
    (a * a).backward()
    assert a.grad == 1.0
    armed.clear()
    a.grad = 0
    checkpoint(step, a)[0].backward()
    assert a.grad == 1.0


def test_an_error_of_a_rule_in_a_segment():
    a, armed = Value(0.5), [1]

    def rule(x, out):
        if armed:
            raise KeyError("in the user's rule")
        pass_on(x, out)

    h = checkpoint(lambda x: x * a, a)
    y = checkpoint(lambda h: node(Value, h * a, rule) * h, h)
    with pytest.raises(KeyError, match="in the user's rule"):
        y.backward()
    armed.clear()
    assert (a.grad, h.grad) == (0, 0.5**3)  # what came before the error
    h.grad = y.grad = 0
    y.backward()
    want = Value(0.5)
    (want**5).backward()
    assert a.grad == pytest.approx(want.grad, rel=1e-15)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (
            lambda x, calls: x * (1 + len(calls)),
            "step gave 0.5, and 1.0 when backward() ran it again: it must do the same each time, and "
            "data that it reads must not change before backward()",
        ),
        (
            lambda x, calls: [x * 1, x * 2] if calls else [x * 1],
            "step gave 1 results that it had computed, and 2 when backward() ran it again: it must "
            "do the same each time",
        ),
    ],
)
def test_functions_that_do_something_else(step, text):
    a, calls = Value(0.5), []

    def run(x):
        result = step(x, calls)
        calls.append(1)
        return result

    run.__name__ = "step"
    y = checkpoint(run, a)
    root = y * 2 if isinstance(y, Value) else y[0] * 2
    refused(root.backward, RuntimeError, f"checkpoint: {text}")
    assert a.grad == 0


def test_data_that_changes_before_the_backward_pass():
    a, b = Value(0.5), Value(3.0)
    y = checkpoint(lambda x: x * b, a)
    b.data = 4.0
    with pytest.raises(RuntimeError, match=r"<lambda> gave 1\.5, and 2\.0 when backward\(\) ran"):
        y.backward()
    b.data = 3.0
    y.backward()
    assert (a.grad, b.grad) == (3.0, 0.5)


# ---- threads


def test_another_thread_records_and_sweeps_meanwhile():
    a, inside, go_on, answers = Value(0.5), threading.Event(), threading.Event(), []

    def step(x):
        y = x * a
        inside.set()
        assert go_on.wait(PATIENCE)
        return y * x

    def other():
        assert inside.wait(PATIENCE)
        b = Value(2.0)
        kept = checkpoint(lambda x: x * b, b * 3)
        kept.backward()
        answers.append((kept, b))
        inside.clear()
        go_on.set()

    for _ in range(2):
        thread = threading.Thread(target=other)
        thread.start()
        if not answers:
            y = checkpoint(step, a)
        else:
            y.backward()
        thread.join()
        go_on.clear()
    assert (y.data, a.grad) == (0.125, 0.75)
    assert [(kept.data, b.grad) for kept, b in answers] == [(12.0, 12.0)] * 2


# ---- memory

RECURRENCE = """
import gc, sys
from instruments import resident_bytes
from fastgrad import Value, checkpoint, tape

a, b, peak = Value(0.9), Value(0.1), 0

def steps(h):
    global peak
    for _ in range(length):
        h = (h * a + b).tanh()
    peak = max(peak, tape.usage()["entries"])
    return h

def recurrence(segments, run):
    h = Value(0.5)
    for _ in range(segments):
        h = run(steps, h)
    return h
"""


@pytest.mark.parametrize("root", [100, 300])
def test_a_recurrence_takes_the_memory_of_the_root_of_its_steps(root):
    recorded, swept = run_snippet(
        RECURRENCE
        + """
gc.collect()
gc.disable()
h = recurrence(length, checkpoint)
recorded, peak = peak, 0
h.backward()
answer([recorded, peak])
""",
        length=root,
    )
    assert recorded < 3 * root + 5 * root + 100
    assert swept < 3 * root + 5 * root + 100


def test_nested_checkpoints_take_the_memory_of_the_cube_root():
    peak = run_snippet(
        RECURRENCE
        + """
h = Value(0.5)
def outer(h):
    for _ in range(50):
        h = checkpoint(steps, h)
    return h
for _ in range(50):
    h = checkpoint(outer, h)
h.backward()
answer(peak)
""",
        length=50,
    )
    assert peak < 3 * 50 + 2 * 5 * 50 + 100


def test_memory_stays_flat_without_the_cyclic_collector():
    growth = run_snippet(
        RECURRENCE
        + """
gc.collect()
gc.disable()
for k in range(1000):
    recurrence(20, checkpoint).backward()
before = resident_bytes()
for k in range(2000):
    recurrence(20, checkpoint).backward()
tape.reclaim()
answer([resident_bytes() - before, tape.usage()["entries"]])
""",
        length=10,
    )
    assert growth[0] < 2_000_000
    assert growth[1] < 10


def test_cycles_through_a_function_are_collected():
    count = run_snippet(
        """
import gc
from fastgrad import Value, checkpoint, tape
class Cell:
    def __init__(self):
        self.a = Value(0.5)
    def step(self, h):
        return h * self.a
    def run(self):
        self.last = checkpoint(self.step, self.a * 2)
for _ in range(1000):
    Cell().run()
gc.collect()
tape.reclaim()
answer(tape.usage()["entries"])
"""
    )
    assert count < 10


def test_a_long_chain_of_segments():
    a = Value(1.0)
    h = a * 1.0
    for _ in range(30_000):
        h = checkpoint(lambda h: h * a, h)
    h.backward()
    assert a.grad == 30_001.0
    del h
    gc.collect()


def test_arguments_of_other_kinds_are_passed_as_they_are():
    a = Value(0.5)
    y = checkpoint(lambda x, text, array: x * len(text) * float(array[0]), a, "ab", np.ones(1))
    y.backward()
    assert a.grad == 2.0
