"""Bad input: the right exception, a message that says what was got and expected, a whole tape.

Every error here is provoked in the middle of a computation, which must then go on as if nothing
had happened.
"""

import math
import random
import threading

import numpy as np
import pytest

from fastgrad import nn
from fastgrad.engine import Value


@pytest.fixture(autouse=True)
def tape_unharmed():
    """Half of a computation before the test, the other half and the check after it."""
    a, b = Value(2.0), Value(-3)
    product = a * b
    half = (product + a).relu() - product
    yield
    loss = half * half + (a * 2 - b)
    loss.backward()
    assert (product.data, half.data, loss.data) == (-6.0, 6.0, 43.0)
    assert (a.grad, b.grad) == (2 * 6 * 3 + 2, 2 * 6 * -2 - 1)
    fresh = Value(4)
    (fresh * fresh).backward()
    assert fresh.grad == 8


NUMBER = "(?i)number|int|float"

NO_NUMBERS = [
    pytest.param("a", id="str"),
    pytest.param("1.5", id="numeric str"),
    pytest.param(b"1", id="bytes"),
    pytest.param(None, id="None"),
    pytest.param([1.0], id="list"),
    pytest.param((1.0,), id="tuple"),
    pytest.param(1j, id="complex"),
    pytest.param(np.complex128(1j), id="np.complex128"),
    pytest.param(np.str_("1"), id="np.str_"),
    pytest.param(np.array([1.0, 2.0]), id="1-D array"),
    pytest.param(np.array([1.0]), id="1-D array of one"),
    pytest.param(np.array([[1.0]]), id="2-D array of one"),
    pytest.param(object(), id="object"),
    pytest.param(Value, id="class"),
    pytest.param(Value(1.0), id="Value"),
]


def assert_message(caught, bad):
    message = str(caught.value)
    assert type(bad).__name__ in message, f"does not say what was got: {message}"


@pytest.mark.parametrize("bad", NO_NUMBERS)
def test_data_that_is_no_number(bad):
    with pytest.raises(TypeError, match=NUMBER) as caught:
        Value(bad)
    assert_message(caught, bad)


@pytest.mark.parametrize("bad", NO_NUMBERS)
@pytest.mark.parametrize("name", ["data", "grad"])
def test_assignment_of_what_is_no_number(name, bad):
    v = Value(1.5)
    with pytest.raises(TypeError, match=NUMBER) as caught:
        setattr(v, name, bad)
    assert_message(caught, bad)
    assert (v.data, v.grad) == (1.5, 0)


@pytest.mark.parametrize("name", ["data", "grad", "_prev", "_op"])
def test_what_cannot_be_deleted(name):
    v = Value(1.5) * 1
    with pytest.raises((AttributeError, TypeError)):
        delattr(v, name)
    assert (v.data, v.grad, v._op, len(v._prev)) == (1.5, 0, "*", 2)


@pytest.mark.parametrize("bad", ["a", None, [1], (1,), {}, 1j, object()])
@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda v, x: v + x, id="v + x"),
        pytest.param(lambda v, x: x + v, id="x + v"),
        pytest.param(lambda v, x: v - x, id="v - x"),
        pytest.param(lambda v, x: x - v, id="x - v"),
        pytest.param(lambda v, x: v * x, id="v * x"),
        pytest.param(lambda v, x: x * v, id="x * v"),
        pytest.param(lambda v, x: v / x, id="v / x"),
        pytest.param(lambda v, x: x / v, id="x / v"),
        pytest.param(lambda v, x: x**v, id="x ** v"),
        pytest.param(lambda v, x: v.maximum(x), id="maximum"),
        pytest.param(lambda v, x: v.minimum(x), id="minimum"),
        pytest.param(lambda v, x: v.leaky_relu(x), id="leaky_relu"),
    ],
)
def test_operand_that_is_no_number(use, bad):
    with pytest.raises(TypeError) as caught:
        use(Value(2.0), bad)
    assert_message(caught, bad)


@pytest.mark.parametrize("bad", ["2", None, [2], 1j, object()])
def test_exponent_that_is_no_number_is_micrograd_s_assertion_error(bad):
    with pytest.raises(AssertionError, match=NUMBER) as caught:
        Value(2.0) ** bad
    assert_message(caught, bad)


def test_three_argument_power():
    with pytest.raises(TypeError):
        pow(Value(2), 3, 5)


@pytest.mark.parametrize(
    ("provoke", "error", "got"),
    [
        (lambda: Value(-1.0).log(), ValueError, "-1.0"),
        (lambda: Value(0.0).log(), ValueError, "0.0"),
        (lambda: Value(-math.inf).log(), ValueError, "-inf"),
        (lambda: Value(-2.5).sqrt(), ValueError, "-2.5"),
        (lambda: Value(math.inf).sin(), ValueError, "inf"),
        (lambda: Value(-math.inf).cos(), ValueError, "-inf"),
        (lambda: Value(1e4).exp(), OverflowError, "10000"),
        (lambda: Value(1e200) ** 2, OverflowError, "1e\\+200"),
        (lambda: Value(1e200) ** Value(2.0), OverflowError, "1e\\+200"),
        (lambda: Value(-8.0) ** 0.5, ValueError, "-8.0"),
        (lambda: Value(-8.0) ** Value(0.5), ValueError, "-8.0"),
        (lambda: (-8.0) ** Value(0.5), ValueError, "-8.0"),
        (lambda: Value(0.0) ** -1, ZeroDivisionError, "0.0"),
        (lambda: Value(0) ** -2, ZeroDivisionError, "0"),
        (lambda: Value(0.0) ** Value(-1.0), ZeroDivisionError, "0.0"),
        (lambda: 1 / Value(0.0), ZeroDivisionError, "0.0"),
        (lambda: Value(1.0) / Value(0), ZeroDivisionError, "0"),
        (lambda: Value(1.0) / 0, ZeroDivisionError, "0"),
        (lambda: Value(10**400), OverflowError, "(?i)large"),
        (lambda: Value(2) * 10**400, OverflowError, "(?i)large"),
    ],
)
def test_result_that_python_s_float_refuses(provoke, error, got):
    with pytest.raises(error, match=got):
        provoke()


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "message"),
    [
        ((), {}, TypeError, "argument"),
        ((1, (), "", "", "extra"), {}, TypeError, "argument"),
        ((1,), {"nonsense": 2}, TypeError, "nonsense"),
        ((1,), {"data": 2}, TypeError, "data"),
        ((1, 5), {}, TypeError, "int"),
        ((1, (2.0,)), {}, TypeError, "float"),
        ((1, (None,)), {}, TypeError, "NoneType"),
        ((1, "ab"), {}, TypeError, "str"),
        ((1, (Value(1),), 5), {}, TypeError, "int"),
        ((1, (Value(1),), ("x",)), {}, TypeError, "str"),
        ((1, (Value(1), Value(2)), (1.0,)), {}, ValueError, "2"),
        ((1, (Value(1),), (1.0, 2.0)), {}, ValueError, "2"),
    ],
)
def test_constructor_arguments_that_make_no_sense(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        Value(*arguments, **keywords)


@pytest.mark.parametrize("bad", [5, "rule", None])
def test_rule_that_cannot_be_called(bad):
    """micrograd would fail at backward time; the assignment may refuse, the sweep must."""
    v = Value(2.0)
    out = v * 3
    with pytest.raises(TypeError):
        out._backward = bad
        out.backward()
    out._backward = lambda: None
    out.backward()
    assert out.grad == 1


class Unconvertible:
    """A number whose conversion raises, after it has recorded something."""

    def __float__(self):
        for _ in range(1000):
            Value(1.0) * 2.0
        raise RuntimeError("no conversion")


@pytest.mark.parametrize(
    "use", [lambda x: Value(2.0) * x, lambda x: Value(x), lambda x: Value(1, (Value(2),), (x,))]
)
def test_conversion_that_raises(use):
    with pytest.raises((RuntimeError, TypeError)):
        use(Unconvertible())


def test_error_in_the_middle_of_an_expression():
    a = Value(3.0)
    for _ in range(1000):
        with pytest.raises(TypeError):
            (a * 2 + 1) * (a + "x")
        with pytest.raises(ValueError):
            (a * 2) + (-a).log()
    out = a * a
    out.backward()
    assert a.grad == 6


def mlp():
    random.seed(0)
    return nn.MLP(3, [4, 2])


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (lambda: nn.Neuron(3), "Neuron"),
        (lambda: nn.Layer(3, 2), "Layer"),
        (lambda: nn.Layer(3, 1), "Layer"),
        (mlp, "MLP"),
    ],
)
@pytest.mark.parametrize("count", [0, 1, 2, 4, 50])
@pytest.mark.parametrize("wrap", [list, tuple, np.array])
def test_wrong_number_of_inputs(make, label, count, wrap):
    with pytest.raises(ValueError, match=rf"(?s)(3.*{count}|{count}.*3)"):
        make()(wrap([1.0] * count))


@pytest.mark.parametrize("bad", [3, 2.5, None, object()])
@pytest.mark.parametrize("make", [lambda: nn.Neuron(1), lambda: nn.Layer(1, 2), mlp])
def test_input_that_is_no_sequence(make, bad):
    with pytest.raises(TypeError, match=type(bad).__name__):
        make()(bad)


@pytest.mark.parametrize("make", [lambda: nn.Neuron(3), lambda: nn.Layer(3, 2), mlp])
@pytest.mark.parametrize("bad", ["x", None, [1.0], 1j])
@pytest.mark.parametrize("position", [0, 2])
def test_input_element_that_is_no_number(make, bad, position):
    row = [1.0, 2.0, 3.0]
    row[position] = bad
    model = make()
    with pytest.raises(TypeError, match=type(bad).__name__):
        model(row)
    out = model([1.0, 2.0, 3.0])
    assert out is not None


@pytest.mark.parametrize("make", [lambda: nn.Neuron(3), lambda: nn.Layer(3, 2), mlp])
def test_input_given_as_text(make):
    with pytest.raises(TypeError, match="str"):
        make()("abc")


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Layer(0, 3),
        lambda: nn.Layer(3, 0),
        lambda: nn.Layer(-1, 3),
        lambda: nn.MLP(3, [0]),
        lambda: nn.MLP(3, [4, 0, 1]),
        lambda: nn.MLP(0, [1]),
    ],
)
def test_layers_of_no_size(make):
    with pytest.raises(ValueError, match=r"0|-1"):
        make()


def test_sizes_that_are_no_ints():
    with pytest.raises(TypeError):
        nn.Layer(2.5, 1)
    with pytest.raises(TypeError):
        nn.MLP(2, 1)


def test_errors_from_several_threads_do_not_mix():
    wrong = []

    def work(seed):
        leaf = Value(float(seed))
        for _ in range(2000):
            try:
                leaf * 2 + None
            except TypeError:
                pass
            else:
                wrong.append(seed)
        out = leaf * leaf
        out.backward()
        if leaf.grad != 2.0 * seed:
            wrong.append(leaf)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
