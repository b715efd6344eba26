"""Programs that carry their own class Value, and how to run them by python and by fastgrad.

The classes are micrograd's, the lecture's and microgpt's as people copy them. Both runs, in
processes of their own, must print the same to the letter and end with the same status, tracebacks
included; on stderr fastgrad adds one line.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

# ---- the three classes, as people copy them

MICROGRAD = '''
class Value:
    """ stores a single scalar value and its gradient """

    def __init__(self, data, _children=(), _op=''):
        self.data = data
        self.grad = 0
        self._backward = lambda: None
        self._prev = set(_children)
        self._op = _op

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data + other.data, (self, other), '+')
        def _backward():
            self.grad += out.grad
            other.grad += out.grad
        out._backward = _backward
        return out

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data * other.data, (self, other), '*')
        def _backward():
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad
        out._backward = _backward
        return out

    def __pow__(self, other):
        assert isinstance(other, (int, float)), "only int/float powers"
        out = Value(self.data**other, (self,), f'**{other}')
        def _backward():
            self.grad += (other * self.data**(other-1)) * out.grad
        out._backward = _backward
        return out

    def relu(self):
        out = Value(0 if self.data < 0 else self.data, (self,), 'ReLU')
        def _backward():
            self.grad += (out.data > 0) * out.grad
        out._backward = _backward
        return out

    def backward(self):
        topo = []
        visited = set()
        def build_topo(v):
            if v not in visited:
                visited.add(v)
                for child in v._prev:
                    build_topo(child)
                topo.append(v)
        build_topo(self)
        self.grad = 1
        for v in reversed(topo):
            v._backward()

    def __neg__(self): return self * -1
    def __radd__(self, other): return self + other
    def __sub__(self, other): return self + (-other)
    def __rsub__(self, other): return other + (-self)
    def __rmul__(self, other): return self * other
    def __truediv__(self, other): return self * other**-1
    def __rtruediv__(self, other): return other * self**-1
    def __repr__(self): return f"Value(data={self.data}, grad={self.grad})"
'''

MICROGPT = """
import math

class Value:
    __slots__ = ('data', 'grad', '_children', '_local_grads')

    def __init__(self, data, children=(), local_grads=()):
        self.data = data
        self.grad = 0
        self._children = children
        self._local_grads = local_grads

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, other): return Value(self.data**other, (self,), (other * self.data**(other-1),))
    def log(self): return Value(math.log(self.data), (self,), (1/self.data,))
    def exp(self): return Value(math.exp(self.data), (self,), (math.exp(self.data),))
    def relu(self): return Value(max(0, self.data), (self,), (float(self.data > 0),))
    def __neg__(self): return self * -1
    def __radd__(self, other): return self + other
    def __sub__(self, other): return self + (-other)
    def __rsub__(self, other): return other + (-self)
    def __rmul__(self, other): return self * other
    def __truediv__(self, other): return self * other**-1
    def __rtruediv__(self, other): return other * self**-1

    def backward(self):
        topo = []
        visited = set()
        def build_topo(v):
            if v not in visited:
                visited.add(v)
                for child in v._children:
                    build_topo(child)
                topo.append(v)
        build_topo(self)
        self.grad = 1
        for v in reversed(topo):
            for child, local_grad in zip(v._children, v._local_grads):
                child.grad += local_grad * v.grad
"""

FUNCTION = """
    def {name}(self):
        out = Value({value}, (self,), '{name}')
        def _backward():
            self.grad += {slope} * out.grad
        out._backward = _backward
        return out
"""


def function(name, value, slope):
    """A method in the lecture's manner."""
    return FUNCTION.format(name=name, value=value, slope=slope)


def variant(text, *replacements):
    """`text` with each (old, new) replaced wherever it occurs, which it must."""
    for old, new in replacements:
        assert old in text, f"not in the text: {old}"
        text = text.replace(old, new)
    return text


TANH = function(
    "tanh", "(math.exp(2*self.data) - 1) / (math.exp(2*self.data) + 1)", "(1 - out.data**2)"
)
EXP = function("exp", "math.exp(self.data)", "out.data")
LECTURE = variant(
    "\nimport math\n" + MICROGRAD + TANH + EXP,
    ("_op=''):", "_op='', label=''):"),
    ("        self._op = _op\n", "        self._op = _op\n        self.label = label\n"),
    ("self.grad = 0\n", "self.grad = 0.0\n"),
    ("self.grad = 1\n", "self.grad = 1.0\n"),
    (", grad={self.grad}", ""),
)
BASES = {"micrograd": MICROGRAD, "lecture": LECTURE, "microgpt": MICROGPT}

SHOW = """
def show(*values):
    print(*[(v.data, round(v.grad, 9)) for v in values])

"""
EXPRESSIONS = """
a, b, n = Value(2.0), Value(-3.5), Value(4)
c = a * b + b**3 - a / b + 1
d = 2 * n - (1 - c) * -0.5 + c.relu() + (b / 2)**2 + 1 / n + n**-1 + 0 * a + (a - 2).relu()
e = sum([d, a, n, d]) / 3 + (10.0 / d) - a**0.5
e.backward()
show(a, b, c, d, e, n)
n.backward()
show(a, n, n + 1, n * n, -n, n - 1, 1 - n, n**2, n.relu(), (-n).relu(), Value(-0.0))

w, u = Value(0.25), Value(-0.5)
for step in range(5):
    loss = sum((w * x + u - y)**2 for x, y in ((1, 2.0), (-1, 1), (0.5, 0))) / 3
    w.grad = u.grad = 0
    loss.backward()
    for p in w, u:
        p.data -= 0.125 * p.grad
    print(step, round(loss.data, 9), isinstance(loss, Value), type(loss) is Value, Value.__name__)
"""
PROGRAM = SHOW + EXPRESSIONS


# ---- running them


class Run(NamedTuple):
    out: str
    err: str
    status: int


def python(*args, stdin=""):
    """What ``python ARGS`` prints, and its exit status."""
    command = [sys.executable, *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    return Run(done.stdout, done.stderr, done.returncode)


def lines_of(code, name):
    """The lines where classes of that name begin."""
    lines = enumerate(code.splitlines(), start=1)
    return [number for number, line in lines if re.match(rf"class {name}\b", line)]


def both(code, said="replaced", name="Value", status=0, args=(), stdin=""):
    """Compare python and fastgrad running `code`, of which fastgrad says one line more."""
    Path("script.py").write_text(code, encoding="utf-8")
    plain = python("script.py", *args, stdin=stdin)
    assert plain.status == status, plain.err
    fast = python("-m", "fastgrad", "script.py", *args, stdin=stdin)
    line = f"fastgrad: class {name} (line {lines_of(code, name)[-1]}) {said}\n"
    assert [x for x in fast.err.splitlines(True) if x.startswith("fastgrad: ")] == [line]
    assert fast._replace(err=fast.err.replace(line, "")) == plain
    return plain
