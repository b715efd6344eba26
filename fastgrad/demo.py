"""``python -m fastgrad demo``: micrograd's own demo, a classifier of two moons, timed and drawn.

What lives here: the data, the training loop of micrograd's demo.ipynb to the letter, and the
picture of what was learnt. One code path serves both engines, so that a difference in time is
the engine's. It is no place for what makes fastgrad faster still: a micrograd user sees here
the code they already have.
"""

import argparse
import importlib
import importlib.util
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 1337  # the notebook's

_Step = tuple[float, float, float]  # loss, accuracy, seconds


def make_moons(
    n_samples: int, noise: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int_]]:
    """Draw two interleaving half circles, as scikit-learn's ``make_moons``, bit for bit.

    Parameters
    ----------
    n_samples : int
        Points in all, half of them (rounded down) on the upper moon.
    noise : float
        Standard deviation of the Gaussian noise added to each coordinate.
    seed : int
        Seed of the shuffle and the noise.

    Returns
    -------
    X : ndarray, shape (n_samples, 2)
    y : ndarray of int, shape (n_samples,)
        0 for the upper moon, 1 for the lower.

    Raises
    ------
    ValueError
        If `n_samples` or `noise` is negative (by NumPy).

    Examples
    --------
    >>> X, y = make_moons(4, noise=0.0, seed=1)
    >>> X.shape, sorted(y.tolist())
    ((4, 2), [0, 0, 1, 1])
    """
    n_upper = n_samples // 2
    upper = np.linspace(0, np.pi, n_upper)
    lower = np.linspace(0, np.pi, n_samples - n_upper)
    X = np.vstack(
        [
            np.append(np.cos(upper), 1 - np.cos(lower)),
            np.append(np.sin(upper), 1 - np.sin(lower) - 0.5),
        ]
    ).T
    y = np.repeat([0, 1], [n_upper, n_samples - n_upper])
    # The legacy generator, because the notebook's numbers come from np.random.seed(1337).
    draw = np.random.RandomState(seed)
    order = np.arange(n_samples)
    draw.shuffle(order)
    return X[order] + draw.normal(scale=noise, size=X.shape), y[order]


def train(
    model: Any, Value: Any, X: NDArray[np.float64], y: NDArray[np.int_], steps: int
) -> Iterator[_Step]:
    """Train as the notebook does: hinge loss, L2, plain gradient descent, full batch.

    Parameters
    ----------
    model : MLP
        Of either engine; changed in place.
    Value : type
        The engine's scalar.
    X : ndarray, shape (n, 2)
    y : ndarray of int, shape (n,)
        Labels -1 and 1.
    steps : int
        How many; the learning rate falls from 1.0 to about 0.1 over them.

    Yields
    ------
    loss, accuracy, seconds : float
        After each step: the loss and the share of points on the right side before the step's
        update, and what the step took.

    Raises
    ------
    ZeroDivisionError
        If `X` is empty.

    Examples
    --------
    >>> from fastgrad import engine, nn
    >>> random.seed(1)
    >>> X, y = make_moons(10, noise=0.0, seed=1)
    >>> history = list(train(nn.MLP(2, [4, 1]), engine.Value, X, 2 * y - 1, steps=20))
    >>> history[-1][0] < history[0][0]
    True
    """
    for k in range(steps):
        start = time.perf_counter()
        inputs = [list(map(Value, xrow)) for xrow in X]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(y, scores)]
        data_loss = sum(losses) * (1.0 / len(losses))
        alpha = 1e-4
        reg_loss = alpha * sum(p * p for p in model.parameters())
        total_loss = data_loss + reg_loss
        right = [(yi > 0) == (scorei.data > 0) for yi, scorei in zip(y, scores)]
        accuracy = sum(right) / len(right)

        model.zero_grad()
        total_loss.backward()
        learning_rate = 1.0 - 0.9 * k / steps
        for p in model.parameters():
            p.data -= learning_rate * p.grad
        yield total_loss.data, accuracy, time.perf_counter() - start


def _draw(
    path: Path,
    title: str,
    model: Any,
    Value: Any,
    X: NDArray[np.float64],
    y: NDArray[np.int_],
    history: list[_Step],
) -> None:
    """Write a picture: what the model learnt on the left, how it got there on the right."""
    # Not pyplot, which would pick a window system and keep the figure.
    from matplotlib.figure import Figure

    losses, accuracies, _ = zip(*history)
    margin, spacing = 0.5, 0.1
    (left, bottom), (right, top) = X.min(axis=0) - margin, X.max(axis=0) + margin
    across, up = np.arange(left, right, spacing), np.arange(bottom, top, spacing)
    scores = [[model([Value(x1), Value(x2)]).data for x1 in across] for x2 in up]

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    figure.suptitle(title)
    space, curve = figure.subplots(1, 2)
    shades = {"cmap": "RdBu", "alpha": 0.55, "extend": "both"}
    space.contourf(across, up, scores, np.linspace(-3, 3, 13), **shades)
    space.contour(across, up, scores, [0], colors="black")
    colors = np.where(y > 0, "tab:blue", "tab:red")
    space.scatter(*X.T, c=colors, edgecolors="white", linewidths=0.8, s=44)
    space.set(title="Decision boundary", xlabel="$x_1$", ylabel="$x_2$")

    steps = range(1, len(history) + 1)
    (loss_line,) = curve.plot(steps, losses, color="tab:orange", label="loss (left)")
    share = curve.twinx()
    percent = 100 * np.array(accuracies)
    (share_line,) = share.plot(steps, percent, color="tab:green", label="accuracy (right)")
    curve.set(title="Training", xlabel="step", ylabel="loss", ylim=(0, None))
    share.set(ylabel="accuracy (%)", ylim=(0, 105))
    curve.legend(handles=[loss_line, share_line], loc="center right")
    curve.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main(args: list[str]) -> None:
    """Run the demo.

    Parameters
    ----------
    args : list of str
        The command line's, as ``--help`` explains them.

    Raises
    ------
    SystemExit
        After ``--help`` (status 0) and for arguments that cannot be used (status 2).

    Examples
    --------
    >>> main(["--steps", "1", "--out", "moons.jpg"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    options = _parse(args)
    Value = importlib.import_module(f"{options.engine}.engine").Value
    MLP = importlib.import_module(f"{options.engine}.nn").MLP
    random.seed(SEED)
    X, y = make_moons(n_samples=100, noise=0.1, seed=SEED)
    y = y * 2 - 1
    model = MLP(2, [16, 16, 1])

    training = train(model, Value, X, y, options.steps)
    history = _watch(training, options.steps)
    loss, accuracy, _ = history[-1]
    ms = 1e3 * statistics.median(seconds for _, _, seconds in history)
    summary = f"{options.engine}: accuracy {accuracy:.0%}, loss {loss:.4f}, {ms:.2f} ms a step"
    print(f"{summary} (median of {options.steps})")
    if _installed("matplotlib"):
        _draw(options.out, summary, model, Value, X, y, history)
        print(f"wrote {options.out}")
    else:
        print('no picture, as matplotlib is not installed: pip install "fastgrad[demo]"')


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _watch(training: Iterator[_Step], steps: int) -> list[_Step]:
    """Run the training, show how far it is, and return all that it yielded."""
    bar = None
    if _installed("tqdm"):
        from tqdm import tqdm

        bar = tqdm(total=steps, unit="step")
    history = []
    for k, step in enumerate(training, start=1):
        history.append(step)
        loss, accuracy, seconds = step
        figures = f"loss {loss:.4f}, accuracy {accuracy:.0%}, {1e3 * seconds:.2f} ms a step"
        if bar is not None:
            bar.set_postfix_str(figures, refresh=False)
            bar.update()
        elif k % 10 == 0 or k == steps:
            print(f"step {k}: {figures}")
    if bar is not None:
        bar.close()
    return history


def _parse(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m fastgrad demo", description="Train micrograd's two-moons classifier."
    )
    parser.add_argument(
        "--engine", choices=["fastgrad", "micrograd"], default="fastgrad", help="what computes"
    )
    parser.add_argument("--steps", type=_steps, default=100, help="training steps (default: 100)")
    parser.add_argument(
        "--out", type=_picture, default="moons.png", help="the picture (default: moons.png)"
    )
    options = parser.parse_args(args)
    if not _installed(options.engine):
        parser.error("micrograd is not installed: pip install micrograd==0.1.0")
    return options


def _steps(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number from 1 up")
    return int(text)


def _picture(text: str) -> Path:
    # Now, not after minutes of training with micrograd.
    path = Path(text)
    if path.suffix != ".png" or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected the name of a .png file in a directory that exists"
        )
    return path
