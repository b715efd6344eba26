"""JAX on the CPU: the whole training step, update and all, as one jitted function."""

from functools import partial

import jax
import jax.numpy as jnp
import nets

jax.config.update("jax_enable_x64", True)


class Training:
    def __init__(self, net):
        self.net = net
        x, y = map(jnp.asarray, net.data())

        def loss(layers, x, y):
            *hidden, (w, b) = layers
            h = x
            for w_hidden, b_hidden in hidden:
                h = jax.nn.relu(h @ w_hidden + b_hidden)
            scores = h @ w + b
            if net.hinge:
                mean = jax.nn.relu(1 - y * scores[:, 0]).mean()
            else:
                chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], axis=1)
                mean = -chosen.mean()
            if net.decay:
                mean += net.decay * sum((part * part).sum() for pair in layers for part in pair)
            return mean

        self.differentiated = jax.jit(jax.value_and_grad(loss))

        @partial(jax.jit, donate_argnums=0)
        def step(layers, x, y):
            value, grads = self.differentiated(layers, x, y)
            return value, jax.tree.map(lambda p, g: p - net.rate * g, layers, grads)

        self.compiled, self.batch = step, (x, y)
        self.layers = [(jnp.asarray(w), jnp.asarray(b)) for w, b in net.layers()]

    def gradient(self):
        value, grads = self.differentiated(self.layers, *self.batch)
        return float(value), nets.flat(grads)

    def step(self):
        value, self.layers = self.compiled(self.layers, *self.batch)
        return float(value)
