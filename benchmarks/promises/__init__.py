"""What fastgrad's parts promise, a line each with what is measured now: ``--promises [NAME]``.

A promise is a bound on a ratio (or a number), set where a part was built. No line is a test: the
command succeeds whatever it measures, unless a result is wrong.
"""

import importlib

import numpy as np

from benchmarks.report import short

PROMISES = {
    "eager": "operators, the sweep, attributes, small graphs, memory, scripts",
    "programs": "compiled programs against NumPy, PyTorch, JAX, CasADi and plain Python",
    "optimizers": "steps of optimizers against NumPy",
    "fit": "an epoch of fit against the bare loop",
    "derivatives": "second derivatives against JAX and CasADi",
    "distributed": "steps on a Dask cluster, and the model of their cost",
}


def show(name=""):
    """Measure and print all, or one module of this package."""
    print("median (quartiles) of the rounds; last, medians of what was divided")
    for part in [name] if name else PROMISES:
        print(f"\n{part}: {PROMISES[part]}")
        for row in importlib.import_module(f"benchmarks.promises.{part}").promises():
            print_promise(*row)


def print_promise(what, numbers, sign, bound, remark=""):
    """`sign` is "at least", "at most", or says that there is no bound."""
    low, median, high = np.percentile(numbers, [25, 50, 75])
    spread = "" if low == high else f"({low:.4g} to {high:.4g})"
    missed = (sign == "at least" and median < bound) or (sign == "at most" and median > bound)
    must = sign if bound is None else f"{sign} {bound:.4g}{'  MISSED' if missed else ''}"
    print(f"{what:<70} {median:>8.4g} {spread:<20} {must:<24} {remark}".rstrip(), flush=True)


def medians(*rows):
    """What was divided, as a remark."""
    return " : ".join(short(np.median(row)) for row in rows)
