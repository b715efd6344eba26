"""CasADi: the value and gradient of one sample as an SX function, mapped over the batch.

Its virtual machine runs one sample after another; the map adds up what the samples give.
"""

import casadi
import numpy as np

from benchmarks import irregular, nets

FUNCTIONS = irregular.ARITHMETIC | {
    "relu": lambda x: casadi.fmax(x, 0),
    "tanh": casadi.tanh,
    "exp": casadi.exp,
}


class Irregular:
    def __init__(self, program):
        self.batch = program.batch
        inputs, parameters = program.data()
        x = casadi.SX.sym("x", irregular.INPUTS)
        p = casadi.SX.sym("p", irregular.PARAMETERS)
        leaves = casadi.vertsplit(x), casadi.vertsplit(p)
        *_, y = irregular.run(program.ops(), *leaves, FUNCTIONS)
        sample = self.built(casadi.Function("sample", [x, p], [y, casadi.gradient(y, p)]))
        # Of p there is one for all samples; both results are summed.
        self.summed = sample.map("summed", "serial", self.batch, [1], [0, 1])
        self.arguments = casadi.DM(inputs.T), casadi.DM(parameters)

    def built(self, sample):
        return sample

    def gradient(self):
        value, grads = self.summed(*self.arguments)
        return float(value) / self.batch, grads.full().ravel() / self.batch

    def step(self):
        return self.gradient()[0]


class Training:
    """A step as one function of the parameters, in which the net's gradient is mapped likewise."""

    def __init__(self, net):
        self.net = net
        x, y = casadi.SX.sym("x", net.sizes[0]), casadi.SX.sym("y")
        count = sum((nin + 1) * nout for nin, nout in zip(net.sizes, net.sizes[1:]))
        p = casadi.SX.sym("p", count)
        rest, h = p, x
        for k, (nin, nout) in enumerate(zip(net.sizes, net.sizes[1:]), start=1):
            part, rest = rest[: (nin + 1) * nout], rest[(nin + 1) * nout :]
            neurons = casadi.reshape(part, nin + 1, nout)  # a column is a neuron's weights and bias
            h = neurons[:nin, :].T @ h + neurons[nin, :].T
            if k < len(net.sizes) - 1:
                h = casadi.fmax(h, 0)
        loss = casadi.fmax(1 - y * h, 0)
        sample = casadi.Function("sample", [x, y, p], [loss, casadi.gradient(loss, p)])
        summed = sample.map("summed", "serial", net.batch, [2], [0, 1])

        xs, ys = casadi.MX.sym("xs", net.sizes[0], net.batch), casadi.MX.sym("ys", 1, net.batch)
        parameters = casadi.MX.sym("p", count)
        value, grads = summed(xs, ys, parameters)
        value = value / net.batch + net.decay * casadi.sumsqr(parameters)
        grads = grads / net.batch + 2 * net.decay * parameters
        step = casadi.Function(
            "step", [xs, ys, parameters], [value, grads, parameters - net.rate * grads]
        )
        self.stepped = self.built(step)
        inputs, labels = net.data()
        self.batch = casadi.DM(inputs.T), casadi.DM(labels).T
        self.parameters = casadi.DM(nets.flat(net.layers()))

    def built(self, step):
        return step

    def gradient(self):
        value, grads, _ = self.stepped(*self.batch, self.parameters)
        return float(value), np.ravel(grads.full())

    def step(self):
        value, _, self.parameters = self.stepped(*self.batch, self.parameters)
        return float(value)
