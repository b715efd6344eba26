"""Print how compiled programs compare with their peers: a line for each thing that is promised.

    python benchmarks/programs.py                  all of it: some ten minutes
    python benchmarks/programs.py --only demo      one of them; --help lists the names

A peer that is not installed is skipped, and said to be: the whole needs NumPy, micrograd, torch,
jax, casadi and gcc, and threadpoolctl to tell which BLAS kernel runs. A ratio is the median over
rounds in which the contestants take turns, one thread each, a process each, on one core
(``processes.py``). Each result is checked against the workload's reference (``peers``): a wrong one
ends the command; nothing that is measured does.
"""

import argparse
import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import contests as c
import irregular
import nets
import numpy as np
import program_memory
import workloads
from microgpt_program import Microgpt
from peers import FASTGRAD, JAX, MICROGRAD, NUMPY, PEERS, PURE, TORCH, VM, C, missing
from peers.fastgrad_program import FUNCTIONS
from processes import blas, gradient, process, set_environment, turn
from ratios import machine

import fastgrad
from fastgrad.engine import Value

ROUNDS = 15


# ---- what is promised: generators of (what, numbers, "at least" or "at most", bound, remark)


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
            ratios = seconds[FASTGRAD] / seconds[peer]
            times = f"{short(seconds[FASTGRAD])} : {short(seconds[peer])}"
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
    each = len(program.ops()) * program.batch
    yield from faster(program, {name: taken / each for name, taken in seconds.items()}, at_least)


def microgpt():
    workload = Microgpt()
    yield from faster(workload, contest(workload, [PURE]), {PURE: 1000})


def faster(workload, seconds, at_least):
    for peer, bound in at_least.items():
        if peer in seconds:
            ratios = seconds[peer] / seconds[FASTGRAD]
            times = f"{short(seconds[peer])} : {short(seconds[FASTGRAD])}"
            yield f"{workload}: {peer} / fastgrad", ratios, "at least", bound, times


def threads():
    """Two threads, against two processes of one thread that run at the same time."""
    if os.cpu_count() == 1:
        print("skipped: threads, as it needs two cores")
        return
    one, two = nets.WIDE, replace(nets.WIDE, threads=2)
    with ExitStack() as stack:
        calls = [stack.enter_context(process(pinned=False)) for _ in range(3)]
        gradients = [call(gradient, FASTGRAD, net).result() for call, net in zip(calls, (two, one))]
        assert np.array_equal(*gradients), "a second thread changes bits of the gradient"

        def steps_a_second(calls, net):
            futures = [call(turn, FASTGRAD, net, 0.5) for call in calls]
            return sum(1 / future.result() for future in futures)

        rates = c.alternate(
            ROUNDS,
            {
                "threads": partial(steps_a_second, calls[:1], two),
                "processes": partial(steps_a_second, calls[1:], one),
            },
        )
    ratios = rates["threads"] / rates["processes"]
    times = " : ".join(f"{np.median(rate):.0f}" for rate in rates.values())
    what = f"{one}: two threads / two processes at once"
    yield what, ratios, "at least", 0.85, f"{times} steps a second"


def memory():
    """Beyond the model's own Values, and what a block of samples works in."""
    if not program_memory.CLEAR.exists():
        print("skipped: memory, as it needs Linux's /proc")
        return
    batches = nets.LARGE.batch, 2 * nets.LARGE.batch, 16 * nets.LARGE.batch
    model, peaks, workspaces, parameters = np.transpose(
        [program_memory.peak(batch) for batch in batches]
    )
    what = f"{nets.LARGE}: peak beyond the model / 8 bytes a parameter"
    megabytes = "{:.1f} MB less a workspace of {:.1f} MB : {:.1f} MB; the Values {:.0f} MB"
    remark = megabytes.format(*(n[0] / 1e6 for n in (peaks, workspaces, parameters, model)))
    yield what, (peaks[0] - workspaces[0]) / parameters[0], "at most", 4, remark
    # There are two workspaces from the second block on.
    what = f"{nets.LARGE}: MB more at batch {batches[2]} than at {batches[1]}"
    # The arrays of inputs themselves were there before.
    yield what, (peaks[2] - peaks[1]) / 1e6, "at most", 1, ""


def tracing():
    """The first call, batch 1, less the same Python run eagerly on Values."""
    for what, traced in (
        ("mixed ops", mixed_to_trace()),
        ("dots written by hand", dots_to_trace()),
    ):
        seconds = c.alternate(
            ROUNDS,
            {"first call": partial(first_call, *traced), "eager": partial(eager_call, *traced)},
        )
        extra = 1e9 * (seconds["first call"] - seconds["eager"]) / traced[2]
        times = f"({' - '.join(map(short, seconds.values()))}) / {traced[2]}"
        yield f"tracing, {what}: ns an entry beyond eager", extra, "at most", 150, times


def first_call(function, x, _entries):
    with workloads.collector(False):
        seconds, result = c.timed(fastgrad.compile(function), x[None])
    assert result[0] == function([Value(number) for number in x]).data
    return seconds


def eager_call(function, x, _entries):
    with workloads.collector(False):
        inputs = [Value(number) for number in x]
        return c.timed(function, inputs)[0]


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


CLAIMS = {
    claim.__name__.replace("_", "-"): claim
    for claim in (
        demo, small, middle, wide, large, memory, threads,
        mixed, plain, mixed_c, plain_c, microgpt, tracing,
    )
}  # fmt: skip


# ---- measuring and printing


def contest(workload, rivals):
    """Seconds a step, by contestant, of those that are installed."""
    present = [name for name in [FASTGRAD, *rivals] if not missing(name)]
    with ExitStack() as stack:
        calls = {name: stack.enter_context(process()) for name in present}
        return c.alternate(ROUNDS, {name: turns(name, workload, calls[name]) for name in present})


def turns(name, workload, call):
    return lambda: call(turn, name, workload).result()


def short(seconds):
    """The median, in a unit that suits it."""
    median = np.median(seconds)
    for unit, scale in ("s", 1), ("ms", 1e-3), ("µs", 1e-6):
        if median >= scale:
            return f"{median / scale:.3g} {unit}"
    return f"{median / 1e-9:.3g} ns"


def print_claim(what, numbers, sign, bound, remark):
    low, median, high = np.percentile(numbers, [25, 50, 75])
    spread = "" if low == high else f"({low:.4g} to {high:.4g})"
    missed = median < bound if sign == "at least" else median > bound
    must = f"{sign} {bound:.4g}{'  MISSED' if missed else ''}"
    print(f"{what:<70} {median:>8.4g} {spread:<20} {must:<24} {remark}".rstrip(), flush=True)


def print_setting():
    with process() as call:
        kernel = call(blas).result()
    print(f"{machine()}; NumPy's BLAS: {kernel}")
    libraries = sorted({library for peer in PEERS.values() for library in peer.libraries})
    print(", ".join(f"{name} {version(name)}" for name in libraries if find_spec(name)))
    for name in PEERS:
        if missing(name):
            print(f"skipped: {name}, for want of {' and '.join(missing(name))}")
    print("one thread, gc off; median (quartiles) of the rounds; last, medians of what was divided")


def main():
    parser = argparse.ArgumentParser(description="Measure compiled programs against their peers.")
    parser.add_argument("--only", choices=CLAIMS, metavar="NAME", help=", ".join(CLAIMS))
    only = parser.parse_args().only
    set_environment()
    print_setting()
    for name, claim in CLAIMS.items():
        if only in (None, name):
            for row in claim():
                print_claim(*row)


if __name__ == "__main__":
    main()
