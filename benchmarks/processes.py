"""Contestants in processes of their own, one thread each, that take turns on one core.

Nobody's memory, thread pool or settings get in another's way, and what else the machine does
meanwhile hits all alike. A contestant is checked when its process first meets a workload.
"""

import gc
import importlib
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import lru_cache

import peers

TURN = 0.1  # seconds, at least; one step at least

# Read by the libraries when they are loaded.
ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
# With these set, OpenBLAS may run slower kernels than it would choose by itself.
UNSET = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"]


def set_environment():
    """For the processes that are started from now on."""
    os.environ.update(ONE_THREAD)
    for name in UNSET:
        os.environ.pop(name, None)


@contextmanager
def process(pinned=True):
    """Yields a function that calls another in a fresh process and returns a future."""
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("spawn"), pin if pinned else None
    ) as executor:
        yield executor.submit


def pin():
    if hasattr(os, "sched_setaffinity"):  # not on macOS
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])


@lru_cache(1)
def checked(name, workload):
    return peers.check(name, workload)


def turn(name, workload, at_least=TURN):
    """Take steps for a while; returns seconds a step. The cyclic collector is off."""
    contestant = checked(name, workload)
    gc.disable()
    contestant.step()  # what is in the cache is the others'
    start = now = time.perf_counter()
    steps = 0
    while now < start + at_least:
        value = contestant.step()
        steps += 1
        now = time.perf_counter()
    gc.enable()
    gc.collect()  # micrograd's graphs are cycles
    assert abs(value) < 100, f"{name} ends at {value} on {workload}"
    return (now - start) / steps


def gradient(name, workload):
    return peers.load(name, workload).gradient()[1]


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
