"""AutoNeuroNet's scalars: Var, in C++."""

from autoneuronet import Var

from benchmarks.peers.scalars import Numbers


class AutoNeuroNet(Numbers):
    def start(self, leaves):
        for leaf in leaves:
            leaf.setGrad(0.0)

    def backward(self, root):
        root.setGrad(1.0)
        root.backward()

    def data(self, v):
        return v.val

    def put(self, leaf, number):
        leaf.setVal(number)

    def descend(self, parameters, rate):
        for p in parameters:
            p.setVal(p.val - rate * p.grad)


engine = AutoNeuroNet(Var)
