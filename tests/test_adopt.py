"""``python -m fastgrad`` replaces a program's own class Value, however it is spelled.

Gradients are printed rounded, as the order in which they are summed up is that of a set.
"""

from pathlib import Path

import pytest
from carriers import (
    BASES,
    LECTURE,
    MICROGPT,
    MICROGRAD,
    PROGRAM,
    SHOW,
    TANH,
    both,
    function,
    python,
    variant,
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory, far from any source tree."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- shapes


@pytest.mark.parametrize("name", ["Value", "Scalar", "_V"])
@pytest.mark.parametrize("base", BASES)
def test_each_shape_is_replaced_under_any_name(base, name):
    both(variant(BASES[base] + PROGRAM, ("Value", name)), name=name)


def test_the_class_is_really_replaced():
    Path("script.py").write_text(MICROGRAD + "print(type(Value.backward).__name__)")
    assert python("script.py").out == "function\n"
    assert python("-m", "fastgrad", "script.py").out == "method_descriptor\n"


# ---- variants: {name: (class, what follows it)}

RELU = "0 if self.data < 0 else self.data, (self,), 'ReLU'"
CHILDREN = "self._prev = set(_children)"
LOCAL = "(other.data, self.data)"
ADAM = """
for p in w, u:
    p.m = 0.9 * getattr(p, 'm', 0.0) + 0.1 * p.grad
    print(round(p.m, 9), hasattr(p, 'v'))
    p.v = p.m**2
print(round(w.v, 9), 'm' in [k for k in ('m',) if hasattr(loss, k)])
"""
DRAW = """
def trace(v, depth=0):
    print(' ' * depth, v.data, v._op, round(v.grad, 9))
    for child in sorted(v._prev, key=lambda child: (child.data, child._op, child.grad)):
        trace(child, depth + 1)
trace((((a * b).relu() - 2 * a + n / 4)**2 * -1 + (1 - n)).relu())
"""
TREE = """
def tree(v):
    return [v.data, *map(tree, v._children)]
print(tree((a * b).relu() - 2 * a + n / 4), type(n._children), type((-n)._children))
print((a * b)._local_grads, (a**3)._local_grads, n._local_grads)
"""
TWICE = """
f = (a - b) * 3 - (a - 1) / b + (2 - a) / 4 - (-b)
for _ in range(3):
    f.backward()
    show(a, b, f)
"""
SUB = "    def __sub__(self, other): return self + (-other)\n"
OWN_SUB = """
    def __sub__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data - other.data, (self, other), '-')
        def _backward():
            self.grad += out.grad
            other.grad -= out.grad
        out._backward = _backward
        return out
"""
DIVISION = "    def __truediv__(self, other): return self * other**-1\n"
OWN_DIVISION = """
    def __truediv__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data / other.data, (self, other), '/')
        def _backward():
            self.grad += (1 / other.data) * out.grad
            other.grad += (-self.data / other.data**2) * out.grad
        out._backward = _backward
        return out
"""
LABELS = """
a.label = 'a'
f = a * b; f.label = 'f'
print(a.label, [f.label], (f + 1).label == '', Value(1, label='one').label, Value(2, (), '', 'two').label)
"""


VARIANTS = {
    "float grads, int seed": (
        variant(MICROGRAD, ("self.grad = 0\n", "self.grad = 0.0\n")),
        PROGRAM,
    ),
    "int grads, float seed": (
        variant(MICROGRAD, ("self.grad = 1\n", "self.grad = 1.0\n")),
        PROGRAM,
    ),
    "relu by max": (variant(MICROGRAD, (RELU, "max(0, self.data), (self,), 'ReLU'")), PROGRAM),
    "relu by max 0.0": (
        variant(MICROGRAD, (RELU, "max(0.0, self.data), (self,), 'ReLU'")),
        PROGRAM,
    ),
    "relu of the input": (variant(MICROGRAD, ("(out.data > 0)", "(self.data > 0)")), PROGRAM),
    "relu with floats": (variant(MICROGRAD, ("(out.data > 0)", "float(out.data > 0)")), PROGRAM),
    "data by float": (variant(MICROGRAD, ("self.data = data", "self.data = float(data)")), PROGRAM),
    "tanh and exp": (
        LECTURE,
        PROGRAM
        + """
for x in (0.5, -1.25, 0, 1e-9, 20.0, -300.0, 3):
    v = Value(x)
    t, r = v.tanh(), (v / 100).exp()
    (t + r).backward()
    print(t.data, r.data, t.tanh().data, round(v.grad, 9))
""",
    ),
    "math.tanh": (
        variant(LECTURE, (TANH, function("tanh", "math.tanh(self.data)", "(1 - out.data**2)"))),
        PROGRAM + "print([Value(x).tanh().data for x in (0.5, -1.25, 0, 1e-9, 20.0, -300.0)])",
    ),
    "another tanh": (
        variant(
            LECTURE,
            (TANH, function("tanh", "1 - 2 / (math.exp(2*self.data) + 1)", "(1 - out.data**2)")),
        ),
        PROGRAM + "print([Value(x).tanh().data for x in (0.5, -1.25, 0, 1e-9, 20.0, -300.0)])",
    ),
    "log and sigmoid": (
        LECTURE
        + function("log", "math.log(self.data)", "1 / self.data")
        + function("sigmoid", "1 / (1 + math.exp(-self.data))", "out.data * (1 - out.data)"),
        PROGRAM
        + "for x in 0.5, 3, 1e-300: y = Value(x); z = y.log() + y.sigmoid(); z.backward(); show(y, z)",
    ),
    "drawing by a set": (MICROGRAD, PROGRAM + DRAW),
    "drawing by a tuple": (
        variant(MICROGRAD, (CHILDREN, "self._prev = _children")),
        PROGRAM + DRAW + "print(type(d._prev), n._prev)",
    ),
    "drawing by a list": (
        variant(MICROGRAD, (CHILDREN, "self._prev = list(_children)")),
        PROGRAM + DRAW + "print(a._prev, (a * b)._prev)",
    ),
    "drawing of the lecture": (LECTURE, PROGRAM + DRAW + LABELS),
    "drawing with own labels": (
        variant(LECTURE, ("'ReLU'", "'relu'"), ("'*'", "'mul'"), ("'tanh'", "'th'")),
        PROGRAM + DRAW + "trace(a.tanh())",
    ),
    "drawing by microgpt": (MICROGPT, PROGRAM + TREE),
    "children in a list": (variant(MICROGPT, ("= children", "= list(children)")), PROGRAM + TREE),
    "another __sub__ drawn": (
        variant(MICROGRAD, ("return self + (-other)", "return self + other * -1.0")),
        PROGRAM + DRAW,
    ),
    "another __neg__ drawn": (variant(MICROGRAD, ("self * -1", "self * -1.0")), PROGRAM + DRAW),
    "reflected by the class": (
        variant(MICROGRAD, ("return self + other", "return Value(other) + self")),
        PROGRAM + DRAW,
    ),
    "**k by hand": (variant(MICROGRAD, ("f'**{other}'", "'pow'")), PROGRAM + DRAW),
    "without labels": (
        variant(
            MICROGRAD,
            (", _op=''", ""),
            ("        self._op = _op\n", ""),
            (", '+'", ""),
            (", '*'", ""),
            (", f'**{other}'", ""),
            (", 'ReLU'", ""),
        ),
        PROGRAM,
    ),
    "Adam's moments": (LECTURE, PROGRAM + ADAM.replace("vars, ", "")),
    "Adam's moments made at once": (
        variant(
            LECTURE,
            (
                "self.label = label\n",
                "self.label = label\n        self.m = 0.0\n        self.v = 0.0\n",
            ),
        ),
        PROGRAM + ADAM.replace("vars, ", ""),
    ),
    "class constants": (
        variant(
            LECTURE,
            ("    def __init__", "    RATE = 0.5\n    NAMES = ('a', 'b')\n    def __init__"),
        ),
        PROGRAM + "print(Value.RATE, a.NAMES, hasattr(a, 'SIZE'))",
    ),
    "label second": (
        variant(
            LECTURE,
            ("data, _children=(), _op='', label=''", "data, label='', _children=(), _op=''"),
            (", (self", ", _children=(self"),
            ("), '", "), _op='"),
            ("f'**", "_op=f'**"),
        ),
        PROGRAM + "print(Value(2.0, 'x').label, Value(3, label='y').label, [(a * b).label])",
    ),
    "requires_grad": (
        variant(
            LECTURE,
            ("label=''):", "label='', requires_grad=True):"),
            (
                "self.label = label\n",
                "self.label = label\n        self.requires_grad = requires_grad\n",
            ),
        ),
        PROGRAM
        + "print([v.requires_grad for v in (a, a * b, Value(1, requires_grad=False), Value(2, (), '', '', 0))])",
    ),
    "annotations": (
        "from __future__ import annotations\n"
        + variant(
            LECTURE,
            ("(self, other):", "(self, other: Value | float) -> Value:"),
            ("(self):", "(self: Value):"),
        ),
        PROGRAM + "print(Value(2).tanh())",
    ),
    "object as base, lambdas": (
        variant(
            MICROGRAD,
            ("class Value:", "class Value(object):"),
            (
                "    def __neg__(self): return self * -1",
                "    __neg__ = lambda self: self * -1",
            ),
        ),
        PROGRAM,
    ),
    "__rmul__ = __mul__": (
        variant(
            MICROGRAD,
            ("    def __rmul__(self, other): return self * other", "    __rmul__ = __mul__"),
            ("    def __radd__(self, other): return self + other", "    __radd__ = __add__"),
        ),
        PROGRAM + DRAW,
    ),
    "a helper above": (
        "def ensure(x): return x if isinstance(x, Value) else Value(x)\n"
        + variant(
            MICROGRAD, ("other if isinstance(other, Value) else Value(other)", "ensure(other)")
        ),
        PROGRAM,
    ),
    "helpers and constants below": (
        variant(
            LECTURE,
            ("other if isinstance(other, Value) else Value(other)", "ensure(other)"),
            ("self.grad = 1.0", "self.grad = SEED"),
        ),
        "SEED = 1.0\ndef is_value(x): return isinstance(x, Value)\n"
        "def ensure(x): return x if is_value(x) else Value(x)\n" + PROGRAM,
    ),
    "own subtraction": (variant(MICROGRAD, (SUB, OWN_SUB)), PROGRAM + TWICE + DRAW),
    "own subtraction, reflected": (
        variant(MICROGRAD, (SUB, OWN_SUB), ("other + (-self)", "Value(other) - self")),
        PROGRAM + TWICE,
    ),
    "own subtraction of microgpt": (
        variant(
            MICROGPT,
            (
                SUB,
                "    def __sub__(self, other):\n"
                "        other = other if isinstance(other, Value) else Value(other)\n"
                "        return Value(self.data - other.data, (self, other), (1, -1))\n",
            ),
        ),
        PROGRAM + TWICE,
    ),
    "own division": (variant(MICROGRAD, (DIVISION, OWN_DIVISION)), PROGRAM + TWICE),
    "own negation": (
        variant(MICROGRAD, ("    def __neg__(self): return self * -1\n", ""))
        + function("__neg__", "-self.data", "-1"),
        PROGRAM + TWICE,
    ),
    "logarithm with an epsilon": (
        LECTURE + function("log", "math.log(self.data + 1e-8)", "1 / (self.data + 1e-8)"),
        PROGRAM + "y = (a * a).log()\ny.backward()\nshow(a, y)",
    ),
    "another relu": (
        variant(
            MICROGRAD,
            (RELU, "self.data if self.data > 0 else 0.25 * self.data, (self,), 'ReLU'"),
            ("(out.data > 0)", "(1 if self.data > 0 else 0.25)"),
        ),
        PROGRAM,
    ),
    "root by a power": (
        LECTURE + "    def sqrt(self): return self**0.5\n",
        PROGRAM + "y = (a * a).sqrt()\ny.backward()\nshow(a, y)",
    ),
    "no isinstance in pow": (
        variant(
            MICROGRAD,
            ('        assert isinstance(other, (int, float)), "only int/float powers"\n', ""),
        ),
        PROGRAM,
    ),
    "__eq__ and __hash__": (
        MICROGRAD
        + "    def __eq__(self, other): return isinstance(other, Value) and self.data == other.data\n    def __hash__(self): return id(self)\n",
        SHOW
        + "a, b = Value(2.0), Value(2.0)\nc = a * b + a\nc.backward()\nshow(a, b, c)\nprint(a == b, a != b, a == 2.0, a in [b], [c, a].index(b), len({a, b}))",
    ),
    "__lt__": (
        MICROGRAD + "    def __lt__(self, other): return self.data < other.data\n",
        PROGRAM
        + "print(sorted([Value(3), Value(-1), Value(2.5)]), max(a, b).data, a < b, a > b, a == Value(2.0), a == a)",
    ),
    "in place": (
        MICROGRAD,
        SHOW
        + "a = b = Value(2)\na += 3\na *= b\na -= 1\na /= 2\na **= 2\na.backward()\nshow(a, b)",
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variant(name):
    text, program = VARIANTS[name]
    assert both(text + program).out
