"""Promises of compiled programs: against NumPy, PyTorch, JAX, CasADi, micrograd and plain Python.

A peer that is not installed is left out.
"""

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

import fastgrad
from benchmarks import footprint, irregular, nets
from benchmarks.contests import Entry
from benchmarks.engines import COMPILED, JAX, MICROGRAD, NUMPY, SLOTTED, TORCH, VM, C, expected
from benchmarks.microgpt import Microgpt
from benchmarks.peers.fastgrad_compiled import FUNCTIONS
from benchmarks.promises import medians
from benchmarks.promises.turns import alternate, collector, timed
from benchmarks.session import Seat, Session, get_ready, gradient, process, turn
from fastgrad.engine import Value

ROUNDS = 15


def promises():
    for claims in (
        demo, small, middle, wide, large, memory, threads,
        mixed, plain, mixed_c, plain_c, microgpt, tracing,
    ):  # fmt: skip
        yield from claims()


# ---- contests


def demo():
    yield from training(nets.MOONS, {NUMPY: 0.25, TORCH: 1, JAX: 1}, {MICROGRAD: 8000})


def small():
    yield from training(nets.SMALL, {NUMPY: 0.6, TORCH: 1, JAX: 1})


def middle():
    yield from training(nets.MIDDLE, {NUMPY: 0.8, TORCH: 1, JAX: 1})


def wide():
    yield from training(nets.WIDE, {NUMPY: 1.2, TORCH: 1.1, JAX: 1.1})


def large():
    yield from training(nets.LARGE, {NUMPY: 1.15})


def training(net, at_most, at_least=()):
    """A step forward, in reverse, and of gradient descent."""
    seconds = contest(net, [*at_most, *at_least])
    for peer, bound in at_most.items():
        if peer in seconds:
            ratios = divided(seconds[COMPILED], seconds[peer])
            times = medians(seconds[COMPILED], seconds[peer])
            yield f"{net}: fastgrad / {peer}", ratios, "at most", bound, times
    yield from faster(net, seconds, dict(at_least))


def mixed():
    yield from scalar(irregular.Irregular(10_000, mixed=True), {VM: 7})


def plain():
    yield from scalar(irregular.Irregular(10_000, mixed=False), {VM: 15})


def mixed_c():
    yield from scalar(irregular.Irregular(2000, mixed=True), {C: 1.2})


def plain_c():
    yield from scalar(irregular.Irregular(2000, mixed=False), {C: 2.5})


def scalar(program, at_least):
    """Value and gradient; seconds an operation and sample."""
    seconds = contest(program, at_least)
    each = program.work()
    yield from faster(program, {name: taken / each for name, taken in seconds.items()}, at_least)


def microgpt():
    workload = Microgpt()
    yield from faster(workload, contest(workload, [SLOTTED]), {SLOTTED: 1000})


def faster(workload, seconds, at_least):
    for peer, bound in at_least.items():
        if peer in seconds:
            ratios = divided(seconds[peer], seconds[COMPILED])
            times = medians(seconds[peer], seconds[COMPILED])
            yield f"{workload}: {peer} / fastgrad", ratios, "at least", bound, times


def threads():
    """Two threads, against two processes of one thread that run at the same time."""
    if os.cpu_count() == 1:
        print("skipped: threads, as it needs two cores")
        return
    one, two = nets.WIDE, replace(nets.WIDE, threads=2)
    with ExitStack() as stack:
        calls = [stack.enter_context(process(threads=n)) for n in (2, 2, 2)]
        gradients = [call(gradient, COMPILED, net).result() for call, net in zip(calls, (two, one))]
        assert np.array_equal(*gradients), "a second thread changes bits of the gradient"

        expectation = calls[0](expected, one).result()
        for call, net in zip(calls, (two, one, one)):
            call(get_ready, COMPILED, net, expectation, True).result()

        def steps_a_second(calls):
            futures = [call(turn, True, 0.5) for call in calls]
            return sum(1 / future.result() for future in futures)

        rates = alternate(
            ROUNDS,
            {
                "threads": partial(steps_a_second, calls[:1]),
                "processes": partial(steps_a_second, calls[1:]),
            },
        )
    ratios = rates["threads"] / rates["processes"]
    times = " : ".join(f"{np.median(rate):.0f}" for rate in rates.values())
    what = f"{one}: two threads / two processes at once"
    yield what, ratios, "at least", 0.85, f"{times} steps a second"


def memory():
    """Beyond the model's own Values, and what a block of samples works in."""
    batches = nets.LARGE.batch, 2 * nets.LARGE.batch, 16 * nets.LARGE.batch
    model, peaks, workspaces, parameters = np.transpose([used(batch) for batch in batches])
    what = f"{nets.LARGE}: peak beyond the model / 8 bytes a parameter"
    megabytes = "{:.1f} MB less a workspace of {:.1f} MB : {:.1f} MB; the Values {:.0f} MB"
    remark = megabytes.format(*(n[0] / 1e6 for n in (peaks, workspaces, parameters, model)))
    yield what, (peaks[0] - workspaces[0]) / parameters[0], "at most", 4, remark
    # There are two workspaces from the second block on.
    what = f"{nets.LARGE}: MB more at batch {batches[2]} than at {batches[1]}"
    # The arrays of inputs themselves were there before.
    yield what, (peaks[2] - peaks[1]) / 1e6, "at most", 1, ""


def used(batch):
    seat = Seat(1)
    try:
        return seat(footprint.program_memory, batch)
    finally:
        seat.leave()


def tracing():
    """The first call, batch 1, less the same Python run eagerly on Values."""
    for what, traced in (
        ("mixed ops", mixed_to_trace()),
        ("dots written by hand", dots_to_trace()),
    ):
        seconds = alternate(
            ROUNDS,
            {"first call": partial(first_call, *traced), "eager": partial(eager_call, *traced)},
        )
        extra = 1e9 * (seconds["first call"] - seconds["eager"]) / traced[2]
        times = medians(*seconds.values())
        yield f"tracing, {what}: ns an entry beyond eager", extra, "at most", 150, times


def first_call(function, x, _entries):
    with collector(False):
        seconds, result = timed(fastgrad.compile(function), x[None])
    assert result[0] == function([Value(number) for number in x]).data
    return seconds


def eager_call(function, x, _entries):
    with collector(False):
        inputs = [Value(number) for number in x]
        return timed(function, inputs)[0]


def mixed_to_trace():
    """A program ten times on other parameters each time, so that nothing of it can be shared."""
    program = irregular.Irregular(10_000, mixed=True)
    inputs, numbers = program.data()
    copies = [[Value(number) for number in numbers] for _ in range(10)]
    ops = program.ops()

    def function(x):
        return sum(irregular.run(ops, x, parameters, FUNCTIONS)[-1] for parameters in copies)

    return function, inputs[0], len(copies) * len(ops)


def dots_to_trace():
    """A layer as the lecture writes it: 250 neurons of 200 inputs."""
    rows = [[Value(0.01 * (i - k)) for i in range(200)] for k in range(250)]

    def function(x):
        return sum(sum((w * xi for w, xi in zip(row, x)), 0.0).tanh() for row in rows)

    return function, np.linspace(-1, 1, 200), 2 * 250 * 200


# ---- measuring


def contest(workload, rivals):
    """Seconds a step, by engine, of those that are installed; the collector is off."""
    with Session(ROUNDS, at_least=0.1) as session:
        seated = [Entry(name, False, label=name) for name in (COMPILED, *rivals)]
        rows, _ = session.hold(workload, seated)
    return {name: np.array(seconds) for name, seconds in rows.items()}


def divided(seconds, others):
    """Round by round; who is slow takes fewer turns."""
    rounds = min(len(seconds), len(others))
    return seconds[:rounds] / others[:rounds]
