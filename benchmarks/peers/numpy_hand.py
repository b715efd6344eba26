"""NumPy by hand: each product of matrices written out, into buffers that are made once.

The parameters lie in one vector, so that the update and the decay are a few calls; a matrix or a
bias is a view of it.
"""

import numpy as np

from benchmarks import irregular, nets


class Training:
    def __init__(self, net):
        self.net = net
        self.x, self.y = net.data()
        self.parameters = np.concatenate([part.ravel() for pair in net.layers() for part in pair])
        self.grads = np.empty_like(self.parameters)
        self.layers = self.views(self.parameters)
        self.layer_grads = self.views(self.grads)
        self.outputs = [self.x, *(np.empty((net.batch, size)) for size in net.sizes[1:])]
        self.deltas = [np.empty_like(output) for output in self.outputs]
        self.rows = np.arange(net.batch)

    def views(self, vector):
        layers = []
        for nin, nout in zip(self.net.sizes, self.net.sizes[1:]):
            w, b, vector = np.split(vector, [nin * nout, (nin + 1) * nout])
            layers.append((w.reshape(nin, nout), b))
        return layers

    def forward(self):
        for x, (w, b), out in zip(self.outputs, self.layers, self.outputs[1:]):
            np.matmul(x, w, out=out)
            out += b
            if out is not self.outputs[-1]:
                np.maximum(out, 0, out=out)
        return out

    def hinge(self, scores):
        """The mean loss; `scores` becomes its gradient."""
        scores = scores[:, 0]
        scores *= -self.y
        scores += 1
        np.maximum(scores, 0, out=scores)
        loss = scores.mean()
        np.multiply(scores > 0, self.y / -self.net.batch, out=scores)
        return loss

    def cross_entropy(self, logits):
        """The mean loss; `logits` becomes its gradient."""
        logits -= logits.max(1, keepdims=True)
        chosen = logits[self.rows, self.y].mean()
        np.exp(logits, out=logits)
        total = logits.sum(1, keepdims=True)
        logits /= total
        logits[self.rows, self.y] -= 1
        logits /= self.net.batch
        return np.log(total).mean() - chosen

    def reverse(self, delta):
        for k in reversed(range(len(self.layers))):
            x = self.outputs[k]
            w_grad, b_grad = self.layer_grads[k]
            np.matmul(x.T, delta, out=w_grad)
            np.sum(delta, 0, out=b_grad)
            if k:
                delta = np.matmul(delta, self.layers[k][0].T, out=self.deltas[k])
                delta *= x > 0

    def value_and_grads(self):
        scores = self.forward()
        loss = self.hinge(scores) if self.net.hinge else self.cross_entropy(scores)
        self.reverse(scores)
        if self.net.decay:
            loss += self.net.decay * (self.parameters @ self.parameters)
            self.grads += 2 * self.net.decay * self.parameters
        return float(loss)

    def gradient(self):
        return self.value_and_grads(), nets.flat(self.layer_grads)

    def step(self):
        loss = self.value_and_grads()
        self.grads *= self.net.rate
        self.parameters -= self.grads
        return loss


class Irregular:
    """The reference of irregular programs: an array over the batch for each value and adjoint."""

    def __init__(self, program):
        self.program = program

    def gradient(self):
        x, parameters = self.program.data()
        ops = self.program.ops()
        values = irregular.run(ops, x.T, [np.full(len(x), p) for p in parameters], irregular.NUMPY)
        adjoints = [np.zeros(len(x)) for _ in values]
        adjoints[-1] += 1
        for (op, operands), out, adjoint in zip(ops[::-1], values[::-1], adjoints[::-1]):
            for i, partial in zip(
                operands, irregular.partials(op, [values[i] for i in operands], out)
            ):
                adjoints[i] += partial * adjoint
        first = x.shape[1]
        grads = np.mean(adjoints[first : first + len(parameters)], axis=1)
        return float(np.mean(values[-1])), grads

    def step(self):
        return self.gradient()[0]
