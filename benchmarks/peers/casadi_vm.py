"""CasADi: the value and gradient of one sample as an SX function, mapped over the batch.

Its virtual machine runs one sample after another; the map adds up what the samples give.
"""

import casadi
import irregular

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
