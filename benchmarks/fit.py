"""Print how an epoch of `fastgrad.fit` compares with the bare loop of compiled steps.

    python benchmarks/fit.py

Both train a net of 64-64-10 on scikit-learn's digits with Adam, in batches of 32; `fit` also
shuffles, and measures the accuracy. An epoch is a share of what ten more of them cost: compiling is
left out, which `fit` does for the loss and for the outputs. A ratio is the median over rounds in
which the two take turns. Each must have learnt: a wrong result ends the command; nothing that is
measured does.
"""

import random

import contests as c
from programs import print_claim, short
from ratios import machine
from sklearn.datasets import load_digits
from workloads import collector

import fastgrad
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
        taken, _ = c.timed(lambda: train(model, adam, epochs, **options))
        hits = fastgrad.compile(model)(X).argmax(axis=1) == Y
        assert hits.mean() > (0.9 if epochs > EPOCHS else 0.5)
        return taken

    return lambda: (seconds(1 + EPOCHS) - seconds(1)) / EPOCHS


def epochs():
    """What is promised: (what, numbers, "at least" or "at most", bound, remark)."""
    contestants = {
        "loop": turn(loop),
        "fit": turn(fit, progress=False),
        "fit with a bar": turn(fit),
        "fit with a fifth held out": turn(fit, progress=False, validation=0.2),
    }
    seconds = c.alternate(ROUNDS, contestants)
    bare = seconds.pop("loop")
    for what, taken in seconds.items():
        times = " : ".join(map(short, (taken, bare)))
        yield f"an epoch of digits: {what} / bare loop", taken / bare, "at most", 1.3, times


def main():
    print(f"{machine()}; gc off; median (quartiles) of the rounds")
    with collector(False):
        for row in epochs():
            print_claim(*row)


if __name__ == "__main__":
    main()
