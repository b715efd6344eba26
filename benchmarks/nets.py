"""Dense nets to train, as data: sizes, batch, loss, first weights. No engine lives here.

A layer's weights are a matrix of inputs by outputs, and a vector; flat, they are in the order of
micrograd's ``parameters()``: neuron by neuron, each neuron's weights before its bias.
"""

from dataclasses import dataclass

import numpy as np

from fastgrad.demo import make_moons


@dataclass(frozen=True)
class Net:
    """An MLP with relu between its layers, to be trained by plain gradient descent on one batch.

    One output: mean hinge loss against labels of -1 and 1. Several: softmax cross-entropy. To both
    `decay` times the sum of the squared parameters is added. Integer labels are classes.
    """

    sizes: tuple
    batch: int
    rate: float
    decay: float = 0.0
    threads: int = 1  # of fastgrad

    kind = "Training"
    reference = "NumPy by hand"
    steps = 3  # to check, as each is an update

    def __str__(self):
        return f"{'-'.join(map(str, self.sizes))}, batch {self.batch}"

    @property
    def hinge(self):
        return self.sizes[-1] == 1

    def data(self):
        """The batch: inputs, and labels."""
        if self.hinge:
            points, moons = make_moons(n_samples=self.batch, noise=0.1, seed=1337)
            return points, 2.0 * moons - 1
        rng = np.random.default_rng(1)
        inputs = rng.normal(size=(self.batch, self.sizes[0]))
        return inputs, rng.integers(0, self.sizes[-1], self.batch)

    def layers(self):
        """The first weights, [(matrix, vector), ...], made afresh at each call."""
        rng = np.random.default_rng(2)
        return [
            (rng.uniform(-1, 1, (nin, nout)) * nin**-0.5, rng.uniform(-0.1, 0.1, nout))
            for nin, nout in zip(self.sizes, self.sizes[1:])
        ]


def flat(layers):
    """Layers as one vector, in the order of the parameters."""
    return np.concatenate([np.vstack([w, b]).T.ravel() for w, b in layers])


# The four that are promised against every peer, and the large one.
MOONS = Net((2, 16, 16, 1), 100, rate=0.1, decay=1e-4)
SMALL = Net((64, 64, 64, 10), 32, rate=0.01)
MIDDLE = Net((64, 64, 64, 10), 256, rate=0.01)
WIDE = Net((784, 128, 10), 256, rate=0.01)
LARGE = Net((784, 512, 512, 10), 64, rate=0.01)
