"""fastgrad.nn against micrograd.nn: same seeds, same parameters, same outputs, close gradients.

What users do to a model's insides is in test_nn_edits.py.
"""

import random
from array import array
from collections import deque

import numpy as np
import pytest
from micrograd import nn as micrograd_nn
from micrograd.engine import Value as MicrogradValue
from oracles import close, nodes_of, outputs_of, same_model, same_number

from fastgrad import nn
from fastgrad.engine import Value


def assert_same_after_backward(theirs, ours, their_inputs, our_inputs, extra=()):
    """Outputs equal to the bit, and after one sweep from all of them every gradient close."""
    want, got = theirs(their_inputs), ours(our_inputs)
    assert isinstance(got, list) == isinstance(want, list)
    want, got = outputs_of(want), outputs_of(got)
    assert [type(v) for v in got] == [Value] * len(want)
    for a, b in zip(want, got, strict=True):
        assert same_number(a.data, b.data), (a, b)
    sum(a * (i + 3) - 1 for i, a in enumerate(want)).backward()
    sum(b * (i + 3) - 1 for i, b in enumerate(got)).backward()
    pairs = list(zip(theirs.parameters(), ours.parameters(), strict=True))
    pairs += [
        (a, b)
        for a, b in zip(their_inputs, our_inputs, strict=True)
        if isinstance(a, MicrogradValue)
    ]
    for a, b in [*pairs, *extra]:
        assert type(b.grad) is type(a.grad), (a, b)
        assert b.grad == close(a.grad)


SHAPES = [
    (1, [1]),
    (2, [1]),
    (2, [16, 16, 1]),
    (3, [4, 4, 1]),
    (5, [2, 3]),
    (4, [3, 3]),
    (7, [9]),
]
MAKERS = [
    lambda m: m.Neuron(3),
    lambda m: m.Neuron(3, nonlin=False),
    lambda m: m.Layer(3, 4),
    lambda m: m.Layer(3, 1),
    lambda m: m.Layer(3, 2, nonlin=False),
    lambda m: m.MLP(3, [4, 2, 1]),
]


@pytest.mark.parametrize(("inputs", "layers"), SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_mlp_of_many_shapes(inputs, layers, seed):
    theirs, ours = same_model(nn, lambda m: m.MLP(inputs, layers), seed)
    assert [p.data for p in ours.parameters()] == [p.data for p in theirs.parameters()]
    assert repr(ours) == repr(theirs)
    rng = random.Random(seed)
    row = [rng.uniform(-2, 2) for _ in range(inputs)]
    assert_same_after_backward(theirs, ours, row, row)
    assert_same_after_backward(
        theirs, ours, [MicrogradValue(x) for x in row], [Value(x) for x in row]
    )


@pytest.mark.parametrize("make", MAKERS)
def test_parts_reprs_and_parameter_order(make):
    theirs, ours = same_model(nn, make)
    assert repr(ours) == repr(theirs)
    assert [(p.data, type(p.data)) for p in ours.parameters()] == [
        (p.data, type(p.data)) for p in theirs.parameters()
    ]
    assert_same_after_backward(theirs, ours, [0.5, -1.5, 2.0], [0.5, -1.5, 2.0])


@pytest.mark.parametrize(
    "row",
    [
        [1.0, -2.0, 0.5],
        [1, -2, 3],
        (0.1, 0.2, 0.3),
        b"\x01\x00\xff",
        bytearray(b"\x05\x06\x07"),
        [True, False, 2],
        range(3),
        deque([1.5, 2.5, 3.5]),
        array("d", [0.25, -1.0, 4.0]),
        memoryview(b"abc"),
        np.array([0.3, -0.7, 1.1]),
        np.array([0.3, -0.7, 1.1], dtype=np.float32),
        np.array([3, -1, 2]),
        np.array([200, 100, 255], dtype=np.uint8),
        np.array([True, False, True]),
        np.array([[1.0, 9.0], [2.0, 9.0], [3.0, 9.0]])[:, 0],
        [np.float64(0.5), 1, -2.5],
        [float("inf"), 1.0, 0.0],
        [float("nan"), 1.0, 0.0],
        [-0.0, 0.0, 0],
    ],
    ids=lambda row: f"{type(row).__name__}{[*row]}",
)
@pytest.mark.parametrize("make", MAKERS)
def test_rows_of_many_kinds(make, row):
    theirs, ours = same_model(nn, make)
    numbers = [x.item() if isinstance(x, np.generic) else x for x in row]
    want, got = outputs_of(theirs(numbers)), outputs_of(ours(row))
    for a, b in zip(want, got, strict=True):
        assert same_number(float(b.data), float(a.data))
        a.backward()
        b.backward()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert b.grad == pytest.approx(float(a.grad), rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("make", MAKERS)
def test_mixed_rows_and_the_same_value_twice(make):
    theirs, ours = same_model(nn, make)
    a, b = MicrogradValue(1.5), Value(1.5)
    assert_same_after_backward(theirs, ours, [a, 2, a], [b, 2, b])
    x, y = MicrogradValue(-0.5) * 2, Value(-0.5) * 2
    assert_same_after_backward(theirs, ours, [x, 1.0, a], [y, np.float64(1.0), b])
    assert_same_after_backward(theirs, ours, [x, a, x], np.array([y, b, y]), [(x, y), (a, b)])


@pytest.mark.parametrize("row", [[1, 2, -3], [1.0, 2, -3]])
@pytest.mark.parametrize("make", MAKERS[:5])
def test_kinds_of_numbers_in_and_out(make, row):
    """Int weights: ints must come out of `data` and of `grad` where micrograd has ints."""
    theirs, ours = same_model(nn, make)
    for i, (a, b) in enumerate(zip(theirs.parameters(), ours.parameters(), strict=True)):
        a.data = b.data = (i % 5) - 2
    assert_same_after_backward(theirs, ours, row, row)
    leaves = [MicrogradValue(x) for x in row], [Value(x) for x in row]
    assert_same_after_backward(theirs, ours, *leaves)


def test_star_import_brings_what_micrograd_s_brings():
    names, expected = {}, {}
    exec("from fastgrad.nn import *", names)
    exec("from micrograd.nn import *", expected)
    assert set(names) >= set(expected)
    assert names["Value"] is Value
    assert names["random"] is random


def test_zero_grad_gives_the_int_zero():
    model = nn.MLP(2, [3, 1])
    model([1.0, 2.0]).backward()
    model.parameters()[0].grad = 5.0
    model.zero_grad()
    assert all(same_number(p.grad, 0) for p in model.parameters())
    for part in (model.layers[0], model.layers[1].neurons[0]):
        for p in part.parameters():
            p.grad = 2.5
        part.zero_grad()
        assert all(same_number(p.grad, 0) for p in part.parameters())


def test_layer_of_one_in_the_middle_feeds_the_next():
    """micrograd unwraps the single output and cannot iterate it then; here it is a row of one."""
    theirs, ours = same_model(nn, lambda m: m.MLP(2, [1, 3]))
    with pytest.raises(TypeError):
        theirs([1.0, 2.0])
    hidden = theirs.layers[0]([1.0, 2.0])
    want = [v.data for v in theirs.layers[1]([hidden])]
    assert [v.data for v in ours([1.0, 2.0])] == want
    assert [v.data for v in ours.layers[1](ours.layers[0]([1.0, 2.0]))] == want


class Holder:
    grad = 7


def test_modules_written_by_the_user():
    class Scaled(nn.Module):
        def __init__(self):
            self.inner = nn.Layer(2, 2)
            self.scale = Value(3.0)
            self.other = Holder()

        def __call__(self, x):
            return sum(self.inner(x)) * self.scale

        def parameters(self):
            return (p for p in [*self.inner.parameters(), self.scale, self.other])

    model = Scaled()
    model([1.0, 2.0]).backward()
    assert model.scale.grad == sum(model.inner([1.0, 2.0])).data
    model.zero_grad()
    assert same_number(model.scale.grad, 0)
    assert model.other.grad == 0
    assert nn.Module().parameters() == []
    nn.Module().zero_grad()


def test_neuron_rewritten_on_values():
    """The lecture's Neuron, put into our Layer and MLP."""

    class Neuron(nn.Module):
        def __init__(self, nin):
            self.w = [Value(0.5 * i) for i in range(nin)]
            self.b = Value(0.25)

        def __call__(self, x):
            return sum((wi * xi for wi, xi in zip(self.w, x, strict=True)), self.b) * 2

        def parameters(self):
            return [*self.w, self.b]

    model = nn.MLP(2, [2, 1])
    model.layers[0].neurons = [Neuron(2), Neuron(2)]
    model.layers[1].neurons = [Neuron(2)]
    out = model([3.0, 4.0])
    hidden = 2 * (0.25 + 0.5 * 4.0)
    assert out.data == 2 * (0.25 + 0.5 * hidden)
    out.backward()
    assert len(model.parameters()) == 9
    assert model.layers[0].neurons[1].w[1].grad == 2 * 0.5 * 2 * 4.0


def test_training_gives_micrograd_s_losses():
    """Five steps of the demo's loop: two moons' worth of points, hinge loss, L2, its rate."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 2))
    y = np.sign(X[:, 0] * X[:, 1])

    def losses(model, V):
        for k in range(5):
            inputs = [list(map(V, xrow)) for xrow in X]
            scores = list(map(model, inputs))
            hinge = [(1 + -yi * scorei).relu() for yi, scorei in zip(y, scores, strict=True)]
            data_loss = sum(hinge) * (1.0 / len(hinge))
            total_loss = data_loss + 1e-4 * sum(p * p for p in model.parameters())
            model.zero_grad()
            total_loss.backward()
            for p in model.parameters():
                p.data -= (1.0 - 0.9 * k / 100) * p.grad
            yield total_loss.data

    theirs, ours = same_model(nn, lambda m: m.MLP(2, [16, 16, 1]), 1337)
    want, got = list(losses(theirs, MicrogradValue)), list(losses(ours, Value))
    assert got[0] == want[0]
    assert got == pytest.approx(want, rel=1e-8)


@pytest.mark.parametrize("shape", [(3, [1]), (3, [2, 1]), (3, [2, 2]), (2, [4, 3, 2])])
@pytest.mark.parametrize("seed", range(5))
def test_repeated_sweeps_through_fused_entries(shape, seed):
    """micrograd's partial sums keep their grads from sweep to sweep, and compound."""

    def grads(engine):
        random.seed(seed)
        model = engine.MLP(*shape)
        out = model([random.uniform(-1, 1) for _ in range(shape[0])])
        roots = out if isinstance(out, list) else [out]
        seen = []
        for _ in range(6):
            random.choice(roots).backward()
            seen += [p.grad for p in model.parameters()]
            if random.random() < 0.3:
                model.zero_grad()
            garbage = Value(1.0)
            for _ in range(40_000):  # enough for collections, which move the entries
                garbage * 2
        return seen

    got, expected = grads(nn), grads(micrograd_nn)
    largest = max(map(abs, expected))
    for g, e in zip(got, expected, strict=True):
        assert abs(g - e) <= 1e-12 * max(abs(e), largest / 1000)


def test_grads_of_fused_entries_set_to_zero_start_afresh():
    model = nn.MLP(2, [3, 1])
    out = model([1.0, -2.0])
    out.backward()
    first = [p.grad for p in model.parameters()]
    for node in nodes_of(out):
        node.grad = 0
    out.backward()
    assert [p.grad for p in model.parameters()] == first
