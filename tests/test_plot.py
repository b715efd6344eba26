"""Plots say what the numbers say, draw where they are told to, and change nothing."""

import random
import re
import sys

import matplotlib
import numpy as np
import pytest
from alive import entries_alive
from matplotlib.figure import Figure

from fastgrad import TraceError, Value, fit, nn, plot

matplotlib.use("agg")


@pytest.fixture
def ax():
    return Figure().subplots()


def half_plane(row):
    return row[0] - 0.25


POINTS = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]


def boundary(ax):
    """x of the black line."""
    (lines,) = [c for c in ax.collections if c.get_edgecolor().tolist() == [[0.0, 0.0, 0.0, 1.0]]]
    return np.concatenate([path.vertices for path in lines.get_paths()])[:, 0]


@pytest.mark.parametrize(("threshold", "at"), [(0.0, 0.25), (0.5, 0.75)])
def test_boundary_is_where_the_score_is_the_threshold(ax, threshold, at):
    assert plot.decision_boundary(half_plane, POINTS, [0, 1, 0, 1], threshold, ax=ax) is ax
    assert boundary(ax) == pytest.approx(at)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1"]


def test_a_model_of_one_sign_has_no_boundary(ax):
    plot.decision_boundary(lambda row: row[0] * 0 + 1, POINTS, [0, 1, 0, 1], ax=ax)
    assert all(c.get_edgecolor().tolist() != [[0.0, 0.0, 0.0, 1.0]] for c in ax.collections)


def test_several_scores_are_regions(ax):
    plot.decision_boundary(lambda r: [r[0] * 0 + 0.4, r[0], r[1]], POINTS, [0, 1, 2, 1], ax=ax)
    regions = ax.collections[0]
    assert len(regions.get_facecolor()) == 3
    assert len(ax.get_legend().get_texts()) == 3


@pytest.mark.parametrize(("classes", "regions"), [((0, 2), (0, 2)), ((-1, 1), (0, 1))])
def test_points_have_the_color_of_their_region(ax, classes, regions):
    low, high = classes
    labels = [low, high, high, low]
    plot.decision_boundary(lambda r: [r[0] * 0 + 0.4, r[0], r[1]], POINTS, labels, ax=ax)
    plane, *points = ax.collections
    colors = plane.get_facecolor()[:, :3].tolist()
    assert [dots.get_facecolor()[0, :3].tolist() for dots in points] == [
        colors[place] for place in regions
    ]


def test_boundary_leaves_the_model_and_the_tape(ax):
    model = nn.MLP(2, [8, 1])
    model([1.0, 2.0]).backward()
    before = [(p.data, p.grad) for p in model.parameters()]
    entries = entries_alive()
    plot.decision_boundary(model, POINTS, [-1, 1, 1, -1], ax=ax)
    plot.gradients(model, ax=ax)
    assert [(p.data, p.grad) for p in model.parameters()] == before
    assert entries_alive() == entries


@pytest.mark.parametrize(("X", "y"), [([1.0, 2.0], [0, 1]), (POINTS, [0, 1]), (np.ones((4, 3)), 4)])
def test_boundary_refuses_other_shapes(ax, X, y):
    with pytest.raises(
        ValueError, match=r"expected X of shape \(n, 2\) and y of shape \(n,\), got"
    ):
        plot.decision_boundary(half_plane, X, y, ax=ax)
    assert not ax.has_data()


def test_boundary_of_what_cannot_be_compiled(ax):
    with pytest.raises(TraceError):
        plot.decision_boundary(lambda r: r[0] if r[0] > 0 else r[1], POINTS, [0, 1, 0, 1], ax=ax)
    assert not ax.has_data()


def test_history_has_losses_left_and_accuracies_right(ax):
    h = {"loss": [2.0, 1.0], "val_loss": [2.5, 1.5], "accuracy": [0.5, 0.75]}
    assert plot.history(h, ax=ax) is ax
    assert [line.get_ydata().tolist() for line in ax.lines] == [[2.0, 1.0], [2.5, 1.5]]
    right = ax.figure.axes[1]
    assert [line.get_ydata().tolist() for line in right.lines] == [[0.5, 0.75]]
    assert ax.lines[0].get_xdata().tolist() == [1, 2]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(h)
    assert ax.get_ylabel() == "loss, val_loss"


def test_history_of_a_fit_is_without_the_learning_rate(ax):
    model = nn.MLP(2, [2, 1])
    h = fit(model, POINTS, [0.0, 1.0, 1.0, 0.0], epochs=2, validation=0.5, progress=False)
    assert "lr" in h
    plot.history(h, ax=ax)
    assert ax.get_ylabel() == "loss, validation_loss"
    assert len(ax.lines) == 2


@pytest.mark.parametrize("h", [{}, {"lr": [0.1]}])
def test_history_of_nothing(ax, h):
    with pytest.raises(ValueError, match=re.escape(f"with a loss say, got names {list(h)}")):
        plot.history(h, ax=ax)


def test_graph_stats_counts(ax):
    x = Value(2.0)
    assert plot.graph_stats(x**2 + x**-0.5 + 1, ax=ax) is ax
    names = [text.get_text() for text in ax.get_yticklabels()]
    widths = [bar.get_width() for bar in ax.patches]
    assert dict(zip(names, widths)) == {"leaf": 2, "**": 2, "+": 2}
    assert ax.get_title().startswith("6 entries, depth 3, 0.2 KiB")


def test_gradients_of_a_model_go_by_name(ax):
    random.seed(1)
    model = nn.MLP(2, [4, 1])
    model([1.0, -2.0]).backward()
    model.layers[0].neurons[0].b.grad = float("nan")
    plot.gradients(model, ax=ax)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert [name.split(",")[0] for name in names] == list(model.state_dict())
    grads = np.array([p.grad for n in model.layers[0].neurons for p in n.w])
    assert f"{np.mean(grads == 0):.0%} zero" in names[0]
    assert names[1].endswith("1 nan or inf")
    shares = ax.collections[0].get_array().reshape(4, -1)
    left = ax.collections[0].get_coordinates()[0, :-1, 0]
    sizes = np.log10(np.abs(grads[grads != 0]))
    for start, share in zip(left, shares[0]):
        assert share == pytest.approx(np.mean((sizes >= start) & (sizes < start + 0.5)))


def test_gradients_of_a_root_go_by_depth(ax):
    root = (Value(2.0) * 3).tanh()
    root.backward()
    plot.gradients(root, ax=ax)
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names[-1] == "2: 1 × tanh"


def test_gradients_before_any_sweep(ax):
    plot.gradients(nn.Layer(2, 2), ax=ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["weight, 100% zero", "bias, 100% zero"]


def test_gradients_of_something_else(ax):
    with pytest.raises(TypeError, match="expected a Value"):
        plot.gradients([1.0], ax=ax)


def test_without_axes_there_is_a_new_figure():
    first, second = plot.history({"loss": [1.0]}), plot.history({"loss": [1.0]})
    assert first.figure is not second.figure
    matplotlib.pyplot.close("all")


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(
        ImportError, match=r'a plot needs matplotlib: pip install "fastgrad\[plot\]"'
    ):
        plot.history({"loss": [1.0]})
