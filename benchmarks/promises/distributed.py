"""Data-parallel steps on a LocalCluster of two workers, and what the model of them says.

No bound is on the times, which are Dask's more than ours; the model shall be right within a half.
"""

from benchmarks import parallel
from benchmarks.report import short


def promises():
    data = parallel.measured()
    costs = parallel.costs_of(data)
    yield "scheduling a step, ms", [1e3 * costs.step], "no bound", None
    yield "a task more, ms", [1e3 * costs.task], "no bound", None
    yield "a byte on the longest way, ns", [1e9 * costs.byte], "no bound", None
    for net, row, seconds in parallel.checks(data):
        what = f"{parallel.named(net)}, batch {row['batch']}"
        times = f"{short(row['core'])} : {short(row['cluster'])}"
        faster = row["core"] / row["cluster"]
        yield f"{what}: one core / two workers", [faster], "no bound", None, times
        off = abs(seconds / row["cluster"] - 1)
        yield f"{what}: model off by", [off], "at most", 0.5, short(seconds)
