"""Draw the figures of docs/drawing.md: ``python docs/figures/make.py``, from anywhere."""

import random
from pathlib import Path

from fastgrad import Value, demo, draw_dot, nn, optim, plot

HERE = Path(__file__).parent


def drawings():
    """The drawings by name; what they show is in docs/drawing.md."""
    random.seed(1337)
    n = nn.Neuron(2)
    y = n([Value(1.0), Value(-2.0)])
    y.backward()
    yield "neuron", draw_dot(y)

    a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    c = a * b
    c.label = "c"
    d = (c + 6.5).tanh()
    d.label = "d"
    d.backward()
    yield "labels", draw_dot(d, rankdir="TB", precision=2)

    random.seed(1337)
    model = nn.MLP(2, [16, 16, 1])
    score = model([1.0, -2.0])
    score.backward()
    yield "net", draw_dot(score)


def plots():
    """A figure of all four plots, after a short training on two moons."""
    from matplotlib.figure import Figure

    random.seed(1337)
    X, y = demo.make_moons(100, noise=0.1, seed=1337)
    y = 2 * y - 1
    model = nn.MLP(2, [16, 16, 1])
    optimizer = optim.SGD(model.parameters(), lr=0.2)
    h = {"loss": [], "accuracy": []}
    for _ in range(60):
        scores = [model(row) for row in X.tolist()]
        loss = sum((1 - k * score).relu() for k, score in zip(y.tolist(), scores)) / len(y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        h["loss"].append(loss.data)
        h["accuracy"].append(sum((s.data > 0) == (k > 0) for s, k in zip(scores, y)) / len(y))
    figure = Figure(figsize=(9, 6.4), layout="constrained")
    axes = figure.subplots(2, 2).flat
    plot.decision_boundary(model, X, y, ax=axes[0])
    plot.history(h, ax=axes[1])
    plot.graph_stats(loss, ax=axes[2])
    plot.gradients(model, ax=axes[3])
    return figure


if __name__ == "__main__":
    for name, drawing in drawings():
        drawing.save(HERE / f"{name}.svg")
    plots().savefig(HERE / "plots.png", dpi=120)
