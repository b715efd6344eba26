"""Benchmarks of graphs: micrograd's demo, small ones beside a large one, a deep one, memory."""

import gc

import memory
import pytest
from workloads import (
    EXPRESSIONS,
    FASTGRAD,
    MANY,
    MICROGRAD,
    add_up,
    backward_each,
    check_chain,
    check_expressions,
    check_first_steps,
    check_step,
    expressions,
    training,
)


@pytest.mark.benchmark(group="micrograd's demo: one training step")
def test_demo_step(benchmark, engine):
    steps = training(engine)
    check_first_steps(steps)
    check_step(*benchmark.pedantic(next, args=(steps,), rounds=engine.rounds))


@pytest.mark.benchmark(group=f"backward of 30 operations, {EXPRESSIONS} times")
@pytest.mark.parametrize("old_leaves", [False, True], ids=["fresh leaves", "old leaves"])
@pytest.mark.parametrize(
    ("engine", "crowded"),
    [
        pytest.param(MICROGRAD, False, id="micrograd"),
        pytest.param(FASTGRAD, False, id="fastgrad"),
        pytest.param(FASTGRAD, True, id="fastgrad after 10^7 live entries"),
    ],
)
def test_small_backward(benchmark, engine, crowded, old_leaves):
    def record_afresh():
        gc.collect()
        return expressions(engine, old_leaves, crowded), {}

    def backward(roots, leaves, _crowd):
        backward_each(roots)
        return leaves

    check_expressions(benchmark.pedantic(backward, setup=record_afresh, rounds=5))


@pytest.mark.benchmark(group="a chain of 10^7 additions")
@pytest.mark.parametrize("engine", [FASTGRAD], ids=lambda engine: engine.name)
def test_chain(benchmark, engine):
    def live():
        root, term = add_up(engine)
        root.backward()
        check_chain(root, term)

    benchmark.pedantic(live, rounds=1)


@pytest.mark.benchmark(group="resident memory of a graph: see extra_info, not the time")
@pytest.mark.parametrize(
    ("engine", "operations"),
    [(MICROGRAD, 10**5), (FASTGRAD, 10**6), (FASTGRAD, MANY)],
    ids=lambda param: getattr(param, "name", str(param)),
)
def test_memory(benchmark, engine, operations):
    alive, dead = benchmark.pedantic(memory.growth, args=(engine, operations), rounds=1)
    benchmark.extra_info.update(alive_bytes=alive, dead_bytes=dead, entry_bytes=alive / operations)
    assert alive > 0
