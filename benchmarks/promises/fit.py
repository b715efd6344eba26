"""Promises of `fastgrad.fit`: an epoch against the bare loop of compiled steps.

Both train a net of 64-64-10 on scikit-learn's digits with Adam, in batches of 32; `fit` also
shuffles, and measures the accuracy. An epoch is a share of what ten more of them cost: compiling is
left out, which `fit` does for the loss and for the outputs. Each must have learnt.
"""

import random

from sklearn.datasets import load_digits

import fastgrad
from benchmarks.promises import medians
from benchmarks.promises.turns import alternate, collector, timed
from fastgrad import functional, nn, optim

EPOCHS = 10  # more, in a turn
BATCH = 32
ROUNDS = 31
X, Y = load_digits(return_X_y=True)
X = X / 16
LABELS = Y.astype(float)


def loop(model, adam, epochs):
    loss = fastgrad.compile(lambda x, y: functional.cross_entropy(model(x), y))
    for _ in range(epochs):
        for start in range(0, len(X), BATCH):
            part = slice(start, start + BATCH)
            adam.minimize(loss, X[part], LABELS[part])


def fit(model, adam, epochs, **options):
    fastgrad.fit(model, X, Y, optimizer=adam, epochs=epochs, batch_size=BATCH, **options)


def turn(train, **options):
    """A contestant: seconds an epoch."""

    def seconds(epochs):
        random.seed(1)
        model = nn.MLP(64, [64, 10], init="kaiming")
        adam = optim.Adam(model.parameters(), lr=0.002)
        taken, _ = timed(lambda: train(model, adam, epochs, **options))
        hits = fastgrad.compile(model)(X).argmax(axis=1) == Y
        assert hits.mean() > (0.9 if epochs > EPOCHS else 0.5)
        return taken

    return lambda: (seconds(1 + EPOCHS) - seconds(1)) / EPOCHS


def promises():
    with collector(False):
        yield from epochs()


def epochs():
    contestants = {
        "loop": turn(loop),
        "fit": turn(fit, progress=False),
        "fit with a bar": turn(fit),
        "fit with a fifth held out": turn(fit, progress=False, validation=0.2),
    }
    seconds = alternate(ROUNDS, contestants)
    bare = seconds.pop("loop")
    for what, taken in seconds.items():
        ratios = taken / bare
        yield (
            f"an epoch of digits: {what} / bare loop",
            ratios,
            "at most",
            1.3,
            medians(taken, bare),
        )
