"""The picture in docs/benchmarks.md: a step of micrograd's demo by everyone, and scaling."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.data import numbers
from benchmarks.report import CHART, contest_of, short

OURS, OTHERS, FLOOR = "#1f77b4", "#b8bcc4", "#e8a33d"
LINES = {
    "fastgrad": "#1f77b4",
    "micrograd": "#d62728",
    "microgpt": "#ff9896",
    "XAD": "#2ca02c",
    "NumPy": "#2ca02c",
    "PyTorch": "#ff7f0e",
    "JAX": "#9467bd",
    "C by hand": "#7f7f7f",
}


def draw(data):
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    bars, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    demo_bars(bars.subplots(), data)
    sizes, batches = right.subplots(2, 1)
    lines(sizes, data, "size", "A graph of so many operations: record, sweep, drop", "an operation")
    lines(batches, data, "batch", "Training 64-64-64-10 at a batch of so many", "a sample")
    figure.savefig(CHART, dpi=110)


def demo_bars(axes, data):
    """All engines, from both contests of the demo's step."""
    demo, batch = contest_of(data, "demo"), contest_of(data, "batch-demo")
    medians = {f"{label}*": np.median(numbers(batch, label)) for label in batch["rows"]}
    medians.pop("fastgrad, compiled*", None)
    medians |= {label: np.median(numbers(demo, label)) for label in demo["rows"]}
    labels = sorted(medians, key=medians.get, reverse=True)
    times = [medians[label] for label in labels]
    colors = [
        OURS if label.startswith("fastgrad") else FLOOR if label.startswith("C by") else OTHERS
        for label in labels
    ]
    axes.barh(labels, times, color=colors)
    axes.margins(y=0.01)
    for k, seconds in enumerate(times):
        axes.text(seconds * 1.15, k, short(seconds), va="center", fontsize=8)
    axes.set(xscale="log", xlim=(min(times) / 2, max(times) * 12))
    axes.set_title("A training step of micrograd's demo  (* written for arrays)", fontsize=10)
    shape(axes)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: short(seconds)))


def lines(axes, data, kind, title, what):
    found = {}
    for contest in data["contests"]:
        name, _, size = contest["key"].partition("-")
        if name == kind and size.isdecimal():
            for label in contest["rows"]:
                point = int(size), np.median(numbers(contest, label))
                found.setdefault(label, []).append(point)
    for label, points in found.items():
        color = next((c for name, c in LINES.items() if label.startswith(name)), OTHERS)
        width = 2.5 if label.startswith("fastgrad") else 1.3
        axes.plot(*zip(*points), "o-", ms=4, lw=width, color=color, label=label)
    axes.set(xscale="log", yscale="log")
    axes.margins(y=0.15)  # room for the legend
    axes.set_title(f"{title}, {what}", fontsize=10)
    shape(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: short(seconds)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    axes.legend(fontsize=7, ncols=2, framealpha=0.8)


def shape(axes):
    axes.grid(which="major", alpha=0.3)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    for side in "top", "right":
        axes.spines[side].set_visible(False)
