"""Plots of models, trainings and graphs on matplotlib: ``pip install "fastgrad[plot]"``.

- `decision_boundary`: where a classifier of points in the plane changes its mind;
- `history`: losses and accuracies by epoch;
- `graph_stats`: what a graph consists of, how deep it is, what it weighs;
- `gradients`: how large they are layer by layer, and how many are 0.

Invariant: plotting changes neither graph nor model. Each function draws on `ax`, or on a new
figure's, and returns it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastgrad import program
from fastgrad.engine import Value
from fastgrad.fold import fold, links
from fastgrad.look import reached
from fastgrad.module import Module
from fastgrad.tape import usage

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = 160  # points a side: finer than a figure shows
COLORS = ("tab:red", "tab:blue")


def decision_boundary(
    model: Callable[[Any], Any],
    X: ArrayLike,
    y: ArrayLike,
    threshold: float = 0.0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw what a classifier says all over the plane, and the points it should get right.

    Parameters
    ----------
    model : callable
        From a row of two Values to a score, or to a list of scores, one a class. It is compiled, so
        it must not decide by its numbers; call ``eval()`` first if it has a `Dropout`.
    X : array_like, shape (n, 2)
    y : array_like, shape (n,)
        The points' classes, at least two: the smaller of two is where scores should be below the
        threshold; to several scores they go by their number, if all are 0, 1, 2, ..., else in
        their order.
    threshold : float
        Where the boundary of a single score is: 0.5 if that is a probability.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If `X` and `y` have other shapes.
    TraceError
        If the model cannot be compiled.
    ImportError
        If there is no `ax`, and no matplotlib to make one.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = Figure().subplots()
    >>> decision_boundary(lambda x: x[0] * x[1], [[1, 1], [-1, 1]], [1, 0], ax=axes) is axes
    True
    """
    points, classes = np.asarray(X, dtype=float), np.asarray(y)
    if points.ndim != 2 or points.shape[1] != 2 or classes.shape != points.shape[:1]:
        raise ValueError(
            f"expected X of shape (n, 2) and y of shape (n,), got {points.shape} and "
            f"{classes.shape}"
        )
    ax = _axes(ax)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.15 * (high - low) + 0.05
    across, up = np.linspace(low - margin, high + margin, GRID).T
    rows = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    scores = program.compile(lambda x: model(x))(rows).reshape(GRID, GRID, -1)
    known = np.unique(classes)
    colors = _palette(max(len(known), scores.shape[2]))
    if scores.shape[2] == 1:
        score = scores[:, :, 0]
        reach = np.abs(score - threshold).max() or 1.0
        levels = threshold + np.linspace(-reach, reach, 13)
        ax.contourf(across, up, score, levels, cmap="RdBu", alpha=0.55)
        if score.min() < threshold < score.max():
            ax.contour(across, up, score, [threshold], colors="black")
    else:
        edges = np.arange(scores.shape[2] + 1) - 0.5
        regions = colors[: scores.shape[2]]
        ax.contourf(across, up, scores.argmax(axis=2), edges, colors=regions, alpha=0.4)
    numbered = set(known.tolist()) <= set(range(scores.shape[2]))
    for k, one in enumerate(known):
        inside = points[classes == one]
        ax.scatter(
            inside[:, 0],
            inside[:, 1],
            color=colors[int(one) if numbered else k],
            edgecolors="white",
            linewidths=0.8,
            s=44,
            label=f"{one}",
        )
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    ax.legend(title="y", loc="upper right")
    return ax


def history(h: Mapping[str, Sequence[float]], ax: "Axes | None" = None) -> "Axes":
    """Draw how a training went.

    Parameters
    ----------
    h : mapping of str to sequence of float
        By name, a number an epoch: ``{"loss": [...], "val_loss": [...], "accuracy": [...]}``. Names
        that end in ``accuracy`` have an axis of their own on the right, from 0 to 1. The learning
        rate, ``lr`` of what `fit` returns, is left out.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        If there is nothing to draw in `h`.
    ImportError
        If there is no `ax`, and no matplotlib to make one.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = history({"loss": [2.0, 1.0, 0.5]}, ax=Figure().subplots())
    >>> axes.get_xlabel(), len(axes.lines)
    ('epoch', 1)
    """
    drawn = {name: numbers for name, numbers in h.items() if name != "lr"}
    if not drawn:
        raise ValueError(
            f"expected a mapping of names to lists by epoch, with a loss say, got names {list(h)}"
        )
    ax = _axes(ax)
    shares = None
    lines = []
    for k, (name, numbers) in enumerate(drawn.items()):
        on = ax
        if name.endswith("accuracy"):
            shares = on = shares or ax.twinx()
        dashes = "--" if on is not ax else "-"
        epochs = range(1, len(numbers) + 1)
        lines += on.plot(epochs, numbers, dashes, color=f"C{k}", label=name)
    ax.set(xlabel="epoch", ylabel=", ".join(n for n in drawn if not n.endswith("accuracy")))
    ax.grid(alpha=0.3)
    if shares is not None:
        shares.set(ylabel="accuracy", ylim=(0, 1.05))
    ax.legend(handles=lines, loc="center right")
    return ax


def graph_stats(root: Value, ax: "Axes | None" = None) -> "Axes":
    """Draw what a graph consists of: entries by operation, depth, memory.

    Parameters
    ----------
    root : Value
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        A bar an operation. The title has the number of entries, the depth (operations on the
        longest path), and the bytes of the tape's arrays that so many entries take.

    Raises
    ------
    TypeError
        If `root` is no Value.
    ImportError
        If there is no `ax`, and no matplotlib to make one.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> axes = graph_stats(Value(2.0) * 3 + 1, ax=Figure().subplots())
    >>> [text.get_text() for text in axes.get_yticklabels()]
    ['leaf', '*', '+']
    """
    values = reached(root)
    ops, operands = links(values)
    ax = _axes(ax)
    # An entry shows its own power, as **2, but they are one operation.
    counts = Counter(op.rstrip("0123456789.-e") if op[:2] == "**" else op or "leaf" for op in ops)
    names, numbers = zip(*counts.most_common())
    bars = ax.barh(names, numbers, color="tab:blue")
    ax.bar_label(bars, padding=3)
    ax.invert_yaxis()
    ax.margins(x=0.25)  # room for what is written behind the bars
    held = usage()
    kib = held["bytes"] / held["capacity"] * len(values) / 1024
    depth = fold(ops, operands)[-1].depth
    ax.set(xlabel="entries", title=f"{len(values)} entries, depth {depth}, {kib:.1f} KiB")
    return ax


def gradients(root_or_model: Value | Module, ax: "Axes | None" = None) -> "Axes":
    """Draw how large gradients are, layer by layer.

    Parameters
    ----------
    root_or_model : Value or Module
        A model's parameters go by the names in its `state_dict`; what a Value was computed from
        goes by operation and depth, as in a folded `draw_dot`.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
        A histogram a layer, as a row of shades over the powers of ten of ``|grad|``, of those that
        are not 0. A row's name says how many are 0 (many, row after row: dead relus), and how many
        nan or inf.

    Raises
    ------
    TypeError
        If it is neither.
    ImportError
        If there is no `ax`, and no matplotlib to make one.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from fastgrad import nn
    >>> model = nn.MLP(2, [3, 1])
    >>> model([1.0, -1.0]).backward()
    >>> axes = gradients(model, ax=Figure().subplots())
    >>> len(axes.get_yticks())
    4
    """
    if isinstance(root_or_model, Module):
        named = {name: one.values for name, one in root_or_model._arrays().items()}
    else:
        values = reached(root_or_model)
        groups = fold(*links(values))
        named = {  # titles may be the same
            f"{k}: {group.title}": [values[one] for one in group.members]
            for k, group in enumerate(groups)
        }
    ax = _axes(ax)
    grads = {
        name: np.array([value.grad for value in inside], float) for name, inside in named.items()
    }
    sizes = {
        name: np.log10(np.abs(row[np.isfinite(row) & (row != 0)])) for name, row in grads.items()
    }
    every = np.concatenate(list(sizes.values()))
    first, last = (np.floor(every.min()), np.ceil(every.max())) if every.size else (-1.0, 1.0)
    edges = np.arange(first, max(last, first + 1) + 0.25, 0.5)
    shares = [np.histogram(row, edges)[0] / max(len(row), 1) for row in sizes.values()]
    mesh = ax.pcolormesh(edges, np.arange(len(grads) + 1), shares, cmap="Blues", vmin=0)
    ax.figure.colorbar(mesh, ax=ax, label="share of those not 0")
    ax.set_yticks(np.arange(len(grads)) + 0.5, [_row_name(*one) for one in grads.items()])
    ax.invert_yaxis()
    ax.set(xlabel="log10 |grad|")
    return ax


def _row_name(name: str, grads: "np.ndarray[Any, Any]") -> str:
    zeros, odd = np.mean(grads == 0), np.count_nonzero(~np.isfinite(grads))
    parts = [name]
    if zeros:
        parts.append(f"{zeros:.0%} zero")
    if odd:
        parts.append(f"{odd} nan or inf")
    return ", ".join(parts)


def _palette(count: int) -> list[str]:
    """A color a class: two as the shades of a single score, more in matplotlib's order."""
    return [COLORS[k] if count <= 2 else f"C{k}" for k in range(count)]


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError('a plot needs matplotlib: pip install "fastgrad[plot]"') from error
    return plt.subplots(layout="constrained")[1]
