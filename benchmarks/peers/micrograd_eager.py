"""micrograd itself, as its demo trains."""

import micrograd.nn
import nets
import numpy as np
from micrograd.engine import Value


class Training:
    def __init__(self, net):
        self.net = net
        self.x, self.y = net.data()
        self.model = micrograd.nn.MLP(net.sizes[0], list(net.sizes[1:]))
        for p, number in zip(self.model.parameters(), nets.flat(net.layers())):
            p.data = float(number)

    def backward(self):
        """The demo's loss, for labels of -1 and 1."""
        inputs = [list(map(Value, row)) for row in self.x]
        scores = list(map(self.model, inputs))
        losses = [(1 + -label * score).relu() for label, score in zip(self.y, scores)]
        data_loss = sum(losses) * (1.0 / len(losses))
        loss = data_loss + self.net.decay * sum(p * p for p in self.model.parameters())
        self.model.zero_grad()
        loss.backward()
        return float(loss.data)

    def gradient(self):
        return self.backward(), np.array([p.grad for p in self.model.parameters()], float)

    def step(self):
        loss = self.backward()
        for p in self.model.parameters():
            p.data -= self.net.rate * p.grad
        return loss
