"""Contests: what the workloads take, measured by turns.

The contestants take turns, in an order that turns round each time, and a ratio is taken within a
round, so that what else the machine does meanwhile changes it little. Every contest checks its
result. Times are in seconds; what they are compared with is in ``ratios.py``.
"""

import gc
import multiprocessing
import random
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import workloads as w
from workloads import FASTGRAD, MICROGRAD

SCRIPTS = Path(__file__).parent / "scripts"
ROUNDS = 9  # of a duel
STEPS = {"micrograd": 1, "fastgrad": 100}  # of the demo, in a round


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


# ---- one contestant's turn


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


def attribute(statement, objects, unrolled):
    """A contestant; the objects have 1.5 there already, and 1.5 is what is assigned.

    Each turn takes an object at random, because in some processes every assignment to one certain
    object took seven times as long, and the next object was as fast as ever.
    """
    accesses = w.repeated(statement, unrolled)

    def run():
        seconds, result = timed(accesses, random.choice(objects), 1.5)
        assert result == 1.5
        return seconds / w.ACCESSES

    return run


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


def demo_steps(engine, gc_on):
    """Train on, in a process of the engine's own: nobody else's objects slow down its collector.

    With gc on nothing here collects, so that the collector works when and as long as it would.
    """
    if not gc_on:
        gc.disable()
    steps = training_so_far(engine)
    taken = [next(steps) for _ in range(STEPS[engine.name])]
    w.check_step(*taken[-1])
    if not gc_on:
        gc.collect()  # micrograd's graphs are cycles: without this they fill the memory
    return sum(seconds for *_, seconds in taken) / len(taken)


@cache
def training_so_far(engine):
    steps = w.training(engine)
    w.check_first_steps(steps)
    return steps


def small_backward(engine, gc_on, old_leaves=False, crowded=False):
    with w.collector(gc_on):
        roots, leaves, _crowd = w.expressions(engine, old_leaves, crowded)
        seconds, _ = timed(w.backward_each, roots)
        w.check_expressions(leaves)
        return seconds / w.EXPRESSIONS


# ---- micrograd against fastgrad


def duel(contest):
    """Both engines by turns with gc on, and with gc off: {gc_on: {name: seconds}}."""
    return {
        on: alternate(
            ROUNDS, {engine.name: partial(contest, engine, on) for engine in (MICROGRAD, FASTGRAD)}
        )
        for on in (True, False)
    }


def duel_of_demos():
    with ExitStack() as stack:
        processes = {
            turn: stack.enter_context(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
            for turn in product((MICROGRAD, FASTGRAD), (True, False))
        }
        return duel(lambda *turn: processes[turn].submit(demo_steps, *turn).result())
