"""A Value as a Python object: subclasses, copies, attributes, order, identity, NumPy.

What a Value deliberately is not (a float, a sequence, an array) is pinned here too: `math.exp(v)`
must stay a TypeError, or gradients would get lost in silence.
"""

import copy
import gc
import math
import pickle
import weakref

import numpy as np
import pytest
from oracles import nodes_of, same_number

import fastgrad
from fastgrad.engine import Value
from fastgrad.nn import Layer


class Named(Value):
    """A subclass as users write them: more state, a method, an operator of its own."""

    def __init__(self, data, name="unnamed"):
        super().__init__(data)
        self.name = name

    def double(self):
        return self * 2

    def __matmul__(self, other):
        return self * other + 1


def test_dir_shows_what_is_loaded_when_it_is_used():
    assert {*fastgrad.__all__, "engine"} <= set(dir(fastgrad))


def test_subclass_instance_in_expressions():
    v = Named(3.0, name="weight")
    out = v.double() + v
    out.backward()
    assert (out.data, v.grad, v.name) == (9.0, 3, "weight")
    assert type(out) is Value
    assert isinstance(v, Value)
    assert (v @ 2).data == 7.0
    assert repr(v) == "Value(data=3.0, grad=3)"
    assert {type(n) for n in nodes_of(out)} == {Value, Named}


def test_subclass_that_overrides_an_operator():
    class Loud(Value):
        def __add__(self, other):
            return "plus"

        __radd__ = __add__

    assert Loud(1) + 2 == "plus"
    assert 2 + Loud(1) == "plus"
    assert Value(1) + Loud(1) == "plus", "a subclass's reflected method goes first"


def test_subclass_that_overrides_relu_and_backward():
    class Half(Value):
        def relu(self):
            return self * 0.5

        def backward(self):
            super().backward()
            self.swept = True

    v = Half(4.0)
    assert v.relu().data == 2.0
    v.backward()
    assert v.swept is True


@pytest.mark.parametrize(
    "duplicate",
    [lambda v: pickle.loads(pickle.dumps(v)), copy.deepcopy, copy.copy],
    ids=["pickle", "deepcopy", "copy"],
)
@pytest.mark.parametrize("inner", [False, True], ids=["leaf", "inner"])
def test_copies_keep_data_grad_and_attributes(duplicate, inner):
    leaf = Value(3)
    v = leaf * 2 if inner else leaf
    (v * 5).backward()
    v.label, v.momentum = "w", [0.5]
    twin = duplicate(v)
    assert type(twin) is Value
    assert twin is not v
    assert same_number(twin.data, v.data)
    assert same_number(twin.grad, 5)
    assert (twin.label, twin.momentum) == ("w", [0.5])
    twin.data = 100.0
    twin.grad = 7.0
    assert (v.data, v.grad) == (6 if inner else 3, 5)
    (twin * 2).backward()
    assert twin.grad == 9.0
    assert v.grad == 5


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_protocols_and_subclasses(protocol):
    again = pickle.loads(pickle.dumps([Named(2, name="n"), Value(math.inf)], protocol))
    assert (type(again[0]), again[0].name, again[0].data) == (Named, "n", 2)
    assert again[1].data == math.inf


def test_sharing_survives_pickle_and_deepcopy():
    v = Value(1.0)
    for twins in (pickle.loads(pickle.dumps([v, v])), copy.deepcopy([v, v])):
        assert twins[0] is twins[1]
        assert twins[0] is not v


def test_weak_reference_dies_with_the_handle():
    v = Value(1.0)
    gone = []
    ref = weakref.ref(v, lambda _: gone.append(True))
    assert ref() is v
    del v
    assert ref() is None
    assert gone == [True]


def test_weak_references_in_containers():
    kept = Value(1.0)
    registry = weakref.WeakSet([kept, Value(2.0)])
    gc.collect()
    assert set(registry) == {kept}


def test_arbitrary_attributes():
    v = Value(1.0)
    with pytest.raises(AttributeError, match="momentum"):
        _ = v.momentum
    v.momentum = v.velocity = 0.5
    v.momentum += 1
    assert (v.momentum, v.velocity) == (1.5, 0.5)
    assert vars(v)["momentum"] == 1.5
    del v.momentum
    assert not hasattr(v, "momentum")
    with pytest.raises(AttributeError, match="momentum"):
        del v.momentum
    v.__dict__["late"] = 3
    assert v.late == 3
    vars(v).update(later=4)
    assert v.later == 4


def test_attributes_of_one_value_are_not_another_s():
    for i in range(100):
        v = Value(i)
        assert not hasattr(v, "mine"), "a recycled handle shows the attributes of a dead one"
        v.mine = i


def test_label_defaults_to_the_empty_string():
    a = Value(1.0)
    assert (a.label, (a + 1).label) == ("", "")
    a.label = "a"
    assert (a.label, (a + 1).label) == ("a", "")


def hidden_layer(x):
    h = x * 2
    h.label = "hidden"
    h.depth = 1.5
    return h + 1


def test_labels_given_in_functions_are_found_again():
    x = Value(1.0, label="x")
    out = hidden_layer(hidden_layer(x))
    del x
    gc.collect()
    for _ in range(2):
        labels = [v.label for v in nodes_of(out) if v.label]
        assert sorted(labels) == ["hidden", "hidden", "x"]
    assert [v.depth for v in nodes_of(out) if v.label == "hidden"] == [1.5, 1.5]


def test_containers_hung_on_values_in_functions_are_found_again():
    def layer(x):
        h = x * 2
        h.history = [1, 2]
        return h + 1

    out = layer(Value(1.0))
    gc.collect()
    assert [v.history for v in nodes_of(out) if v._op == "*"] == [[1, 2]]


def test_labels_found_again_after_the_tape_was_compacted():
    out = hidden_layer(Value(1.0))
    for i in range(300_000):
        Value(i) + 1.0
    assert [v.label for v in nodes_of(out) if v.label] == ["hidden"]


def test_prev_gives_the_same_objects_while_they_are_held():
    a, b = Value(1.0), Value(2.0)
    c = a * b
    assert isinstance(c._prev, set)
    assert c._prev == {a, b}
    assert (c + 1)._prev >= {c}
    (first,) = (a + a)._prev
    assert first is a
    root = (a * 2 + b) * 3
    held = nodes_of(root)
    assert {id(v) for v in nodes_of(root)} == {id(v) for v in held}


def test_identity_hash_and_membership():
    a, b = Value(1.0), Value(1.0)
    assert a == a
    assert a != b
    assert a != 1.0
    assert len({a, b, a}) == 2
    assert {a: "a", b: "b"}[b] == "b"
    assert a in [b, a]
    assert a not in [b]
    assert a not in {b}
    assert [b, a].index(a) == 1
    before = hash(a)
    a.data = 5
    assert hash(a) == before
    assert bool(Value(0)), "every Value is true, as any object of micrograd's is"


@pytest.mark.parametrize("other", [Value(2.0), 2, 2.0, np.float64(2), True + 1])
def test_comparisons_by_data(other):
    low, high, same = Value(1), Value(3.0), Value(2)
    assert (low < other, high < other, same < other) == (True, False, False)
    assert (low <= other, high <= other, same <= other) == (True, False, True)
    assert (low > other, high > other, same > other) == (False, True, False)
    assert (low >= other, high >= other, same >= other) == (False, True, True)
    assert (other < low, other > low, other <= same, other >= same) == (False, True, True, True)


def test_comparisons_with_nan_are_false():
    nan, one = Value(math.nan), Value(1.0)
    assert not (nan < one or nan > one or nan <= one or nan >= one or nan <= nan)


@pytest.mark.parametrize("other", ["1", None, [1]])
def test_ordering_against_what_is_no_number_is_a_type_error(other):
    with pytest.raises(TypeError, match=type(other).__name__):
        _ = Value(1) < other
    assert Value(1) != other


def test_sorting_max_and_min_give_the_objects():
    values = [Value(x) for x in (3, -1.0, 2)]
    assert [v.data for v in sorted(values)] == [-1.0, 2, 3]
    assert max(values) is values[0]
    assert min(values) is values[1]
    assert max(values, key=lambda v: -v.data) is values[1]


def test_formatting():
    v = Value(2) * 3
    assert f"{v}" == str(v) == repr(v) == "Value(data=6, grad=0)"
    assert f"{v.data:.2f} {v.grad:d}" == "6.00 0"
    with pytest.raises(TypeError):
        f"{v:.2f}"


def test_augmented_assignment_makes_a_new_value():
    a = Value(2.0)
    total = a
    total += 1
    total *= a
    total -= 1
    total /= 5
    total **= 2
    assert a.data == 2.0
    assert total.data == ((3.0 * 2.0 - 1) * 5**-1) ** 2


def test_unary_plus_and_abs():
    v = Value(-3)
    assert (+v).data == -3
    (abs(v) * 2).backward()
    assert abs(v).data == 3
    assert v.grad == -2


@pytest.mark.parametrize(
    "use",
    [
        math.exp,
        math.sqrt,
        float,
        int,
        complex,
        len,
        iter,
        list,
        lambda v: v[0],
        lambda v: [1, 2][v],
        lambda v: 1 in v,
        lambda v: math.fsum([v]),
        np.float64,
        lambda v: np.asarray(v, dtype=float),
        lambda v: np.zeros(2).__setitem__(0, v),
    ],
)
def test_a_value_is_no_float_and_no_sequence(use):
    with pytest.raises(TypeError):
        use(Value(1.0))


@pytest.mark.parametrize(
    "name", ["__float__", "__int__", "__index__", "__array__", "__len__", "__getitem__", "__iter__"]
)
def test_protocols_left_out(name):
    assert not hasattr(Value, name)


def test_data_and_grad_read_as_python_numbers():
    v = Value(np.float64(2.0)) * np.float64(3.0)
    v.backward()
    assert same_number(v.data, 6.0)
    assert same_number(v.grad, 1)
    v.data = np.float32(0.5)
    v.grad = np.int64(4)
    assert same_number(v.data, 0.5)
    assert same_number(v.grad, 4)


SCALARS = [np.float64(2), np.float32(2), np.int64(2), np.int8(2), np.uint8(2)]


@pytest.mark.parametrize("two", SCALARS, ids=lambda s: s.dtype.name)
@pytest.mark.parametrize(
    ("use", "expected", "slope"),
    [
        (lambda v, s: v + s, 5, 1),
        (lambda v, s: s + v, 5, 1),
        (lambda v, s: v - s, 1, 1),
        (lambda v, s: s - v, -1, -1),
        (lambda v, s: v * s, 6, 2),
        (lambda v, s: s * v, 6, 2),
        (lambda v, s: v / s, 1.5, 0.5),
        (lambda v, s: s / v, 3**-1 * 2, -2 / 9),
        (lambda v, s: v**s, 9, 6),
        (lambda v, s: s**v, 8, 8 * math.log(2)),
    ],
)
def test_numpy_scalar_on_either_side(two, use, expected, slope):
    v = Value(3)
    out = use(v, two)
    assert type(out) is Value
    assert out.data == expected
    out.backward()
    assert v.grad == pytest.approx(slope, rel=1e-14)


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda v, a: v + a, [4.0, 1.0]),
        (lambda v, a: a + v, [4.0, 1.0]),
        (lambda v, a: v - a, [2.0, 5.0]),
        (lambda v, a: a - v, [-2.0, -5.0]),
        (lambda v, a: v * a, [3.0, -6.0]),
        (lambda v, a: a * v, [3.0, -6.0]),
        (lambda v, a: v / a, [3.0, -1.5]),
        (lambda v, a: a / v, [3**-1 * 1.0, 3**-1 * -2.0]),
    ],
)
@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1, 1)])
def test_numpy_array_on_either_side_gives_an_object_array(use, expected, shape):
    v = Value(3.0)
    out = use(v, np.array([1.0, -2.0]).reshape(shape))
    assert isinstance(out, np.ndarray)
    assert (out.dtype, out.shape) == (np.dtype(object), shape)
    assert all(type(x) is Value for x in out.flat)
    assert [x.data for x in out.flat] == expected
    out.flat[1].backward()
    assert v.grad != 0


def test_arrays_of_values():
    a, b = (np.array([Value(x), Value(y)]) for x, y in ((1.0, 2.0), (3.0, 4.0)))
    assert a.dtype == object
    assert [x.data for x in a * b] == [3.0, 8.0]
    assert [x.data for x in a - 1] == [0.0, 1.0]
    assert [x.data for x in np.exp(a)] == [math.exp(1.0), math.exp(2.0)]
    assert np.sum(a).data == 3.0
    assert (a @ b).data == np.dot(a, b).data == 11.0
    assert np.mean(a).data == 1.5
    assert [x.data for x in Value(2.0) * a] == [2.0, 4.0]
    assert [x.data for x in a * Value(2.0)] == [2.0, 4.0]
    loss = ((a - b) ** 2).sum()
    loss.backward()
    assert [x.grad for x in a] == [-4.0, -4.0]


def test_numpy_function_of_a_value_calls_its_method():
    v = Value(2.0)
    out = np.exp(v)
    assert type(out) is Value
    out.backward()
    assert v.grad == out.data == math.exp(2.0)
    with pytest.raises(TypeError):
        np.arctan(v)


def test_empty_array_times_a_value():
    assert (Value(1.0) * np.array([])).shape == (0,)
    assert (np.array([]) * Value(1.0)).shape == (0,)


def test_values_from_numpy_rows():
    rows = np.array([[0.5, -1.0], [2.0, 3.0]])
    inputs = [list(map(Value, row)) for row in rows]
    assert all(
        same_number(v.data, float(x))
        for vs, row in zip(inputs, rows, strict=True)
        for v, x in zip(vs, row, strict=True)
    )
    weight = Value(2)
    total = sum(weight * x for row in rows for x in row)
    total.backward()
    assert weight.grad == rows.sum()


class Busy:
    """A number whose conversion records user-made nodes and far more than the tape holds."""

    def __init__(self, x):
        self.x = x

    def __float__(self):
        a = Value(7.0)
        for _ in range(1000):
            Value(1.0, (a, a), (5.0, 6.0))
        for _ in range(100_000):
            a * 2.0
        return self.x


@pytest.mark.parametrize(
    ("use", "data", "grad"),
    [
        (lambda v: v * Busy(2.0), 6.0, 2.0),
        (lambda v: Busy(2.0) - v, -1.0, -1),
        (lambda v: Busy(2.0) / v, 3.0**-1 * 2, -2 / 9),
        (lambda v: v.maximum(Busy(2.0)), 3.0, 1),
        (lambda v: (-v).leaky_relu(Busy(0.5)), -1.5, -0.5),
        (lambda v: Value(Busy(6.0), (v, v), (Busy(2.0), Busy(3.0))), 6.0, 5.0),
        (lambda v: sum(Layer(2, 2, nonlin=False)([Busy(2.0), v])) * 0 + v, 3.0, 1.0),
    ],
)
def test_conversion_of_an_operand_may_run_python(use, data, grad):
    v = Value(3.0) * 1.0
    out = use(v)
    out.backward()
    assert out.data == data
    assert v.grad == pytest.approx(grad, rel=1e-14)


def test_a_result_cannot_be_constructed_again():
    a = Value(2.0)
    y = a * 3
    with pytest.raises(TypeError, match="is part of a graph"):
        y.__init__(5.0)
    assert (y.data, y._op) == (6.0, "*")
    a.grad = 7
    a.__init__(4)
    assert (a.data, a.grad) == (4, 0)
