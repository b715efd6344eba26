"""What programs compute: to the bit what the operators give sample by sample, and the gradients."""

import math
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import (
    BATCHES,
    CLASSES,
    EXACT,
    INTS,
    SMOOTH,
    batch_of,
    bits,
    eager,
    magnitudes,
    recipes,
    unchecked,
)

import fastgrad
from fastgrad import functional, nn
from fastgrad.engine import Value

TAME = st.floats(-2, 2).map(lambda x: round(x, 3) or 1.0)


# ---- Outputs


@settings(max_examples=150)
@given(recipes(EXACT, TAME), st.sampled_from(BATCHES), st.booleans(), st.integers(0, 999))
def test_outputs_are_the_operators_to_the_bit(recipe, size, special, seed):
    function, _ = recipe.build()
    xs, index = batch_of(np.random.default_rng(seed), size, recipe.inputs, special)
    got = fastgrad.compile(function)(xs, index)
    for sample, i, outputs in zip(xs, index, got.tolist(), strict=True):
        want = eager(function, sample, i)
        if want is not None:
            assert list(map(bits, outputs)) == list(map(bits, want))
        assert list(map(bits, outputs)) == list(map(bits, unchecked(function, sample, i)))


@settings(max_examples=100)
@given(
    recipes([*EXACT, *INTS, "layer", "layer"], TAME),
    st.sampled_from(BATCHES),
    st.integers(0, 999),
)
def test_ints_differ_in_the_sign_of_zero_only(recipe, size, seed):
    function, _ = recipe.build()
    xs, index = batch_of(np.random.default_rng(seed), size, recipe.inputs)
    got = fastgrad.compile(function)(xs, index)
    for sample, i, outputs in zip(xs, index, got.tolist(), strict=True):
        want = eager(function, sample, i)
        if want is not None:
            assert [bits(x + 0.0) for x in outputs] == [bits(x + 0.0) for x in want]


@settings(max_examples=100)
@given(
    recipes(SMOOTH + [*INTS, "layer", "layer"], TAME, outputs=(1, 3)),
    st.sampled_from(BATCHES),
    st.integers(0, 999),
)
def test_gradients(recipe, size, seed):
    inner, parameters = recipe.build()

    def function(x, i):
        return sum(inner(x, i))

    xs, index = batch_of(np.random.default_rng(seed), size, recipe.inputs)
    program = fastgrad.compile(function, parameters=parameters)
    value, grads = program.value_and_grad(xs, index, theta=None)
    outputs, bounds = [], np.zeros(len(parameters))
    try:
        for sample, i in zip(xs, index):
            out = function([Value(float(x)) for x in sample], Value(int(i)))
            sums = magnitudes(out)
            bounds += [sums.get(id(p), 0.0) / size for p in parameters]
            (out * (1.0 / size)).backward()
            outputs.append(out.data)
    except (ArithmeticError, ValueError):
        return
    if not np.isfinite(bounds).all() or bounds.max(initial=0) > 1e150:
        return
    assert value == pytest.approx(sum(outputs) / size, rel=1e-13, abs=1e-300)
    want = np.array([p.grad for p in parameters], dtype=float)
    assert np.all(np.abs(grads - want) <= 1e-12 * bounds + 1e-300)
    for p in parameters:
        p.grad = 0
    assert program.backward(xs, index) == value
    assert np.array_equal([p.grad for p in parameters], grads)


# ---- Models


def values(*numbers):
    return [Value(x) for x in numbers]


def shared(rng):
    """Two layers of the same weights, and a neuron that is in a layer twice."""
    first, second = nn.Layer(4, 4), nn.Layer(4, 3)
    for mine, other in zip(second.neurons, first.neurons):
        mine.w = other.w
    second.neurons[2] = second.neurons[0]
    return lambda x: second(first(first(x)))


def computed(rng):
    """Weights that are results of computations on parameters alone."""
    w, scale = [values(*rng.normal(size=6)) for _ in range(5)], Value(0.3)

    def model(x):
        rows = [[(wi * scale).tanh() for wi in row] for row in w]
        return [sum((wi * xi for wi, xi in zip(row, x)), scale * scale) for row in rows]

    return model


def with_ints(rng):
    model = nn.MLP(3, [4, 1])
    for k, p in enumerate(model.parameters()):
        p.data = k % 5 - 2
    return lambda x: model(x) * 0.5


def repeated(rng):
    """The same x twice in a layer, also where it wants a gradient."""
    first, second = nn.Layer(2, 3), nn.Layer(7, 5)

    def model(x):
        a, b, c = first(x)
        return second([a, b, a, x[0], c, a, x[0]])

    return model


def embedding(rng):
    """Columns of a table that an input chooses, through a layer."""
    table, layer = [values(*rng.normal(size=4)) for _ in range(CLASSES)], nn.Layer(4, 4)
    return lambda x: layer(functional.take(table, functional.argmax(x[:CLASSES])))


def partly_constant(rng):
    w = [[Value(0.5), 2.0, Value(-1.5)] for _ in range(4)]
    return lambda x: [sum((wi * xi for wi, xi in zip(row, x)), 0.25) for row in w]


def long_rows(rng):
    """Neurons of 40 inputs: equal x, x that are parameters, constants or inputs, alone or mixed."""
    first, second, third, fourth = (nn.Layer(40, n) for n in (40, 3, 2, 1))
    twin = nn.Neuron(40)
    twin.w, twin.b = first.neurons[7].w, first.neurons[7].b
    first.neurons[8] = twin  # so two x of `second` are one entry
    third.neurons[1].b = first.neurons[0].w[3]
    weights = values(*rng.normal(size=20))

    def model(x):
        of_parameters = third(first(weights * 2))
        mixed = third([*x, *weights[:16], *x[:2], 0.5, -1.5])
        return [*second(first([*x, *x])), *of_parameters, *mixed, fourth([*x, *x]) * x[0]]

    return model


def odd_rows(rng):
    """Long rows whose bias or weights depend on the inputs; and weights that have another use."""
    first, second = nn.Layer(36, 3), nn.Layer(36, 2)
    decay = first.parameters()[::5]

    def model(x):
        row = [v.tanh() for v in x]
        bias, first.neurons[1].b = first.neurons[1].b, x[3] * 2
        weight, first.neurons[2].w[5] = first.neurons[2].w[5], x[4]
        try:
            out = first(row)
        finally:
            first.neurons[1].b, first.neurons[2].w[5] = bias, weight
        return [*out, *second(row), *first(row), sum(p * p for p in decay)]

    return model


def branches(rng):
    """Choices whose options are one entry."""
    w = values(0.5, -1.5)

    def model(x):
        a, b = w[0] * x[0], w[1] * x[1]
        best = functional.argmax(x)
        return [
            functional.where(x[0], a, w[0] * x[0]) * b,
            functional.take([b, a, b, b], best) * a,
            functional.where(x[1], w[1], w[1]) + functional.take([w[0], w[0]], best),
            a.maximum(a) * b.minimum(b) + a * a + b / (b + 9.0),
        ]

    return model


MODELS = {
    "demo": (2, lambda rng: nn.MLP(2, [16, 16, 1])),
    "one input": (1, lambda rng: nn.MLP(1, [9, 2])),
    "one neuron": (9, lambda rng: nn.Layer(9, 1)),
    "a neuron by itself": (5, lambda rng: nn.Neuron(5)),
    "wide": (1100, lambda rng: nn.MLP(1100, [7, 3])),
    "many neurons": (5, lambda rng: nn.MLP(5, [270, 2])),
    "large": (130, lambda rng: nn.MLP(130, [130, 6])),
    "shared": (4, shared),
    "computed": (6, computed),
    "ints": (3, with_ints),
    "repeated": (2, repeated),
    "embedding": (3, embedding),
    "partly constant": (3, partly_constant),
    "long rows": (20, long_rows),
    "odd rows": (36, odd_rows),
    "same branches": (2, branches),
}


@pytest.mark.parametrize("size", [1, 3, 4, 8, 21, 33, 64, 65, 257])
@pytest.mark.parametrize("name", MODELS)
def test_models(name, size):
    inputs, make = MODELS[name]
    random.seed(name)
    rng = np.random.default_rng(size)
    model = make(rng)

    def loss(x):
        out = model(x)
        return sum(v * v for v in (out if isinstance(out, list) else [out]))

    forward, program = fastgrad.compile(model), fastgrad.compile(loss)
    xs = rng.normal(size=(size, inputs)).round(2)
    got = forward(xs)
    value, grads = program.value_and_grad(xs)
    parameters = program.parameters
    assert len({*map(id, parameters)}) == len(parameters)
    bounds = np.zeros(len(parameters))
    sampled = range(size) if size < 30 or inputs * size < 5000 else range(size - 8, size)
    for k in sampled:
        out = model(values(*xs[k]))
        want = [v.data for v in (out if isinstance(out, list) else [out])]
        assert [x + 0.0 for x in np.ravel(got[k])] == [x + 0.0 for x in want]
    if len(sampled) < size:
        return
    total = 0.0
    for x in xs:
        out = loss(values(*x))
        total += out.data
        sums = magnitudes(out)
        bounds += [sums.get(id(p), 0.0) for p in parameters]
        out.backward()
    want = np.array([p.grad for p in parameters], dtype=float)
    assert value == total / size
    assert np.all(np.abs(grads * size - want) <= 1e-12 * bounds)
    assert program.value_and_grad(xs)[1].tobytes() == grads.tobytes()


def rows_of(numbers):
    return numbers.reshape(-1, 8)[:, :4], numbers.reshape(-1, 8)[:, 4:]


def windows(numbers):
    """The second begins where the first one's row ends, but goes on by one number a sample."""
    first = numbers.reshape(-1, 8)[:, :4]
    return first, np.lib.stride_tricks.sliding_window_view(numbers, 4)[4 : 4 + len(first)]


FORMS = {
    "rows": rows_of,
    "columns": lambda numbers: numbers.reshape(2, 4, -1).transpose(0, 2, 1),
    "both": lambda numbers: (rows_of(numbers)[0], rows_of(numbers)[1].copy(order="F")),
    "backwards": lambda numbers: [x[::-1] for x in rows_of(numbers)],
    "windows": windows,
    "one for all": lambda numbers: (
        rows_of(numbers)[0],
        np.broadcast_to(numbers[:4], (len(numbers) // 8, 4)),
    ),
}


@pytest.mark.parametrize("size", [3, 33, 140, 700])
@pytest.mark.parametrize("form", FORMS)
def test_layers_of_inputs_that_lie_otherwise(form, size):
    random.seed(form)
    layer = nn.Layer(12, 9)
    program = fastgrad.compile(lambda x, y: functional.sum(layer([*x, *y, *x[:4]])))
    x, y = FORMS[form](np.random.default_rng(size).normal(size=8 * size))
    singles = [program.value_and_grad(x[k : k + 1], y[k : k + 1])[1] for k in range(size)]
    got = program.value_and_grad(x, y)[1]
    assert np.all(np.abs(got - np.mean(singles, 0)) <= 1e-12 * np.mean(np.abs(singles), 0))


@pytest.mark.parametrize("inputs", [2, 16])
def test_lanes_that_a_batch_has_not_got_add_nothing(inputs):
    """Not even what earlier samples have left there, times 0."""
    random.seed(inputs)
    layer = nn.Layer(inputs, 5)
    program = fastgrad.compile(lambda x: functional.sum(layer(x)))
    xs = np.random.default_rng(1).normal(size=(3, inputs))
    want = program.value_and_grad(xs)[1]
    program.value_and_grad(np.full((128, inputs), np.inf))
    assert np.isfinite(want).all()
    assert program.value_and_grad(xs)[1].tobytes() == want.tobytes()


def test_long_rows_from_a_graph():
    """Leaves that are held and constants in turn, which lie side by side on the tape."""
    random.seed(3)
    layer, first, second = nn.Layer(40, 2), nn.Layer(2, 40), Value(0.5)
    x = values(0.25, -1.0)
    row = [second, *(0.1 * k for k in range(19)), *values(*range(20))]
    out = layer([v * 1.0 for v in row]) + layer(row) + layer(first(x))
    program = fastgrad.Program.from_values([x], out)
    assert program([[0.25, -1.0]]).tolist() == [[v.data for v in out]]
    assert pickle.loads(pickle.dumps(program))([[0.25, -1.0]]).tolist() == [[v.data for v in out]]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("x", "in sample 1, dot gave -inf in term 31 of 40: "),
        ("w", "in sample 0, dot gave nan in term 8 of 40: 0.146"),
        (
            "gradient",
            "operand -0.17907634530818228 in term 31 of 40, -0.17907634530818228 * 1e+150,",
        ),
    ],
)
def test_what_is_not_finite_in_a_long_row(bad, message):
    random.seed(3)
    layer = nn.Layer(40, 2, nonlin=False)

    @fastgrad.compile(check_finite=True)
    def program(x):
        y = layer(x)[1]
        return (y + (-y).detach()) * 1e200

    xs = np.ones((3, 40))
    if bad == "x":
        xs[1, 30] = math.inf
    elif bad == "w":
        layer.neurons[1].w[7].data = math.nan
    else:
        xs[2, 30] = 1e150
    with pytest.raises(FloatingPointError) as info:
        program.backward(xs)
    assert message in str(info.value)


# ---- Powers


def special_bases():
    """Where the fast powers must not be trusted: extremes, exact ones, powers of two."""
    twos = 2.0 ** np.arange(-1074, 1024)
    near = np.concatenate([np.nextafter(twos, 0), np.nextafter(twos, np.inf)])
    whole = np.arange(1.0, 3000.0)
    exact = np.concatenate([whole, whole**2, whole**3, 1 / whole, whole / 1024])
    edges = np.array([0.0, np.inf, np.nan, 5e-324, 2.2250738585072014e-308, np.finfo(float).max])
    return np.concatenate([twos, near, exact, edges])


def ties(rng):
    """Bases whose square or cube lies exactly between two doubles, and their neighbours."""
    whole = [
        2 * rng.integers(2**25, 2**26, 20_000) + 1,
        2 * rng.integers(80_000, 2**17, 20_000) + 1,
    ]
    numbers = np.concatenate(whole).astype(float)
    return np.concatenate([numbers, np.nextafter(numbers, 0), numbers / 3, 1 / numbers])


@pytest.mark.parametrize("exponent", [2, 2.0, -1, 0.5, 3, -2, 1.5, 0, 1])
def test_powers_are_libm_s(exponent):
    rng = np.random.default_rng(int(exponent * 2) + 9)
    any_bits = rng.integers(0, 2**64, 20_000, dtype=np.uint64).view(float)
    any_bits = any_bits[~np.isnan(any_bits)]  # libm tells signaling ones apart, Python does not
    moderate = [rng.uniform(0, scale, 20_000) for scale in (1.0, 2.0, 8.0, 1e3, 1e150)]
    x = np.concatenate([special_bases(), ties(rng), any_bits, *moderate])
    x = np.concatenate([x, -x])
    got = fastgrad.compile(lambda v: v**exponent)(x)
    for base, power in zip(x.tolist(), got.tolist(), strict=True):
        try:
            want = math.pow(base, exponent)
        except (OverflowError, ValueError):  # IEEE's number instead of Python's error
            with np.errstate(all="ignore"):
                want = float(np.float64(base) ** np.float64(exponent))
        assert bits(power) == bits(want), base.hex()
