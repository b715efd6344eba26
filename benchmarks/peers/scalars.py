"""Contestants of engines that record each operator: the code a user of micrograd writes.

An engine says in a subclass of `Numbers` what it does otherwise. The training step is that of
micrograd's demo; the model is the engine's own, or micrograd's on its numbers.
"""

import sys
from itertools import pairwise

import numpy as np

from benchmarks import microgpt, nets
from benchmarks.scalars import STARTS, readme, record


class Numbers:
    """An engine, as micrograd has it."""

    def __init__(self, Value, MLP=None, functions=None):
        self.Value = self.constant = Value
        self.MLP = MLP or (lambda nin, nouts: PlainMLP(self, nin, nouts))
        self.functions = functions or {}  # of microgpt's example, where it needs others

    def start(self, leaves):
        """Come before each graph: the leaves are what gradients are wanted of."""
        for leaf in leaves:
            leaf.grad = 0

    def relu(self, v):
        return v.relu()

    def backward(self, root):
        root.backward()

    def data(self, v):
        return v.data

    def grad(self, leaf):
        return leaf.grad

    def put(self, leaf, number):
        leaf.data = number

    def descend(self, parameters, rate):
        for p in parameters:
            p.data -= rate * p.grad


class PlainMLP:
    """micrograd's MLP to the letter, on numbers of any kind; also from a flat list of them."""

    def __init__(self, engine, nin, nouts, parameters=None):
        sizes = [nin, *nouts]
        flat = iter(parameters or iter(lambda: engine.Value(0.0), None))
        self.relu = engine.relu
        self.layers = [
            [([next(flat) for _ in range(nin)], next(flat)) for _ in range(nout)]
            for nin, nout in pairwise(sizes)
        ]

    def __call__(self, x):
        for layer in self.layers:
            x = [sum((wi * xi for wi, xi in zip(w, x)), b) for w, b in layer]
            if layer is not self.layers[-1]:
                x = [self.relu(v) for v in x]
        return x[0] if len(x) == 1 else x

    def parameters(self):
        return [p for layer in self.layers for w, b in layer for p in [*w, b]]


class Recording:
    def __init__(self, workload, engine):
        self.engine, self.operations = engine, workload.operations
        sys.setrecursionlimit(workload.recursion)

    def prepare(self):
        self.root = None
        self.leaves = [self.engine.Value(number) for number in STARTS.values()]
        self.engine.start(self.leaves)

    def step(self):
        self.root = record(*self.leaves, self.operations)
        return self.engine.data(self.root)

    def gradient(self):
        self.prepare()
        return self.step(), []


class Sweep(Recording):
    def prepare(self):
        super().prepare()
        super().step()

    def step(self):
        self.engine.backward(self.root)
        return self.engine.data(self.root)

    def gradient(self):
        self.prepare()
        return self.step(), [self.engine.grad(leaf) for leaf in self.leaves]


class Chain(Recording):
    def prepare(self):
        pass

    def step(self):
        super().prepare()
        value = super().step()
        self.engine.backward(self.root)
        self.root = None
        return value

    def gradient(self):
        return self.step(), [self.engine.grad(leaf) for leaf in self.leaves]


class Expression:
    def __init__(self, workload, engine):
        self.engine, self.times = engine, workload.times

    def gradient(self):
        engine = self.engine
        leaves = [engine.Value(-4.0), engine.Value(2.0)]
        engine.start(leaves)
        root = readme(*leaves, engine.relu)
        engine.backward(root)
        return engine.data(root), [engine.grad(leaf) for leaf in leaves]

    def step(self):
        for _ in range(self.times):
            value, _ = self.gradient()
        return value


class Training:
    def __init__(self, net, engine):
        self.net, self.engine = net, engine
        self.x, self.y = net.data()
        self.model = engine.MLP(net.sizes[0], list(net.sizes[1:]))
        self.parameters = self.model.parameters()
        for p, number in zip(self.parameters, nets.flat(net.layers()).tolist()):
            engine.put(p, number)

    def backward(self):
        """The demo's loss, for labels of -1 and 1."""
        constant, relu = self.engine.constant, self.engine.relu
        self.engine.start(self.parameters)
        inputs = [list(map(constant, row)) for row in self.x]
        scores = list(map(self.model, inputs))
        losses = [relu(1 + -label * score) for label, score in zip(self.y, scores)]
        data_loss = sum(losses) * (1.0 / len(losses))
        loss = data_loss + self.net.decay * sum(p * p for p in self.parameters)
        self.engine.backward(loss)
        return float(self.engine.data(loss))

    def gradient(self):
        value = self.backward()
        return value, np.array([self.engine.grad(p) for p in self.parameters], float)

    def step(self):
        loss = self.backward()
        self.engine.descend(self.parameters, self.net.rate)
        return loss


class Microgpt:
    def __init__(self, workload, engine):
        sys.setrecursionlimit(10**6)  # for a backward that recurses
        self.module = microgpt.example(Value=engine.Value, **engine.functions)
        self.model, self.parameters = microgpt.new_model(self.module)
        self.adam = self.module.Adam(self.parameters)
        self.rate = workload.rate
        self.names = workload.names()

    def backward(self):
        loss = self.module.loss_of(self.model, self.names[0])
        loss.backward()
        return loss.data

    def gradient(self):
        loss = self.backward()
        grads = np.array([p.grad for p in self.parameters], float)
        for p in self.parameters:
            p.grad = 0
        return loss, grads

    def step(self):
        loss = self.backward()
        self.adam.step(self.rate)
        self.names.append(self.names.pop(0))
        return loss
