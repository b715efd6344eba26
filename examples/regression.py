"""A net fits a noisy curve, stops when held-out points no longer gain, and is drawn.

python examples/regression.py           writes regression.png, if matplotlib is there
"""

import importlib.util
import random

import numpy as np

import fastgrad
from fastgrad import nn, optim


def curve(x):
    return np.sin(2 * x) + 0.3 * x


def main():
    random.seed(1)
    rng = np.random.default_rng(1)
    x = rng.uniform(-3, 3, 300)
    y = curve(x) + rng.normal(scale=0.15, size=300)

    model = nn.MLP(1, [32, 32, 1], activation="tanh", init="xavier")
    history = fastgrad.fit(
        model,
        x[:, None],  # a sample is a row of one number
        y,
        optimizer=optim.Adam(model.parameters(), lr=0.01),
        epochs=500,
        validation=0.2,
        patience=40,
        progress=False,
    )
    grid = np.linspace(-3, 3, 200)
    learnt = fastgrad.compile(model)(grid[:, None])
    error = np.sqrt(np.mean((learnt - curve(grid)) ** 2))
    print(
        f"{len(history['loss'])} epochs, best held-out loss {min(history['validation_loss']):.4f}"
    )
    print(f"off the true curve by {error:.3f} (the noise is 0.15)")
    if importlib.util.find_spec("matplotlib"):
        draw("regression.png", x, y, grid, learnt, history)


def draw(path, x, y, grid, learnt, history):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.scatter(x, y, s=10, color="tab:gray", label="samples")
    left.plot(grid, curve(grid), "--", color="black", label="true curve")
    left.plot(grid, learnt, color="tab:red", label="learnt")
    left.set(title="Regression", xlabel="x", ylabel="y")
    left.legend()
    right.plot(history["loss"], label="training")
    right.plot(history["validation_loss"], label="held out")
    right.set(title="Mean squared error", xlabel="epoch", ylabel="loss", yscale="log")
    right.legend()
    figure.savefig(path, dpi=100)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
