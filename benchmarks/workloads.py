"""What is measured: the engines, and each workload as a function of an engine's classes.

Here live the adapters and the workloads that the pytest benchmarks and ``ratios.py`` share, so that
both time the same code. Each workload has a check beside it, or leaves behind what its result can
be checked by. Nothing here takes the time.
"""

import gc
import random
import sys
from collections import namedtuple
from contextlib import contextmanager

import micrograd.engine
import micrograd.nn

import fastgrad.engine
import fastgrad.nn
from fastgrad import demo

Engine = namedtuple("Engine", "name Value MLP rounds")  # rounds: as many as its speed allows
MICROGRAD = Engine("micrograd", micrograd.engine.Value, micrograd.nn.MLP, rounds=5)
FASTGRAD = Engine("fastgrad", fastgrad.engine.Value, fastgrad.nn.MLP, rounds=50)

OPERATIONS = 100_000
ACCESSES = 100_000
MANY = 10_000_000  # operations
EXPRESSIONS = 1000

# micrograd's backward recurses once for each entry of a chain. From Python 3.11 on, a call of a
# Python function by another takes no C stack, so that the limit is all there is to raise.
sys.setrecursionlimit(2 * OPERATIONS)


@contextmanager
def collector(on):
    """Run with the cyclic garbage collector on or off; either way without older garbage."""
    gc.collect()
    if not on:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()


# ---- operators


def record(number, operations=OPERATIONS):
    """Run `x = x*a + b` on one kind of number, two operations at a time.

    Returns the last x, the first, and b.
    """
    first = x = number(0.5)
    a, b = number(0.9999), number(0.0001)
    for _ in range(operations // 2):
        x = x * a + b
    return x, first, b


def check_record(root):
    assert getattr(root, "data", root) == record(float)[0]


def check_sweep(first, b):
    power = 0.9999 ** (OPERATIONS // 2)
    assert abs(first.grad / power - 1) < 1e-9
    assert abs(b.grad / ((1 - power) / (1 - 0.9999)) - 1) < 1e-9


# ---- attributes


def repeated(statement, unrolled=1):
    """Compile a function of an object v and a number x that runs `statement` ACCESSES times.

    Once a turn of the loop, as timeit does it; unrolled, the loop takes little of the time.
    """
    body = "\n        ".join([statement] * unrolled)
    turns = ACCESSES // unrolled
    names = {}
    exec(f"def run(v, x):\n    for _ in range({turns}):\n        {body}\n    return x", names)
    return names["run"]


# ---- micrograd's demo


def training(engine):
    """Start the demo's training, to be taken a step at a time: a full batch of 100."""
    random.seed(demo.SEED)
    points, moons = demo.make_moons(n_samples=100, noise=0.1, seed=demo.SEED)
    model = engine.MLP(2, [16, 16, 1])
    return demo.train(model, engine.Value, points, moons * 2 - 1, steps=100_000)


def check_first_steps(steps):
    """Take the first two steps, whose losses the notebook prints, and which warm up."""
    (loss_0, *_), (loss_1, *_) = next(steps), next(steps)
    assert abs(loss_0 - 0.8958441028683222) < 1e-12
    assert abs(loss_1 - 1.7235905336972022) < 1e-12


def check_step(_loss, accuracy, _seconds):
    """Of any later step: the notebook's are 0.77 and rising."""
    assert accuracy > 0.7


# ---- small graphs


def leaf_pair(engine):
    return engine.Value(2.0), engine.Value(0.5)


def thirty_operations(x, y):
    for _ in range(10):
        x = (x * y + y).relu()
    return x


def expressions(engine, old_leaves, crowded):
    """Record many expressions of 30 operations.

    All on one pair of leaves, from before the large graph if there is one, or each on a fresh pair.
    Returns their roots, the pairs of leaves, and what keeps a graph of 10^7 entries below them
    alive if the tape is to be crowded.
    """
    leaves = [leaf_pair(engine)]
    crowd = record(engine.Value, MANY)[0] if crowded else None
    if not old_leaves:
        leaves = [leaf_pair(engine) for _ in range(EXPRESSIONS)]
    pairs = leaves * (EXPRESSIONS // len(leaves))
    return [thirty_operations(x, y) for x, y in pairs], leaves, crowd


def backward_each(roots):
    for root in roots:
        root.backward()


def check_expressions(leaves):
    assert sum(x.grad for x, _ in leaves) == EXPRESSIONS * 0.5**10


# ---- a long chain


def add_up(engine):
    """A chain of 10^7 additions; returns its root and the term."""
    x, term = engine.Value(0.0), engine.Value(1.0)
    for _ in range(MANY):
        x = x + term
    return x, term


def check_chain(root, term):
    assert root.data == term.grad == MANY
