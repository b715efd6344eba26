"""Promises of optimizers: a step over 100,000 Values against the same update of NumPy arrays.

The update is written in place with buffers that are made once. The parameters must be the same
afterwards.
"""

import math
from itertools import count

import numpy as np

from benchmarks.promises import medians
from benchmarks.promises.turns import alternate, collector, timed
from fastgrad import Value, optim

PARAMETERS = 100_000
STEPS = 20  # in a turn
ROUNDS = 31
LR, MOMENTUM, BETA1, BETA2, ALPHA, EPS, DECAY = 1e-3, 0.9, 0.9, 0.999, 0.99, 1e-8, 0.01


# ---- the updates on arrays: generators, which take a step at a time


def sgd(p, g):
    b, scratch = np.zeros_like(p), np.empty_like(p)
    while True:
        b *= MOMENTUM
        b += g
        np.multiply(b, LR, out=scratch)
        p -= scratch
        yield


def adam(p, g, decay=0.0):
    m, v, scratch = np.zeros_like(p), np.zeros_like(p), np.empty_like(p)
    for t in count(1):
        if decay:
            p *= 1 - LR * decay
        np.subtract(g, m, out=scratch)
        scratch *= 1 - BETA1
        m += scratch
        v *= BETA2
        np.multiply(g, g, out=scratch)
        scratch *= 1 - BETA2
        v += scratch
        np.sqrt(v, out=scratch)
        scratch /= math.sqrt(1 - BETA2**t)
        scratch += EPS
        np.divide(m, scratch, out=scratch)
        scratch *= LR / (1 - BETA1**t)
        p -= scratch
        yield


def adamw(p, g):
    return adam(p, g, DECAY)


def rmsprop(p, g):
    v, scratch = np.zeros_like(p), np.empty_like(p)
    while True:
        v *= ALPHA
        np.multiply(g, g, out=scratch)
        scratch *= 1 - ALPHA
        v += scratch
        np.sqrt(v, out=scratch)
        scratch += EPS
        np.divide(g, scratch, out=scratch)
        scratch *= LR
        p -= scratch
        yield


CONTESTS = {
    "SGD with momentum": (optim.SGD, {"momentum": MOMENTUM}, sgd),
    "Adam": (optim.Adam, {}, adam),
    "AdamW": (optim.AdamW, {}, adamw),
    "RMSprop": (optim.RMSprop, {}, rmsprop),
}


# ---- what is promised


def promises():
    with collector(False):
        yield from steps()
        yield from zeroing()


def steps():
    for what, (kind, settings, update) in CONTESTS.items():
        values, numbers, grads = parameters()
        optimizer, arrays = kind(values, lr=LR, **settings), update(numbers, grads)
        seconds = alternate(
            ROUNDS,
            {"fastgrad": turn(optimizer.step), "NumPy": turn(lambda arrays=arrays: next(arrays))},
        )
        np.testing.assert_allclose([p.data for p in values], numbers, rtol=1e-12, atol=1e-12)
        ratios = seconds["fastgrad"] / seconds["NumPy"]
        yield f"{what}, a step: fastgrad / NumPy", ratios, "at most", 3, medians(*seconds.values())


def zeroing():
    values, *_ = parameters()
    seconds = alternate(ROUNDS, {"fastgrad": turn(optim.SGD(values).zero_grad)})["fastgrad"]
    assert all(p.grad == 0 for p in values)
    yield "zero_grad(): ms", 1e3 * seconds, "at most", 0.2, ""


def parameters():
    """Values with grads, and the same as arrays."""
    rng = np.random.default_rng(1)
    numbers, grads = rng.normal(size=(2, PARAMETERS))
    values = [Value(number) for number in numbers.tolist()]
    for p, grad in zip(values, grads.tolist()):
        p.grad = grad
    return values, numbers, grads


def turn(step):
    """A contestant: seconds a step."""

    def run():
        return timed(lambda: [step() for _ in range(STEPS)])[0] / STEPS

    return run
