"""How programs are called: arguments of every shape, parameters, signatures, copies."""

import copy
import gc
import operator
import pickle
import random
import weakref

import numpy as np
import pytest

import fastgrad
from fastgrad import Program, functional, nn
from fastgrad.engine import Value

X = np.arange(12.0).reshape(4, 3) / 8


def weighted():
    w = [Value(0.5), Value(-1.0), Value(2.0)]
    return w, fastgrad.compile(lambda x: sum(wi * xi for wi, xi in zip(w, x)))


def read_only(array):
    array = array.copy()
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "given",
    [
        X.tolist(),
        tuple(map(tuple, X)),
        [list(row) for row in X],
        [np.array(row) for row in X],
        X.astype(np.float32),
        X.astype(np.float16),
        X.astype(">f8"),
        X.astype(np.longdouble),
        np.asfortranarray(X),
        np.repeat(X, 2, axis=1)[:, ::2],
        X[::-1][::-1],
        read_only(X),
        np.frombuffer(b"." + X.tobytes(), offset=1).reshape(4, 3),
        np.array([(1, row) for row in X.tolist()], dtype="i4, 3f8")["f1"],
        X.astype(np.longdouble)[:, ::-1][:, ::-1],
        np.ma.array(X),
    ],
    ids=str,
)
def test_kinds_of_arrays(given):
    _, program = weighted()
    out = program(given)
    assert out.dtype == np.float64
    assert out.tolist() == (X[:, 0] * 0.5 - X[:, 1] + X[:, 2] * 2.0).tolist()
    assert len(program.signatures) == 1
    assert program.value_and_grad(given)[1].tolist() == X.mean(axis=0).tolist()


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.int32, int])
def test_whole_numbers(dtype):
    _, program = weighted()
    x = np.array([[1, 0, 1], [0, 1, 1]]).astype(dtype)
    assert program(x).tolist() == program(x.tolist()).tolist() == [2.5, 1.0]


def test_broadcast_views():
    _, program = weighted()
    same_sample = np.broadcast_to(X[1], (40, 3))
    same_number = np.broadcast_to(0.25, (5, 3))
    assert program(same_sample).tolist() == program(X[1:2]).tolist() * 40
    assert program(same_number).tolist() == program([[0.25] * 3]).tolist() * 5


@pytest.mark.parametrize("size", [0, 1, 2, 9])
def test_shapes(size):
    """A number, a vector, a matrix and a tensor for each sample, together and by keyword."""
    w = Value(3.0)

    @fastgrad.compile
    def program(s, v, m, t):
        assert isinstance(s, Value)
        assert [len(m), len(m[1]), len(t), len(t[0]), len(t[0][0])] == [2, 3, 2, 1, 2]
        return [[s * w, v[1]], [m[1][2] - m[0][1], t[1][0][1]]]

    rng = np.random.default_rng(size)
    s, v = rng.normal(size=size), rng.normal(size=(size, 2))
    m, t = rng.normal(size=(size, 2, 3)), rng.normal(size=(size, 2, 1, 2))
    for out in (program(s, v, m, t), program(s, v, t=t, m=m)):
        assert out.shape == (size, 2, 2)
        assert np.array_equal(out[:, 0], np.stack([s * 3.0, v[:, 1]], axis=1).reshape(size, 2))
        assert np.array_equal(out[:, 1, 0], m[:, 1, 2] + m[:, 0, 1] * -1)
        assert np.array_equal(out[:, 1, 1], t[:, 1, 0, 1])
    assert [one.shapes for one in program.signatures] == [((), (2,), (2, 3), (2, 1, 2))]
    assert program.signatures[0].output == (2, 2)


def test_more_arguments():
    program = fastgrad.compile(lambda first, *rest: sum(rest, first))
    assert program([1.0], [2.0], [4.0]).tolist() == [7.0]
    assert program([1.0]).tolist() == [1.0]
    assert len(program.signatures) == 2


def test_a_sample_of_no_numbers():
    w = Value(2.0)
    program = fastgrad.compile(lambda x: w)
    assert program(np.zeros((3, 0))).tolist() == [2.0] * 3
    assert program.backward(np.zeros((3, 0))) == 2.0
    assert w.grad == 1.0
    assert program(np.zeros((0, 2, 0))).shape == (0,)


OUTPUTS = {
    "constant": (lambda w, x: 1.5, [1.5, 1.5], [0.0]),
    "constant Value": (lambda w, x: Value(2), [2.0, 2.0], [0.0]),
    "input": (lambda w, x: x, [3.0, 4.0], [0.0]),
    "parameter": (lambda w, x: w, [7.0, 7.0], [1.0]),
    "of parameters": (lambda w, x: w * w + 1, [50.0, 50.0], [14.0]),
    "of inputs": (lambda w, x: x * x, [9.0, 16.0], [0.0]),
    "detached": (lambda w, x: (w * x).detach(), [21.0, 28.0], [0.0]),
    "product": (lambda w, x: w * x, [21.0, 28.0], [3.5]),
    "positive": (lambda w, x: +w, [7.0, 7.0], [1.0]),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_what_a_function_may_return(name):
    function, outputs, gradient = OUTPUTS[name]
    w = Value(7.0)
    program = fastgrad.compile(lambda x: function(w, x), parameters=[w])
    assert program([3.0, 4.0]).tolist() == outputs
    value, grads = program.value_and_grad([3.0, 4.0])
    assert (value, grads.tolist()) == (sum(outputs) / 2, gradient)
    twice = fastgrad.compile(lambda x: (lambda y: [[y, y], [w, y]])(function(w, x)))
    assert twice([3.0, 4.0]).tolist() == [[[y, y], [7.0, y]] for y in outputs]
    assert fastgrad.compile(lambda x: np.array([function(w, x)], dtype=object))([3.0]).shape == (
        1,
        1,
    )


# ---- Static arguments


def test_static_arguments():
    seen = []

    @fastgrad.compile
    def power(x, *, n, shift=0.0):
        seen.append((n, shift))
        return x**n + shift

    assert power([2.0, 3.0], n=2).tolist() == [4.0, 9.0]
    assert power([2.0], n=2, shift=0.0).tolist() == [4.0]
    assert power([2.0], shift=1.0, n=3).tolist() == [9.0]
    assert seen == [(2, 0.0), (3, 1.0)]
    assert [one.static for one in power.signatures] == [
        {"n": 2, "shift": 0.0},
        {"n": 3, "shift": 1.0},
    ]
    assert "n=3, shift=1.0 -> ()" in repr(power)


@pytest.mark.parametrize(
    ("first", "second"),
    [(0.0, -0.0), (1, 1.0), (1, True), ((0.0, 1), (-0.0, 1)), (((1,),), ((1.0,),))],
)
def test_static_arguments_that_are_equal_and_yet_not_the_same(first, second):
    program = fastgrad.compile(lambda x, *, s: x * len(repr(s)))
    assert program([1.0], s=first).tolist() == [float(len(repr(first)))]
    assert program([1.0], s=second).tolist() == [float(len(repr(second)))]
    program([1.0], s=copy.copy(second))
    assert [one.static["s"] for one in program.signatures] == [first, second]


def test_a_static_nan_is_traced_once():
    program = fastgrad.compile(lambda x, *, s: x * s)
    for _ in range(3):
        assert np.isnan(program([1.0], s=float("nan")))
    assert len(program.signatures) == 1


# ---- Parameters


def test_data_and_loading_are_seen_at_the_next_run():
    random.seed(1)
    model = nn.MLP(2, [3, 1])
    program = fastgrad.compile(model)
    x = [[0.5, -1.0], [2.0, 0.25]]

    def check():
        want = [model([Value(a), Value(b)]).data for a, b in x]
        assert program(x).tolist() == want
        return want

    before = check()
    for p in model.parameters():
        p.data += 0.25
    assert check() != before
    for p, number in zip(model.parameters(), (k / 7 for k in range(20))):
        p.data = number
    check()
    for _ in range(200_000):  # entries move
        model.layers[0].neurons[0].w[0] * 2.0
    check()
    assert len(program.signatures) == 1
    assert {*map(id, program.parameters)} == {*map(id, model.parameters())}


def test_a_detached_parameter_is_read_afresh():
    w = Value(2.0)
    program = fastgrad.compile(lambda x: w.detach() * x + w)
    assert program([1.0]).tolist() == [4.0]
    w.data = 3.0
    assert program([1.0]).tolist() == [6.0]
    assert program.value_and_grad([5.0])[1].tolist() == [1.0]


def test_signatures_that_capture_different_parameters():
    a, b, c = Value(2.0), Value(3.0), Value(5.0)

    @fastgrad.compile
    def program(x, *, which):
        return {"ab": a * x + b, "bc": b * x * c, "c": c * x}[which]

    assert program.backward([1.0, 3.0], which="c") == 10.0
    assert program.parameters == [c]
    assert program.backward([1.0, 3.0], which="bc") == 30.0
    assert program.backward([1.0, 3.0], which="ab") == 7.0
    assert program.parameters == [c, b, a]
    assert [v.grad for v in (a, b, c)] == [2.0, 10.0 + 1.0, 2.0 + 6.0]
    assert program.value_and_grad([2.0], which="c")[1].tolist() == [2.0, 0.0, 0.0]
    value, grads = program.value_and_grad([2.0], which="bc", theta=[10.0, 20.0, 30.0])
    assert (value, grads.tolist()) == (400.0, [40.0, 20.0, 0.0])
    assert [v.data for v in (a, b, c)] == [2.0, 3.0, 5.0]


def test_parameters_come_first_in_the_order_given():
    a, b, idle = Value(2.0), Value(3.0), Value(4.0)
    program = fastgrad.compile(parameters=[b, idle])(lambda x: a * x + b)
    assert program.parameters == [b, idle]
    assert program.value_and_grad([5.0])[1].tolist() == [1.0, 0.0, 5.0]
    assert program.parameters == [b, idle, a]
    idle.grad = 3
    program.backward([5.0])
    assert (a.grad, b.grad, idle.grad) == (5.0, 1.0, 3.0)


def test_gradients_accumulate_and_ints_become_floats():
    w = Value(2)
    w.grad = 1
    program = fastgrad.compile(lambda x: w * x)
    program.backward([1.0, 2.0])
    program.backward([1.0, 2.0])
    assert (w.grad, type(w.grad), w.data) == (4.0, float, 2)


def test_differences():
    """As scipy.optimize drives it: a flat vector in, the value and its gradient out."""
    random.seed(3)
    model = nn.MLP(2, [5, 1])
    program = fastgrad.compile(lambda x, y: (model(x) - y) ** 2)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 2)), rng.normal(size=20)
    program(x, y)
    theta = read_only(rng.normal(size=len(program.parameters)))
    data = [p.data for p in program.parameters]
    _, grads = program.value_and_grad(x, y, theta=theta)
    for k in range(len(theta)):
        step = np.zeros(len(theta))
        step[k] = 1e-6
        above, below = (
            program.value_and_grad(x, y, theta=list(theta + sign * step))[0] for sign in (1, -1)
        )
        assert (above - below) / 2e-6 == pytest.approx(grads[k], rel=1e-5, abs=1e-7)
    assert [(p.data, p.grad) for p in program.parameters] == [(number, 0) for number in data]


# ---- Composition


def test_a_program_inside_of_another():
    w = Value(2.0)
    inner = fastgrad.compile(lambda x, *, n=2: (w * x) ** n)
    outer = fastgrad.compile(lambda x: inner(x + 1) + inner(x, n=3))
    assert outer([1.0, 2.0]).tolist() == [16.0 + 8.0, 36.0 + 64.0]
    assert (inner.signatures, outer.parameters) == ([], [w])


def test_from_values():
    x, y, w = Value(1.0), [Value(2.0), Value(3.0)], Value(4.0)
    program = Program.from_values([x, y], [x * w, (y[0] - y[1]) * 2.0])
    assert program([1.0, 2.0], [[3.0, 4.0], [5.0, 7.0]]).tolist() == [[4.0, -2.0], [8.0, -4.0]]
    assert program.parameters == [w]
    loss = Program.from_values([x], functional.mse(w * x, 2.0), threads=1)
    assert loss.backward([1.0, 2.0]) == 20.0
    assert w.grad == 2.0 * (2.0 * 1.0 + 6.0 * 2.0) / 2
    assert "from_values" in repr(loss)


def test_from_values_leaves_out_what_the_outputs_do_not_reach():
    w = Value(4.0)
    late = Value(1.0)
    out = w * 2.0
    unused = Value(5.0)
    program = Program.from_values([late, unused], [out, w])
    assert program([1.0], [2.0]).tolist() == [[8.0, 4.0]]
    with pytest.raises(ValueError, match=r"^the same Value is given as input twice: make another"):
        Program.from_values([late, late], late * 2)


def test_functions_and_methods():
    """Modules and bound methods compile, with their name and doc; their attributes stay theirs."""

    class Model(nn.Module):
        """Twice."""

        def __init__(self):
            self.threads = "mine"
            self.w = Value(2.0)

        def __call__(self, x):
            return self.w * x

    model = Model()
    program = fastgrad.compile(model, threads=2)
    assert (program.threads, program([3.0]).tolist(), program.__doc__) == (2, [6.0], "Twice.")
    assert fastgrad.compile(model.__call__)([3.0]).tolist() == [6.0]
    assert fastgrad.compile(operator.neg)([3.0]).tolist() == [-3.0]
    assert fastgrad.compile(threads=1)(lambda x: x).threads == 1


# ---- Copies


COPIES = {
    "pickle": lambda program: pickle.loads(pickle.dumps(program)),
    "protocol 2": lambda program: pickle.loads(pickle.dumps(program, 2)),
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("how", COPIES)
def test_copies_are_independent(how):
    a, b = Value(2.0), Value(3)
    a.grad = 5.0
    program = fastgrad.compile(lambda x, *, n=1: a * x + b if n == 1 else b * x, threads=2)
    program([1.0], n=2)
    x = np.linspace(-1, 1, 11)
    want = program.value_and_grad(x)
    made = COPIES[how](program)
    got = made.value_and_grad(x)
    assert (got[0], got[1].tolist()) == (want[0], want[1].tolist())
    assert [(p.data, p.grad) for p in made.parameters] == [(3, 0), (2.0, 5.0)]
    assert (made.threads, repr(made)) == (2, repr(program))
    made.parameters[0].data = 100.0
    made.backward(x)
    assert (b.data, b.grad, program.value_and_grad(x)[0]) == (3, 0, want[0])
    with pytest.raises(
        fastgrad.TraceError,
        match=r"^samples of shapes \(\(3,\),\) were not traced, and this program has no function "
        r"to trace: it knows \(\(\),\), \(\(\),\)$",
    ):
        made(np.zeros((2, 3)))


def test_a_copy_beside_its_model_shares_its_parameters():
    random.seed(2)
    model = nn.MLP(2, [2, 1])
    program = fastgrad.compile(model)
    program([[1.0, 2.0]])
    model_copy, program_copy = copy.deepcopy((model, program))
    assert {*map(id, program_copy.parameters)} == {*map(id, model_copy.parameters())}
    model_copy.layers[1].neurons[0].b.data = 10.0
    assert program_copy([[1.0, 2.0]]) != program([[1.0, 2.0]])


def test_a_program_dies_with_its_function():
    def make():
        model = nn.MLP(1, [2, 1])
        program = fastgrad.compile(lambda x: model([x]))
        program.backward([1.0])
        return weakref.ref(model), weakref.ref(model.layers[0].neurons[0].w[0])

    dead, weight = make()
    gc.collect()
    assert dead() is weight() is None


def test_a_million_entries():
    w = Value(1.0)

    @fastgrad.compile
    def program(x):
        for _ in range(250_000):
            x = (x * 0.999 + w) * 0.5
        return x

    x = [0.5, 1.0, 1e300]
    value, grads = program.value_and_grad(x)
    assert program.signatures[0].entries > 1_000_000
    fixed, slope = 0.5, 0.0
    for _ in range(2000):  # converges long before
        fixed, slope = (fixed * 0.999 + 1.0) * 0.5, (slope * 0.999 + 1.0) * 0.5
    assert value == pytest.approx(fixed, rel=1e-12)
    assert grads.tolist() == [pytest.approx(slope, rel=1e-12)]
