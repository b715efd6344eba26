"""What ``python -m fastgrad`` leaves as written, and how it says so; its options.

A class with a bug keeps its bug, a class that does more than compute goes on doing it, and the
message names the method or the line.
"""

import json
from pathlib import Path

import pytest
from carriers import LECTURE, MICROGPT, MICROGRAD, PROGRAM, SHOW, both, function, python, variant


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current directory, far from any source tree."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left(code, why, name="Value", **more):
    """The class is left for the reason, and the program prints the same."""
    return both(code, f"left as written: {why}", name, **more)


USE = "a = Value(2.0)\nb = a * 3 + a\nb.backward()\nprint(b.data, a.grad, b.grad)\n"

# {name: (class, the message)}
BUGS = {
    "no accumulation in mul": (
        variant(
            MICROGRAD, ("other.grad += self.data * out.grad", "other.grad = self.data * out.grad")
        ),
        "gradient of __mul__ differs when both operands are the same (got 3.0, expected 6.0)",
    ),
    "no accumulation in add": (
        variant(MICROGRAD, ("other.grad += out.grad", "other.grad = out.grad")),
        "gradient of __add__ differs when both operands are the same (got 1, expected 2)",
    ),
    "relu's derivative at 0": (
        variant(MICROGRAD, ("(out.data > 0) * out.grad", "(out.data >= 0) * out.grad")),
        "gradient of relu differs at -0.7 (got 1, expected 0)",
    ),
    "pow without the exponent": (
        variant(MICROGRAD, ("(other * self.data**(other-1))", "(self.data**(other-1))")),
        "gradient of __pow__ differs for 2.0 ** 3, of a Value and a number (got 4.0, expected 12.0)",
    ),
    "tanh's derivative from the input": (
        variant(LECTURE, ("(1 - out.data**2)", "(1 - self.data**2)")),
        "gradient of tanh differs at 0.5 (got 0.75, expected 0.7864477329659274)",
    ),
    "exp's derivative": (
        variant(LECTURE, ("out.data * out.grad", "self.data * out.grad")),
        "gradient of exp differs at 0.5 (got 0.5, expected 1.6487212707001282)",
    ),
    "a root that is not seeded": (
        variant(MICROGRAD, ("        self.grad = 1\n", "")),
        "gradient after backward differs for the root itself (got 0, expected 1)",
    ),
    "children in the wrong order": (
        variant(MICROGPT, ("reversed(topo)", "topo")),
        "backward leaves the grads two operations below the root as they are",
    ),
    "backward that skips the root": (
        variant(MICROGRAD, ("reversed(topo)", "reversed(topo[:-1])")),
        "backward leaves the grads of the operands as they are",
    ),
    "a wrong neg": (
        variant(
            MICROGRAD, ("def __neg__(self): return self * -1", "def __neg__(self): return self * 1")
        ),
        "value of __neg__ differs at 0.5 (got 0.5, expected -0.5)",
    ),
    "a rule without the chain": (
        variant(LECTURE, ("(1 - out.data**2) * out.grad", "(1 - out.data**2)")),
        "gradient of tanh differs below another operation",
    ),
    "a stack for a topological order": (
        MICROGRAD
        + """
    def backward(self):
        self.grad = 1
        stack = [self]
        while stack:
            v = stack.pop()
            v._backward()
            stack.extend(v._prev)
""",
        "gradient after backward differs when",
    ),
    "local gradients swapped": (
        variant(MICROGPT, ("(other.data, self.data)", "(self.data, other.data)")),
        "gradient of __mul__ differs for 2.0 * -3.0 (got 2.0, expected -3.0)",
    ),
    "a wrong rsub": (
        variant(MICROGRAD, ("return other + (-self)", "return self + (-other)")),
        "value of __rsub__ differs for -3.0 - 2.0, of a Value and a number (got 5.0, expected -5.0)",
    ),
    "a wrong logarithm with an epsilon": (
        LECTURE + function("log", "math.log(self.data + 1e-8)", "self.data"),
        "value of log differs at 0.5",
    ),
    "a wrong subtraction": (
        variant(
            MICROGPT,
            (
                "return self + (-other)",
                "return Value(self.data - other.data, (self, other), (1, 1))",
            ),
        ),
        "gradient of __sub__ differs",
    ),
    "a wrong sigmoid": (
        LECTURE + function("sigmoid", "1 / (1 + math.exp(-self.data))", "out.data * out.data"),
        "gradient of sigmoid differs at",
    ),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_named_and_kept(name):
    code, message = BUGS[name]
    Path("script.py").write_text(code + USE)
    plain, fast = python("script.py"), python("-m", "fastgrad", "script.py")
    assert (fast.out, fast.status) == (plain.out, 0)
    assert fast.err.startswith("fastgrad: class Value (line ")
    assert f"left as written: {message}" in fast.err


# {name: (program, the message)}
KEPT = {
    "prints": (
        variant(MICROGRAD, ("out = Value(self.data + ", "print('+'); out = Value(self.data + "))
        + USE,
        "in __add__ it uses print",
    ),
    "counts": (
        "made = []\n"
        + variant(MICROGRAD, ("        self.grad = 0\n", "        self.grad = 0; made.append(1)\n"))
        + USE
        + "print(len(made))",
        "in __init__ it uses the global made, a list",
    ),
    "a base class": (
        "class Base: pass\n" + variant(MICROGRAD, ("class Value:", "class Value(Base):")) + USE,
        "it has the base class Base",
    ),
    "a decorator": (
        "def same(cls): return cls\n"
        + variant(MICROGRAD, ("class Value:", "@same\nclass Value:"))
        + USE,
        "it has the decorator same",
    ),
    "no backward": (
        variant(MICROGRAD, ("def backward(", "def back(")) + "print((Value(2) * 3).data)",
        "it has no method backward",
    ),
    "vars": (LECTURE + USE + "print(sorted(vars(a)))", "the program looks into an object by vars"),
    "inspect": (MICROGRAD + USE + "import inspect", "the program imports inspect"),
    "fractions": (
        MICROGRAD + "from fractions import Fraction\nprint(Value(Fraction(1, 3)) * 3)",
        "the program imports fractions, whose numbers are no floats",
    ),
    "a list of the class": (
        variant(
            MICROGRAD,
            ("class Value:\n", "class Value:\n    made = []\n"),
            ("        self.grad = 0\n", "        self.grad = 0; self.made.append(1)\n"),
        )
        + USE
        + "print(len(Value.made))",
        "its body does more than define methods (line 3)",
    ),
    "a switch": (
        variant(
            MICROGRAD,
            ("class Value:\n", "class Value:\n    on = True\n"),
            ("self.grad += out.grad", "self.grad += out.grad * self.on"),
        )
        + USE,
        "__add__ depends on on (line ",
    ),
    "an operator of a subclass": (
        MICROGRAD
        + """
class Loud(Value):
    def __add__(self, other):
        print("add")
        return super().__add__(other)

print(1 + Loud(2.0))
""",
        "class Loud overrides __add__",
    ),
    "values by id": (
        LECTURE + USE + "seen = {id(v): v.data for v in b._prev}\nprint(len(seen))",
        "the program remembers values by id",
    ),
    "float32": (
        "import numpy as np\n" + MICROGRAD + "print(Value(np.float32(0.1)).data * 1)",
        "the program computes with float32",
    ),
    "pickle": (MICROGPT + USE + "import pickle", "the program imports pickle"),
    "processes": (
        MICROGRAD + USE + "import multiprocessing",
        "the program imports multiprocessing",
    ),
    "its own type": (
        variant(
            MICROGRAD,
            ("out = Value(self.data + other.data,", "out = type(self)(self.data + other.data,"),
        )
        + USE,
        "in __add__ it makes values of its own type",
    ),
    "a string": (MICROGRAD + "print(Value('a').data)", "its data is a string"),
    "an array": (
        "import numpy as np\n" + MICROGRAD + "print(Value(np.zeros(2)).data)",
        "its data is an array",
    ),
    "a replaced operator": (
        MICROGRAD + "old = Value.__mul__\nValue.__mul__ = lambda a, b: old(a, b) + 1\n" + USE,
        "the program replaces Value.__mul__",
    ),
    "an argument of backward": (
        variant(MICROGRAD, ("def backward(self)", "def backward(self, seed=1)"))
        + "a = Value(2.0)\n(a * a).backward(1)\nprint(a.grad)",
        "backward takes an argument",
    ),
    "graphs cut": (LECTURE + USE + "b._prev = set()\nprint(b._prev)", "the program assigns _prev"),
    "micrograd too": (
        MICROGRAD + USE + "try:\n    import micrograd\nexcept ImportError: pass",
        "the program imports micrograd or fastgrad too",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_left_as_written(name):
    code, message = KEPT[name]
    Path("script.py").write_text(code)
    plain, fast = python("script.py"), python("-m", "fastgrad", "script.py")
    assert (fast.out, fast.status) == (plain.out, plain.status)
    assert f"left as written: {message}" in fast.err


def test_of_several_definitions_the_last_is_replaced():
    Path("script.py").write_text(MICROGRAD + USE + MICROGRAD + USE)
    fast = python("-m", "fastgrad", "script.py")
    first, second = fast.err.splitlines()
    assert "left as written: it is defined again (line " in first
    assert second.endswith("replaced")
    assert fast.out == python("script.py").out


def test_of_two_classes_none_is_replaced():
    other = variant(MICROGRAD.replace("Value", "Number"))
    Path("script.py").write_text(MICROGRAD + other + USE)
    fast = python("-m", "fastgrad", "script.py")
    assert [line.partition("left as written: ")[2] for line in fast.err.splitlines()] == [
        f"class Number (line {len(MICROGRAD.splitlines()) + 2}) looks like it",
        "class Value (line 2) looks like it",
    ]


# ---- options


def test_quiet():
    Path("script.py").write_text(MICROGRAD + USE)
    assert python("-m", "fastgrad", "--quiet", "script.py") == python("script.py")


def test_strict_lets_a_proven_class_pass():
    Path("script.py").write_text(MICROGRAD + USE)
    run = python("-m", "fastgrad", "--strict", "script.py")
    assert (run.out, run.status) == (python("script.py").out, 0)


@pytest.mark.parametrize("options", [["--strict"], ["--strict", "--quiet"]])
def test_strict_ends_the_program(options):
    code = variant(MICROGRAD, ("class Value:", "print('before')\nclass Value(int):"))
    Path("script.py").write_text(code + "print('after')")
    said = "fastgrad: class Value (line 3) left as written: it has the base class int\n"
    assert python("-m", "fastgrad", *options, "script.py") == ("before\n", said, 1)


def test_as_written():
    Path("script.py").write_text(MICROGRAD + "print(type(Value.backward).__name__)")
    assert python("-m", "fastgrad", "--as-written", "script.py") == ("function\n", "", 0)


def test_a_module():
    Path("program.py").write_text(LECTURE + PROGRAM)
    plain, fast = python("-m", "program"), python("-m", "fastgrad", "-m", "program")
    assert (fast.out, fast.status) == (plain.out, 0)
    assert fast.err == "fastgrad: class Value (line 4) replaced\n"


def test_a_notebook():
    cells = ["import math\nprint('one')", MICROGRAD.strip(), SHOW + USE, "1 / 0"]
    notebook = {"cells": [{"cell_type": "code", "source": text} for text in cells]}
    Path("book.ipynb").write_text(json.dumps(notebook))
    run = python("-m", "fastgrad", "book.ipynb")
    assert run.out == "one\n8.0 4 1\n"
    assert run.err.startswith("fastgrad: class Value (cell 2, line 1) replaced\n")
    assert 'File "book.ipynb, cell 4", line 1, in <module>\n    1 / 0' in run.err
    assert run.status == 1


def test_compare():
    Path("script.py").write_text(MICROGRAD + USE)
    run = python("-m", "fastgrad", "--compare", "script.py")
    assert run.status == 0
    assert run.out.startswith("outputs             agree (1 line, 3 numbers compared)\n")
    assert run.out.endswith("fastgrad: class Value (line 2) replaced\n")


def test_probing_takes_no_random_numbers():
    code = "import random\nrandom.seed(1)\n" + LECTURE + "print(random.random())"
    both(code)


def test_arguments_and_stdin():
    code = MICROGPT + "import sys\nprint(sys.argv, sum(map(Value, map(float, sys.stdin))).data)"
    both(code, args=["--quiet", "x"], stdin="1\n2.5\n")
