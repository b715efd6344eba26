"""Everything that fastgrad's Value and functions do, in plain Python on micrograd's own code.

`Plain` is micrograd 0.1.0's Value, operators and closures included, to which are added the
functions that micrograd lacks; whatever micrograd's operators make is a `Plain` again.  Its
``backward`` visits what the root reaches in the reverse order of recording, which is the order
that fastgrad promises: so gradients may be compared to the last bit, also after an error has
stopped a sweep half way.

Nothing here imports fastgrad.  What fastgrad documents to do differently from micrograd is done
here as documented: no complex numbers, x**0 is constant, an exponent may be a Value.  Ints that a
float64 cannot hold raise `BeyondThePromise`.
"""

import importlib.util
import itertools
import math

from oracles import BeyondThePromise, checked, topological

MAX_POWER = 64  # an int to a power beyond is too large for a float64, or takes Python for ever


def own_copy(name):
    """A module once more, whose globals may be replaced without anybody noticing."""
    spec = importlib.util.find_spec(name)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


engine = own_copy("micrograd.engine")


class Plain(engine.Value):
    """micrograd's Value, and what fastgrad adds to it."""

    made = itertools.count()

    def __init__(self, data, _children=(), _op="", label=""):
        local_grads = () if isinstance(_op, str) else tuple(_op)
        super().__init__(checked(data), tuple(_children), _op if isinstance(_op, str) else "")
        self._children = tuple(_children)
        self.label = label
        self.order = next(Plain.made)
        self.hidden = None  # adjoints of a dot's partial sums
        self.slopes = tuple  # its partials by the operands
        if local_grads:
            self.slopes = lambda: local_grads
            self._backward = self.push

    @property
    def grad(self):
        return self._grad

    @grad.setter
    def grad(self, number):
        self._grad = checked(number)

    def push(self):
        """The local rule of what is not micrograd's."""
        for child, slope in zip(self._children, self.slopes()):
            child.grad += slope * self.grad

    def backward(self):
        reached = topological(self, lambda v: v._children)
        reached.sort(key=lambda v: v.order, reverse=True)
        self.grad = 1
        for v in reached:
            v._backward()

    @property
    def _local_grads(self):
        if self._op == "+":
            return (1, 1)
        if self._op == "*":
            return tuple(child.data for child in self._children[::-1])
        if self._op == "ReLU" and self.slopes is tuple:  # micrograd's own
            return (int(self.data > 0),)
        return self.slopes()

    def __pow__(self, other):
        if not isinstance(other, Plain):
            out = node(power(self.data, other), (self,), f"**{other}")
            out.slopes = lambda: (power_slope(self.data, other),)
            return out
        out = node(power(self.data, other.data), (self, other), "**")

        def slopes():
            x, y = self.data, other.data
            by_x = power_slope(x, y)
            by_y = 0.0 if x == 0 and y >= 0 else out.data * log(x)
            return by_x, by_y

        out.slopes = slopes
        return out

    def __rpow__(self, other):
        return Plain(other) ** self

    def __pos__(self):
        return self

    def __abs__(self):
        return applied("abs", self)

    def leaky_relu(self, slope=0.01):
        x = self.data
        out = node(float(slope) * x if x < 0 else float(x), (self,), "leaky_relu")
        out.slopes = lambda: (1.0 if self.data > 0 else float(slope),)
        return out

    def maximum(self, other):
        return chosen("maximum", lambda x, y: x >= y or x != x, self, other)

    def minimum(self, other):
        return chosen("minimum", lambda x, y: x <= y or x != x, self, other)

    def detach(self):
        return Plain(self.data)


engine.Value = Plain


def node(data, children, op):
    out = Plain(data, children, op)
    out._backward = out.push
    return out


# ---- powers


def power(x, n):
    """x**n in the real numbers."""
    if isinstance(x, int) and isinstance(n, int) and abs(x) > 1 and n > MAX_POWER:
        raise BeyondThePromise
    try:
        z = x**n
    except OverflowError:
        z = 1j if x < 0 and n % 1 else None
        if z is None:
            raise
    if isinstance(z, complex):
        raise ValueError("complex")
    return z


def power_slope(x, n):
    return 0.0 if n == 0 else n * power(x, n - 1)


def log(x):
    """The logarithm by IEEE."""
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


# ---- functions of one number


def sigmoid(x):
    e = math.exp(-abs(x))
    return (e if x < 0 else 1.0) / (1.0 + e)


def sigmoid_slope(x):
    e = math.exp(-abs(x))
    return e / ((1.0 + e) * (1.0 + e))


def softplus(x):
    positive = x if x > 0 else 0.0
    return positive + math.log1p(math.exp(-abs(x)))


def gelu(x):
    return 0.0 if x == -math.inf else 0.5 * x * math.erfc(-x * 0.70710678118654752440)


def gelu_slope(x):
    density = math.exp(-0.5 * x * x) * 0.39894228040143267794
    left = 0.5 * math.erfc(-x * 0.70710678118654752440)
    return left + (0.0 if math.isinf(x) else x * density)


def tanh_by_exp(x):
    e = math.exp(2 * x)
    return (e - 1) / (e + 1)


def in_range(function, x):
    return math.nan if math.isinf(x) else function(x)


# method: (label, value of x, slope of x and z); the numbers keep their kind
FUNCTIONS = {
    "abs": ("abs", abs, lambda x, z: (x > 0) - (x < 0)),
    "tanh": ("tanh", math.tanh, lambda x, z: 1.0 - z * z),
    "exp": ("exp", math.exp, lambda x, z: float(z)),  # also when it has been edited
    "log": ("log", math.log, lambda x, z: 1.0 / x),
    "sqrt": ("sqrt", math.sqrt, lambda x, z: 0.5 / z),
    "sin": ("sin", math.sin, lambda x, z: in_range(math.cos, x)),
    "cos": ("cos", math.cos, lambda x, z: -in_range(math.sin, x)),
    "sigmoid": ("sigmoid", sigmoid, lambda x, z: sigmoid_slope(x)),
    "softplus": ("softplus", softplus, lambda x, z: sigmoid(x)),
    "gelu": ("gelu", gelu, lambda x, z: gelu_slope(x)),
    "_relu_max": ("ReLU", lambda x: max(0, x), lambda x, z: int(z > 0)),
    "_relu_local": ("ReLU", lambda x: max(0, x), lambda x, z: float(z > 0)),
    "_relu_float": ("ReLU", lambda x: max(0.0, x), lambda x, z: int(z > 0)),
    "_tanh_by_exp": ("tanh", tanh_by_exp, lambda x, z: 1.0 - z * z),
    "_sigmoid_by_exp": (
        "sigmoid",
        lambda x: 1 / (1 + math.exp(-x)),
        lambda x, z: float(z * (1 - z)),
    ),
}


def applied(name, v):
    label, value, slope = FUNCTIONS[name]
    out = node(value(v.data), (v,), label)
    out.slopes = lambda: (slope(v.data, out.data),)
    return out


def method(name):
    return lambda self: applied(name, self)


for name in FUNCTIONS.keys() - {"abs"}:
    setattr(Plain, name, method(name))


def chosen(op, is_first, a, b):
    """One of two; gradient 1 to it, 0 to the other."""
    b = value_of(b)
    out = node(a.data if is_first(a.data, b.data) else b.data, (a, b), op)

    def slopes():
        first = is_first(a.data, b.data)
        return int(first), int(not first)

    out.slopes = slopes
    return out


# ---- functions of several: the formulas of functional's docstrings, a constant once a call


def value_of(x):
    return x if isinstance(x, Plain) else Plain(x)


def place(xs):
    return [value_of(x) for x in xs]


def number_of(x):
    return x.data if isinstance(x, Plain) else x


def fused(bias, ws, xs):
    """bias + w[0] * x[0] + w[1] * x[1] + ... as one node.

    In micrograd the partial sums are nodes: each keeps its adjoint from sweep to sweep and passes
    all of it on, to the partial sum before it and to the product between them.  `hidden` are those
    adjoints, one a term; before the first sweep there are none.
    """
    ws, xs = tuple(ws), tuple(xs)  # as they are now
    data = bias.data
    for w, x in zip(ws, xs, strict=True):
        data = data + w.data * x.data
    out = Plain(data, (bias, *itertools.chain(*zip(ws, xs))), "dot")

    def rule():
        g, is_first = out.grad, out.hidden is None
        if is_first:
            out.hidden = [g] * len(ws)
        for k in reversed(range(len(ws))):
            if k == 0:
                bias.grad += g
            if not is_first:
                out.hidden[k] += g
                g = out.hidden[k]
            ws[k].grad += xs[k].data * g
            xs[k].grad += ws[k].data * g

    out._backward = rule
    return out


def same_length(xs, ys):
    if len(xs) != len(ys):
        raise ValueError("lengths")
    return xs, ys


def dot(xs, ys):
    xs, ys = same_length(place(xs), place(ys))
    return fused(Plain(0), xs, ys)


def sum(values):
    first, *rest = place(values)
    total = first + Plain(0)
    for x in rest:
        total = total + x
    return total


def mean(values):
    return sum(values) * float(len(values)) ** -1


def largest(values):
    m = number_of(values[0])
    for x in map(number_of, values[1:]):
        m = m if m >= x or m != m else x
    return float(m)


def exponentials(values, minus_m):
    powers = [(x + minus_m).exp() for x in values]
    return powers, sum(powers)


def softmax(values):
    values = place(values)
    powers, total = exponentials(values, Plain(-largest(values)))
    inverse = total**-1
    return [p * inverse for p in powers]


def logsumexp(values):
    values, m = place(values), largest(values)
    _, total = exponentials(values, Plain(-m))
    return total.log() + m


def log_softmax(values):
    values = place(values)
    minus_total = logsumexp(values) * -1
    return [x + minus_total for x in values]


def index_of(i, count):
    i = number_of(i)
    if not (0 <= i < count and i == math.floor(i)):
        raise IndexError(i)
    return int(i)


def cross_entropy(logits, i):
    i = index_of(i, len(logits))
    logits = place(logits)
    return logsumexp(logits) + logits[i] * -1


def negated(values):
    minus_one = Plain(-1)
    return [x * minus_one if isinstance(x, Plain) else Plain(-x) for x in values]


def of_pairs(term, outputs, targets):
    single = not isinstance(outputs, (list, tuple))
    ys, ts = same_length(*([outputs], [targets]) if single else (outputs, targets))
    terms = [term(y, minus_t) for y, minus_t in zip(place(ys), negated(ts))]
    return terms[0] if single else mean(terms)


def mse(outputs, targets):
    return of_pairs(lambda y, minus_t: (y + minus_t) ** 2, outputs, targets)


def hinge(outputs, targets):
    one = Plain(1)
    return of_pairs(lambda y, minus_t: (minus_t * y + one).relu(), outputs, targets)


def rmsnorm(values, eps=1e-5):
    values = place(values)
    scale = (dot(values, values) * float(len(values)) ** -1 + float(eps)) ** -0.5
    return [x * scale for x in values]


def maximum(a, b):
    return value_of(a).maximum(b)


def minimum(a, b):
    return value_of(a).minimum(b)


def max_of(values):
    first, *rest = place(values)
    for x in rest:
        first = first.maximum(x)
    return first


def argmax(values):
    best, *_ = numbers = [number_of(x) for x in values]
    at = 0
    for k, x in enumerate(numbers):
        if x > best or (x != x and best == best):
            best, at = x, k
    return at


def where(c, a, b):
    return value_of(a if number_of(c) != 0 else b)


def take(values, i):
    found = values[index_of(i, len(values))]
    return place(found) if isinstance(found, list) else value_of(found)


# ---- layers


def layer(neurons, xs, activation):
    """Neurons (w, b) side by side: their sums, then what is applied to them."""
    xs = place(xs)
    out = [fused(b, w, xs) for w, b in neurons]
    return [getattr(v, activation)() for v in out] if activation else out


def neuron(w, b, xs, activation):
    """micrograd's own."""
    act = b
    for wi, xi in zip(w, xs, strict=True):
        act = act + wi * xi
    return getattr(act, activation)() if activation else act
