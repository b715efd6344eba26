"""PyTorch, eager: ``nn.Sequential`` and ``torch.optim`` as one writes them."""

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import microgpt, nets


class Training:
    def __init__(self, net):
        torch.set_num_threads(net.threads)
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
            loss = F.cross_entropy(scores, self.y)
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


class Microgpt:
    """All positions of a name at once, with causal attention."""

    def __init__(self, workload):
        torch.set_num_threads(1)
        self.workload = workload
        self.model = {
            name: torch.from_numpy(matrix).requires_grad_()
            for name, matrix in workload.matrices().items()
        }
        self.optimizer = torch.optim.Adam(
            self.model.values(), lr=workload.rate, betas=(0.85, 0.99), eps=1e-8
        )
        self.batches = [torch.tensor(tokens) for tokens in workload.tokens()]

    def loss(self, tokens):
        m = self.model
        positions, heads = len(tokens) - 1, microgpt.HEADS

        def norm(x):
            return F.rms_norm(x, x.shape[-1:], eps=1e-5)

        def split(x):
            return x.view(positions, heads, -1).transpose(0, 1)

        x = norm(m["token"][tokens[:-1]] + m["position"][:positions])
        normed = norm(x)
        query, key, value = (split(normed @ m[name].T) for name in ("query", "key", "value"))
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + attended.transpose(0, 1).reshape(positions, -1) @ m["attended"].T
        x = x + F.relu(norm(x) @ m["hidden"].T) @ m["shrink"].T
        return F.cross_entropy(x @ m["logit"].T, tokens[1:])

    def gradient(self):
        loss = self.loss(self.batches[0])
        grads = torch.autograd.grad(loss, [*self.model.values()])
        return loss.item(), np.concatenate([g.numpy().ravel() for g in grads])

    def step(self):
        self.optimizer.zero_grad()
        loss = self.loss(self.batches[0])
        loss.backward()
        self.optimizer.step()
        self.batches.append(self.batches.pop(0))
        return loss.item()
