"""Each elementary operation's first and second partials, in every sweep, against 50 digits.

The references are mpmath's: the op written with its functions, differentiated at 50 digits. A
partial must be right to 4 ulp, a second one to 16, where it is well conditioned: where an ulp in an
operand changes it by few ulp itself. Elsewhere that change is allowed on top.
"""

import itertools

import numpy as np
import pytest
from mpmath import mp, mpf
from test_ops import CASES, apply, differentiable, interior, rows

import fastgrad

FIRST, SECOND = 4, 16  # ulp
NOISE = 1e-60  # of the differences that mpmath takes at 50 digits; and subnormal results
FORMULAS = {
    "ADD": lambda x, y: x + y,
    "SUB": lambda x, y: x - y,
    "MUL": lambda x, y: x * y,
    "POW_CONST": lambda x, n: x**n,
    "POW": lambda x, y: x**y,
    "RELU": lambda x: max(x, 0),
    "RELU_MAX": lambda x: max(x, 0),
    "RELU_LOCAL": lambda x: max(x, 0),
    "RELU_FLOAT": lambda x: max(x, 0),
    "LEAKY_RELU": lambda x, slope: x if x > 0 else slope * x,
    "ABS": abs,
    "MAXIMUM": max,
    "MINIMUM": min,
    "EXP": mp.exp,
    "LOG": mp.log,
    "SQRT": mp.sqrt,
    "SIN": mp.sin,
    "COS": mp.cos,
    "TANH": mp.tanh,
    "TANH_EXP": mp.tanh,
    "SIGMOID": lambda x: 1 / (1 + mp.exp(-x)),
    "SIGMOID_EXP": lambda x: 1 / (1 + mp.exp(-x)),
    "SOFTPLUS": lambda x: mp.log1p(mp.exp(x)),
    "GELU": lambda x: x * mp.ncdf(x),
}
KINKS = {"RELU", "RELU_MAX", "RELU_LOCAL", "RELU_FLOAT", "LEAKY_RELU", "ABS", "MAXIMUM", "MINIMUM"}
POWERS = {"POW", "POW_CONST"}
# Rules written in the result, as scripts have them: where it comes near 1, what is left of
# 1 - z * z has the digits of 1.
BY_RESULT = {"TANH", "TANH_EXP", "SIGMOID_EXP"}


def exact(name, point, orders):
    """A partial derivative of these orders at 50 digits, or more where steps would be lost."""
    with mp.workdps(50 if all(1e-10 < abs(x) < 1e3 for x in point if x) else 400):
        return mp.diff(FORMULAS[name], tuple(map(mpf, point)), orders)


def allowed(name, point, orders, ulps):
    """How far from the exact partial a result may be."""
    size = len(point)
    with mp.workdps(50):
        partial = exact(name, point, orders)
        sway = mpf(0)
        for k in range(size):
            more = tuple(order + (i == k) for i, order in enumerate(orders))
            sway += abs(mpf(point[k]) * exact(name, point, more))
        floor = mpf(name in BY_RESULT)
        ulp = mpf(2) ** -52
        return float(partial), float(ulps * ulp * max(abs(partial), floor) + ulp * sway) + NOISE


def first_partials(name, point):
    """The partials by the operands, from every sweep there is."""
    count = differentiable(name, point)
    values, out = apply(name, point)
    yield "grad", np.atleast_1d(fastgrad.grad(out, values))
    yield "jvp", np.array([fastgrad.jvp(out, values, v=unit) for unit in np.eye(count)])
    yield "jacobian", fastgrad.jacobian([out, out, out], values)[1]
    assert all(value.grad == 0 for value in values)
    out.backward()
    yield "backward", np.array([value.grad for value in values])
    for samples in (1, 7):
        columns, program = compiled(name, point, samples)
        yield (
            f"program of {samples}",
            np.array([fastgrad.grad(program, *columns, wrt=k)[-1] for k in range(count)]),
        )
    parameters = [fastgrad.Value(x) for x in point[:count]]
    program = fastgrad.compile(
        lambda x: CASES[name].call(*parameters, *point[count:]), parameters=parameters
    )
    _, grads = program.value_and_grad(np.zeros(1))
    yield "parameters", grads
    varying = fastgrad.compile(
        lambda x: CASES[name].call(*(p + 0 * x for p in parameters), *point[count:]),
        parameters=parameters,
    )
    if abs(out.data) < 1e300:  # so many samples can be added up
        _, grads = varying.value_and_grad(np.zeros(8))
        yield "lanes", grads


def compiled(name, point, samples):
    count = differentiable(name, point)
    program = fastgrad.compile(
        (lambda x: CASES[name].call(x, *point[1:]))
        if count == 1
        else (lambda x, y: CASES[name].call(x, y))
    )
    return [np.full(samples, x) for x in point[:count]], program


def second_partials(name, point):
    """The matrix of second partials by the operands, from every sweep there is."""
    count = differentiable(name, point)
    values, out = apply(name, point)
    yield "hessian", fastgrad.hessian(out, values)
    yield "hvp", np.array([fastgrad.hvp(out, values, v=unit) for unit in np.eye(count)])
    whole = fastgrad.compile(
        lambda x: CASES[name].call(*(x[k] for k in range(count)), *point[count:])
    )
    for samples in (1, 3):
        given = np.tile(point[:count], (samples, 1))
        yield f"program of {samples}", fastgrad.hessian(whole, given)[-1]


def well_inside():
    for name, row in rows().items():
        if name in CASES:
            for point in interior(row):
                yield name, point


INSIDE = [(name, point) for name, point in well_inside()]
EDGES = [
    (name, point)
    for name, case in CASES.items()
    for point, value, partials in case.edges
    if not isinstance(value, type)
    and isinstance(partials, tuple)
    and name not in KINKS
    and all(abs(x) < 1e199 for x in point)
    and not (name in POWERS and point[0] == 0)
]


def test_every_row_has_a_formula():
    assert set(FORMULAS) == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_first_partials(name):
    points = [point for op, point in INSIDE + EDGES if op == name]
    for point in points:
        count = differentiable(name, point)
        for k in range(count):
            orders = tuple(int(i == k) for i in range(len(point)))
            expected, tolerance = allowed(name, point, orders, FIRST)
            for sweep, partials in first_partials(name, point):
                assert abs(partials[k] - expected) <= tolerance, (
                    f"{name}{point} by operand {k}, {sweep}: {partials[k]!r}, expected {expected!r}"
                )


@pytest.mark.parametrize("name", sorted(CASES))
def test_second_partials(name):
    points = [point for op, point in INSIDE + EDGES if op == name]
    for point in points:
        count = differentiable(name, point)
        for i, j in itertools.product(range(count), repeat=2):
            orders = tuple((i == k) + (j == k) for k in range(len(point)))
            expected, tolerance = allowed(name, point, orders, SECOND)
            for sweep, matrix in second_partials(name, point):
                found = np.reshape(matrix, (count, count))[i, j]
                assert found == expected or abs(found - expected) <= tolerance, (
                    f"{name}{point} by {i} and {j}, {sweep}: {found!r}, expected {expected!r}"
                )


@pytest.mark.parametrize("name", sorted(KINKS))
def test_kinks_bend_nowhere(name):
    for point, value, partials in CASES[name].edges:
        if isinstance(value, type) or not isinstance(partials, tuple):
            continue
        values, out = apply(name, point)
        assert np.array_equal(np.atleast_1d(fastgrad.grad(out, values)), partials)
        assert not np.any(fastgrad.hessian(out, values))


@pytest.mark.parametrize(
    ("exponent", "first", "second"), [(0, 0, 0), (1, 1, 0), (2, 0, 2), (3, 0, 0), (2.5, 0, 0)]
)
def test_powers_of_zero(exponent, first, second):
    x, n = fastgrad.Value(0.0), fastgrad.Value(exponent)
    assert fastgrad.grad(x**exponent, x) == first
    assert fastgrad.hessian(x**exponent, x) == second
    assert np.array_equal(fastgrad.grad(x**n, [x, n]), [first, 0])
    if exponent > 1:  # else the mixed one has a pole
        assert np.array_equal(fastgrad.hessian(x**n, [x, n]), [[second, 0], [0, 0]])


@pytest.mark.parametrize("x", [1e200, -1e200, float("inf"), float("-inf")])
def test_gelu_is_straight_far_out(x):
    value = fastgrad.Value(x)
    assert fastgrad.grad(value.gelu(), value) == (x > 0)
    assert fastgrad.hessian(value.gelu(), value) == 0
