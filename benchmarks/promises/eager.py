"""Promises of eager code: against micrograd, Python's own numbers, and plain Python scripts."""

import random
import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import micrograd.engine
import numpy as np

from benchmarks import footprint, nets, scalars
from benchmarks.contests import entries
from benchmarks.engines import COMPLEX, MICROGRAD, WRITTEN
from benchmarks.promises.turns import alternate, collector, timed
from benchmarks.session import Seat, Session
from fastgrad.engine import Value

MILLION = 10**6
MANY = 10**7
ACCESSES = 100_000
EXPRESSIONS = 1000
SCRIPTS = Path(__file__).parents[1] / "scripts"


def promises():
    yield from against_micrograd()
    yield from against_complex()
    yield from attributes()
    yield from graphs()
    yield from memory()
    yield from scripts()


# ---- contests


def against_micrograd():
    """fastgrad, with gc on, against micrograd with gc on and off."""
    for what, workload, bounds in (
        ("an operator", scalars.Recording(100_000), {"on": 32, "off": 20}),
        ("reverse sweep", scalars.Sweep(100_000), {"on": 100, "off": 100}),
        ("demo's training step", nets.MOONS, {"on": 1500, "off": 200}),
    ):
        rows = contest(workload, WRITTEN, MICROGRAD)
        for state, bound in bounds.items():
            theirs = rows[f"{MICROGRAD}, gc {state}"]
            count = min(len(theirs), len(rows[WRITTEN]))
            ratios = theirs[:count] / rows[WRITTEN][:count]
            yield f"{what}: micrograd / fastgrad, gc {state}", ratios, "at least", bound


def against_complex():
    recording = contest(scalars.Recording(100_000), WRITTEN, COMPLEX)
    sweeping = contest(scalars.Sweep(100_000), WRITTEN)
    ratios = recording[WRITTEN] / recording[COMPLEX]
    yield "an operator: fastgrad / complex", ratios, "at most", 1.15
    ratios = sweeping[WRITTEN] / recording[COMPLEX]
    yield "an entry of the sweep / an operator on complex", ratios, "at most", 0.18


def contest(workload, *names):
    with Session(rounds=21) as session:
        rows, left = session.hold(workload, entries(*names))
    assert not left, left
    return {label: np.array(seconds) for label, seconds in rows.items()}


# ---- attributes


def attributes():
    """As timeit measures a statement; then with it unrolled, which leaves the loop's time out.

    Unrolled, an assignment is mostly CPython's way to any C attribute (on 3.11, 1.6 to 2.0 with a
    setter that does nothing); for a plain attribute it has a bytecode of its own.
    """
    numbers = [complex(1.5) for _ in range(100)]
    theirs, ours = ([number(1.5) for _ in range(100)] for number in (micrograd.engine.Value, Value))
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
        seconds = alternate(
            41, {name: attribute(*what, unrolled) for name, what in statements.items()}
        )
        for name in "data", "grad":
            ratios = seconds[f"read {name}"] / seconds["complex.real"]
            yield f"reading .{name} / complex.real{how}", ratios, "at most", 1.4
        for name in "data", "grad":
            ratios = seconds[f"assign {name}"] / seconds["assign plain"]
            promise = ("no promise", None) if how else ("at most", 2)
            yield f"assigning .{name} / a plain attribute{how}", ratios, *promise


def attribute(statement, objects, unrolled):
    """A contestant; the objects have 1.5 there already, and 1.5 is what is assigned.

    Each turn takes an object at random, because in some processes every assignment to one certain
    object took seven times as long, and the next object was as fast as ever.
    """
    body = "\n        ".join([statement] * unrolled)
    names = {}
    loop = f"for _ in range({ACCESSES // unrolled}):\n        {body}"
    exec(f"def run(v, x):\n    {loop}\n    return x", names)

    def run():
        seconds, result = timed(names["run"], random.choice(objects), 1.5)
        assert result == 1.5
        return seconds / ACCESSES

    return run


# ---- graphs and memory


def graphs():
    for old, leaves in (False, "fresh leaves"), (True, "old leaves"):
        seconds = alternate(
            7, {crowded: partial(small_backward, old, crowded) for crowded in (True, False)}
        )
        ratios = seconds[True] / seconds[False]
        yield f"backward of 30 operations, {leaves}: 10^7 live / empty tape", ratios, "at most", 2


def small_backward(old_leaves, crowded):
    """Seconds a sweep of 30 operations, all on one pair of leaves or each on a fresh one.

    Old leaves come from before the large graph, which lies below the small ones and stays alive.
    """
    with collector(True):
        leaves = [(Value(2.0), Value(0.5))]
        starts = [Value(number) for number in scalars.STARTS.values()]
        crowd = scalars.record(*starts, MANY) if crowded else None
        if not old_leaves:
            leaves = [(Value(2.0), Value(0.5)) for _ in range(EXPRESSIONS)]
        roots = [thirty_operations(x, y) for x, y in leaves * (EXPRESSIONS // len(leaves))]
        seconds, _ = timed(lambda: [root.backward() for root in roots])
        assert sum(x.grad for x, _ in leaves) == EXPRESSIONS * 0.5**10
        del crowd
        return seconds / EXPRESSIONS


def thirty_operations(x, y):
    for _ in range(10):
        x = (x * y + y).relu()
    return x


def memory():
    alive, _ = np.array([grown(MILLION) for _ in range(3)]).T
    yield "resident bytes of an entry, root alive", alive / MILLION, "at most", 40
    yield "resident MB of 10^6 entries, root alive", alive / 1e6, "at most", 64
    alive, dead = grown(MANY)
    yield "resident MB after the death of 10^7 entries", dead / 1e6, "at most", 0.1 * alive / 1e6

    start = time.perf_counter()
    x, term = Value(0.0), Value(1.0)
    for _ in range(MANY):
        x = x + term
    x.backward()
    assert x.data == term.grad == MANY
    del x
    seconds = time.perf_counter() - start
    yield "seconds of a chain of 10^7: record, backward, delete", seconds, "works", None


def grown(operations):
    seat = Seat(1)
    try:
        return seat(footprint.growth, WRITTEN, operations)
    finally:
        seat.leave()


# ---- scripts


def scripts():
    """The runner on scripts that carry their own class Value, gc on, against plain Python."""
    for name, what, bound in (
        ("lecture_moons.py", "lecture-style moons, a step", 10),
        ("microgpt_script.py", "microgpt-style step", 8),
    ):
        seconds = alternate(3, script(name))
        ratios = seconds["python"] / seconds["python -m fastgrad"]
        yield f"{what}: python / python -m fastgrad", ratios, "at least", bound
    seconds = alternate(11, start_up())
    extra = 1e3 * (seconds["python -m fastgrad"] - seconds["python with numpy"])
    yield "ms of start-up over python with numpy, a class replaced", extra, "at most", 150


def script(name):
    """Contestants: a script as a user has it, run plain and by the runner; seconds a step."""

    def run(*runner):
        command = [sys.executable, *runner, str(SCRIPTS / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
        assert len(outputs) == 1, f"{name} does not print the same by {' '.join(command)}"
        return float(re.search(r"ms a step: (\S+)", done.stderr)[1]) / 1e3

    outputs = set()
    return {
        "python": run,
        "python -m fastgrad": partial(run, "-m", "fastgrad"),
    }


def start_up():
    """Contestants: processes that import NumPy, or replace a script's own class; seconds."""
    source = (SCRIPTS / "microgpt_script.py").read_text()
    shortest = source[: source.index("\n\n\n", source.index("class Value"))]

    def run(*arguments, script=""):
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(script)
            file.flush()
            command = [sys.executable, *arguments] + [file.name] * bool(script)
            seconds, done = timed(partial(subprocess.run, capture_output=True), command)
        assert done.returncode == 0 and (b"replaced" in done.stderr) == bool(script)
        return seconds

    return {
        "python with numpy": partial(run, "-c", "import numpy"),
        "python -m fastgrad": partial(run, "-m", "fastgrad", script=shortest),
    }
