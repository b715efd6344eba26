"""Contestants within this process, which take turns; for what needs no process of its own."""

import gc
import time
from contextlib import contextmanager

import numpy as np


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


@contextmanager
def collector(on):
    """Run with the cyclic garbage collector on or off; either way without older garbage."""
    gc.collect()
    if not on:
        gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.collect()
