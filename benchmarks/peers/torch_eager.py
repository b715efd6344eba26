"""PyTorch, eager, one thread: ``nn.Sequential`` and ``optim.SGD`` as one writes them."""

import nets
import torch


class Training:
    def __init__(self, net):
        torch.set_num_threads(1)
        self.net = net
        self.x, self.y = map(torch.from_numpy, net.data())
        parts = []
        for w, b in net.layers():
            linear = torch.nn.Linear(*w.shape, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w.T))
                linear.bias.copy_(torch.from_numpy(b))
            parts += [linear, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*parts[:-1])
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=net.rate)

    def loss(self):
        scores = self.model(self.x)
        if self.net.hinge:
            loss = torch.relu(1 - self.y * scores[:, 0]).mean()
        else:
            loss = torch.nn.functional.cross_entropy(scores, self.y)
        if self.net.decay:
            loss = loss + self.net.decay * sum((p * p).sum() for p in self.model.parameters())
        return loss

    def gradient(self):
        loss = self.loss()
        grads = [g.numpy().T for g in torch.autograd.grad(loss, [*self.model.parameters()])]
        return loss.item(), nets.flat(zip(grads[::2], grads[1::2]))

    def step(self):
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.item()
