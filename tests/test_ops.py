"""Each elementary operation: forward against Python's math, gradient against differences, edges.

`CASES` has one case a row of the op table, and the last tests walk the table itself: a row that
lacks a case, edge points, a method, a stub line or a docs row fails.
"""

import importlib.resources
import itertools
import math
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from oracles import same_number

from fastgrad import tape
from fastgrad.dialect import set_dialect
from fastgrad.engine import Value

INF, NAN = math.inf, math.nan
SLOPE = 0.125
DOCS = Path(__file__).parents[1] / "docs" / "ops.md"


class Case(NamedTuple):
    """How users call an op, what it is by definition, and what it does at its edge points.

    An edge is (arguments, value, partials): an exception type in place of the value is raised by
    the call, in place of the partials by backward; partials that are None are not checked.
    """

    method: str
    call: object
    reference: object
    edges: list
    exact: bool = True  # the forward value is Python's own to the last bit


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def gelu(x):
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


RELU_MAX_EDGES = [
    ((0.0,), 0, (0,)),
    ((-0.0,), 0, (0,)),
    ((-2.0,), 0, (0,)),
    ((2.0,), 2.0, (1,)),
    ((NAN,), 0, (0,)),
    ((INF,), INF, (1,)),
]


def subtract_at_once(a, b):
    """As in a script whose ``__sub__`` is one operation."""
    set_dialect(own_sub=True)
    try:
        return a - b
    finally:
        set_dialect()


CASES = {
    "ADD": Case(
        "__add__",
        lambda a, b: a + b,
        lambda a, b: a + b,
        [
            ((0.0, -0.0), 0.0, (1, 1)),
            ((INF, -INF), NAN, (1, 1)),
            ((1e308, 1e308), INF, (1, 1)),
        ],
    ),
    "MUL": Case(
        "__mul__",
        lambda a, b: a * b,
        lambda a, b: a * b,
        [
            ((0.0, INF), NAN, (INF, 0.0)),
            ((-0.0, 3.0), -0.0, (3.0, 0.0)),
            ((1e200, -1e200), -INF, (-1e200, 1e200)),
        ],
    ),
    "SUB": Case(
        "__sub__",
        subtract_at_once,
        lambda a, b: a - b,
        [
            ((0.0, 0.0), 0.0, (1, -1)),
            ((INF, INF), NAN, (1, -1)),
            ((-1e308, 1e308), -INF, (1, -1)),
        ],
    ),
    "POW_CONST": Case(
        "__pow__",
        lambda a, b: a**b,
        lambda a, b: a**b,
        [
            ((0.0, 0), 1.0, (0.0,)),
            ((0.0, 1), 0.0, (1.0,)),
            ((0.0, 2), 0.0, (0.0,)),
            ((0.0, 0.5), 0.0, ZeroDivisionError),
            ((-2.0, 3), -8.0, (12.0,)),
            ((-2.0, -1), -0.5, (-0.25,)),
            ((INF, 2), INF, (INF,)),
            ((INF, -1), 0.0, (-0.0,)),
            ((NAN, 2), NAN, (NAN,)),
            ((0.0, -1), ZeroDivisionError, None),
            ((-1.0, 0.5), ValueError, None),
            ((1e155, 2), OverflowError, None),
        ],
    ),
    "POW": Case(
        "__pow__",
        lambda a, b: a**b,
        lambda a, b: a**b,
        [
            ((2.0, 3.0), 8.0, (12.0, 8 * math.log(2))),
            ((1.0, 5.0), 1.0, (5.0, 0.0)),
            ((2.0, 0.0), 1.0, (0.0, math.log(2))),
            ((0.0, -1.0), ZeroDivisionError, None),
            ((-1.0, 0.5), ValueError, None),
            ((1e200, 2.0), OverflowError, None),
        ],
    ),
    "RELU": Case(
        "relu",
        lambda a: a.relu(),
        lambda x: max(x, 0.0),
        [
            ((0.0,), 0.0, (0,)),
            ((-0.0,), -0.0, (0,)),
            ((-3.0,), 0, (0,)),
            ((INF,), INF, (1,)),
            ((-INF,), 0, (0,)),
            ((NAN,), NAN, (0,)),
            ((5e-324,), 5e-324, (1,)),
        ],
    ),
    "TANH": Case(
        "tanh",
        lambda a: a.tanh(),
        math.tanh,
        [
            ((0.0,), 0.0, (1.0,)),
            ((-0.0,), -0.0, (1.0,)),
            ((800.0,), 1.0, (0.0,)),
            ((-800.0,), -1.0, (0.0,)),
            ((INF,), 1.0, (0.0,)),
            ((NAN,), NAN, (NAN,)),
        ],
    ),
    "SIGMOID": Case(
        "sigmoid",
        lambda a: a.sigmoid(),
        sigmoid,
        [
            ((0.0,), 0.5, (0.25,)),
            ((1000.0,), 1.0, (0.0,)),
            ((-1000.0,), 0.0, (0.0,)),
            ((-700.0,), math.exp(-700), (math.exp(-700),)),
            ((INF,), 1.0, (0.0,)),
            ((-INF,), 0.0, (0.0,)),
            ((NAN,), NAN, (NAN,)),
        ],
        exact=False,
    ),
    "EXP": Case(
        "exp",
        lambda a: a.exp(),
        math.exp,
        [
            ((0.0,), 1.0, (1.0,)),
            ((-1000.0,), 0.0, (0.0,)),
            ((-INF,), 0.0, (0.0,)),
            ((INF,), INF, (INF,)),
            ((NAN,), NAN, (NAN,)),
            ((709.7,), math.exp(709.7), (math.exp(709.7),)),
            ((709.8,), OverflowError, None),
        ],
    ),
    "LOG": Case(
        "log",
        lambda a: a.log(),
        math.log,
        [
            ((1.0,), 0.0, (1.0,)),
            ((INF,), INF, (0.0,)),
            ((NAN,), NAN, (NAN,)),
            ((1e-300,), math.log(1e-300), (1e300,)),
            ((0.0,), ValueError, None),
            ((-0.0,), ValueError, None),
            ((-1.0,), ValueError, None),
        ],
    ),
    "SQRT": Case(
        "sqrt",
        lambda a: a.sqrt(),
        math.sqrt,
        [
            ((4.0,), 2.0, (0.25,)),
            ((0.0,), 0.0, ZeroDivisionError),
            ((-0.0,), -0.0, ZeroDivisionError),
            ((INF,), INF, (0.0,)),
            ((NAN,), NAN, (NAN,)),
            ((-1e-300,), ValueError, None),
        ],
    ),
    "SIN": Case(
        "sin",
        lambda a: a.sin(),
        math.sin,
        [
            ((0.0,), 0.0, (1.0,)),
            ((1e22,), math.sin(1e22), (math.cos(1e22),)),
            ((NAN,), NAN, (NAN,)),
            ((INF,), ValueError, None),
        ],
    ),
    "COS": Case(
        "cos",
        lambda a: a.cos(),
        math.cos,
        [
            ((0.0,), 1.0, (0.0,)),
            ((1e22,), math.cos(1e22), (-math.sin(1e22),)),
            ((NAN,), NAN, (NAN,)),
            ((-INF,), ValueError, None),
        ],
    ),
    "SOFTPLUS": Case(
        "softplus",
        lambda a: a.softplus(),
        softplus,
        [
            ((0.0,), math.log(2), (0.5,)),
            ((1000.0,), 1000.0, (1.0,)),
            ((-1000.0,), 0.0, (0.0,)),
            ((-50.0,), math.exp(-50), (math.exp(-50),)),
            ((INF,), INF, (1.0,)),
            ((-INF,), 0.0, (0.0,)),
            ((NAN,), NAN, (NAN,)),
        ],
        exact=False,
    ),
    "GELU": Case(
        "gelu",
        lambda a: a.gelu(),
        gelu,
        [
            ((0.0,), 0.0, (0.5,)),
            ((40.0,), 40.0, (1.0,)),
            ((-40.0,), 0.0, (0.0,)),
            ((1e200,), 1e200, (1.0,)),
            ((-1e200,), 0.0, (0.0,)),
            ((NAN,), NAN, (NAN,)),
        ],
        exact=False,
    ),
    "TANH_EXP": Case(
        "_tanh_by_exp",
        lambda a: a._tanh_by_exp(),
        lambda x: (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1),
        [
            ((0.0,), 0.0, (1.0,)),
            ((-400.0,), -1.0, (0.0,)),
            ((-INF,), -1.0, (0.0,)),
            ((INF,), NAN, (NAN,)),
            ((NAN,), NAN, (NAN,)),
            ((355.0,), OverflowError, None),
        ],
    ),
    "SIGMOID_EXP": Case(
        "_sigmoid_by_exp",
        lambda a: a._sigmoid_by_exp(),
        lambda x: 1 / (1 + math.exp(-x)),
        [
            ((0.0,), 0.5, (0.25,)),
            ((1000.0,), 1.0, (0.0,)),
            ((INF,), 1.0, (0.0,)),
            ((-INF,), 0.0, (0.0,)),
            ((NAN,), NAN, (NAN,)),
            ((-710.0,), OverflowError, None),
        ],
    ),
    "RELU_MAX": Case("_relu_max", lambda a: a._relu_max(), lambda x: max(0, x), RELU_MAX_EDGES),
    "RELU_LOCAL": Case(
        "_relu_local",
        lambda a: a._relu_local(),
        lambda x: max(0, x),
        [
            (operands, value, partials and tuple(map(float, partials)))
            for operands, value, partials in RELU_MAX_EDGES
        ],
    ),
    "RELU_FLOAT": Case(
        "_relu_float",
        lambda a: a._relu_float(),
        lambda x: max(0.0, x),
        [
            ((0.0,), 0.0, (0,)),
            ((-0.0,), 0.0, (0,)),
            ((-2.0,), 0.0, (0,)),
            ((2.0,), 2.0, (1,)),
            ((NAN,), 0.0, (0,)),
            ((INF,), INF, (1,)),
        ],
    ),
    "LEAKY_RELU": Case(
        "leaky_relu",
        lambda a, slope: a.leaky_relu(slope),
        lambda x, slope: x if x > 0 else slope * x,
        [
            ((0.0, SLOPE), 0.0, None),
            ((-4.0, SLOPE), -0.5, (SLOPE,)),
            ((4.0, SLOPE), 4.0, (1,)),
            ((-4.0, 0.0), -0.0, (0.0,)),
            ((INF, SLOPE), INF, (1,)),
            ((-INF, SLOPE), -INF, (SLOPE,)),
            ((NAN, SLOPE), NAN, None),
        ],
    ),
    "MAXIMUM": Case(
        "maximum",
        lambda a, b: a.maximum(b),
        max,
        [
            ((2.0, 2.0), 2.0, (1, 0)),
            ((1.0, 2.0), 2.0, (0, 1)),
            ((0.0, -0.0), 0.0, (1, 0)),
            ((INF, 1.0), INF, (1, 0)),
            ((-INF, -INF), -INF, (1, 0)),
            ((NAN, 1.0), NAN, None),
            ((1.0, NAN), NAN, None),
        ],
    ),
    "MINIMUM": Case(
        "minimum",
        lambda a, b: a.minimum(b),
        min,
        [
            ((2.0, 2.0), 2.0, (1, 0)),
            ((1.0, 2.0), 1.0, (1, 0)),
            ((0.0, -0.0), 0.0, (1, 0)),
            ((INF, 1.0), 1.0, (0, 1)),
            ((-INF, -INF), -INF, (1, 0)),
            ((NAN, 1.0), NAN, None),
            ((1.0, NAN), NAN, None),
        ],
    ),
    "ABS": Case(
        "__abs__",
        abs,
        abs,
        [
            ((0.0,), 0.0, (0,)),
            ((-0.0,), 0.0, (0,)),
            ((-2.5,), 2.5, (-1,)),
            ((-INF,), INF, (-1,)),
            ((NAN,), NAN, None),
        ],
    ),
}

EDGES = [(name, *edge) for name, case in CASES.items() for edge in case.edges]


def rows():
    return {row["name"]: row for row in tape.op_table()}


def differentiable(name, point):
    """How many of the arguments are Values: all but an exponent or a slope that is a number."""
    return 1 if name in ("POW_CONST", "LEAKY_RELU") else len(point)


def apply(name, point):
    """The op's Value operands and its result at `point`."""
    count = differentiable(name, point)
    values = [Value(x) for x in point[:count]]
    return values, CASES[name].call(*values, *point[count:])


@pytest.mark.parametrize(("name", "point", "value", "partials"), EDGES, ids=str)
def test_edge_points(name, point, value, partials):
    if isinstance(value, type):
        with pytest.raises(value):
            apply(name, point)
        return
    operands, out = apply(name, point)
    assert out.data == pytest.approx(value, rel=1e-15, abs=1e-300, nan_ok=True)
    if value == 0 and CASES[name].exact:
        assert math.copysign(1, out.data) == math.copysign(1, value)
    if partials is ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            out.backward()
    elif partials is not None:
        out.backward()
        grads = [v.grad for v in operands]
        assert grads == pytest.approx(list(partials), rel=1e-14, abs=1e-300, nan_ok=True)


def interior(row):
    """Points of a row's domain: a grid that meets no tie and no kink at 0."""
    grids = []
    for k, (lo, hi) in enumerate(row["domain"]):
        grids.append([lo + (hi - lo) * (i + 0.37 + 0.2 * k) / 9 for i in range(9)])
    return list(itertools.product(*grids))


def difference(name, point, k):
    """Central difference of the op in its argument `k`, by Richardson's extrapolation."""

    def slope(h):
        low, high = list(point), list(point)
        low[k] -= h
        high[k] += h
        return (apply(name, high)[1].data - apply(name, low)[1].data) / (high[k] - low[k])

    h = 1e-3 * max(1.0, abs(point[k])) / 8
    return (4 * slope(h / 2) - slope(h)) / 3


@pytest.mark.parametrize("name", CASES)
def test_forward_and_gradient_inside_the_domain(name):
    row, case = rows()[name], CASES[name]
    points = interior(row)
    assert points
    for point in points:
        operands, out = apply(name, point)
        want = case.reference(*point)
        if case.exact:
            assert same_number(float(out.data), float(want)), (name, point)
        else:
            assert out.data == pytest.approx(want, rel=4e-15, abs=2e-16), (name, point)
        (out * 3).backward()
        for k, operand in enumerate(operands):
            numeric = difference(name, point, k)
            assert operand.grad == pytest.approx(3 * numeric, rel=1e-7, abs=1e-8), (
                f"{name} at {point}, argument {k}: analytic {operand.grad / 3}, numeric {numeric}"
            )


@pytest.mark.parametrize("name", CASES)
def test_operands_shown_and_label(name):
    row = rows()[name]
    point = interior(row)[0]
    operands, out = apply(name, point)
    assert row["operands"] == len(row["domain"])
    assert row["shown"] == len(operands)
    assert out._prev == set(operands)
    assert out._op.startswith(row["label"]), (out._op, row["label"])


@pytest.mark.parametrize("name", CASES)
def test_the_same_operand_on_both_sides(name):
    row = rows()[name]
    if row["shown"] == 2:
        x = Value(1.5)
        out = CASES[name].call(x, x)
        out.backward()
        want = {"ADD": 2, "SUB": 0, "MUL": 3.0, "POW": 1.5**1.5 * (1 + math.log(1.5))}.get(name, 1)
        assert x.grad == pytest.approx(want, rel=1e-14)
        assert out._prev == {x}
    else:
        x = Value(0.75)
        rest = (2.0,) if row["operands"] == 2 else ()
        first, second = CASES[name].call(x, *rest), CASES[name].call(x, *rest)
        (first + second).backward()
        y = Value(0.75)
        (CASES[name].call(y, *rest) * 2).backward()
        assert x.grad == pytest.approx(y.grad, rel=1e-14)


@pytest.mark.parametrize(
    ("use", "data", "grad"),
    [
        (lambda v: 2**v, 8.0, 8 * math.log(2)),
        (lambda v: 2.5**v, 2.5**3, 2.5**3 * math.log(2.5)),
        (lambda v: v.maximum(5), 5, 0),
        (lambda v: v.maximum(1.0), 3.0, 1),
        (lambda v: v.minimum(5.0), 3.0, 1),
        (lambda v: v.minimum(1), 1, 0),
        (lambda v: v.leaky_relu(), 3.0, 1),
        (lambda v: (-v).leaky_relu(0.5), -1.5, -0.5),
        (lambda v: +v, 3.0, 1),
        (lambda v: abs(-v), 3.0, 1),
        (lambda v: v.detach() * v, 9.0, 3.0),
    ],
)
def test_forms_with_numbers(use, data, grad):
    v = Value(3.0)
    out = use(v)
    out.backward()
    assert out.data == data
    assert v.grad == pytest.approx(grad, rel=1e-14)


@pytest.mark.parametrize("number", [3, 2.5])
def test_detach_is_a_leaf_with_the_same_data(number):
    v = Value(number) * 1
    v.backward()
    leaf = v.detach()
    assert same_number(leaf.data, number)
    assert same_number(leaf.grad, 0)
    assert leaf._prev == set()
    leaf.data = 7
    assert v.data == number


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if not c.method.startswith("__")])
def test_a_method_has_a_docstring_with_its_formula(name):
    doc = getattr(Value, CASES[name].method).__doc__
    assert doc
    assert len(doc.strip()) > 20


@pytest.mark.parametrize("name", sorted({*rows(), *CASES}))
def test_every_row_of_the_table_is_complete(name):
    row = rows().get(name)
    assert row is not None, f"CASES has {name}, which the op table lacks"
    case = CASES.get(name)
    assert case is not None, f"no gradcheck case for {name}"
    assert case.edges, f"no edge points for {name}"
    assert all(lo < hi for lo, hi in row["domain"]), row
    assert hasattr(Value, case.method)
    stub = (importlib.resources.files("fastgrad") / "value.pyi").read_text()
    assert re.search(rf"\bdef {case.method}\(", stub), f"no stub line for {case.method}"
    assert f"`{row['label']}`" in DOCS.read_text(), f"no row for {row['label']} in docs/ops.md"
