"""fastgrad with its calls in C: losses of ``functional``, steps of ``optim``."""

import numpy as np

from benchmarks import microgpt, nets
from fastgrad import functional, nn, optim


class Eager:
    """A loss, a graph each step, and an optimizer."""

    def gradient(self):
        loss = self.loss()
        loss.backward()
        grads = np.array([p.grad for p in self.parameters], float)
        self.optimizer.zero_grad()
        return loss.data, grads

    def step(self):
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.data


class Training(Eager):
    def __init__(self, net):
        self.net = net
        self.x, self.y = (part.tolist() for part in net.data())
        self.model = nn.MLP(net.sizes[0], list(net.sizes[1:]))
        self.parameters = self.model.parameters()
        for p, number in zip(self.parameters, nets.flat(net.layers()).tolist()):
            p.data = number
        self.optimizer = optim.SGD(self.parameters, lr=net.rate)

    def loss(self):
        scores = [self.model(row) for row in self.x]
        decay = self.net.decay * functional.dot(self.parameters, self.parameters)
        return functional.hinge(scores, self.y) + decay


class Microgpt(Eager):
    def __init__(self, workload):
        self.module = microgpt.example(
            softmax=functional.softmax, dot=functional.dot, rmsnorm=functional.rmsnorm
        )
        self.model, self.parameters = microgpt.new_model(self.module)
        self.optimizer = optim.Adam(self.parameters, lr=workload.rate, betas=(0.85, 0.99), eps=1e-8)
        self.names = workload.names()

    def loss(self):
        return self.module.loss_of(self.model, self.names[0])

    def step(self):
        loss = super().step()
        self.names.append(self.names.pop(0))
        return loss
