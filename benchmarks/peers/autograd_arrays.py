"""HIPS autograd as it is meant: a function of arrays, differentiated."""

import autograd.numpy as np
from autograd import value_and_grad

from benchmarks import nets


class Training:
    def __init__(self, net):
        self.net = net
        x, y = net.data()

        def loss(layers):
            *hidden, (w, b) = layers
            h = x
            for w_hidden, b_hidden in hidden:
                h = np.maximum(h @ w_hidden + b_hidden, 0)
            scores = h @ w + b
            squares = sum(np.sum(part**2) for pair in layers for part in pair)
            return np.mean(np.maximum(1 - y * scores[:, 0], 0)) + net.decay * squares

        self.differentiated = value_and_grad(loss)
        self.layers = net.layers()

    def gradient(self):
        value, grads = self.differentiated(self.layers)
        return value, nets.flat(grads)

    def step(self):
        value, grads = self.differentiated(self.layers)
        rate = self.net.rate
        self.layers = [
            (w - rate * dw, b - rate * db) for (w, b), (dw, db) in zip(self.layers, grads)
        ]
        return float(value)
