"""Programs with a class Value of their own and NumPy's numbers as data: their kind is seen.

``np.float64(5.0)`` in a list, ``.item()``, a warning where Python's floats raise: all as under
plain python. Numbers that a set's order reaches are printed rounded.
"""

from pathlib import Path

import pytest
from carriers import LECTURE, MICROGPT, MICROGRAD, TANH, both, function, python, variant

IMPORT = "import math\nimport random\nimport numpy as np\nnp.random.seed(1)\nrandom.seed(1)\n"
LOG = function("log", "math.log(self.data)", "1 / self.data")
RELU = "0 if self.data < 0 else self.data, (self,), 'ReLU'"
SUB = """
    def __sub__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data - other.data, (self, other), '-')
        def _backward():
            self.grad += out.grad
            other.grad -= out.grad
        out._backward = _backward
        return out
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory, far from any source tree."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- kinds: every operator and function with every pair of kinds

# NumPy 1 writes its numbers as Python's.
KIND = """
def kind(number): return f"{type(number).__name__} {number!r}"
"""
PAIRS = """
import operator
numbers = [2.0, 3, np.float64(1.5), np.int64(2), np.float64(-0.5), np.int64(-1)]
for x in numbers:
    for y in [*numbers, np.bool_(True)]:
        operators = operator.add, operator.mul, operator.sub, operator.truediv, operator.pow
        for of in operators[:2] if isinstance(y, np.bool_) else operators:
            for mode in 0, 1, 2:
                try:
                    a, b = Value(x), Value(0.0 if isinstance(y, np.bool_) else y)
                    out = of(a, b) if mode == 0 else of(a, y) if mode == 1 else of(x, b)
                    out.backward()
                    print(of.__name__, mode, *map(kind, (x, y, out.data, a.grad, b.grad)))
                except Exception as error:
                    print(of.__name__, mode, kind(x), kind(y), type(error).__name__, error)
"""
FUNCTIONS = """
for x in 2.0, 3, np.float64(1.5), np.int64(2), np.float64(-0.5), np.float64(0.0), np.int64(-2), 0:
    for name in 'relu', 'tanh', 'exp', 'log', '__neg__':
        for by in 1, 2.0, np.float64(3), np.int64(4):
            if hasattr(Value, name):
                try:
                    a = Value(x)
                    out = getattr(a, name)()
                    (out * by).backward()
                    print(name, *map(kind, (x, by, out.data, a.grad, out.grad)))
                except Exception as error:
                    print(name, kind(x), type(error).__name__, error)
"""
CLASSES = {
    "micrograd": MICROGRAD,
    "lecture": LECTURE + LOG,
    "microgpt": MICROGPT,
    "floats": variant(MICROGRAD, ("self.data = data", "self.data = float(data)")),
    "relu of x": variant(MICROGRAD, ("(out.data > 0)", "(self.data > 0)")),
    "relu by if": variant(MICROGRAD, ("(out.data > 0)", "(1 if out.data > 0 else 0)")),
    "relu by max": variant(MICROGRAD, (RELU, "max(0, self.data), (self,), 'ReLU'")),
    "relu by NumPy": variant(MICROGRAD, (RELU, "np.maximum(0, self.data), (self,), 'ReLU'")),
    "tanh by NumPy": variant(
        LECTURE, (TANH, function("tanh", "np.tanh(self.data)", "(1 - out.data**2)"))
    ),
    "any exponent": variant(
        MICROGRAD, ('        assert isinstance(other, (int, float)), "only int/float powers"\n', "")
    ),
    "own subtraction": variant(
        MICROGRAD, ("    def __sub__(self, other): return self + (-other)\n", SUB)
    ),
}


@pytest.mark.parametrize("program", [PAIRS, FUNCTIONS], ids=["operators", "functions"])
@pytest.mark.parametrize("name", CLASSES)
def test_kinds(name, program):
    assert " int64 " in both(IMPORT + CLASSES[name] + KIND + program).out


@pytest.mark.parametrize("text", [MICROGRAD, MICROGPT], ids=["micrograd", "microgpt"])
def test_kinds_of_data_edited_before_backward(text):
    program = """
a, b = Value(np.float64(2.0)), Value(3.0)
c = a * b
d = c * a + b**2
a.data, b.data, c.data = 5.0, np.float64(7), np.int64(2)
d.backward()
print([v.data for v in (a, b, c, d)], [v.grad for v in (a, b, c, d)])
e, f = Value(2), Value(3)
g = e * f
e.data = 4.5
g.backward()
e.grad = 0
print(e.grad, f.grad, (e * f).data)
"""
    both(IMPORT + text + program)


# ---- programs: {name: (class, what follows it)}

MLP = """
class Neuron:
    def __init__(self, n, nonlin=True):
        self.w = [Value(random.uniform(-1, 1)) for _ in range(n)]
        self.b, self.nonlin = Value(0), nonlin
    def __call__(self, x):
        act = sum((wi*xi for wi, xi in zip(self.w, x)), self.b)
        return act.relu() if self.nonlin else act
class Model:
    def __init__(self, *sizes):
        last = len(sizes) - 2
        self.layers = [[Neuron(n, k < last) for _ in range(sizes[k + 1])] for k, n in enumerate(sizes[:-1])]
    def __call__(self, x):
        for layer in self.layers:
            x = [n(x) for n in layer]
        return x[0] if len(x) == 1 else x
    def parameters(self):
        return [p for layer in self.layers for n in layer for p in [*n.w, n.b]]
def rounded(numbers):
    return [type(x)(round(x, 9)) for x in numbers]
"""
MOONS = """
t = np.linspace(0, np.pi, 8)
X = np.vstack([np.append(np.cos(t), 1 - np.cos(t)), np.append(np.sin(t), .5 - np.sin(t))]).T
X += np.random.normal(scale=0.1, size=X.shape)
y = np.hstack([np.zeros(8, dtype=np.intp), np.ones(8, dtype=np.intp)]) * 2 - 1
model = Model(2, 4, 1)
for k in range(3):
    ri = np.random.permutation(X.shape[0])[:10]
    inputs = [list(map(Value, row)) for row in X[ri]]
    scores = list(map(model, inputs))
    losses = [(1 + -yi*score).relu() for yi, score in zip(y[ri], scores)]
    loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p*p for p in model.parameters())
    right = [(yi > 0) == (score.data > 0) for yi, score in zip(y[ri], scores)]
    for p in model.parameters(): p.grad = 0
    loss.backward()
    for p in model.parameters(): p.data -= (1.0 - 0.9*k/100) * p.grad
    print(k, rounded([loss.data]), sum(right) / len(right), right[:2], loss.data.round(3))
print(rounded([p.data for p in model.parameters()]), [s.data > 0 for s in scores][:3])
Z = np.array([s.data > 0 for s in scores])
print(Z, np.mean([round(s.data, 6) for s in scores]).round(5), max(s.data for s in scores) < 99)
"""
PROGRAMS = {
    "moons": (MICROGRAD, MLP + MOONS),
    "rows as they are": (
        MICROGRAD,
        MLP + MOONS.replace("[list(map(Value, row)) for row in X[ri]]", "X[ri]"),
    ),
    "x before w": (MICROGRAD, MLP.replace("wi*xi for", "xi*wi for") + MOONS),
    "what is shown": (
        MICROGRAD,
        """
a = Value(np.float64(2.5)); b = a * 3
d = b.data
print([d], (d,), {d: d}, {d}, d, str(d), repr(d), f"{d} {d!r} {d:.3f}", "%s %r" % (d, d), b)
print(d.item(), d.shape, d.dtype, type(d), round(d, 1), d.astype(int), isinstance(d, float))
try: (Value(2.0) * 3).data.item()
except AttributeError as error: print(error)
n = Value(np.int64(3))
print(n, [n.data], [(n * 2).data, (n * 2.0).data, (n**2).data], -n, n - np.int64(5), [(1.5 - n).data])
""",
    ),
    "softmax": (
        LECTURE + LOG,
        """
logits = [Value(x) for x in np.random.randn(4)]
exps = [(l - max(l.data for l in logits)).exp() for l in logits]
probs = [e / sum(exps) for e in exps]
loss = -probs[1].log()
loss.backward()
print([p.data for p in probs], loss.data, [type(l.grad) for l in logits])
print(np.argmax([p.data for p in probs]), [round(float(l.grad), 9) for l in logits])
""",
    ),
    "gradient check": (
        LECTURE,
        """
xs = np.array([0.5, -1.2, 0.3])
def f(a, b, c): return (a * b + c).tanh() * a
values = [Value(x) for x in xs]
f(*values).backward()
for k in range(3):
    up = xs.copy(); up[k] += 1e-6
    slope = (f(*map(Value, up)).data - f(*map(Value, xs)).data) / 1e-6
    print(type(slope), np.isclose(slope, values[k].grad, atol=1e-4))
""",
    ),
    "arrays of Values": (
        LECTURE,
        """
W = np.array([[Value(x) for x in row] for row in np.random.randn(3, 2)])
z = W @ np.array([[0.5], [1.5]])
L = (z**2).sum() + np.dot(W[0], [1.0, 2.0])
L.backward()
print(z.shape, [[v.data for v in row] for row in z], L.data, type(W[0][0].grad), (W * 2)[0, 0].data)
print(np.array([3.0, 4.0]) * W[0, 0], np.float64(2) * W[0, 0])
""",
    ),
    "own formula of log": (
        LECTURE + function("log", "math.log(self.data + 1e-8)", "1 / (self.data + 1e-8)"),
        "a = Value(np.float64(2)); b = (a * 3).log(); b.backward(); print([b.data, a.grad])",
    ),
    "clipped log": (
        LECTURE + function("log", "math.log(max(self.data, 1e-9))", "1 / max(self.data, 1e-9)"),
        "a = Value(0.0); b = (a * 3).log(); b.backward(); print([b.data, a.grad])",
    ),
    "log by NumPy": (
        LECTURE + function("log", "np.log(self.data)", "1 / self.data"),
        "a = Value(2.0); b = (a * 3).log(); b.backward(); print([b.data, a.grad], Value(-1).log())",
    ),
    "root by a power": (
        LECTURE + "    def sqrt(self): return self**0.5\n",
        "a = Value(np.float64(2)); b = a.sqrt(); b.backward(); print([b.data, a.grad])",
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name):
    text, program = PROGRAMS[name]
    both(IMPORT + text + program)


def test_where_numpy_warns_and_goes_on():
    program = """
a = Value(np.float64(1e200))
b = a * a
print(b, b - b, a**2, Value(np.float64(0.0))**-1, Value(1.0) / np.float64(0))
print(1 / Value(np.float64(0.0)), Value(np.float64(-8.0))**0.5)
c = Value(np.float64(0.0))
(c**0.5).backward()
print(c.grad)
with np.errstate(all='raise'):
    try: a**300
    except FloatingPointError as error: print(error)
for _ in range(3): Value(np.float64(1e300)) * 1e300
Value(0.0)**-1
"""
    run = both(IMPORT + MICROGRAD + program, status=1)
    assert run.err.count("RuntimeWarning") == 7


def test_errors_are_the_classs_own():
    program = """
for tried in ("Value(2.0)**np.int64(2)", "Value(np.int64(2))**-1", "Value(2.0) / np.int64(2)",
              "np.mean([Value(1.0), Value(2.0)])", "np.float64(2)**Value(1.0)",
              "Value(np.float64(-1)).log()", "Value(np.float64(1e3)).exp()"):
    try: print(tried, eval(tried))
    except Exception as error: print(tried, type(error).__name__, error)
Value(3.0)**np.int64(2)
"""
    run = both(IMPORT + LECTURE + LOG + program, status=1)
    assert run.err.endswith("AssertionError: only int/float powers\n")


NUMBERS = "import numpy as np\nnumbers = [np.float64(1.5), np.int64(2), np.float64(-2.0)]\n"


@pytest.mark.parametrize("of", ["out", "self"])
def test_numpy_that_is_not_seen_in_the_program(folder, of):
    """Its class is proven when the first of NumPy's numbers comes."""
    (folder / "helper.py").write_text(NUMBERS)
    program = """
print((Value(2.0) * 3).data)
from helper import numbers
for x in numbers:
    a = Value(x)
    b = (a * 2 + 1).relu()
    b.backward()
    print([b.data, a.grad])
"""
    both(variant(MICROGRAD, ("(out.data > 0)", f"({of}.data > 0)")) + program)


def test_numpy_is_not_imported_for_a_program_without(folder):
    program = "import sys\nprint('numpy' in sys.modules, [(Value(2.0) * 3).data])"
    assert both(MICROGRAD + program).out.startswith("False")


def test_what_cannot_be_represented_is_an_error():
    helper = "import numpy as np\nnumbers = [np.array([1.0, 2.0]), np.arange(2, dtype='f4')[1]]\n"
    Path("helper.py").write_text(helper)
    program = """
from helper import numbers
for x in numbers:
    for tried in "Value(x)", "Value(2.0) * x":
        try: print(eval(tried))
        except TypeError as error: print(error)
"""
    Path("script.py").write_text(MICROGRAD + program)
    run = python("-m", "fastgrad", "--quiet", "script.py")
    assert run.status == 0
    assert [line.partition(",")[0].partition(":")[0] for line in run.out.splitlines()] == [
        "data must be a number",
        "cannot compute Value Value(data=2.0",
        "data must be a number",
        "cannot compute Value Value(data=2.0",
    ]


# ---- left as written: {name: (what follows the class, the message)}

ARRAYS = "x = np.linspace(0, 1, 3)\nX = np.random.rand(3, 1)\nw = Value(2.0)\n"
LEFT = {
    "an operand": (ARRAYS + "print(w * x)", "it is combined with an array (line 75)"),
    "rows of one": (ARRAYS + "for x in X: print((w * x).data)", "it is combined with an array"),
    "data": (ARRAYS + "print([Value(row).data for row in X])", "its data is an array"),
    "an argument": (
        ARRAYS + "def predict(x): return w * x + 1\nprint(predict(x).data)",
        "it is combined with an array",
    ),
    "an attribute": (
        ARRAYS + "class Model:\n    def __init__(self, w): self.w = w\n    def fit(self, X):\n"
        "        for x in X: print((self.w * x).data)\nModel(w).fit(X)",
        "it is combined with an array",
    ),
    "narrow ints": (
        "print([Value(x).data for x in np.arange(3, dtype=np.int32)])",
        "the program computes with int32",
    ),
}


@pytest.mark.parametrize("name", LEFT)
def test_left_as_written(name):
    program, message = LEFT[name]
    Path("script.py").write_text(IMPORT + MICROGRAD + program)
    plain, fast = python("script.py"), python("-m", "fastgrad", "script.py")
    assert (fast.out, fast.status) == (plain.out, 0)
    assert f"left as written: {message}" in fast.err


def test_arrays_and_values_that_do_not_meet():
    program = """
def f(x): return 3*x**2 - 4*x + 5
x = np.arange(-1, 1, 0.5)
ys = f(x)
X = np.random.rand(3, 2)
w = [Value(v) for v in X[0]]
def loss(rows):
    total = Value(0.0)
    for row in rows:
        x = row[0]
        total = total + w[0] * x + w[1] * row[1]
    return total
print([loss(X).data], ys)
class Model:
    def __init__(self, w): self.w, self.X = w, X
    def __call__(self, x): return sum(wi * xi for wi, xi in zip(self.w, x))
print([Model(w)(row).data for row in X])
"""
    both(IMPORT + MICROGRAD + program)


TORCH = """
try:
    import torch
except ImportError:
    torch = None
if torch:
    t = torch.Tensor([2.0]).double()
    t.requires_grad = True
    u = torch.tanh(t * 3)
    u.backward()
    print(abs(t.grad.item() - a.grad) < 1e-6)
"""


def test_torch_beside_values():
    program = "a = Value(2.0)\nb = (a * 3).tanh()\nb.backward()\nprint(b.data)\n"
    both(LECTURE + program + TORCH)
    both(
        LECTURE + program + TORCH + "    print(Value(t))\n",
        "left as written: the program computes with torch and Value together (line 99)",
    )
