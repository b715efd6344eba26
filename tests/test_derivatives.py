"""Derivatives as numbers: of graphs and programs, in every mode, against each other and by hand."""

import random
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recipes import SMOOTH, batch_of, recipes

import fastgrad
from fastgrad import Value, functional
from fastgrad.nn import MLP, Layer
from fastgrad.tape import usage

TAME = st.floats(-1.5, 1.5, width=16)
INNER_PRODUCT = 1e-13


@fastgrad.compile
def rosenbrock(x):
    return sum(100 * (x[k + 1] - x[k] ** 2) ** 2 + (1 - x[k]) ** 2 for k in range(len(x) - 1))


def rosenbrock_hessian(x):
    """By hand, as in Moré, Garbow and Hillstrom, Testing unconstrained optimization software."""
    n = len(x)
    h = np.zeros((n, n))
    for k in range(n - 1):
        h[k, k] += 1200 * x[k] ** 2 - 400 * x[k + 1] + 2
        h[k, k + 1] = h[k + 1, k] = -400 * x[k]
        h[k + 1, k + 1] += 200
    return h


def grads_of(y, xs):
    """What backward() adds to fresh grads."""
    y.backward()
    return np.array([x.grad for x in xs], dtype=float)


def network(seed=3):
    random.seed(seed)
    model = MLP(2, [4, 4, 1])

    def loss(x, y):
        return (model(x).tanh() - y) ** 2 + 0.01 * sum(p * p for p in model.parameters())

    return model, loss


# ---- values


@settings(deadline=None, max_examples=150)
@given(recipes(SMOOTH, TAME, outputs=(1,)), st.integers(0, 999))
def test_grad_has_the_bits_of_backward(recipe, seed):
    function, parameters = recipe.build()
    sample, index = batch_of(np.random.default_rng(seed), 1, recipe.inputs)
    try:
        xs = [Value(float(x)) for x in sample[0]] + parameters
        (y,) = function(xs[: recipe.inputs], Value(int(index[0])))
        grads = grads_of(y, xs)
        again = [Value(x.data) for x in xs[: recipe.inputs]]
        for p in parameters:
            p.grad = 0
        (y,) = function(again, Value(int(index[0])))
    except (ArithmeticError, ValueError):
        return
    assert np.array_equal(fastgrad.grad(y, again + parameters), grads, equal_nan=True)
    assert not any(p.grad for p in parameters)


def test_a_layer_that_reads_its_own_weights_has_the_bits_of_backward():
    """Each of its entries then gets contributions as a weight and as an input."""
    random.seed(5)
    layer = Layer(6, 3, nonlin=False)
    weights = layer.parameters()
    for start in range(4):  # apart, and overlapping by some, by all, and with a bias among them
        y = sum(v * v for v in layer(weights[start : start + 6]))
        for p in weights:
            p.grad = 0
        grads = grads_of(y, weights)
        assert np.array_equal(fastgrad.grad(y, weights), grads)


def test_leaves_grads_data_and_the_tape_alone():
    a, b = Value(2), Value(3.0)
    y = a * b + (a * b).tanh()
    before, entries = repr([a, b, y]), usage()
    fastgrad.grad(y, [a, b])
    fastgrad.hessian(y, [a, b])
    fastgrad.jacobian([y, a], [a, b])
    fastgrad.hvp(y, [a, b], v=[1, 2])
    assert repr([a, b, y]) == before
    assert usage() == entries


def test_by_results_counts_all_ways_as_their_grads_do():
    a = Value(0.5)
    b = a.exp()
    c = a * b + b * b
    grads = fastgrad.grad(c, [a, b, c])
    c.backward()
    assert grads.tolist() == [a.grad, b.grad, c.grad]


def test_nesting_gives_the_shape():
    w = [[Value(float(i + 2 * j)) for i in range(3)] for j in range(2)]
    x = [Value(1.0), Value(2.0), Value(-1.0)]
    y = [sum(wi * xi for wi, xi in zip(row, x)) for row in w]
    assert fastgrad.jacobian(y, w).shape == (2, 2, 3)
    assert np.array_equal(fastgrad.jacobian(y, x), [[0, 1, 2], [2, 3, 4]])
    assert fastgrad.hessian(y[0], w).shape == (2, 3, 2, 3)
    assert isinstance(fastgrad.grad(y[0], x[0]), float)
    assert fastgrad.jvp(y, x, v=np.eye(3)).shape == (3, 2)
    assert fastgrad.vjp(y, x, u=np.eye(2)).shape == (2, 3)


def test_what_the_output_does_not_use_has_derivative_0():
    a, b = Value(2.0), Value(3.0)
    assert fastgrad.grad(a * a, [a, b]).tolist() == [4.0, 0.0]
    assert fastgrad.hessian(a * a, [b, a]).tolist() == [[0, 0], [0, 2]]
    assert fastgrad.jvp(a * a, [b], v=[1.0]) == 0.0
    assert fastgrad.grad(a, a) == 1.0


def test_the_same_operand_twice():
    a = Value(3.0)
    assert fastgrad.hessian(a * a, a) == 2.0
    assert fastgrad.hessian(functional.dot([a, a], [a, a]), a) == 4.0
    assert fastgrad.hessian(a**a, a) == pytest.approx(27 * ((1 + np.log(3)) ** 2 + 1 / 3))
    assert fastgrad.jvp(a * a, [a, a], v=[1.0, 1.0]) == 12.0


def test_detached_and_argmax_pass_nothing_on():
    a, b = Value(2.0), Value(5.0)
    y = a.detach() * a + functional.argmax([a, b]) * b
    assert fastgrad.grad(y, [a, b]).tolist() == [2.0, 1.0]
    program = fastgrad.compile(lambda x: x[0].detach() * x[0] + functional.argmax(x) * x[1])
    assert fastgrad.grad(program, [[2.0, 5.0]]).tolist() == [[2.0, 1.0]]
    assert not fastgrad.hessian(program, [[2.0, 5.0]]).any()


def test_edited_data_count():
    a = Value(2.0)
    y = a * a
    a.data = 5.0
    assert fastgrad.grad(y, a) == 10.0


# ---- programs


@settings(deadline=None, max_examples=80)
@given(recipes(SMOOTH, TAME, outputs=(1, 3)), st.integers(0, 999))
def test_forward_and_reverse_agree_on_random_programs(recipe, seed):
    function, _ = recipe.build()
    rng = np.random.default_rng(seed)
    x, i = batch_of(rng, 3, recipe.inputs)
    program = fastgrad.compile(function)
    with np.errstate(all="ignore"):
        outputs = program(x, i)
        for wrt in (0, "parameters"):
            shape = (3, recipe.inputs) if wrt == 0 else (len(program.parameters),)
            v, u = rng.normal(size=shape), rng.normal(size=outputs.shape)
            forward = fastgrad.jvp(program, x, i, v=v, wrt=wrt)
            reverse = fastgrad.vjp(program, x, i, u=u, wrt=wrt)
            jacobian = fastgrad.jacobian(program, x, i, wrt=wrt)
            if not np.isfinite(jacobian).all():
                return
            size = np.sum(abs(u)[..., None] * abs(jacobian) * (abs(v)[:, None] if wrt == 0 else
                                                               abs(v)))  # fmt: skip
            size = max(size, abs(u).sum() * abs(v).sum())  # entries may have cancelled to less
            left, right = np.sum(forward * u), np.sum(reverse * v)
            assert abs(left - right) <= INNER_PRODUCT * size


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_samples_are_those_of_values(samples):
    model, loss = network()
    program = fastgrad.compile(loss, parameters=model.parameters())
    rng = np.random.default_rng(samples)
    X, Y = rng.normal(size=(samples, 2)), rng.normal(size=samples)
    hessian = fastgrad.hessian(program, X, Y)
    jacobian = fastgrad.jacobian(program, X, Y, wrt="parameters")
    mixed = fastgrad.grad(program, X, Y, wrt=1)
    whole = np.zeros((len(model.parameters()),) * 2)
    for k in range(samples):
        x, y = [Value(float(number)) for number in X[k]], Value(float(Y[k]))
        out = loss(x, y)
        assert np.array_equal(fastgrad.hessian(out, x), hessian[k])
        assert np.array_equal(fastgrad.grad(out, model.parameters()), jacobian[k])
        assert fastgrad.grad(out, y) == mixed[k]
        whole += fastgrad.hessian(out, model.parameters())
    whole /= samples
    assert fastgrad.hessian(program, X, Y, wrt="parameters") == pytest.approx(whole, rel=1e-12)
    value, gradient = fastgrad.value_and_grad(program, X, Y, wrt="parameters")
    assert value == pytest.approx(program(X, Y).mean())
    assert gradient == pytest.approx(jacobian.mean(axis=0), rel=1e-12, abs=1e-15)


def test_rosenbrock():
    x = np.random.default_rng(0).normal(size=(2, 40))
    found = fastgrad.hessian(rosenbrock, x)
    for k in range(2):
        assert found[k] == pytest.approx(rosenbrock_hessian(x[k]), rel=1e-13)
        assert np.array_equal(found[k], found[k].T)
    v = np.random.default_rng(1).normal(size=(2, 7, 40))
    products = fastgrad.hvp(rosenbrock, x, v=v)
    assert products == pytest.approx(v @ found, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("directions", [1, 2, 3, 4, 5, 15, 16, 17, 33])
def test_any_number_of_directions_has_the_same_numbers(directions):
    x = np.random.default_rng(0).normal(size=(1, 33))
    v = np.random.default_rng(1).normal(size=(1, directions, 33))
    one_by_one = [fastgrad.hvp(rosenbrock, x, v=v[:, k])[0] for k in range(directions)]
    assert np.array_equal(fastgrad.hvp(rosenbrock, x, v=v)[0], one_by_one)
    one_by_one = [fastgrad.jvp(rosenbrock, x, v=v[:, k])[0] for k in range(directions)]
    assert np.array_equal(fastgrad.jvp(rosenbrock, x, v=v)[0], one_by_one)


def sparse(outputs, common):
    """Programs of which a direction reaches a little; x[5] nothing; if `common`, the last all."""

    def terms(x):
        for k in range(len(x)):
            by = x[3 * k % len(x)]
            yield (x[k] * by - x[-1 if common else k].tanh()).exp() * (k + 1)
            yield (by - 0.25 * k) ** 2 + x[(k + 1) % len(x)] ** 0.5

    def program(x):
        found = [*terms([*x[:5], *x[6:]])]
        if outputs == "one":
            return sum(found)
        return found if outputs == "many" else found[: len(x) - 1]

    return fastgrad.compile(program)


@pytest.mark.parametrize("common", [False, True])
@pytest.mark.parametrize("outputs", ["one", "few", "many"])
def test_directions_that_share_a_lane_have_the_same_numbers(outputs, common):
    """They do so from the second time on, with all unit vectors, where a program is sparse."""
    derivative = fastgrad.hessian if outputs == "one" else fastgrad.jacobian
    x = np.random.default_rng(3).uniform(0.1, 1, size=(4, 70))
    x[2, 10] = 0.0  # where a slope is inf
    x[3, 20] = np.nan
    found = derivative(sparse(outputs, common), x)
    for row, of_row in zip(x, found, strict=True):
        alone = derivative(sparse(outputs, common), row[None])[0]
        assert alone.tobytes() == of_row.tobytes()
    assert np.count_nonzero(found[0]) < 700
    assert np.isinf(found[2]).any() and not np.isinf(found[:2]).any()
    assert not found[..., 5].any()


@pytest.mark.parametrize("inputs", [2, 20])
def test_jacobians_both_ways(inputs):
    """Many outputs go forward, few in reverse."""
    program = fastgrad.compile(
        lambda x: [[(x[0] * xi).tanh(), xi.exp() + x[-1] * 3] for xi in x[:5]]
    )
    x = np.random.default_rng(0).normal(size=(3, inputs))
    jacobian = fastgrad.jacobian(program, x)
    step = 1e-6
    for k in range(inputs):
        h = np.zeros(inputs)
        h[k] = step
        assert jacobian[..., k] == pytest.approx((program(x + h) - program(x - h)) / (2 * step),
                                                 abs=1e-8)  # fmt: skip


def test_choices_are_those_of_the_sample():
    program = fastgrad.compile(
        lambda x, i: functional.take([xi * xi for xi in x], i) + functional.where(i, x[0], 2.0)
    )
    x = np.array([[1.0, 2.0, 3.0]] * 3)
    assert fastgrad.grad(program, x, [0, 1, 2]).tolist() == [[2, 0, 0], [1, 4, 0], [1, 0, 6]]
    assert fastgrad.hessian(program, x, [0, 1, 2]).diagonal(0, 1, 2).tolist() == [
        [2, 0, 0], [0, 2, 0], [0, 0, 2]
    ]  # fmt: skip
    assert not fastgrad.jacobian(program, x, [0, 1, 2], wrt=1).any()
    with pytest.raises(IndexError, match=r"sample 1: i, 7.0 at place 0, is no index"):
        fastgrad.grad(program, x, [0, 7, 2])


def test_a_path_without_the_input_is_not_followed():
    """0 * inf would be nan: what a direction does not reach takes no part."""
    program = fastgrad.compile(lambda x: [x[0] * 2, x[1] ** 0.5])
    assert fastgrad.jacobian(program, [[1.0, 0.0]]).tolist() == [[[2, 0], [0, np.inf]]]
    assert fastgrad.jvp(program, [[1.0, 0.0]], v=[[1.0, 0.0]])[0, 0] == 2
    tall = fastgrad.compile(lambda x: [x[0] * 2, x[1] ** 0.5, x[0] * 3])
    assert fastgrad.jacobian(tall, [[1.0, 0.0]]).tolist() == [[[2, 0], [0, np.inf], [3, 0]]]
    kink = fastgrad.compile(lambda x: x[0] * x[0] + x[1] ** 1.5)
    assert fastgrad.hessian(kink, [[1.0, 0.0]]).tolist() == [[[2, 0], [0, np.inf]]]


def test_parameters_that_a_signature_does_not_use():
    w, v = Value(2.0), Value(3.0)

    def function(x, *, which):
        return x * w * w if which == "w" else x * v * v * v

    program = fastgrad.compile(function)
    program([1.0], which="w")
    program([1.0], which="v")
    assert [p.data for p in program.parameters] == [2.0, 3.0]
    assert fastgrad.hessian(program, [1.0, 3.0], wrt="parameters", which="v").tolist() == [
        [0, 0], [0, 36]
    ]  # fmt: skip
    assert fastgrad.jacobian(program, [5.0], wrt="parameters", which="w").tolist() == [[20, 0]]
    assert fastgrad.vjp(program, [1.0, 2.0], u=[1, 1], wrt="parameters", which="w").tolist() == [
        12, 0
    ]  # fmt: skip


def test_edits_and_dropout():
    w = Value(2.0)
    program = fastgrad.compile(lambda x: w * x * x)
    assert fastgrad.grad(program, [3.0]).tolist() == [12.0]
    w.data = 5.0
    assert fastgrad.grad(program, [3.0]).tolist() == [30.0]


def test_an_empty_batch():
    assert fastgrad.hessian(rosenbrock, np.empty((0, 3))).shape == (0, 3, 3)
    w = Value(1.0)
    program = fastgrad.compile(lambda x: w * x)
    with pytest.raises(ValueError, match="the batch has no samples: there is no mean"):
        fastgrad.hessian(program, [], wrt="parameters")


def test_threads_may_share_a_program():
    x = np.random.default_rng(0).normal(size=(4, 30))
    expected = fastgrad.hessian(rosenbrock, x)
    wrong = []

    def work():
        for _ in range(20):
            if not np.array_equal(fastgrad.hessian(rosenbrock, x), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


# ---- errors


def by_hand():
    a = Value(1.0)
    out = Value(2.0, (a,), "mine")
    out._backward = lambda: None
    return out * 3, a


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda a: fastgrad.grad(lambda x: x, a), TypeError, "grad needs Values or a Program, got"),
        (lambda a: fastgrad.grad(a * a, [1.0]), TypeError, "xs must be a Value or nested lists"),
        (lambda a: fastgrad.grad(3.0, a), TypeError, "y must be a Value or nested lists of Values"),
        (lambda a: fastgrad.grad([a, a], a), ValueError, "grad needs one output, got outputs of"),
        (lambda a: fastgrad.hessian([a, a], a), ValueError, "hessian needs one output"),
        (lambda a: fastgrad.grad(a), TypeError, r"of Values it is grad\(y, xs\)"),
        (lambda a: fastgrad.jvp(a, a), TypeError, "v is missing: directions of shape"),
        (lambda a: fastgrad.jvp(a, [a], v=[1, 2]), ValueError,
         r"v must have the shape \(1,\), or \(K, 1\) for K directions, got \(2,\)"),
        (lambda a: fastgrad.vjp([a, a], a, u=["x", "y"]), TypeError, "u must be an array of"),
        (lambda a: fastgrad.grad(rosenbrock, [[1.0, 2.0]], wrt=1), ValueError,
         "wrt must be 'parameters' or the place of an argument, 0 to 0, got 1"),
        (lambda a: fastgrad.hvp(rosenbrock, [[1.0, 2.0]], v=[1.0, 2.0]), ValueError,
         r"v must have the shape \(1, 2\), or \(1, K, 2\) for K directions, got \(2,\)"),
        (lambda a: fastgrad.grad(*by_hand()), fastgrad.TraceError, "made by hand"),
    ],
)  # fmt: skip
def test_errors_say_what_was_expected(call, error, text):
    a = Value(2.0)
    with pytest.raises(error, match=text):
        call(a)
    assert a.grad == 0


def test_not_inside_of_a_trace():
    program = fastgrad.compile(lambda x: Value(fastgrad.grad(x * x, x)))
    with pytest.raises(fastgrad.TraceError, match=r"grad\(\) inside of a program"):
        program([1.0])


# ---- operations of the user's


def powers(x, y):
    return x**3 * y**2


def powers_partials(x, y):
    return 3 * x**2 * y**2, 2 * x**3 * y


def powers_second(x, y):
    return (6 * x * y**2, 6 * x**2 * y), (6 * x**2 * y, 2 * x**3)


def test_custom_operations_take_part():
    op = fastgrad.custom_op(powers, powers_partials, powers_second)
    x, y = Value(1.5), Value(-0.5)
    own, plain = op(x, y).tanh() * y, (x**3 * y**2).tanh() * y
    assert fastgrad.grad(own, [x, y]) == pytest.approx(fastgrad.grad(plain, [x, y]), rel=1e-14)
    assert fastgrad.hessian(own, [x, y]) == pytest.approx(
        fastgrad.hessian(plain, [x, y]), rel=1e-13
    )
    assert fastgrad.hessian(op(x, x), x) == pytest.approx(20 * 1.5**3)
    assert fastgrad.hessian(op(x, 2.0), [x, y]) == pytest.approx(np.array([[36.0, 0], [0, 0]]))
    v = [[1.0, 2.0], [0.5, -1.0]]
    assert fastgrad.hvp(own, [x, y], v=v) == pytest.approx(v @ fastgrad.hessian(own, [x, y]))

    samples = np.random.default_rng(0).normal(size=(5, 2))
    own = fastgrad.compile(lambda x: op(x[0], x[1]).tanh() * x[1])
    plain = fastgrad.compile(lambda x: (x[0] ** 3 * x[1] ** 2).tanh() * x[1])
    for derivative in (fastgrad.grad, fastgrad.hessian):
        assert derivative(own, samples) == pytest.approx(derivative(plain, samples), rel=1e-12)
    assert fastgrad.check_program(own, samples)
    assert fastgrad.gradcheck(op, (1.5, -0.5))


def test_a_custom_operation_without_second_partials():
    op = fastgrad.custom_op(powers, powers_partials)
    x, y = Value(1.5), Value(-0.5)
    assert fastgrad.grad(op(x, y), [x, y]).tolist() == list(powers_partials(1.5, -0.5))
    for call in (
        lambda: fastgrad.hessian(op(x, y), [x, y]),
        lambda: fastgrad.hvp(fastgrad.compile(lambda x, y: op(x, y)), [1.0], [2.0], v=[1.0]),
        lambda: fastgrad.gradcheck(op, (1.5, -0.5)),
    ):
        with pytest.raises(TypeError, match="powers has no second partials"):
            call()
    assert fastgrad.gradcheck(op, (1.5, -0.5), order=1)


def test_what_a_custom_operation_raises_comes_out():
    def fails(*_):
        raise LookupError("not today")

    x = Value(1.5)
    out = fastgrad.custom_op(abs, fails)(x)
    with pytest.raises(LookupError, match="not today"):
        fastgrad.grad(out, x)
    program = fastgrad.compile(lambda x: fastgrad.custom_op(abs, fails)(x))
    with pytest.raises(LookupError, match="not today"):
        fastgrad.grad(program, [1.0])
    with pytest.raises(LookupError, match="not today"):
        fastgrad.hessian(fastgrad.custom_op(abs, lambda x: [1.0], fails)(x), x)


def test_the_checker_names_a_wrong_custom_operation_and_its_line():
    wrong = fastgrad.custom_op(powers, lambda x, y: (3 * x**2 * y**2, 2 * x**3), name="wrong")

    def function(x, y):
        return (x * y + wrong(x, y)).exp()

    line = function.__code__.co_firstlineno + 1
    where = f"{__file__}:{line}: the partial of wrong of 1.0, 0.5 by operand 1 is 2.0, the "
    with pytest.raises(fastgrad.GradcheckError) as caught:
        fastgrad.gradcheck(function, (1.0, 0.5))
    assert where in str(caught.value)
    with pytest.raises(fastgrad.GradcheckError) as caught:
        fastgrad.check_program(fastgrad.compile(function), ([1.0], [0.5]))
    assert where in str(caught.value)
    bent = fastgrad.custom_op(powers, powers_partials, lambda x, y: ((0, 0), (0, 0)), name="bent")
    with pytest.raises(fastgrad.GradcheckError, match="the second partial of bent of"):
        fastgrad.gradcheck(bent, (1.0, 0.5))


def test_checkpoints_have_no_derivatives_as_numbers():
    x = Value(2.0)
    out = fastgrad.checkpoint(lambda x: x * x, x)
    with pytest.raises(fastgrad.TraceError, match="build the graph without checkpoint"):
        fastgrad.grad(out, x)
