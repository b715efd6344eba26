"""Every contest under pytest-benchmark, by the same adapters: a group is a workload.

``pytest benchmarks --benchmark-group-by=group`` times what is installed, all in this process,
which has as many threads as ``OPENBLAS_NUM_THREADS`` and the like say; ``python -m benchmarks``
sees to that by itself. Timings never make a benchmark fail; wrong results do.
"""

import gc
from functools import cache

import pytest

from benchmarks import engines
from benchmarks.contests import quick
from benchmarks.promises import eager

expected = cache(engines.expected)
# A process may die of it, so that only a session, where it has its own, lets it take part.
CRASHES = engines.MINIGRAD
TIMED = [
    pytest.param(
        contest,
        entry,
        id=f"{contest.key}, {entry.label}",
        marks=pytest.mark.benchmark(group=contest.title),
    )
    for contest in quick()
    for entry in contest.entries
    if entry.engine != CRASHES
]
MEASURED = [
    pytest.param(function, id=f"{contest.key}, {label}")
    for contest in quick()
    for label, function in contest.measures.items()
    if label in (engines.WRITTEN, engines.COMPILED, engines.NUMPY, "import fastgrad")
]


@pytest.mark.parametrize(("contest", "entry"), TIMED)
def test_step(benchmark, contest, entry):
    if lacking := engines.missing(entry.engine):
        pytest.skip(f"{entry.engine}: {lacking}")
    workload = entry.at(contest.workload)
    contestant = engines.check(entry.engine, workload, expected(contest.workload))
    prepare = getattr(contestant, "prepare", None)
    gc.collect()
    if not entry.gc:
        gc.disable()
    try:
        value = benchmark.pedantic(contestant.step, setup=prepare, rounds=5)
    finally:
        gc.enable()
    assert abs(value) < 100


@pytest.mark.parametrize("function", MEASURED)
def test_footprint(function):
    assert function() >= 0


@pytest.mark.parametrize("unrolled", [1, 20])
@pytest.mark.parametrize("statement", ["x = v.data", "v.data = x", "x = v.grad", "v.grad = x"])
def test_attribute(benchmark, statement, unrolled):
    v = eager.Value(1.5)
    v.grad = 1.5
    assert benchmark(eager.attribute(statement, [v], unrolled)) > 0


@pytest.mark.parametrize("old_leaves", [False, True])
def test_small_backward(old_leaves):
    assert eager.small_backward(old_leaves, crowded=False) > 0
