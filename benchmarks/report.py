"""What the data file says, as text: docs/benchmarks.md, and the tables of README and programs.md.

Every figure is drawn from docs/benchmarks.json, which ``python -m benchmarks`` writes: seconds (or
bytes) of each round, by contest and engine. A ratio is the median of the rounds' ratios.
"""

import json
from pathlib import Path

import numpy as np

from benchmarks.engines import (
    COMPILED,
    ENGINES,
    JAX,
    LIMIT,
    MICROGRAD,
    NUMPY,
    SLOTTED,
    TORCH,
    WRITTEN,
    XAD,
    C,
)

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
CHART = ROOT / "docs" / "figures" / "benchmarks.png"

# Why a peer is faster, where it is; and why smaller.
FASTER = {label: engine.wins for label, engine in ENGINES.items()} | {
    "Python alone": "imports nothing",
    "import micrograd.engine": "is one short file of Python",
    "import xad": "is one extension module, where fastgrad has thirty",
}
ARRAYS = "keeps arrays, 8 bytes a number; each of fastgrad's parameters is an object of Python"
SMALLER = dict.fromkeys([NUMPY, TORCH, JAX], ARRAYS) | {
    XAD: "knows of an entry neither the operation nor the Value that it belongs to",
}
TWO = ", 2 threads"
MATRICES = {"size": "operations", "memory": "operations", "batch": "batch"}
TIMES = [(1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]
BYTES = [(1e6, "MB"), (1e3, "kB"), (1, "B")]


def load():
    return json.loads(DATA.read_text(encoding="utf-8"))


# What was tried and takes no part anywhere.
UNBUILT = """\
Not here: oxigrad and micrograd-rust have no wheels for Linux and are built from Rust with crates
from the net; where they are installed they take part. micrograd-cpp-engine is a library of tensors
that installs itself over micrograd. yrmo/engine.c and tekknolagi's compiler are no packages.
AADC's licence forbids to publish benchmarks."""

# ---- numbers


def quartiles(numbers):
    return np.percentile(numbers, [25, 50, 75])


def ratios(contest, label, ours=None):
    """A row divided by fastgrad's, round by round."""
    theirs, ours = contest["rows"][label], contest["rows"][ours or contest["ours"]]
    return [a / b for a, b in zip(theirs, ours)]


def short(number, unit="s"):
    """A number with its unit."""
    scales = TIMES if unit == "s" else BYTES
    scale, name = next((s for s in scales if abs(number) >= s[0]), scales[-1])
    return f"{digits(number / scale)} {name}"


def digits(number):
    """Three of them."""
    return f"{float(f'{number:.3g}'):,.0f}" if abs(number) >= 99.95 else f"{number:.3g}"


def median(contest, label):
    return short(np.median(contest["rows"][label]), contest["unit"])


def times(contest, label, ours=None):
    return digits(np.median(ratios(contest, label, ours)))


# ---- tables


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def ranking(contest):
    """All rows of a contest, the fastest first."""
    rows = []
    for label in sorted(contest["rows"], key=lambda label: np.median(contest["rows"][label])):
        low, middle, high = (short(q, contest["unit"]) for q in quartiles(contest["rows"][label]))
        cells = [label, middle, f"{low} to {high}", "", ""]
        if label == contest["ours"]:
            cells[0] = f"**{label}**"
            cells[3] = "1"
        elif contest["ours"] in contest["rows"]:
            low, middle, high = map(digits, quartiles(ratios(contest, label)))
            cells[3], cells[4] = middle, f"{low} to {high}"
        rows.append(cells)
    return table(["", "median", "quartiles", "÷ fastgrad", "quartiles"], rows)


def matrix(contests, name):
    """Contests that differ in one number, as columns: medians, and how they compare."""
    labels = dict.fromkeys(label for contest in contests for label in contest["rows"])
    sizes = [int(contest["key"].partition("-")[2]) for contest in contests]
    rows = []
    for label in labels:
        cells = [f"**{label}**" if label == contests[0]["ours"] else label]
        for contest in contests:
            shown = ""
            if label in contest["rows"]:
                shown = median(contest, label)
                if label != contest["ours"] and contest["ours"] in contest["rows"]:
                    shown += f" ({times(contest, label)})"
            cells.append(shown)
        rows.append(cells)
    return table([name, *(f"{size:,}" for size in sizes)], rows)


def left_out(contest, lacking):
    reasons = [
        f"{label}: {reason}" for label, reason in contest["left"].items() if reason not in lacking
    ]
    return f"Left out: {'; '.join(reasons)}." if reasons else ""


def sections(data):
    """The tables of all contests, under their sections."""
    lacking = set(data["missing"].values())
    grouped, shown = {}, {}
    for contest in data["contests"]:
        kind, _, size = contest["key"].partition("-")
        grouped.setdefault(
            (contest["section"], kind if size.isdecimal() else contest["key"]), []
        ).append(contest)
    for (section, key), contests in grouped.items():
        first = contests[0]
        if key in MATRICES:
            what = first["title"].rpartition(", ")[2]
            heading = {"s": "Time", "B": "Memory"}[first["unit"]]
            parts = [
                f"{heading} {what}; in brackets, divided by fastgrad's.",
                matrix(contests, MATRICES[key]),
            ]
        else:
            parts = [f"### {first['title']}", first["note"], ranking(first)]
        parts += [left_out(contest, lacking) for contest in contests]
        shown.setdefault(section, []).extend(part for part in parts if part)
    return "\n\n".join("\n\n".join([f"## {section}", *parts]) for section, parts in shown.items())


# ---- where a peer wins


def losses(data):
    """Where who was faster or smaller than fastgrad, beyond the quartiles: by (name, reason)."""
    found = {}
    for contest in data["contests"]:
        if contest["ours"] not in contest["rows"]:
            continue
        for label in contest["rows"]:
            name = label.removesuffix(", gc on").removesuffix(", gc off").removesuffix(TWO)
            other_threads = label.endswith(TWO) != contest["ours"].endswith(TWO)
            if name.startswith(("fastgrad", "import fastgrad")) or other_threads:
                continue
            _, middle, high = quartiles(ratios(contest, label))
            if high < 1:
                reason = (SMALLER if contest["unit"] == "B" else FASTER).get(name, "")
                found.setdefault((name, reason), []).append(f"{contest['title']} ({middle:.2f})")
    return found


def where_peers_win(data):
    return "\n".join(
        f"- **{name}** {reason or 'wins for a reason that is not known'}. {'; '.join(where)}."
        for (name, reason), where in losses(data).items()
    )


# ---- the page, and what others quote


def page(data):
    versions = ", ".join(f"{name} {number}" for name, number in data["versions"].items())
    missing = "; ".join(f"{name}: {reason}" for name, reason in data["missing"].items())
    return f"""# Benchmarks

Written by `python -m benchmarks`, which measures everything on this page in one session; the
numbers of each round are in [benchmarks.json](benchmarks.json). What README and other
pages say of speed is drawn from the same file.

![fastgrad and others](figures/benchmarks.png)

## How this was measured

| what | which |
|---|---|
| machine | {data["machine"]} |
| versions | fastgrad {data["fastgrad"]}, {versions} |
| NumPy's BLAS | {data["blas"]} |
| compiler | {data["compiler"]} |
| rounds | up to {data["rounds"]}, of {data["turn"]} s a turn at least; 3 of what takes seconds |
| not installed | {missing or "none"} |

- **Who takes part.** Each engine has a process of its own, pinned to one core, with one thread
  (where it has two, the row says so). The engines take turns, in an order that turns round: what
  else the machine does hits all alike, and a ratio is taken within a round. Medians and quartiles
  are of the rounds.
- **What is checked.** Before it is timed, each engine's value, its gradient and the values of
  its first steps must agree with the workload's reference to 1e-9. One that does not, or that
  raises or crashes, is left out there, and the reason is printed. All is float64.
- **Warm.** Compiling, tracing and building happen before. So do some steps.
- **The cyclic collector** is on for fastgrad, as Python has it, and off for the others, which
  helps them; micrograd and microgpt's Value, whose graphs are Python objects, are shown both ways.
- **Idiom.** Each engine is used as its own documentation does, one file each in
  `benchmarks/peers`. NumPy by hand writes into buffers that are made once. CasADi's C is built by
  `gcc -O3 -march=native`. [C by hand](../benchmarks/limit.c) is blocked for registers and built for
  one net by `gcc -O3 -march=native -ffast-math`: it may reorder sums and fuse multiply-adds.
  fastgrad is built without `-march`, picks its kernels when it is imported, and does neither where
  values are computed: they are micrograd's to the last bit.
- **÷ fastgrad**: the other's time, or memory, divided by that of the row in bold. Above 1,
  fastgrad is faster or smaller by that factor.

{UNBUILT}

## Where a peer wins

By more than the quartiles; in brackets, its time or memory divided by fastgrad's.

{where_peers_win(data)}

{sections(data)}
"""


def contest_of(data, key):
    return next(contest for contest in data["contests"] if contest["key"] == key)


def speedups(data):
    """README's table: micrograd both ways, and fastgrad as each workload is best written."""
    rows = []
    for key, what, ours in (
        ("operator", "operator of `x = x*a + b`", WRITTEN),
        ("sweep", "reverse sweep, an entry", WRITTEN),
        ("expression", "micrograd's README expression", WRITTEN),
        ("demo", "training step of micrograd's demo, as written", WRITTEN),
        ("demo", "the same, compiled", COMPILED),
    ):
        contest = contest_of(data, key)
        labels = [f"{MICROGRAD}, gc {state}" for state in ("on", "off")]
        rows.append(
            [what, *(median(contest, label) for label in (*labels, ours))]
            + [f"{times(contest, label, ours)}x" for label in labels]
        )
    head = [
        "",
        "micrograd, gc on",
        "micrograd, gc off",
        "fastgrad",
        "faster, gc on",
        "faster, gc off",
    ]
    return f"""{table(head, rows)}

{data["machine"]}: medians of rounds in which the engines took turns (`python -m benchmarks`).
Against PyTorch, JAX, CasADi, XAD and others, and where they win:
[docs/benchmarks.md](docs/benchmarks.md)."""


def programs(data):
    """The table of docs/programs.md: fastgrad's time divided by the others'."""
    peers = NUMPY, TORCH, JAX, LIMIT
    rows = []
    for contest in data["contests"]:
        if contest["key"] == "batch-demo" or contest["key"].startswith("net-"):
            cells = [contest["title"].removeprefix("A training step of ")]
            for peer in peers:
                found = peer in contest["rows"]
                cells.append(digits(1 / np.median(ratios(contest, peer))) if found else "")
            rows.append(cells)
    demo, gpt = contest_of(data, "demo"), contest_of(data, "batch-microgpt")
    without_gc = times(demo, f"{MICROGRAD}, gc off", COMPILED)
    plain, mixed = (contest_of(data, f"irregular-{kind}") for kind in ("plain", "mixed"))
    head = ["a training step (forward, reverse, SGD), one thread", *peers]
    return f"""{table(head, rows)}

fastgrad's time divided by the other's, float64: below 1 fastgrad is faster. The demo's step takes
{median(demo, COMPILED)}; micrograd without garbage collector takes {without_gc} times as long.
A program of 2,000 irregular scalar operations, value and gradient, takes {median(plain, COMPILED)}
an operation and sample if they are sums, products and relu ({compared(plain, C)}), and
{median(mixed, COMPILED)} with tanh, exp and powers ({compared(mixed, C)}). A microgpt step takes
{median(gpt, COMPILED)}, in pure Python {times(gpt, f"{SLOTTED}, gc off")} times as long.
{data["machine"]}; more in [benchmarks](benchmarks.md)."""


def compared(contest, label):
    if label not in contest["rows"]:
        return f"{label} was not measured"
    return f"{label} takes {times(contest, label)} times as long"


QUOTED = {
    ROOT / "README.md": ("speedups", speedups),
    ROOT / "docs" / "programs.md": ("programs", programs),
}


def pages(data):
    """Every file that the data decides, and what it must hold."""
    found = {PAGE: page(data)}
    for path, (mark, quote) in QUOTED.items():
        start, end = f"<!-- {mark} -->\n", f"\n<!-- /{mark} -->"
        before, _, rest = path.read_text(encoding="utf-8").partition(start)
        _, _, after = rest.partition(end)
        found[path] = before + start + quote(data) + end + after
    return found


def write(data):
    DATA.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for path, text in pages(data).items():
        path.write_text(text, encoding="utf-8")
