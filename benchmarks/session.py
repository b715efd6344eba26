"""A session: the engines of a contest in processes of their own, which take turns on one core.

Nobody's memory, thread pool or settings get in another's way, and what else the machine does
meanwhile hits all alike. An engine is checked before it is timed; one whose result is wrong, that
raises, dies or takes too long is left out of that contest, and the reason kept. A round is a turn
of each engine, forwards and backwards by turns, so that a ratio within a round feels little drift.
"""

import compileall
import gc
import importlib
import multiprocessing
import os
import random
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

from benchmarks import engines

PATIENCE = 40  # seconds until an engine must be ready, or have taken a turn
SLOW = 5  # seconds that an engine's turns may take in all; five are taken in any case

# Read by the libraries when they are loaded.
THREADS = "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"
ONE_THREAD_OF_XLA = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
# With these set, OpenBLAS may run slower kernels than it would choose by itself.
UNSET = "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"


def set_environment(threads=1):
    """For the processes that are started from now on."""
    os.environ.update(dict.fromkeys(THREADS, str(threads)), JAX_PLATFORMS="cpu", XLA_FLAGS="")
    if threads == 1:
        os.environ["XLA_FLAGS"] = ONE_THREAD_OF_XLA
    for name in UNSET:
        os.environ.pop(name, None)
    # Where a process's memory lies hangs on such things: drawn by lot, a spread shows what it does.
    os.environ["BENCHMARKS_PADDING"] = "x" * random.randrange(4096)


@contextmanager
def process(threads=1):
    """Yields a function that calls another in a fresh process and returns a future."""
    set_environment(threads)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, pin if threads == 1 else None) as executor:
        yield executor.submit


def pin():
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])


# ---- in an engine's process

contestant = None


def get_ready(name, workload, expectation, gc_on):
    """Check; returns the seconds that a turn takes then, with what is not timed in it."""
    global contestant
    contestant = None
    gc.collect()
    contestant = engines.check(name, workload, expectation)
    start = time.perf_counter()
    turn(gc_on, 0)
    return time.perf_counter() - start


def turn(gc_on, at_least):
    """Take steps for some seconds, one at least; returns seconds a step.

    With the collector on nothing here collects, so that it works when and as long as it would.
    """
    prepare, step = getattr(contestant, "prepare", None), contestant.step
    if not gc_on:
        gc.disable()
    taken, steps, is_warm = 0.0, 0, False
    while not steps or taken < at_least:
        if prepare:
            prepare()
        start = time.perf_counter()
        value = step()
        seconds = time.perf_counter() - start
        if seconds < at_least and not is_warm:
            is_warm = True  # what was in the cache was another's
            continue
        taken += seconds
        steps += 1
    if not gc_on:
        gc.enable()
        gc.collect()  # micrograd's graphs are cycles
    if not abs(value) < 100:
        raise AssertionError(f"a value of {value} after some steps")
    return taken / steps


def let_go():
    global contestant
    contestant = None
    gc.collect()


def gradient(name, workload):
    return engines.load(name, workload).gradient()[1]


def blas():
    """What NumPy multiplies matrices with, and by which kernels."""
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        return "BLAS kernel unknown without threadpoolctl"
    importlib.import_module("numpy")
    for library in threadpool_info():
        if library["user_api"] == "blas":
            kernel = library.get("architecture", "unnamed")
            return f"{library['internal_api']} {library['version']}, kernel {kernel}"
    return f"no BLAS known to threadpoolctl on {sys.platform}"


# ---- in the session's process


class Left(Exception):
    """Why an engine cannot take part in a contest."""


class Seat:
    """A process for one engine, started when it is first called and again after it died."""

    def __init__(self, threads):
        self.threads = threads
        self.executor = None

    def __call__(self, function, *arguments):
        if self.executor is None:
            set_environment(self.threads)
            context = multiprocessing.get_context("spawn")
            pinned = pin if self.threads == 1 else None
            self.executor = ProcessPoolExecutor(1, context, pinned)
            self.pid = self.executor.submit(os.getpid).result()
        try:
            return self.executor.submit(function, *arguments).result(PATIENCE)
        except TimeoutError:
            reason = f"took more than {PATIENCE} seconds"
        except BrokenProcessPool:
            reason = "its process died (a crash in its C code)"
        except Exception as error:
            first = str(error).partition("\n")[0]
            kind = type(error).__name__
            reason = first if kind == "AssertionError" else f"raises {kind}: {first}"
        self.leave()  # whatever it has broken goes with its process
        raise Left(reason) from None

    def leave(self):
        executor, self.executor = self.executor, None
        if executor is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)
            executor.shutdown(cancel_futures=True)


class Session:
    """Holds the processes from contest to contest."""

    def __init__(self, rounds=9, at_least=0.05):
        self.rounds, self.at_least = rounds, at_least
        self.seats = {}

    def __enter__(self):
        # pip does it for the others. What a compiler left free, a graph would use without growing.
        for package in "benchmarks", "fastgrad":
            compileall.compile_dir(Path(find_spec(package).origin).parent, quiet=2)
        return self

    def __exit__(self, *_):
        for seat in self.seats.values():
            seat.leave()

    def seat(self, entry):
        key = entry.engine, entry.threads, entry.gc
        return self.seats.setdefault(key, Seat(entry.threads))

    def hold(self, workload, entries):
        """Let entries take turns at a workload; returns (rows, left): seconds a step, reasons."""
        rows, left, turns = {}, {}, {}
        for entry in entries:
            lacking = engines.missing(entry.engine)
            if lacking:
                left[entry.label] = lacking
        present = [entry for entry in entries if entry.label not in left]
        reference = self.seats.setdefault("reference", Seat(1))
        expectation = reference(engines.expected, workload)
        for entry in present:
            arguments = entry.engine, entry.at(workload), expectation, entry.gc
            try:
                seconds = self.seat(entry)(get_ready, *arguments)
                turns[entry] = min(self.rounds, max(5, int(SLOW / seconds)))
                rows[entry.label] = []
            except Left as reason:
                left[entry.label] = str(reason)
        for k in range(self.rounds):
            for entry in present[:: -1 if k % 2 else 1]:
                if entry.label in left or k >= turns[entry]:
                    continue
                try:
                    rows[entry.label].append(self.seat(entry)(turn, entry.gc, self.at_least))
                except Left as reason:
                    left[entry.label] = str(reason)
                    del rows[entry.label]
        for entry in present:
            if entry.label in rows:
                self.seat(entry)(let_go)
        return rows, left

    def measure(self, measures, rounds):
        """Call functions by turns, each in a fresh process; returns (rows, left) as `hold` does."""
        rows, left = {label: [] for label in measures}, {}
        for _ in range(rounds):
            for label, function in measures.items():
                seat = Seat(1)
                try:
                    if label not in left:
                        rows[label].append(seat(function))
                except Left as reason:
                    left[label] = str(reason)
                    del rows[label]
                finally:
                    seat.leave()
        return rows, left
