"""PyTorch with a 0-d tensor in each Value's place; inputs and labels are floats."""

import torch

from benchmarks.peers.scalars import Numbers

torch.set_num_threads(1)


class ZeroD(Numbers):
    def __init__(self):
        super().__init__(lambda number: torch.tensor(number, dtype=torch.float64).requires_grad_())
        self.constant = float

    def start(self, leaves):
        for leaf in leaves:
            leaf.grad = None

    def data(self, v):
        return v.item()

    def grad(self, leaf):
        return leaf.grad.item()

    @torch.no_grad()
    def put(self, leaf, number):
        leaf.fill_(number)

    @torch.no_grad()
    def descend(self, parameters, rate):
        for p in parameters:
            p -= rate * p.grad


engine = ZeroD()
