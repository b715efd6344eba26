"""Benchmarks of compiled programs and their peers: dense nets, irregular programs, microgpt.

Each is checked against its workload's reference. The libraries use as many threads as they are
told: ``OPENBLAS_NUM_THREADS=1`` gives NumPy one; ``programs.py`` sees to that by itself.
"""

import nets
import peers
import pytest
from irregular import Irregular
from microgpt_program import Microgpt
from peers import FASTGRAD, JAX, MICROGRAD, NUMPY, PURE, TORCH, VM, C

SLOW = MICROGRAD, PURE


def measure(benchmark, name, workload):
    if peers.missing(name):
        pytest.skip(f"{name} needs {' and '.join(peers.missing(name))}")
    contestant = peers.check(name, workload)
    value = benchmark.pedantic(contestant.step, rounds=3 if name in SLOW else 20)
    assert abs(value) < 100


@pytest.mark.benchmark(group="micrograd's demo as a batch: one training step")
@pytest.mark.parametrize("name", [FASTGRAD, NUMPY, TORCH, JAX, MICROGRAD])
def test_demo(benchmark, name):
    measure(benchmark, name, nets.MOONS)


@pytest.mark.parametrize("name", [FASTGRAD, NUMPY, TORCH, JAX])
@pytest.mark.parametrize(
    "net",
    [
        pytest.param(net, id=str(net), marks=pytest.mark.benchmark(group=f"{net}: training step"))
        for net in (nets.SMALL, nets.MIDDLE, nets.WIDE, nets.LARGE)
    ],
)
def test_training(benchmark, name, net):
    measure(benchmark, name, net)


@pytest.mark.parametrize("name", [FASTGRAD, VM, C])
@pytest.mark.parametrize(
    "program",
    [
        pytest.param(each, id=str(each), marks=pytest.mark.benchmark(group=f"{each}: gradient"))
        for each in (Irregular(1000, mixed=True), Irregular(1000, mixed=False))
    ],
)
def test_irregular(benchmark, name, program):
    measure(benchmark, name, program)


@pytest.mark.benchmark(group="microgpt: one training step")
@pytest.mark.parametrize("name", [FASTGRAD, PURE])
def test_microgpt(benchmark, name):
    measure(benchmark, name, Microgpt())
