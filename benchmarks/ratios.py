"""Print how fastgrad compares with micrograd and with Python's own numbers.

``python benchmarks/ratios.py`` prints what is promised, a line each, with what was measured now;
``--markdown`` prints the README's table of speedups. Both take two minutes.

The contestants take turns, in an order that turns round each time, and a ratio is the median over
these rounds, so that what else the machine does meanwhile changes it little. No line is a test:
the command succeeds whatever it measures, unless a result is wrong.
"""

import argparse
import math
import os
import platform
import re
import time
from functools import partial
from pathlib import Path

import memory
import numpy as np
import workloads as w
from workloads import FASTGRAD, MICROGRAD

DUELS, FEW_ROUNDS, MANY_ROUNDS = 9, 7, 41  # rounds of micrograd, of large graphs, of the rest
STEPS = {MICROGRAD: 1, FASTGRAD: 25}  # of the demo, in a round
MILLION = 10**6
GC = {True: "gc on", False: "gc off"}


def alternate(rounds, contestants):
    """Let the contestants take turns; returns what each gave, an array by name.

    A contestant is a function that returns seconds, or a tuple of such: then a row for each.
    """
    seconds = {name: [] for name in contestants}
    for k in range(rounds + 1):
        for name in list(contestants)[:: 1 if k % 2 else -1]:
            taken = contestants[name]()
            if k:  # the first round warms up
                seconds[name].append(taken)
    return {name: np.array(taken).T for name, taken in seconds.items()}


def timed(function, *args):
    start = time.perf_counter()
    result = function(*args)
    return time.perf_counter() - start, result


# ---- contests


def operators(number):
    seconds, (root, *_) = timed(w.record, number)
    w.check_record(root)
    return seconds / w.OPERATIONS


def operators_and_sweep(engine, gc_on):
    with w.collector(gc_on):
        recording, (root, first, b) = timed(w.record, engine.Value)
        sweeping, _ = timed(root.backward)
        w.check_sweep(first, b)
        return recording / w.OPERATIONS, sweeping / w.OPERATIONS


def attribute(statement, v):
    run = w.repeated(statement)
    return lambda: timed(run, v, 1.5)[0] / w.ACCESSES


def demo_steps(steps, count, gc_on):
    with w.collector(gc_on):
        taken = [next(steps) for _ in range(count)]
    w.check_step(*taken[-1])
    return sum(seconds for *_, seconds in taken) / count


def small_backward(engine, gc_on, old_leaves=False, crowded=False):
    with w.collector(gc_on):
        roots, leaves, _crowd = w.expressions(engine, old_leaves, crowded)
        seconds, _ = timed(w.backward_each, roots)
        w.check_expressions(leaves)
        return seconds / w.EXPRESSIONS


def duel(contest):
    """Both engines by turns with gc on, and with gc off: {gc_on: {name: seconds}}."""
    return {
        on: alternate(
            DUELS, {engine.name: partial(contest, engine, on) for engine in (MICROGRAD, FASTGRAD)}
        )
        for on in (True, False)
    }


def duel_of_demos():
    """The same for the demo, whose training goes on from round to round."""
    trainings = {engine: w.training(engine) for engine in (MICROGRAD, FASTGRAD)}
    for steps in trainings.values():
        w.check_first_steps(steps)
    return duel(lambda engine, on: demo_steps(trainings[engine], STEPS[engine], on))


# ---- what is promised


def promises():
    """Measure; yields (what, ratios or numbers, "at least" or "at most", bound) as they come."""
    seconds = duel(operators_and_sweep)
    for on, bound in (True, 32), (False, 20):
        ratios = seconds[on]["micrograd"][0] / seconds[on]["fastgrad"][0]
        yield f"an operator: micrograd / fastgrad, {GC[on]}", ratios, "at least", bound
    for on in (True, False):
        ratios = seconds[on]["micrograd"][1] / seconds[on]["fastgrad"][1]
        yield f"reverse sweep: micrograd / fastgrad, {GC[on]}", ratios, "at least", 100

    seconds = alternate(
        MANY_ROUNDS,
        {
            "complex": partial(operators, complex),
            "fastgrad": partial(operators_and_sweep, FASTGRAD, True),
        },
    )
    recording, sweeping = seconds["fastgrad"] / seconds["complex"]
    yield "an operator: fastgrad / complex", recording, "at most", 1.15
    yield "an entry of the sweep / an operator on complex", sweeping, "at most", 0.18

    yield from promises_of_attributes()

    seconds = duel_of_demos()
    for on, bound in (False, 200), (True, 1500):
        ratios = seconds[on]["micrograd"] / seconds[on]["fastgrad"]
        yield f"demo's training step: micrograd / fastgrad, {GC[on]}", ratios, "at least", bound

    yield from promises_of_graphs()


def promises_of_attributes():
    plain, v = MICROGRAD.Value(1.5), FASTGRAD.Value(1.5)
    v.grad = plain.grad = 1.5
    seconds = alternate(
        MANY_ROUNDS,
        {
            "complex.real": attribute("x = v.real", complex(1.5)),
            "read data": attribute("x = v.data", v),
            "read grad": attribute("x = v.grad", v),
            "assign plain": attribute("v.data = x", plain),
            "assign data": attribute("v.data = x", v),
            "assign grad": attribute("v.grad = x", v),
        },
    )
    for name in "data", "grad":
        ratios = seconds[f"read {name}"] / seconds["complex.real"]
        yield f"reading .{name} / reading complex.real", ratios, "at most", 1.4
    for name in "data", "grad":
        ratios = seconds[f"assign {name}"] / seconds["assign plain"]
        yield f"assigning .{name} / assigning micrograd's, a plain attribute", ratios, "at most", 2


def promises_of_graphs():
    for old, leaves in (False, "fresh leaves"), (True, "old leaves"):
        seconds = alternate(
            FEW_ROUNDS,
            {
                crowded: partial(small_backward, FASTGRAD, True, old, crowded)
                for crowded in (True, False)
            },
        )
        ratios = seconds[True] / seconds[False]
        yield f"backward of 30 operations, {leaves}: 10^7 live / empty tape", ratios, "at most", 2

    alive, _ = np.array([memory.growth(FASTGRAD, MILLION) for _ in range(3)]).T
    yield "resident bytes of an entry, root alive", alive / MILLION, "at most", 40
    yield "resident MB of 10^6 entries, root alive", alive / 1e6, "at most", 64
    alive, dead = memory.growth(FASTGRAD, w.MANY)
    yield "resident MB after the death of 10^7 entries", dead / 1e6, "at most", 0.1 * alive / 1e6

    start = time.perf_counter()
    root, term = w.add_up(FASTGRAD)
    root.backward()
    w.check_chain(root, term)
    del root
    seconds = time.perf_counter() - start
    yield "seconds of a chain of 10^7: record, backward, delete", seconds, "at most", math.inf


def print_promises():
    print(f"{machine()}; median (quartiles) of the rounds")
    for what, numbers, sign, bound in promises():
        low, median, high = np.percentile(numbers, [25, 50, 75])
        kept = median >= bound if sign == "at least" else median <= bound
        spread = f"({low:.3g} to {high:.3g})"
        must = f"{sign} {bound:.4g}{'' if kept else '  MISSED'}"
        print(f"{what:<68} {median:>8.4g} {spread:<18} {must}", flush=True)


# ---- the README's table


def print_markdown():
    operators, entries = split(duel(operators_and_sweep))
    rows = [
        ("operator of `x = x*a + b`", operators, 1e9, "ns"),
        ("reverse sweep, an entry", entries, 1e9, "ns"),
        ("`backward()` of 30 operations", duel(small_backward), 1e6, "µs"),
        ("training step of micrograd's demo", duel_of_demos(), 1e3, "ms"),
    ]
    print("| | micrograd, gc on | micrograd, gc off | fastgrad | faster, gc on | faster, gc off |")
    print("|---|---|---|---|---|---|")
    for what, seconds, scale, unit in rows:
        times = (seconds[True]["micrograd"], seconds[False]["micrograd"], seconds[True]["fastgrad"])
        cells = [f"{short(scale * np.median(taken))} {unit}" for taken in times]
        for on in True, False:
            ratios = seconds[on]["micrograd"] / seconds[on]["fastgrad"]
            cells.append(f"{short(np.median(ratios))}x")
        print(f"| {' | '.join([what, *cells])} |")
    print(
        f"\n{machine()}: medians of {DUELS} rounds, and of the rounds' ratios, in which the engines "
        "took turns in one process (`python benchmarks/ratios.py --markdown`)."
    )


def split(seconds):
    """A duel over two things at once as two duels."""
    return [
        {on: {name: taken[k] for name, taken in by.items()} for on, by in seconds.items()}
        for k in range(2)
    ]


def short(number):
    return f"{number:,.0f}" if number >= 100 else f"{number:.2g}"


def machine():
    """Processor, number of cores, system and Python, in a few words."""
    info = Path("/proc/cpuinfo")
    found = info.exists() and re.search(r"model name\s*: (.*)", info.read_text())
    processor = found[1] if found else platform.processor() or platform.machine()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{processor}, {os.cpu_count()} cores, {platform.system()}, {python}"


def main():
    parser = argparse.ArgumentParser(description="Measure fastgrad against what is promised.")
    parser.add_argument("--markdown", action="store_true", help="print the README's table instead")
    if parser.parse_args().markdown:
        print_markdown()
    else:
        print_promises()


if __name__ == "__main__":
    main()
