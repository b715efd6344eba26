"""When a cluster pays: what a step costs on one core and on workers, measured and modelled.

    python -m benchmarks.parallel             measures, and writes docs/distributed.md's tables
    python -m benchmarks.parallel --redraw    writes the tables again from the data file

A step on W workers of one thread, with a shard each, of a net of P parameters takes

    work / W  +  step  +  tasks * task  +  bytes * byte

where work is what one core takes for all samples; ``step``, ``task`` and ``byte`` are seconds,
which are measured on a LocalCluster of two workers; and ``tasks`` and ``bytes`` follow from how
`fastgrad.distributed` goes about it. Bytes are those that must pass one after the other.
"""

import argparse
import functools
import json
import math
import random
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

import fastgrad
from benchmarks.report import digits, short, table
from fastgrad import functional, nn
from fastgrad.shards import FAN_IN, value_and_grad

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "distributed.json"
PAGE = ROOT / "docs" / "distributed.md"
NETS = (64, 64, 10), (784, 128, 10), (784, 512, 512, 10)
WORKERS = 2  # of the measured cluster
SHARDS = 2, 8, 32, 128  # of a net without work, for the cost of a step and of a task
BATCHES = 256, 2048, 16384  # of the nets, to check the model
PAPER = 10, 100, 1000  # workers, of the model alone
OUTGOING = 50  # workers that fetch from one at a time (distributed.worker.connections.outgoing)
NETWORK = 8e-10  # seconds a byte: 10 gigabits a second


class Costs(NamedTuple):
    """In seconds."""

    step: float
    task: float
    byte: float


# ---- the model


def tasks(shards):
    """Of a step: a gradient a shard, and additions."""
    count = shards
    while shards > 1:
        fours = math.ceil(shards / FAN_IN)
        count += fours - (shards % FAN_IN == 1)  # one that is left over is not added to anything
        shards = fours
    return count


def moved(parameters, workers):
    """Bytes of a step that pass one after the other."""
    first = min(workers - 1, OUTGOING)  # fetch the parameters from the worker that has got them
    others = max(workers - 1 - OUTGOING, 0) / (1 + OUTGOING)  # from those that have them then
    additions = math.ceil(math.log(workers, FAN_IN)) * (min(workers, FAN_IN) - 1)
    # Parameters and gradient pass the scheduler: two ways each.
    return 8 * parameters * (2 + first + others + additions + 2)


def overhead(costs, parameters, workers):
    return costs.step + costs.task * tasks(workers) + costs.byte * moved(parameters, workers)


def modelled(costs, parameters, work, workers):
    """Seconds of a step."""
    return work / workers + overhead(costs, parameters, workers)


def break_even(costs, parameters, workers):
    """Seconds of work from which on the workers are faster than one core."""
    return overhead(costs, parameters, workers) / (1 - 1 / workers)


# ---- measuring


def net_of(sizes):
    random.seed(1)
    model = nn.MLP(sizes[0], list(sizes[1:]), init="kaiming")
    return fastgrad.compile(
        lambda x, y: functional.cross_entropy(model(x), y),
        threads=1,
        parameters=model.parameters(),
    )


def samples(sizes, count):
    rng = np.random.default_rng(1)
    return rng.normal(size=(count, sizes[0])), rng.integers(0, sizes[-1], count)


def median(function, least=15, seconds=2.0):
    """Of a call, after one that warms up; at least so many, or so long."""
    function()
    taken, start = [], time.perf_counter()
    while len(taken) < least and (len(taken) < 3 or time.perf_counter() - start < seconds):
        begin = time.perf_counter()
        function()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def measured():
    """What the data file holds."""
    from distributed import Client, LocalCluster

    from benchmarks.__main__ import machine
    from fastgrad.distributed import DataParallel

    found = {"machine": machine(), "steps": [], "nets": []}
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        w = fastgrad.Value(0.5)
        square = fastgrad.compile(lambda x: (w * x) ** 2)
        x = np.ones(max(SHARDS))
        for shards in SHARDS:
            with DataParallel(square, client).shard(x, shards=shards) as parallel:
                taken = median(parallel.value_and_grad, least=100)
                found["steps"].append({"shards": shards, "seconds": taken})
            print(f"a step of {shards} shards without work: {short(taken)}", flush=True)
        for sizes in NETS:
            program = net_of(sizes)
            X, Y = samples(sizes, max(BATCHES))
            rows = []
            for batch in (WORKERS, *BATCHES):
                x, y = X[:batch], Y[:batch]
                with DataParallel(program, client).shard(x, y, shards=WORKERS) as parallel:
                    here = value_and_grad(program, x, y, shards=WORKERS)
                    there = parallel.value_and_grad()
                    assert here[0] == there[0] and (here[1] == there[1]).all()
                    cluster_seconds = median(parallel.value_and_grad)
                core = median(functools.partial(program.value_and_grad, x, y))
                rows.append({"batch": batch, "core": core, "cluster": cluster_seconds})
                print(
                    f"{sizes}, batch {batch}: {short(core)} on a core, {short(cluster_seconds)} "
                    "on the cluster",
                    flush=True,
                )
            found["nets"].append(
                {"sizes": sizes, "parameters": len(program.parameters), "rows": rows}
            )
    return found


def costs_of(data):
    """Least squares: a step and a task from the net without work, a byte from the nets."""
    counts = [tasks(row["shards"]) for row in data["steps"]]
    seconds = [row["seconds"] for row in data["steps"]]
    weights = 1 / np.array(seconds)  # relative errors count alike
    task, step = np.polyfit(counts, seconds, 1, w=weights)
    bare = Costs(float(step), float(task), 0.0)
    over, sizes = [], []
    for net in data["nets"]:
        row = net["rows"][0]  # a sample each: next to no work
        over.append(row["cluster"] - modelled(bare, net["parameters"], row["core"], WORKERS))
        sizes.append(moved(net["parameters"], WORKERS))
    byte = float(np.dot(over, sizes) / np.dot(sizes, sizes))
    return bare._replace(byte=byte)


# ---- the page


def checks(data):
    """The model against what was measured, a row a net and batch."""
    costs = costs_of(data)
    for net in data["nets"]:
        for row in net["rows"][1:]:
            seconds = modelled(costs, net["parameters"], row["core"], WORKERS)
            yield net, row, seconds


def named(net):
    return "-".join(map(str, net["sizes"]))


def rate(net):
    """Seconds a sample on one core."""
    row = net["rows"][-1]
    return row["core"] / row["batch"]


def operations(net):
    """Floating-point operations of a sample: a product and a sum a weight, three times."""
    return 6 * sum(a * b for a, b in zip(net["sizes"], net["sizes"][1:]))


def size(number):
    for scale, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= scale:
            return f"{digits(number / scale)} {name}"
    return digits(number)


def tables(data):
    costs = costs_of(data)
    network = costs._replace(byte=max(costs.byte, NETWORK))
    cluster = f"{WORKERS} workers"
    compared = table(
        ["net, batch", "one core", f"{cluster}, measured", f"{cluster}, model", "model ÷ measured"],
        [
            [
                f"{named(net)}, {row['batch']:,}",
                short(row["core"]),
                short(row["cluster"]),
                short(seconds),
                f"{seconds / row['cluster']:.2f}",
            ]
            for net, row, seconds in checks(data)
        ],
    )
    even = table(
        [
            "net",
            "bytes a step, each way",
            "operations a sample",
            f"{WORKERS} workers, here",
            *(f"{workers:,} workers" for workers in PAPER),
        ],
        [
            [
                named(net),
                f"{size(8 * net['parameters'])}B",
                f"{size(operations(net))}flop",
                *(
                    f"{size(break_even(where, net['parameters'], workers) / rate(net))}".strip()
                    for where, workers in [(costs, WORKERS), *((network, w) for w in PAPER)]
                ),
            ]
            for net in data["nets"]
        ],
    )
    general = table(
        ["", "1,000 parameters", "100,000", "1,000,000", "10,000,000"],
        [
            [
                f"{workers:,} workers",
                *(
                    short(break_even(network, parameters, workers))
                    for parameters in (10**3, 10**5, 10**6, 10**7)
                ),
            ]
            for workers in PAPER
        ],
    )
    return f"""On this machine, with workers on loopback: a step {short(costs.step)}, a task
{short(costs.task)}, a byte {short(costs.byte)} ({size(1 / costs.byte)}B/s).

{compared}

The batch from which on the workers are faster than one core. More than {WORKERS} workers are on
paper: the same step and task, and a byte {short(network.byte)}, the larger of the measured one and
that of 10 gigabits a second.

{even}

The same for any model: what the whole batch must take on one core, so that the workers are as fast.

{general}

{data["machine"]}: `python -m benchmarks.parallel`."""


def page(data):
    start, end = "<!-- costs -->\n", "\n<!-- /costs -->"
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(start)
    _, _, after = rest.partition(end)
    return before + start + tables(data) + end + after


def load():
    return json.loads(DATA.read_text(encoding="utf-8"))


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parallel")
    parser.add_argument("--redraw", action="store_true", help="write again from the data file")
    options = parser.parse_args()
    data = load() if options.redraw else measured()
    if not options.redraw:
        DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(data), encoding="utf-8")


if __name__ == "__main__":
    main()
