"""Handwritten digits: a net of 64-64-10 learns scikit-learn's 8x8 pictures in about a second.

    python examples/digits.py
    python examples/digits.py --checkpoint digits.npz       stop it with Ctrl-C, and go on later

A fifth of the pictures is kept for the test, another tenth tells when to stop.
"""

import argparse
import random
import time

import numpy as np
from sklearn.datasets import load_digits

import fastgrad
from fastgrad import nn, optim


def main():
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--checkpoint", help="a file to go on from (none)")
    options = parser.parse_args()

    X, Y = load_digits(return_X_y=True)
    X = X / 16  # pixels from 0 to 1
    order = np.random.default_rng(0).permutation(len(X))
    test, rest = order[: len(X) // 5], order[len(X) // 5 :]

    random.seed(0)
    model = nn.MLP(64, [64, 10], init="kaiming")
    adam = optim.Adam(model.parameters(), lr=0.003)
    start = time.perf_counter()
    history = fastgrad.fit(
        model,
        X[rest],
        Y[rest],
        optimizer=adam,
        epochs=100,
        validation=0.125,
        patience=15,
        checkpoint=options.checkpoint,
    )
    seconds = time.perf_counter() - start

    hits = fastgrad.compile(model)(X[test]).argmax(axis=1) == Y[test]
    print(f"{len(history['loss'])} epochs in {seconds:.1f} s")
    print(f"test accuracy {hits.mean():.1%}, {np.sum(~hits)} of {len(test)} wrong")


if __name__ == "__main__":
    main()
