"""XAD for Python: one tape that is cleared for each recording; inputs and labels are floats."""

import xad.adj_1st
import xad.math
from xad.adj_1st import Real

from benchmarks import nets
from benchmarks.peers import scalars

tape = xad.adj_1st.Tape()
tape.activate()


class Xad(scalars.Numbers):
    def __init__(self):
        super().__init__(Real)
        self.constant = float

    def start(self, leaves):
        tape.clearAll()
        tape.registerInputs(leaves)
        tape.newRecording()

    def relu(self, v):
        return xad.math.max(v, 0.0)

    def backward(self, root):
        tape.registerOutput(root)
        root.derivative = 1.0
        tape.computeAdjoints()

    def data(self, v):
        return v.value

    def grad(self, leaf):
        return leaf.derivative


engine = Xad()


class Training(scalars.Training):
    """A Real's value cannot be set: each step begins with new ones."""

    def __init__(self, net):
        self.net, self.engine = net, engine
        self.x, self.y = (part.tolist() for part in net.data())
        self.numbers = nets.flat(net.layers()).tolist()

    def backward(self):
        self.parameters = [Real(number) for number in self.numbers]
        nin, *nouts = self.net.sizes
        self.model = scalars.PlainMLP(engine, nin, nouts, self.parameters)
        return super().backward()

    def step(self):
        loss = self.backward()
        self.numbers = [p.value - self.net.rate * p.derivative for p in self.parameters]
        return loss
