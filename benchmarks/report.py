"""What the data file says, as text: docs/benchmarks.md, and the tables of README and programs.md.

Every figure is drawn from docs/benchmarks.json, by way of ``data.together``.
"""

from pathlib import Path

import numpy as np

from benchmarks.data import compared, held, numbers, ratios, rounded, save, spread, together
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


# What was tried and takes no part anywhere.
UNBUILT = """\
Not here: oxigrad and micrograd-rust have no wheels for Linux and are built from Rust with crates
from the net; where they are installed they take part. micrograd-cpp-engine is a library of tensors
that installs itself over micrograd. yrmo/engine.c and tekknolagi's compiler are no packages.
AADC's licence forbids to publish benchmarks."""

# ---- numbers


def short(number, unit="s"):
    """A number with its unit."""
    scales = TIMES if unit == "s" else BYTES
    scale, name = next((s for s in scales if abs(number) >= s[0]), scales[-1])
    return f"{digits(number / scale)} {name}"


def digits(number):
    """Three of them."""
    return f"{rounded(number):,.0f}" if abs(number) >= 99.95 else f"{number:.3g}"


def median(contest, label):
    return short(np.median(numbers(contest, label)), contest["unit"])


def times(contest, label, ours=None):
    return digits(np.median(ratios(contest, label, ours)))


# ---- tables


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def name_of(contest, label):
    return f"**{label}**" if label == contest["ours"] else label


def ranking(contest):
    """All rows of a contest, the fastest first."""
    rows = []
    for label in sorted(contest["rows"], key=lambda label: np.median(numbers(contest, label))):
        low, middle, high = (short(n, contest["unit"]) for n in spread(numbers(contest, label)))
        cells = [name_of(contest, label), middle, f"{low} to {high}", "", ""]
        if label == contest["ours"]:
            cells[3] = "1"
        elif label in compared(contest):
            low, middle, high = map(digits, spread(ratios(contest, label)))
            cells[3], cells[4] = middle, f"{low} to {high}"
        rows.append(cells)
    return table(["", "median", "spread", "÷ fastgrad", "spread"], rows)


def matrix(contests, what, cell, labels):
    """Contests that differ in one number, as columns."""
    sizes = [int(contest["key"].partition("-")[2]) for contest in contests]
    rows = [
        [name_of(contests[0], label)]
        + [cell(contest, label) if label in contest["rows"] else "" for contest in contests]
        for label in labels
    ]
    return table([what, *(f"{size:,}" for size in sizes)], rows)


def ratio(contest, label):
    if label not in compared(contest):
        return ""
    low, middle, high = map(digits, spread(ratios(contest, label)))
    return f"{middle} ({low} to {high})"


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
            labels = dict.fromkeys(label for contest in contests for label in contest["rows"])
            others = [label for label in labels if label != first["ours"]]
            parts = [
                f"{heading} {what}.",
                matrix(contests, MATRICES[key], median, labels),
                "Divided by fastgrad's; in brackets, the spread.",
                matrix(contests, MATRICES[key], ratio, others),
            ]
        else:
            parts = [f"### {first['title']}", first["note"], ranking(first)]
        parts += [left_out(contest, lacking) for contest in contests]
        shown.setdefault(section, []).extend(part for part in parts if part)
    return "\n\n".join("\n\n".join([f"## {section}", *parts]) for section, parts in shown.items())


# ---- where a peer wins


def losses(data):
    """Where who was faster or smaller than fastgrad, in most rounds: by (name, reason)."""
    found = {}
    for contest in data["contests"]:
        for label in compared(contest):
            name = label.removesuffix(", gc on").removesuffix(", gc off").removesuffix(TWO)
            other_threads = label.endswith(TWO) != contest["ours"].endswith(TWO)
            if name.startswith(("fastgrad", "import fastgrad")) or other_threads:
                continue
            if np.median(ratios(contest, label)) < 1:
                reason = (SMALLER if contest["unit"] == "B" else FASTER).get(name, "")
                where = f"{contest['title']}: {ratio(contest, label)}"
                found.setdefault((name, reason), []).append(where)
    return found


def where_peers_win(data):
    return "\n".join(
        f"- **{name}** {reason or 'wins for a reason that is not known'}. {'; '.join(where)}."
        for (name, reason), where in losses(data).items()
    )


# ---- how well it holds


def within(found):
    """How many of what `held` finds lie within."""
    return f"{sum(inside for _, _, inside, *_ in found)} of {len(found)}"


def comparison(found):
    """What `held` finds, in words: how many lie within, and those that do not."""
    rows = [
        [title, label, digits(median), f"{digits(low)} to {digits(high)}"]
        for title, label, inside, median, low, high in found
        if not inside
    ]
    counted = f"{within(found)} ratios lie within the stated spread."
    return f"{counted}\n{table(['', '', 'median', 'stated'], rows)}" if rows else counted


def cross_checked(sessions):
    """Each session against the others, in words."""
    if len(sessions) < 2:
        return "There is one session: what its rounds do not show is not in the spread."
    checks = [held(s, [other for other in sessions if other is not s]) for s in sessions]
    counts = [within(found) for found in checks if found]
    return (
        "Of each session's ratios, so many lie within the spread of the other sessions alone: "
        f"{', '.join(counts)}."
    )


# ---- the page, and what others quote


def page(sessions):
    data = together(sessions)
    versions = ", ".join(f"{name} {number}" for name, number in data["versions"].items())
    missing = "; ".join(f"{name}: {reason}" for name, reason in data["missing"].items())
    return f"""# Benchmarks

Written by `python -m benchmarks`, which measures everything on this page in one session, and puts
it together with earlier ones (`--keep`); the numbers of each round are in
[benchmarks.json](benchmarks.json). What README and other pages say of speed is drawn from the same
file. `python -m benchmarks --compare` measures all again, on a machine that does nothing else, and
says which ratios lie within the spread that is stated here.

![fastgrad and others](figures/benchmarks.png)

## How this was measured

| what | which |
|---|---|
| machine | {data["machine"]} |
| versions | fastgrad {data["fastgrad"]}, {versions} |
| NumPy's BLAS | {data["blas"]} |
| compiler | {data["compiler"]} |
| sessions | {", ".join(data["dates"])} (UTC) |
| rounds | up to {data["rounds"]} a session, 5 of what is slow; turns of {data["turn"]} s at least |
| not installed | {missing or "none"} |

- **Who takes part.** Each engine has a process of its own, pinned to one core, with one thread
  (where it has two, the row says so). The engines take turns, in an order that turns round: what
  else the machine does hits all alike, and a ratio is taken within a round.
- **Median and spread** are of the rounds of all sessions, each of which starts all processes
  afresh; the spread is from the lowest to the highest.
  {cross_checked(sessions)}
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

In most rounds: its time or memory divided by fastgrad's, and the spread.

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
an operation and sample if they are sums, products and relu ({beside(plain, C)}), and
{median(mixed, COMPILED)} with tanh, exp and powers ({beside(mixed, C)}). A microgpt step takes
{median(gpt, COMPILED)}, in pure Python {times(gpt, f"{SLOTTED}, gc off")} times as long.
{data["machine"]}; more in [benchmarks](benchmarks.md)."""


def beside(contest, label):
    if label not in contest["rows"]:
        return f"{label} was not measured"
    return f"{label} takes {times(contest, label)} times as long"


QUOTED = {
    ROOT / "README.md": ("speedups", speedups),
    ROOT / "docs" / "programs.md": ("programs", programs),
}


def pages(sessions):
    """Every file that the data decides, and what it must hold."""
    found, data = {PAGE: page(sessions)}, together(sessions)
    for path, (mark, quote) in QUOTED.items():
        start, end = f"<!-- {mark} -->\n", f"\n<!-- /{mark} -->"
        before, _, rest = path.read_text(encoding="utf-8").partition(start)
        _, _, after = rest.partition(end)
        found[path] = before + start + quote(data) + end + after
    return found


def write(sessions):
    """Write the pages and the data file, or none of them."""
    decided = pages(sessions)
    save(sessions)
    for path, text in decided.items():
        path.write_text(text, encoding="utf-8")
