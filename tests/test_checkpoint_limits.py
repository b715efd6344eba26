"""`checkpoint` in contexts, with errors, among threads; what it takes of the tape and of memory."""

import gc
import sys
import threading

import numpy as np
import pytest
from oracles import node, pass_on, refused, run_snippet

import fastgrad
from fastgrad import TraceError, Value, checkpoint, detect_anomaly, no_grad

PATIENCE = 120  # seconds until a thread that should have come counts as stuck


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
    with pytest.raises(TraceError, match=r"a program cannot be made of .*, a checkpoint's: of"):
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
            "checkpoint: fn must return a Value, or nested lists and tuples of Values, got "
            "float 2.0",
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
            "step gave 0.5, and 1.0 when backward() ran it again: it must do the same each time, "
            "and data that it reads must not change before backward()",
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


def test_threads_that_record_and_sweep_segments_at_once():
    def grads_of(run, seed):
        a, b = Value(0.1 * seed), Value(0.5)
        c = a * b

        def step(h, k):
            for _ in range(k):
                h = (h * a + c).tanh()
            return h, h * c

        h, ys = Value(0.3), []
        for k in range(30):
            h, y = run(step, h, k * 13 % 97 + 1)
            ys.append(y)
        sum(ys).backward()
        return a.grad, b.grad, h.data

    want = [grads_of(lambda fn, *xs: fn(*xs), seed) for seed in range(4)]
    answers, before = [], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(
                target=lambda seed=seed: answers.extend(
                    (seed, grads_of(checkpoint, seed)) for _ in range(50)
                )
            )
            for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(answers) == 200
    assert all(grads == want[seed] for seed, grads in answers)


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
