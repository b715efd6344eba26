"""JAX on the CPU: the whole training step, update and all, as one jitted function."""

from functools import partial

import jax
import jax.numpy as jnp

from benchmarks import microgpt, nets

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


class Microgpt:
    """All positions of a name at once, with causal attention, and Adam: one jitted function."""

    def __init__(self, workload):
        def norm(x):
            return x * ((x * x).mean(-1, keepdims=True) + 1e-5) ** -0.5

        def loss(model, tokens):
            positions = len(tokens) - 1
            x = norm(model["token"][tokens[:-1]] + model["position"][:positions])
            normed = norm(x)
            query, key, value = (
                (normed @ model[name].T).reshape(positions, microgpt.HEADS, -1)
                for name in ("query", "key", "value")
            )
            # Not jax.nn.dot_product_attention, whose softmax is in float32.
            matches = jnp.einsum("ihd,jhd->hij", query, key) / query.shape[-1] ** 0.5
            causal = jnp.tril(jnp.ones((positions, positions), bool))
            weights = jax.nn.softmax(jnp.where(causal, matches, -jnp.inf))
            attended = jnp.einsum("hij,jhd->ihd", weights, value)
            x = x + attended.reshape(positions, -1) @ model["attended"].T
            x = x + jax.nn.relu(norm(x) @ model["hidden"].T) @ model["shrink"].T
            chances = jax.nn.log_softmax(x @ model["logit"].T)
            return -jnp.take_along_axis(chances, tokens[1:, None], axis=1).mean()

        self.differentiated = jax.jit(jax.value_and_grad(loss))

        @partial(jax.jit, donate_argnums=(0, 1))
        def step(model, state, tokens):
            value, grads = self.differentiated(model, tokens)
            means, squares, t = state
            t += 1
            means = jax.tree.map(lambda m, g: 0.85 * m + 0.15 * g, means, grads)
            squares = jax.tree.map(lambda s, g: 0.99 * s + 0.01 * g * g, squares, grads)
            model = jax.tree.map(
                lambda p, m, s: (
                    p - workload.rate * (m / (1 - 0.85**t)) / (jnp.sqrt(s / (1 - 0.99**t)) + 1e-8)
                ),
                model,
                means,
                squares,
            )
            return value, model, (means, squares, t)

        self.compiled = step
        self.model = {name: jnp.asarray(matrix) for name, matrix in workload.matrices().items()}
        zeros = [jax.tree.map(jnp.zeros_like, self.model) for _ in range(2)]
        self.state = (*zeros, jnp.asarray(0.0))
        self.batches = [jnp.asarray(tokens) for tokens in workload.tokens()]

    def gradient(self):
        value, grads = self.differentiated(self.model, self.batches[0])
        return float(value), jnp.concatenate([grads[name].ravel() for name in self.model])

    def step(self):
        value, self.model, self.state = self.compiled(self.model, self.state, self.batches[0])
        self.batches.append(self.batches.pop(0))
        return float(value)
