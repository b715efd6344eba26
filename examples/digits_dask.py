"""Handwritten digits on a cluster: what digits.py learns, with the gradients from Dask's workers.

    python examples/digits_dask.py                              two worker processes, started here
    python examples/digits_dask.py --workers 4
    python examples/digits_dask.py --scheduler tcp://host:8786  the workers of a real cluster

The parameters are the same to the last bit on any of these, as the samples lie in 4 shards on all.
For a net this small one core would be faster: docs/distributed.md tells when a cluster pays.
"""

import argparse
import contextlib
import hashlib
import random
import time

import numpy as np
from distributed import Client, LocalCluster
from sklearn.datasets import load_digits

import fastgrad
from fastgrad import nn, optim


def cluster_of(options):
    """What a client connects to."""
    if options.scheduler:
        return contextlib.nullcontext(options.scheduler)
    return LocalCluster(n_workers=options.workers, threads_per_worker=1)


def main():
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits with Dask.")
    parser.add_argument("--workers", type=int, default=2, help="worker processes here (2)")
    parser.add_argument("--scheduler", help="the address of a cluster to use instead")
    options = parser.parse_args()

    X, Y = load_digits(return_X_y=True)
    X = X / 16  # pixels from 0 to 1
    order = np.random.default_rng(0).permutation(len(X))
    test, rest = order[: len(X) // 5], order[len(X) // 5 :]

    random.seed(0)
    model = nn.MLP(64, [64, 10], init="kaiming")
    adam = optim.Adam(model.parameters(), lr=0.01)
    with cluster_of(options) as address, Client(address) as client:
        print(f"dashboard {client.dashboard_link}")
        start = time.perf_counter()
        history = fastgrad.fit(
            model,
            X[rest],
            Y[rest],
            optimizer=adam,
            epochs=30,
            batch_size=240,
            client=client,
            shards=4,
        )
        seconds = time.perf_counter() - start

    hits = fastgrad.compile(model)(X[test]).argmax(axis=1) == Y[test]
    bits = np.array([p.data for p in model.parameters()]).tobytes()
    print(f"{len(history['loss'])} epochs in {seconds:.1f} s")
    print(f"test accuracy {hits.mean():.1%}, parameters {hashlib.sha256(bits).hexdigest()[:16]}")


if __name__ == "__main__":  # workers import this file too
    main()
