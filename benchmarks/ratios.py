"""Print how fastgrad compares with micrograd and with Python's own numbers.

``python benchmarks/ratios.py`` prints what is promised, a line each, with what was measured now;
``--markdown`` prints the README's table of speedups. Each takes about a minute.

A ratio is the median over rounds in which the contestants take turns (``contests.py``). No line is
a test: the command succeeds whatever it measures, unless a result is wrong.
"""

import argparse
import os
import platform
import re
import time
from functools import partial
from pathlib import Path

import contests as c
import memory
import numpy as np
from workloads import FASTGRAD, MANY, MICROGRAD, add_up, check_chain

MILLION = 10**6
GC = {True: "gc on", False: "gc off"}


# ---- what is promised


def promises():
    """Measure; yields (what, ratios or numbers, "at least" or "at most", bound) one by one."""
    seconds = c.duel(c.operators_and_sweep)
    for on, bound in (True, 32), (False, 20):
        ratios = seconds[on]["micrograd"][0] / seconds[on]["fastgrad"][0]
        yield f"an operator: micrograd / fastgrad, {GC[on]}", ratios, "at least", bound
    for on in (True, False):
        ratios = seconds[on]["micrograd"][1] / seconds[on]["fastgrad"][1]
        yield f"reverse sweep: micrograd / fastgrad, {GC[on]}", ratios, "at least", 100

    seconds = c.alternate(
        41,
        {
            "complex": partial(c.operators, complex),
            "fastgrad": partial(c.operators_and_sweep, FASTGRAD, True),
        },
    )
    recording, sweeping = seconds["fastgrad"] / seconds["complex"]
    yield "an operator: fastgrad / complex", recording, "at most", 1.15
    yield "an entry of the sweep / an operator on complex", sweeping, "at most", 0.18

    yield from promises_of_attributes()

    seconds = c.duel_of_demos()
    for on, bound in (False, 200), (True, 1500):
        ratios = seconds[on]["micrograd"] / seconds[on]["fastgrad"]
        yield f"demo's training step: micrograd / fastgrad, {GC[on]}", ratios, "at least", bound

    yield from promises_of_graphs()
    yield from promises_of_scripts()


def promises_of_attributes():
    """As timeit measures a statement; then with it unrolled, which leaves the loop's time out.

    Unrolled, an assignment is mostly CPython's way to any C attribute (on 3.11, 1.6 to 2.0 with a
    setter that does nothing); for a plain attribute it has a bytecode of its own.
    """
    numbers = [complex(1.5) for _ in range(100)]
    theirs, ours = ([engine.Value(1.5) for _ in range(100)] for engine in (MICROGRAD, FASTGRAD))
    for v in ours:
        v.grad = 1.5
    statements = {
        "complex.real": ("x = v.real", numbers),
        "read data": ("x = v.data", ours),
        "read grad": ("x = v.grad", ours),
        "assign plain": ("v.data = x", theirs),
        "assign data": ("v.data = x", ours),
        "assign grad": ("v.grad = x", ours),
    }
    for unrolled, how in (1, ""), (20, ", unrolled"):
        seconds = c.alternate(
            41, {name: c.attribute(*what, unrolled) for name, what in statements.items()}
        )
        for name in "data", "grad":
            ratios = seconds[f"read {name}"] / seconds["complex.real"]
            yield f"reading .{name} / complex.real{how}", ratios, "at most", 1.4
        for name in "data", "grad":
            ratios = seconds[f"assign {name}"] / seconds["assign plain"]
            promise = ("no promise", None) if how else ("at most", 2)
            yield f"assigning .{name} / a plain attribute{how}", ratios, *promise


def promises_of_graphs():
    for old, leaves in (False, "fresh leaves"), (True, "old leaves"):
        seconds = c.alternate(
            7,
            {
                crowded: partial(c.small_backward, FASTGRAD, True, old, crowded)
                for crowded in (True, False)
            },
        )
        ratios = seconds[True] / seconds[False]
        yield f"backward of 30 operations, {leaves}: 10^7 live / empty tape", ratios, "at most", 2

    alive, _ = np.array([memory.growth(FASTGRAD, MILLION) for _ in range(3)]).T
    yield "resident bytes of an entry, root alive", alive / MILLION, "at most", 40
    yield "resident MB of 10^6 entries, root alive", alive / 1e6, "at most", 64
    alive, dead = memory.growth(FASTGRAD, MANY)
    yield "resident MB after the death of 10^7 entries", dead / 1e6, "at most", 0.1 * alive / 1e6

    start = time.perf_counter()
    root, term = add_up(FASTGRAD)
    root.backward()
    check_chain(root, term)
    del root
    seconds = time.perf_counter() - start
    yield "seconds of a chain of 10^7: record, backward, delete", seconds, "works", None


def promises_of_scripts():
    """The runner on scripts that carry their own class Value, gc on, against plain Python."""
    for name, what, bound in (
        ("lecture_moons.py", "lecture-style moons, a step", 10),
        ("microgpt_script.py", "microgpt-style step", 8),
    ):
        seconds = c.alternate(3, c.script(name))
        ratios = seconds["python"] / seconds["python -m fastgrad"]
        yield f"{what}: python / python -m fastgrad", ratios, "at least", bound
    seconds = c.alternate(11, c.start_up())
    extra = 1e3 * (seconds["python -m fastgrad"] - seconds["python with numpy"])
    yield "ms of start-up over python with numpy, a class replaced", extra, "at most", 150


def print_promises():
    print(f"{machine()}; median (quartiles) of the rounds")
    for what, numbers, sign, bound in promises():
        low, median, high = np.percentile(numbers, [25, 50, 75])
        spread = "" if low == high else f"({low:.4g} to {high:.4g})"
        missed = (sign == "at least" and median < bound) or (sign == "at most" and median > bound)
        must = sign if bound is None else f"{sign} {bound:.4g}"
        verdict = "  MISSED" if missed else ""
        print(f"{what:<68} {median:>8.4g} {spread:<18} {must}{verdict}", flush=True)


# ---- the README's table


def print_markdown():
    operators, entries = split(c.duel(c.operators_and_sweep))
    rows = [
        ("operator of `x = x*a + b`", operators, 1e9, "ns"),
        ("reverse sweep, an entry", entries, 1e9, "ns"),
        ("`backward()` of 30 operations", c.duel(c.small_backward), 1e6, "µs"),
        ("training step of micrograd's demo", c.duel_of_demos(), 1e3, "ms"),
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
        f"\n{machine()}: medians of {c.ROUNDS} rounds, and of the rounds' ratios, in which the "
        "engines took turns (`python benchmarks/ratios.py --markdown`)."
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
