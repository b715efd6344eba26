"""What is not a time a step: memory of a graph and of a training run, and the time of an import.

Each function runs in a fresh process. Memory is resident memory, by Linux's /proc.
"""

import ctypes
import gc
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks import engines, nets, scalars

C_LIBRARY = ctypes.CDLL(None)
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_bytes():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def settled_bytes():
    """Resident memory when the C library has given back what is free, of which nothing is reused.

    How much an import leaves free depends on whether its bytecode was there, among other things.
    """
    gc.collect()
    if hasattr(C_LIBRARY, "malloc_trim"):  # glibc
        C_LIBRARY.malloc_trim(0)
    return resident_bytes()


def peak_bytes():
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", STATUS.read_text())[1])


def forget_peak():
    CLEAR.write_text("5")  # or ru_maxrss and VmHWM would show what was before


def growth(name, operations):
    """By how much a process grows with a graph that its root alone keeps alive, and after it."""
    engines.load(name, scalars.Recording(100)).gradient()  # what is made once
    graph = engines.load(name, scalars.Recording(operations))
    before = settled_bytes()
    graph.prepare()
    graph.step()
    graph.leaves = None
    alive = resident_bytes() - before
    graph.root = None
    return alive, resident_bytes() - before


def entry_bytes(name, operations):
    """Of a graph, an entry: an operation, of which each second also makes no Value of a number."""
    return growth(name, operations)[0] / operations


def training_peak(name, net, steps=10):
    """By how much a process grows at most while it trains, model and data included."""
    engines.load(name, nets.Net((2, 2, 1), 2, rate=0.0)).step()  # what is loaded once
    before = settled_bytes()
    forget_peak()
    contestant = engines.load(name, net)
    for _ in range(steps):
        contestant.step()
    return peak_bytes() - before


def program_memory(batch):
    """Of training the large net: model, peak beyond it, a block's workspace, 8 a parameter."""
    from benchmarks.peers.fastgrad_compiled import Training

    net = replace(nets.LARGE, batch=batch)
    before = settled_bytes()
    training = Training(net)
    model = resident_bytes()
    forget_peak()
    losses = [training.step() for _ in range(3)]
    highest = peak_bytes()
    assert losses[2] < losses[0]
    (signature,) = training.program.signatures
    return model - before, highest - model, signature.workspace, 8 * len(training.parameters)


def importing(module):
    """Seconds that Python runs to import a module and no more, when its bytecode is there.

    What is set in the environment does not count, nor does what is hooked into Python's start, as
    an installation that can be edited does.
    """
    statements = ["import sys", f"sys.path[:] = {sys.path}", f"import {module}" if module else ""]
    command = [sys.executable, "-ES", "-c", "; ".join(statements)]
    subprocess.run(command, check=True)  # writes the bytecode that is not there
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - start
