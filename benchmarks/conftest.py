"""What the benchmarks share: where their modules are, and the engine with gc on and off.

Run ``pytest benchmarks --benchmark-group-by=group``: a group is a workload, a parameter an engine.
Timings never make a benchmark fail; wrong results do.
"""

import pytest
from workloads import FASTGRAD, MICROGRAD, collector


@pytest.fixture(
    params=[(engine, on) for engine in (MICROGRAD, FASTGRAD) for on in (True, False)],
    ids=lambda param: f"{param[0].name}, gc {'on' if param[1] else 'off'}",
)
def engine(request):
    engine, gc_on = request.param
    with collector(gc_on):
        yield engine
