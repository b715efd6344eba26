"""What the tests compare fastgrad with, and how they run a snippet in a process of its own.

Here live two further oracles beside PyPI's micrograd, written as plainly as their originals:
`LectureValue`, the class that the micrograd lecture ends with (labels, tanh, exp), and
`SlottedValue`, which keeps local gradients instead of closures, as microgpt does. Both walk
their graphs without recursion, so that a deep graph can be compared too.

Nothing here imports fastgrad: every helper works on any class with micrograd's attributes.
"""

import json
import math
import random
import struct
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import micrograd.nn
import numpy as np
import pytest
from instruments import nodes_of, topological

TESTS = Path(__file__).parent
MIB = 1 << 20


class LectureValue:
    """The lecture's Value: closures, `_prev`, a label, tanh and exp."""

    def __init__(self, data, _children=(), _op="", label=""):
        self.data = data
        self.grad = 0
        self._backward = lambda: None
        self._prev = set(_children)
        self._op = _op
        self.label = label

    def __add__(self, other):
        other = other if isinstance(other, LectureValue) else LectureValue(other)
        out = LectureValue(self.data + other.data, (self, other), "+")

        def _backward():
            self.grad += out.grad
            other.grad += out.grad

        out._backward = _backward
        return out

    def __mul__(self, other):
        other = other if isinstance(other, LectureValue) else LectureValue(other)
        out = LectureValue(self.data * other.data, (self, other), "*")

        def _backward():
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out._backward = _backward
        return out

    def __pow__(self, n):
        assert isinstance(n, (int, float)), "only supporting int/float powers for now"
        out = LectureValue(self.data**n, (self,), f"**{n}")

        def _backward():
            self.grad += (n * self.data ** (n - 1)) * out.grad

        out._backward = _backward
        return out

    def relu(self):
        out = LectureValue(0 if self.data < 0 else self.data, (self,), "ReLU")

        def _backward():
            self.grad += (out.data > 0) * out.grad

        out._backward = _backward
        return out

    def tanh(self):
        out = LectureValue(math.tanh(self.data), (self,), "tanh")

        def _backward():
            self.grad += (1 - out.data**2) * out.grad

        out._backward = _backward
        return out

    def exp(self):
        out = LectureValue(math.exp(self.data), (self,), "exp")

        def _backward():
            self.grad += out.data * out.grad

        out._backward = _backward
        return out

    def backward(self):
        order = topological(self, lambda v: v._prev)
        self.grad = 1
        for v in reversed(order):
            v._backward()

    def __neg__(self):
        return self * -1

    def __radd__(self, other):
        return self + other

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return other + (-self)

    def __rmul__(self, other):
        return self * other

    def __truediv__(self, other):
        return self * other**-1

    def __rtruediv__(self, other):
        return other * self**-1

    def __repr__(self):
        return f"Value(data={self.data}, grad={self.grad})"


def notebook_trace(root):
    """`trace` of micrograd's trace_graph.ipynb."""
    nodes, edges = set(), set()

    def build(v):
        if v not in nodes:
            nodes.add(v)
            for child in v._prev:
                edges.add((child, v))
                build(child)

    build(root)
    return nodes, edges


def readme_example(cls):
    """The example of micrograd's README, of 39 nodes: its leaves a and b, and its root."""
    a = cls(-4.0)
    b = cls(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return a, b, g


class SlottedValue:
    """microgpt's Value: children and the local gradients at construction, no closures."""

    __slots__ = ("_children", "_local_grads", "data", "grad")

    def __init__(self, data, children=(), local_grads=()):
        self.data = data
        self.grad = 0
        self._children = children
        self._local_grads = local_grads

    def __add__(self, other):
        other = other if isinstance(other, SlottedValue) else SlottedValue(other)
        return SlottedValue(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other):
        other = other if isinstance(other, SlottedValue) else SlottedValue(other)
        return SlottedValue(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, n):
        return SlottedValue(self.data**n, (self,), (n * self.data ** (n - 1),))

    def log(self):
        return SlottedValue(math.log(self.data), (self,), (1 / self.data,))

    def exp(self):
        return SlottedValue(math.exp(self.data), (self,), (math.exp(self.data),))

    def relu(self):
        return SlottedValue(max(0, self.data), (self,), (float(self.data > 0),))

    def backward(self):
        order = topological(self, lambda v: v._children)
        self.grad = 1
        for v in reversed(order):
            for child, local_grad in zip(v._children, v._local_grads, strict=True):
                child.grad += local_grad * v.grad

    __neg__ = LectureValue.__neg__
    __radd__ = LectureValue.__radd__
    __sub__ = LectureValue.__sub__
    __rsub__ = LectureValue.__rsub__
    __rmul__ = LectureValue.__rmul__
    __truediv__ = LectureValue.__truediv__
    __rtruediv__ = LectureValue.__rtruediv__


def node(cls, x, rule, op="user"):
    """A user-made node below which `rule(x, out)` does the backward."""
    out = cls(x.data, (x,), op)
    out._backward = lambda: rule(x, out)
    return out


def pass_on(x, out):
    x.grad += out.grad


class BeyondThePromise(Exception):
    """micrograd went where fastgrad documents a difference."""


def checked(number):
    """The number itself, unless it is one that fastgrad documents not to keep."""
    if isinstance(number, complex) or (isinstance(number, int) and abs(number) >= 2**53):
        raise BeyondThePromise
    return number


def number_key(x):
    """Equal for two numbers exactly when they are the same to the last bit (any nan is nan)."""
    if type(x) is int:
        return ("int", x)
    assert type(x) is float, f"neither int nor float: {x!r} ({type(x).__name__})"
    return ("float", b"nan" if x != x else struct.pack("<d", x))


def same_number(a, b):
    """Same type and same bits, nan equal to nan."""
    return number_key(a) == number_key(b)


def coloured(root, colours):
    """The nodes below `root` as {colour: [node, ...]}.

    Two nodes share a colour when their op, data, operands and users look alike, all the way down
    and up. Use one dict `colours` for the two graphs to be compared: the graphs have the same
    shape when their colours occur equally often, and then nodes of one colour correspond.
    """

    def colour(*key):
        return colours.setdefault(key, len(colours))

    order = nodes_of(root)
    down = {}
    for v in order:
        below = tuple(sorted(down[id(child)] for child in v._prev))
        down[id(v)] = colour("down", v._op, number_key(v.data), below)
    users = {id(v): [] for v in order}
    classes = {}
    for v in reversed(order):
        final = colour("up", down[id(v)], tuple(sorted(users[id(v)])))
        classes.setdefault(final, []).append(v)
        for child in v._prev:
            users[id(child)].append(final)
    return classes


def shape_of(classes):
    """How often each colour occurs."""
    return Counter({final: len(nodes) for final, nodes in classes.items()})


def close(numbers):
    """Equal but for the order of accumulation, for gradients without much cancellation."""
    return pytest.approx(numbers, rel=1e-12, abs=1e-14)


def same_model(nn, make, seed=0):
    """What `make` builds from micrograd's nn and from `nn`, both from the same random numbers."""
    random.seed(seed)
    theirs = make(micrograd.nn)
    random.seed(seed)
    return theirs, make(nn)


def outputs_of(out):
    """A layer's outputs as a list, although a single one comes without it."""
    return out if isinstance(out, list) else [out]


def state_of(program):
    """What a call of a program that raises must leave as it was."""
    return (
        [(id(p), p.data, p.grad, type(p.grad)) for p in program.parameters],
        repr(program),
        len(program.signatures),
    )


def refused(call, kind, text):
    """Check the error in full."""
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    assert str(caught.value) == text, str(caught.value)


def plain(number):
    """The Python number that a bool or a NumPy scalar reads back as."""
    if isinstance(number, np.generic):
        number = number.item()
    return int(number) if isinstance(number, bool) else number


def run_snippet(code, **values):
    """Run `code` in a fresh interpreter, its globals starting with `values`; fail if it fails.

    The snippet may `import instruments`. What it hands to the ready-made function `answer` is
    returned, by way of JSON.
    """
    prelude = "import json as _json\ndef answer(x):\n    print('answer:' + _json.dumps(x))\n"
    assignments = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", prelude + assignments + textwrap.dedent(code)],
        cwd=TESTS,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    answers = [line for line in done.stdout.splitlines() if line.startswith("answer:")]
    return json.loads(answers[-1].removeprefix("answer:")) if answers else None
