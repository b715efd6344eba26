"""HIPS autograd on single numbers: the gradient of a function of a list of them."""

import numpy as np
from autograd import value_and_grad

from benchmarks import nets
from benchmarks.peers import scalars


class Autograd(scalars.Numbers):
    def __init__(self):
        super().__init__(float)

    def relu(self, v):
        return v if v > 0 else 0.0 * v


engine = Autograd()


class Training:
    def __init__(self, net):
        self.net = net
        x, y = (part.tolist() for part in net.data())
        nin, *nouts = net.sizes

        def loss(parameters):
            parameters = list(parameters)
            model = scalars.PlainMLP(engine, nin, nouts, parameters)
            losses = [engine.relu(1 + -label * model(row)) for row, label in zip(x, y)]
            return sum(losses) * (1.0 / len(losses)) + net.decay * sum(p * p for p in parameters)

        self.differentiated = value_and_grad(loss)
        self.parameters = nets.flat(net.layers()).tolist()

    def gradient(self):
        value, grads = self.differentiated(self.parameters)
        return value, np.array(grads)

    def step(self):
        value, grads = self.differentiated(self.parameters)
        self.parameters = [p - self.net.rate * g for p, g in zip(self.parameters, grads)]
        return value
