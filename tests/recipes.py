"""Random programs: recipes that hypothesis draws, and what fastgrad computes of them eagerly.

A recipe is a list of steps on a growing list of Values, so that it runs alike on one sample eagerly
and while a program is traced; it holds numbers only, so that it shrinks and prints.
"""

import math
import operator
import random
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from oracles import nodes_of, number_key

from fastgrad import functional, nn, trace
from fastgrad.engine import Value

BATCHES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 257)
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -1e-310, 1e300, -1e300, 1.0, -1.0)
CLASSES = 3  # what an index input chooses among

UNARY = {
    name: operator.methodcaller(name)
    for name in ("tanh", "exp", "log", "sqrt", "sin", "cos", "sigmoid", "softplus", "gelu",
                 "detach", "_tanh_by_exp", "_sigmoid_by_exp")
} | {"neg": operator.neg, "abs": abs, "pos": operator.pos}  # fmt: skip
# These give ints, whose zeros have no sign in micrograd: see the tests.
INTS = {
    name: operator.methodcaller(name)
    for name in ("relu", "_relu_max", "_relu_local", "_relu_float")
} | {"leaky_relu": lambda v: v.leaky_relu(0.1), "int": lambda v: v * Value(3) + Value(2)}
BINARY = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "maximum": lambda a, b: a.maximum(b),
    "minimum": functional.minimum,
    "mse": functional.mse,
    "squares": lambda a, b: a * a + b * b,
}
ordinary = st.one_of(st.integers(-6, 6), st.floats(-4, 4), st.booleans())
awkward = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 1e5, math.inf, -math.inf, math.nan])
from_numpy = st.one_of(
    st.floats(0.25, 4).map(np.float64),
    st.floats(-4, -0.25, width=32).map(np.float32),
    st.integers(1, 9).map(np.int64),
    st.integers(-9, -1).map(np.int32),
)
MIXED_NUMBERS = st.one_of(ordinary, ordinary, awkward, from_numpy)
EXPONENTS = st.sampled_from(
    [0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.5, 0.0, 1.0, 2.0, -1.0, True, np.float64(2), np.float64(0.5)]
)
NUMBERS = (2.0, -1.0, 0.5, 3.0, 2, -1, 3, 1, 0, -2.0, 1.5, -0.5, 0.1, 7.25)
WITH_NUMBER = {
    "v+c": lambda v, c: v + c,
    "c+v": lambda v, c: c + v,
    "v-c": lambda v, c: v - float(c),
    "c-v": lambda v, c: float(c) - v,
    "v*c": lambda v, c: v * c,
    "c*v": lambda v, c: c * v,
    "v/c": lambda v, c: v / (c or 4.0),
    "c/v": lambda v, c: c / v,
    "v**c": lambda v, c: v**c,
    "c**v": lambda v, c: abs(c) ** v,
    "max(v, c)": lambda v, c: functional.maximum(v, float(c)),
}
ROWS = {
    "softmax": functional.softmax,
    "log_softmax": functional.log_softmax,
    "rmsnorm": functional.rmsnorm,
    "sum": lambda r: [functional.sum(r)],
    "builtin sum": lambda r: [sum(r)],
    "sum from -0.0": lambda r: [sum(r, -0.0)],
    "mean": lambda r: [functional.mean(r)],
    "logsumexp": lambda r: [functional.logsumexp(r)],
    "max": lambda r: [functional.max(r)],
    "cross_entropy": lambda r: [functional.cross_entropy(r, len(r) - 1)],
    "argmax": lambda r: [functional.argmax(r) * 1.0 + r[0] * 0.5],
}
CHAINS = {  # as people spell a neuron's sum
    "micrograd": lambda w, x, b: sum((wi * xi for wi, xi in zip(w, x)), b),
    "lecture": lambda w, x, b: sum(wi * xi for wi, xi in zip(w, x)) + b,
    "microgpt": lambda w, x, b: sum(wi * xi for wi, xi in zip(w, x)),
    "turned": lambda w, x, b: b + sum([xi * wi for wi, xi in zip(w, x)]),
    "dot": lambda w, x, b: functional.dot(w, x) - b,
    "by hand": lambda w, x, b: w[0] * x[0] + w[1] * x[1] + b,
}


LAYERS = ("layer", "linear", "wide")


def width_of(kind, c):
    return 30 + c if kind == "wide" else 2 + c % 4


class Recipe(NamedTuple):
    """Steps on `inputs` numbers and an index, and on parameters."""

    inputs: int
    parameters: list[float]
    steps: list[tuple[str, int, int, int, float]]
    outputs: int

    def build(self):
        """The function of one sample, and its parameters."""
        parameters = [Value(number) for number in self.parameters]
        layers = {}
        random.seed(len(self.steps))
        for kind, _, b, c, _ in self.steps:
            if kind in LAYERS:  # the same one may come again
                layer = nn.Layer(width_of(kind, c), 1 + b % 5, nonlin=kind == "layer")
                for neuron in layer.neurons * (kind == "linear"):
                    neuron.b.data = 0.0  # an int of its own would make it a step of INTS
                layers.setdefault((kind, width_of(kind, c), b % 5), layer)
        for layer in layers.values():
            parameters.extend(layer.parameters())

        def function(x, i):
            pool, layered = [*x, *parameters], []

            def row(a, count):
                return [pool[(a + k * (1 + a % 3)) % len(pool)] for k in range(count)]

            def sampled(a, count):
                """What differs between samples, mostly: a layer of parameters alone is none."""
                some = [*x, *pool[len(x) + len(parameters) :]]
                return [some[(a + k) % len(some)] for k in range(count)]

            for kind, a, b, c, number in self.steps:
                v, w = pool[a % len(pool)], pool[b % len(pool)]
                some = row(a, 2 + c % 4)
                if kind in UNARY or kind in INTS:
                    made = [(UNARY | INTS)[kind](v)]
                elif kind in BINARY:
                    made = [BINARY[kind](v, w)]
                elif kind in WITH_NUMBER:
                    made = [WITH_NUMBER[kind](v, number)]
                elif kind in ROWS:
                    made = ROWS[kind](some)
                elif kind in CHAINS:
                    made = [
                        CHAINS[kind](row(b + k, len(some)), some, w if c % 2 else parameters[0])
                        for k in range(1 + c % 4)
                    ]
                elif kind == "where":
                    made = [functional.where(v, w, pool[c % len(pool)])]
                elif kind == "take":
                    made = [functional.take(row(a, CLASSES), i)]
                elif kind == "rows":
                    made = functional.take([row(k, 2) for k in (a, b, c)], i)
                elif kind == "of argmax":
                    made = [functional.take(some, functional.argmax(some[::-1]))]
                elif kind == "target":
                    made = [functional.cross_entropy(row(a, CLASSES), i)]
                elif kind in LAYERS:
                    width = width_of(kind, c)
                    out = layers[kind, width, b % 5]((sampled if a % 4 else row)(a, width))
                    made = out if isinstance(out, list) else [out]
                    layered.append(functional.sum(made))
                pool.extend(made)
            # A layer that no output hangs on is not computed.
            return [*pool[-self.outputs :], *layered][-self.outputs :]

        return function, parameters


EXACT = [*UNARY, *BINARY, *WITH_NUMBER, *ROWS, *CHAINS, "where", "take", "rows", "of argmax",
         "target", "linear"]  # fmt: skip
SMOOTH = [*ROWS, *CHAINS, "tanh", "sin", "sigmoid", "exp", "softplus", "gelu", "neg", "detach",
          "abs", "add", "sub", "mul", "maximum", "minimum", "mse", "squares", "v+c", "c-v", "v*c",
          "v/c", "v**c", "where", "take", "rows", "target", "linear"]  # fmt: skip


def recipes(kinds, numbers, outputs=(1, 2, 5), steps=14):
    """Recipes whose parameters are drawn from `numbers`."""
    natural = st.integers(0, 40)
    step = st.tuples(st.sampled_from(kinds), natural, natural, natural, st.sampled_from(NUMBERS))
    return st.builds(
        Recipe,
        inputs=st.integers(1, 4),
        parameters=st.lists(numbers, min_size=2, max_size=5),
        steps=st.lists(step, min_size=1, max_size=steps),
        outputs=st.sampled_from(outputs),
    )


def batch_of(rng, size, inputs, special=False):
    """Samples and their indices."""
    xs = rng.uniform(-2, 2, (size, inputs))
    if special:
        xs = np.where(rng.random(xs.shape) < 0.4, rng.choice(SPECIAL, xs.shape), xs)
    return xs, rng.integers(0, CLASSES, size)


def eager(function, sample, index):
    """The outputs for one sample; None where Python's float would raise."""
    try:
        return [v.data for v in function([Value(float(x)) for x in sample], Value(int(index)))]
    except (ArithmeticError, ValueError):
        return None


def unchecked(function, sample, index):
    """The same operators, which raise nothing where an example of a program has the numbers."""
    _, inputs, _ = trace.begin([float(x) for x in sample] + [float(index)])
    try:
        out = function(inputs[:-1], inputs[-1])
    finally:
        trace.end()
    return [v.data for v in out]


def magnitudes(out):
    """By id of each node: the sum of the absolute contributions to its gradient."""
    order = nodes_of(out)
    sums = {id(v): 0.0 for v in order}
    sums[id(out)] = 1.0
    for v in reversed(order):
        children = v._children
        if v._op == "dot":
            data = [child.data for child in children]
            partials = [1.0]
            for w, x in zip(data[1::2], data[2::2]):
                partials += [x, w]
        else:
            partials = v._local_grads
        for child, partial in zip(children, partials, strict=True):
            sums[id(child)] += abs(partial) * sums[id(v)]
    return sums


def bits(number):
    return number_key(float(number))
