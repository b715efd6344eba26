"""micrograd's two moons, trained as its notebook does it and as a program: the same losses.

python examples/moons_compiled.py
"""

import random
import statistics
import time

import fastgrad
from fastgrad import Value, nn, optim
from fastgrad.demo import make_moons, train

STEPS = 50


def new_model():
    random.seed(1337)
    return nn.MLP(2, [16, 16, 1])


def train_compiled(model, X, y, steps):
    """What `train` yields: loss, accuracy and seconds of each step."""
    parameters = model.parameters()
    sgd = optim.SGD(parameters, lr=1.0)
    scores = fastgrad.compile(model)

    @fastgrad.compile
    def loss(x, label):  # of one sample; the mean over the batch is taken of it
        return (1 + -label * model(x)).relu() + 1e-4 * sum(p * p for p in parameters)

    for k in range(steps):
        start = time.perf_counter()
        accuracy = float(((scores(X) > 0) == (y > 0)).mean())
        sgd.lr = 1.0 - 0.9 * k / steps
        mean = sgd.minimize(loss, X, y)
        yield mean, accuracy, time.perf_counter() - start


def main():
    X, y = make_moons(n_samples=100, noise=0.1, seed=1337)
    y = y * 2 - 1
    runs = {
        "eager": list(train(new_model(), Value, X, y, STEPS)),
        "compiled": list(train_compiled(new_model(), X, y, STEPS)),
    }
    for name, steps in runs.items():
        loss, accuracy, _ = steps[-1]
        ms = 1e3 * statistics.median(seconds for *_, seconds in steps)
        print(f"{name:>8}: loss {loss:.6f}, accuracy {accuracy:.0%}, {ms:.3f} ms a step")


if __name__ == "__main__":
    main()
