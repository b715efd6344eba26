"""Benchmarks of the elements: an operator, an entry of the reverse sweep, an attribute."""

import gc

import pytest
from workloads import (
    FASTGRAD,
    MICROGRAD,
    check_record,
    check_sweep,
    record,
    repeated,
)

OPERATORS = "10^5 operators of x = x*a + b"


def collect_garbage():
    """For pedantic's `setup`, which must return None."""
    gc.collect()


@pytest.mark.benchmark(group=OPERATORS)
def test_operators(benchmark, engine):
    root, *_ = benchmark.pedantic(
        record, args=(engine.Value,), setup=collect_garbage, rounds=engine.rounds
    )
    check_record(root)


@pytest.mark.benchmark(group=OPERATORS)
@pytest.mark.parametrize("number", [complex, float])
def test_operators_of_python(benchmark, number):
    root, *_ = benchmark.pedantic(record, args=(number,), rounds=50)
    check_record(root)


@pytest.mark.benchmark(group="reverse sweep of 10^5 entries")
def test_sweep(benchmark, engine):
    def record_afresh():
        gc.collect()
        return record(engine.Value), {}

    def sweep(root, first, b):
        root.backward()
        return first, b

    check_sweep(*benchmark.pedantic(sweep, setup=record_afresh, rounds=engine.rounds))


@pytest.mark.benchmark(group="10^5 reads of an attribute")
@pytest.mark.parametrize(
    ("make", "attribute"),
    [
        pytest.param(complex, "real", id="complex.real"),
        pytest.param(MICROGRAD.Value, "data", id="micrograd.data"),
        pytest.param(FASTGRAD.Value, "data", id="fastgrad.data"),
        pytest.param(FASTGRAD.Value, "grad", id="fastgrad.grad"),
    ],
)
def test_read(benchmark, make, attribute):
    v = make(1.5)
    if attribute == "grad":
        v.grad = 1.5
    read = repeated(f"x = v.{attribute}")
    assert benchmark.pedantic(read, args=(v, None), rounds=50) == 1.5


@pytest.mark.benchmark(group="10^5 assignments of an attribute")
@pytest.mark.parametrize("attribute", ["data", "grad"])
@pytest.mark.parametrize("engine", [MICROGRAD, FASTGRAD], ids=lambda engine: engine.name)
def test_assign(benchmark, engine, attribute):
    v = engine.Value(1.5)
    assign = repeated(f"v.{attribute} = x")
    benchmark.pedantic(assign, args=(v, 2.5), rounds=50)
    assert getattr(v, attribute) == 2.5
