"""What is measured: each contest is a workload, the engines that take part, and how to show it."""

from dataclasses import dataclass, field, replace
from functools import partial

from benchmarks import footprint, nets, scalars
from benchmarks.engines import (
    AUTOGRAD,
    AUTOGRAD_NUMBERS,
    AUTONEURONET,
    COMPILED,
    COMPLEX,
    ENGINES,
    FLOAT,
    FUSED,
    JAX,
    LIMIT,
    MICROGRAD,
    MICROGRAD_RUST,
    MINIGRAD,
    NUMPY,
    OXIGRAD,
    SLOTTED,
    TORCH,
    TORCH_NUMBERS,
    VM,
    WRITTEN,
    XAD,
    C,
)
from benchmarks.irregular import Irregular
from benchmarks.microgpt import Microgpt


@dataclass(frozen=True)
class Entry:
    """An engine in a contest.

    fastgrad has the cyclic collector on, as Python has it. Others have it off, which helps them.
    """

    engine: str
    gc: bool
    threads: int = 1
    label: str = ""

    def at(self, workload):
        return replace(workload, threads=self.threads) if self.threads > 1 else workload


def entries(*names, threads=1):
    """Entries of engines; those whose graphs the collector looks through, with it on and off."""
    made = []
    for name in names:
        label = name if threads == 1 else f"{name}, {threads} threads"
        if ENGINES[name].collected:
            made += [
                Entry(name, on, threads, f"{label}, gc {'on' if on else 'off'}") for on in (1, 0)
            ]
        else:
            made.append(Entry(name, name.startswith("fastgrad"), threads, label))
    return made


@dataclass(frozen=True)
class Contest:
    key: str
    section: str
    title: str
    ours: str  # the label that the others are compared with
    workload: object = None
    entries: list = field(default_factory=list)
    measures: dict = field(default_factory=dict)  # by label, instead of a workload
    per: object = 1  # how many of what is shown are in a step, or a function that tells it
    unit: str = "s"
    rounds: int = 0  # of measures
    note: str = ""
    quick: bool = True

    def held(self, session):
        """Measure; returns what the data file holds of it."""
        if self.measures:
            rows, left = session.measure(self.measures, min(self.rounds, session.rounds))
        else:
            rows, left = session.hold(self.workload, self.entries)
        per = self.per() if callable(self.per) else self.per
        rows = {
            label: [float(f"{number / per:.4g}") for number in numbers]
            for label, numbers in rows.items()
        }
        shown = "key", "section", "title", "ours", "unit", "note"
        return {name: getattr(self, name) for name in shown} | {"rows": rows, "left": left}


NOT_QUICK = TORCH_NUMBERS, AUTOGRAD_NUMBERS, MINIGRAD  # seconds a step, or until it is given up


def quick():
    """What a quick run holds."""
    return [
        replace(
            contest,
            entries=[e for e in contest.entries if e.engine not in NOT_QUICK],
            rounds=min(contest.rounds, 2),
        )
        for contest in CONTESTS
        if contest.quick
    ]


# ---- eager: each operator is recorded

OPERATIONS = 100_000
SCALAR = (
    WRITTEN, MICROGRAD, SLOTTED, MINIGRAD, OXIGRAD, MICROGRAD_RUST, AUTONEURONET, XAD,
    TORCH_NUMBERS,
)  # fmt: skip
EAGER = "Eager: every operator is recorded"

eager = [
    Contest(
        "operator", EAGER, "An operator", WRITTEN, scalars.Recording(OPERATIONS),
        entries(*SCALAR, FLOAT, COMPLEX), per=OPERATIONS,
        note="`x = x * a + b`, 100,000 operations; the graph stays alive, its death is not timed. "
        "Python's numbers keep no graph.",
    ),
    Contest(
        "sweep", EAGER, "The reverse sweep, an entry", WRITTEN, scalars.Sweep(OPERATIONS),
        entries(*SCALAR), per=OPERATIONS,
        note="`backward()` of that graph, with Python's recursion limit raised for those that "
        "recurse.",
    ),
    Contest(
        "expression", EAGER, "micrograd's README expression", WRITTEN, scalars.Expression(),
        entries(*SCALAR), per=scalars.Expression().times,
        note="Two leaves, some thirty operations, `backward()`, and the graph thrown away.",
    ),
    Contest(
        "demo", EAGER, "A training step of micrograd's demo", WRITTEN, nets.MOONS,
        entries(WRITTEN, FUSED, COMPILED, *SCALAR[1:], AUTOGRAD_NUMBERS),
        note="The notebook's step, 100 points, an MLP of 2-16-16-1, unchanged: `as written` has "
        "micrograd's code and another import. `fused` calls `functional.hinge` and `optim.SGD`.",
    ),
    Contest(
        "microgpt", EAGER, "A training step of microgpt, eager", WRITTEN, Microgpt(),
        entries(WRITTEN, FUSED, MICROGRAD, SLOTTED), quick=False,
        note="`examples/microgpt.py` on a name of 8 letters, Adam. `as written` has the example's "
        "code; `fused` calls `functional` and `optim.Adam`.",
    ),
    Contest(
        "chain", EAGER, "A chain of 100,000 operations", WRITTEN,
        scalars.Chain(OPERATIONS, recursion=1000), entries(*SCALAR), quick=False,
        note="Recorded, swept and dropped, with Python's recursion limit as it is.",
    ),
]  # fmt: skip

# ---- compiled: the same graph, run again and again

ARRAYS = COMPILED, NUMPY, TORCH, JAX, LIMIT
REPLAYED = "Compiled: recorded once, run on batches"

compiled = [
    Contest(
        "batch-demo", REPLAYED, f"A training step of {nets.MOONS} (micrograd's demo)", COMPILED,
        nets.MOONS, entries(COMPILED, NUMPY, TORCH, JAX, AUTOGRAD, VM, C, LIMIT),
    ),
    *(
        Contest(
            f"net-{net.sizes[0]}-{net.batch}", REPLAYED, f"A training step of {net}", COMPILED, net,
            entries(*ARRAYS), quick=net is not nets.LARGE,
        )
        for net in (nets.SMALL, nets.MIDDLE, nets.WIDE, nets.LARGE)
    ),
    Contest(
        "batch-microgpt", REPLAYED, "A training step of microgpt, a name at a time", COMPILED,
        Microgpt(), entries(COMPILED, TORCH, JAX, SLOTTED), quick=False,
        note="PyTorch and JAX take all positions of the name at once.",
    ),
    *(
        Contest(
            f"irregular-{'mixed' if program.mixed else 'plain'}", REPLAYED,
            f"An irregular program of {program}: value and gradient, an operation and sample",
            COMPILED, program, entries(COMPILED, VM, C, NUMPY), quick=False,
            per=program.work,
            note="A random graph in which nothing is a layer. NumPy takes an array of all samples "
            "for each operation.",
        )
        for program in (Irregular(2000, mixed=True), Irregular(2000, mixed=False))
    ),
]  # fmt: skip

# ---- two threads

threads = [
    Contest(
        "threads", "Threads", f"A training step of {nets.WIDE}, on one thread and on two",
        f"{COMPILED}, 2 threads", nets.WIDE,
        [*entries(COMPILED, NUMPY, TORCH, JAX), *entries(COMPILED, NUMPY, TORCH, JAX, threads=2)],
        note="Those of two threads are not pinned to a core.", quick=False,
    )
]  # fmt: skip

# ---- scaling

SIZES = [10**k for k in range(3, 8)]
LARGEST = {WRITTEN: 10**7, MICROGRAD: 10**5, SLOTTED: 10**5, XAD: 10**6, TORCH_NUMBERS: 10**4}
BATCHES = 1, 4, 16, 64, 256, 1024, 4096


def off(names):
    return [entry for entry in entries(*names) if not entry.gc or entry.engine == WRITTEN]


scaling = [
    *(
        Contest(
            f"size-{size}", "Scaling with the size of the graph",
            f"A graph of {size:,} operations, an operation", WRITTEN, scalars.Chain(size),
            off(name for name in LARGEST if size <= LARGEST[name]), per=size,
            quick=size <= 10**5,
        )
        for size in SIZES
    ),
    *(
        Contest(
            f"batch-{batch}", "Scaling with the batch",
            f"A training step of 64-64-64-10 at batch {batch}, a sample", COMPILED,
            replace(nets.SMALL, batch=batch), entries(*ARRAYS), per=batch, quick=batch in (1, 256),
        )
        for batch in BATCHES
    ),
]  # fmt: skip

# ---- memory and start

MODULES = "fastgrad", "micrograd.engine", "numpy", "xad", "autograd", "casadi", "jax", "torch"


def by_engine(function, names, *arguments):
    return {name: partial(function, name, *arguments) for name in names}


footprints = [
    *(
        Contest(
            f"memory-{size}", "Memory", f"A graph of {size:,} operations, an entry", WRITTEN,
            measures=by_engine(
                footprint.entry_bytes,
                [*LARGEST, MINIGRAD, AUTONEURONET] if size == 10**5 else
                [name for name in LARGEST if size <= LARGEST[name]],
                size,
            ),
            unit="B", rounds=5, quick=size == 10**5,
        )
        for size in SIZES[1:]
    ),
    Contest(
        "peak-demo", "Memory", "Peak of ten steps of micrograd's demo", WRITTEN,
        measures=by_engine(
            footprint.training_peak, [WRITTEN, COMPILED, MICROGRAD, XAD, TORCH, NUMPY], nets.MOONS
        ),
        unit="B", rounds=5, quick=False,
        note="Beyond what the libraries take once they are loaded.",
    ),
    Contest(
        "peak-wide", "Memory", f"Peak of ten steps of {nets.WIDE}", COMPILED,
        measures=by_engine(footprint.training_peak, [COMPILED, NUMPY, TORCH, JAX], nets.WIDE),
        unit="B", rounds=5, quick=False, note="Data and model included.",
    ),
    Contest(
        "import", "Start", "Python, and an import", "import fastgrad",
        measures={"Python alone": partial(footprint.importing, "")}
        | {f"import {module}": partial(footprint.importing, module) for module in MODULES},
        rounds=5,
        note="Bytecode is there; what an environment hooks into Python's start (`site`) is not.",
    ),
]  # fmt: skip

CONTESTS = [*eager, *compiled, *threads, *scaling, *footprints]
