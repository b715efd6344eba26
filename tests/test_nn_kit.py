"""What fastgrad.nn has beyond micrograd's: activations and draws by name, parts, names, states."""

import copy
import math
import pickle
import random
import statistics
from functools import partial

import numpy as np
import pytest
from oracles import close, run_snippet

import fastgrad
from fastgrad import functional, nn
from fastgrad.engine import Value

ACTIVATIONS = ["relu", "tanh", "sigmoid", "gelu", "linear"]


def texts(values):
    """Data and grads to the bit, with the kind of number."""
    return [(repr(v.data), repr(v.grad)) for v in values]


# ---- activations and draws


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "duplicate", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_activations_of_a_layer(activation, duplicate):
    random.seed(3)
    layer = duplicate(nn.Layer(3, 4, activation=activation))
    row = [0.5, -1.0, 2.0]
    got = layer(row)
    functional.sum(got).backward()
    grads = texts(layer.parameters())
    layer.zero_grad()
    want = []
    for neuron in layer.neurons:
        act = sum((w * x for w, x in zip(neuron.w, row)), neuron.b)
        want.append(act if activation == "linear" else getattr(act, activation)())
    functional.sum(want).backward()
    assert [v.data for v in got] == [v.data for v in want]
    assert texts(layer.parameters()) == grads
    assert [n(row).data for n in layer.neurons] == [v.data for v in want]


def test_mlp_has_its_activation_but_in_the_last_layer():
    model = nn.MLP(2, [2, 1], activation="gelu")
    assert (
        repr(model)
        == "MLP of [Layer of [GELUNeuron(2), GELUNeuron(2)], Layer of [LinearNeuron(2)]]"
    )
    names = [repr(nn.Neuron(1, activation=one)) for one in ACTIVATIONS]
    assert names == [
        "ReLUNeuron(1)",
        "TanhNeuron(1)",
        "SigmoidNeuron(1)",
        "GELUNeuron(1)",
        "LinearNeuron(1)",
    ]
    assert repr(nn.Neuron(1, False, activation="tanh")) == "LinearNeuron(1)"


def test_activations_changed_and_mixed_in_a_layer():
    layer = nn.Layer(1, 5, nonlin=False)
    before = [v.data for v in layer([0.75])]
    for neuron, nonlin in zip(layer.neurons, [True, "tanh", "sigmoid", "gelu", "relu"]):
        neuron.nonlin = nonlin
    want = [getattr(Value(x), name)().data for x, name in zip(before, [*ACTIVATIONS[:4], "relu"])]
    assert [v.data for v in layer([0.75])] == want
    layer.neurons[2].nonlin = "softmax"
    with pytest.raises(AttributeError, match="softmax"):
        layer([0.75])


@pytest.mark.parametrize("activation", ACTIVATIONS[:4])
def test_patched_activation_is_honoured(monkeypatch, activation):
    layer = nn.Layer(2, 3, activation=activation)
    before = [v.data for v in layer([1.0, 2.0])]
    with monkeypatch.context() as patch:
        patch.setattr(Value, activation, lambda self: self * 0 + 7)
        assert [v.data for v in layer([1.0, 2.0])] == [7.0] * 3
    assert [v.data for v in layer([1.0, 2.0])] == before


def test_activation_edited_by_an_input():
    layer = nn.Layer(1, 1, activation="tanh")
    (neuron,) = layer.neurons

    class Editing:
        def __float__(self):
            neuron.nonlin = "softmax"
            return 2.0

    got = layer([Editing()])
    neuron.nonlin = False
    assert got.data == layer([2.0]).data


def test_layers_of_any_activation_are_one_call():
    """In a process of its own: an operator that other tests have patched stays a Python one."""
    run_snippet(
        """
        import pickle
        from fastgrad import Value, nn

        def kinds(layer):
            out = layer([1.0, 2.0])[0]
            return [out._op, *(below._op for below in out._prev if layer.neurons[0].nonlin)]

        names = {"relu": "ReLU", "tanh": "tanh", "sigmoid": "sigmoid", "gelu": "gelu"}
        layers = {name: nn.Layer(2, 3, activation=name) for name in [*names, "linear"]}
        for name, layer in layers.items():
            want = [names[name], "dot"] if name != "linear" else ["dot"]
            assert kinds(layer) == kinds(pickle.loads(pickle.dumps(layer))) == want, name
        Value.tanh = Value.tanh
        assert kinds(layers["tanh"]) == ["tanh", "dot"]
        Value.tanh = lambda self: self
        assert "dot" not in kinds(layers["tanh"])
        assert kinds(layers["gelu"]) == ["gelu", "dot"]
        """
    )


def test_activations_under_no_grad():
    layer = nn.Layer(2, 2, activation="tanh")
    want = [v.data for v in layer([1.0, 2.0])]
    with fastgrad.no_grad():
        assert [(v.data, v._prev) for v in layer([1.0, 2.0])] == [(x, set()) for x in want]


@pytest.mark.parametrize("make", [nn.Neuron, partial(nn.Layer, nout=2), partial(nn.MLP, nouts=[2])])
def test_unknown_names(make):
    with pytest.raises(ValueError, match=r"one of relu, linear, tanh, .* a bool, got 'relo'"):
        make(2, activation="relo")
    with pytest.raises(ValueError, match=r"uniform, kaiming, xavier or a function .* got 'he'"):
        make(2, init="he")


def test_name_as_nonlin():
    with pytest.raises(ValueError, match="nonlin a bool, got 'tanh'"):
        nn.Neuron(2, nonlin="tanh")


def test_draws():
    random.seed(5)
    plain = [p.data for p in nn.MLP(3, [4, 1]).parameters()]
    random.seed(5)
    assert [p.data for p in nn.MLP(3, [4, 1], init="uniform").parameters()] == plain

    def weights(init):
        random.seed(1)
        layer = nn.Layer(200, 50, init=init)
        assert all(repr(n.b.data) == "0" for n in layer.neurons)
        return [w.data for n in layer.neurons for w in n.w]

    kaiming, xavier = weights("kaiming"), weights("xavier")
    assert statistics.stdev(kaiming) == pytest.approx(math.sqrt(2 / 200), rel=0.03)
    assert max(map(abs, kaiming)) > 3 * math.sqrt(2 / 200)
    bound = math.sqrt(6 / 250)
    assert 0.999 * bound < max(xavier) <= bound
    assert -bound <= min(xavier) < -0.999 * bound
    assert set(weights(lambda: 0.25)) == {0.25}
    assert kaiming == weights("kaiming")


# ---- parts


def test_sequential():
    random.seed(0)
    model = nn.Sequential(nn.Layer(2, 3), nn.Layer(3, 1, nonlin=False), lambda x: x * 2)
    want = model.layers[1](model.layers[0]([1.0, -2.0])).data * 2
    assert model([1.0, -2.0]).data == want
    assert len(model.parameters()) == 13
    assert repr(nn.Sequential(nn.Dropout(0.1), nn.RMSNorm(3))) == (
        "Sequential of [Dropout(0.1), RMSNorm(3)]"
    )
    with pytest.raises(TypeError, match="layer 0 must be something to call, got list"):
        nn.Sequential([nn.Layer(2, 3)])
    with pytest.raises(ValueError, match="at least 1 for the number of layers, got 0"):
        nn.Sequential()


def test_embedding():
    random.seed(0)
    table = nn.Embedding(4, 3)
    assert [p.data for p in table.parameters()] == [v.data for row in table.weight for v in row]
    functional.sum(table(Value(2))).backward()
    assert [[v.grad for v in row] for row in table.weight] == [[0] * 3, [0] * 3, [1] * 3, [0] * 3]
    with pytest.raises(IndexError, match="index int 4 of 4"):
        table(4)
    with pytest.raises(ValueError, match="at least 1 for the number of rows, got 0"):
        nn.Embedding(0, 3)


ROW = [0.5, -2.0, 3.0, 1.25]


def test_norms():
    x = np.array(ROW)
    rms, layer = nn.RMSNorm(4), nn.LayerNorm(4, eps=1e-3)
    for k in range(4):
        rms.weight[k].data = layer.weight[k].data = k - 1.5
        layer.bias[k].data = 0.5 * k
    w, b = np.arange(4) - 1.5, 0.5 * np.arange(4)
    assert [v.data for v in rms(ROW)] == close(list(x / np.sqrt((x**2).mean() + 1e-5) * w))
    want = (x - x.mean()) / np.sqrt(x.var() + 1e-3) * w + b
    assert [v.data for v in layer(ROW)] == close(list(want))
    assert [p.data for p in layer.parameters()] == [*w, *b]
    assert [v.data for v in nn.LayerNorm(1)(Value(3.0))] == [0.0]
    for norm in (rms, layer):
        with pytest.raises(ValueError, match=r"Norm\(4\) got a row of 2"):
            norm([1.0, 2.0])


def test_parts_in_a_program():
    """An index that is an input picks a row; the numbers are those of the eager calls."""
    random.seed(2)
    model = nn.Sequential(
        nn.Embedding(5, 4), nn.LayerNorm(4), nn.RMSNorm(4), nn.Layer(4, 3, activation="gelu")
    )
    program = fastgrad.compile(lambda i: functional.sum(model(i)))
    indices = [3, 0, 4, 4]
    want = [functional.sum(model(i)) for i in indices]
    assert list(program(indices)) == [v.data for v in want]
    mean = sum(want) / len(want)
    mean.backward()
    grads = [p.grad for p in model.parameters()]
    model.zero_grad()
    assert program.backward(indices) == close(mean.data)
    assert [p.grad for p in model.parameters()] == close(grads)


# ---- names, states, modes


class Net(nn.Module):
    """As people write one: parts of many kinds, and attributes that are none."""

    def __init__(self):
        self.inner = nn.MLP(2, [2, 1])
        self.scale = Value(2)
        self.table = [[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]]
        self.ragged = ([Value(5.0)], [Value(6.0), Value(7.0)])
        self.heads = {"a": nn.Neuron(1), "b": [Value(8.0)]}
        self.constant = Value(9.0)
        self.size = 3
        self.parent = [self]

    def __call__(self, x):
        self.out = self.inner(x) * self.scale
        return self.out

    def parameters(self):
        rest = [v for rows in (self.table, self.ragged) for row in rows for v in row]
        heads = [*self.heads["a"].parameters(), *self.heads["b"]]
        return [*self.inner.parameters(), self.scale, *rest, *heads]


NAMES = {
    "inner.layers.0.weight": (2, 2),
    "inner.layers.0.bias": (2,),
    "inner.layers.1.weight": (1, 2),
    "inner.layers.1.bias": (1,),
    "scale": (),
    "table": (2, 2),
    "ragged.0": (1,),
    "ragged.1": (2,),
    "heads.a.w": (1,),
    "heads.a.b": (),
    "heads.b": (1,),
}


def test_state_of_a_net_that_a_user_wrote():
    net = Net()
    net([1.0, 2.0])
    state = net.state_dict()
    assert {name: array.shape for name, array in state.items()} == NAMES
    assert state["table"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    named = list(net.named_parameters())
    assert [p for _, p in named] == net.parameters()
    for name, p in named:
        array, _, place = name.partition("[")
        assert state[array][eval(f"({place.rstrip(']')})")] == p.data
    before = texts(net.parameters())
    net.scale.data += 1
    assert state["scale"] == 2
    twin = Net()
    twin.load_state_dict(state)
    assert texts(twin.parameters()) == before
    assert twin.constant.data == 9.0


def test_layer_as_a_matrix():
    layer = nn.Layer(3, 2)
    layer.neurons[0].label = Value(1.0)  # no part of the state
    state = layer.state_dict()
    assert state["weight"].tolist() == [[w.data for w in n.w] for n in layer.neurons]
    assert (state["bias"].dtype, state["weight"].dtype) == (np.int64, np.float64)
    state["bias"] = [1, 2]
    layer.load_state_dict(state)
    assert [repr(n.b) for n in layer.neurons] == ["Value(data=1, grad=0)", "Value(data=2, grad=0)"]
    (layer.neurons[0],) = (type("Own", (nn.Neuron,), {})(3, nonlin=False),)
    assert list(layer.state_dict()) == ["neurons.0.w", "neurons.0.b", "neurons.1.w", "neurons.1.b"]


def test_frozen_parts_are_in_the_state():
    class Tuned(nn.Module):
        def __init__(self):
            self.body, self.head = nn.Layer(2, 2), nn.Layer(2, 1)

        def parameters(self):
            return self.head.parameters()

    model = Tuned()
    assert len(model.state_dict()) == 4
    assert [name for name, _ in model.named_parameters()] == [
        "head.weight[0, 0]",
        "head.weight[0, 1]",
        "head.bias[0]",
    ]


def test_shared_parts():
    layer = nn.Layer(1, 1)
    model = nn.Sequential(layer, layer)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert [name for name, _ in model.named_parameters()] == ["0.weight[0, 0]", "0.bias[0]"]


def test_parameters_without_a_name():
    class Hidden(nn.Module):
        def __init__(self, held):
            self.held = {held}

        def parameters(self):
            return list(self.held)

    with pytest.raises(ValueError, match=r"parameter 0 of Hidden, Value.*, has no name: keep it"):
        Hidden(Value(1.0)).state_dict()
    layer = nn.Layer(2, 1)
    layer.neurons[0].w[1] = 0.5
    with pytest.raises(ValueError, match=r"parameter 1 of Layer, 0\.5, has no name"):
        layer.state_dict()

    class Twice(nn.Module):
        def __init__(self):
            self.held = {1: Value(1.0), "1": Value(2.0)}

        def parameters(self):
            return list(self.held.values())

    with pytest.raises(ValueError, match=r"two parts of Twice are called held\.1"):
        Twice().state_dict()


def test_states_that_do_not_fit_are_listed_and_change_nothing():
    random.seed(0)
    model = nn.MLP(2, [3, 1])
    before = texts(model.parameters())
    state = nn.MLP(3, [3, 1]).state_dict()
    state["layers.1.bias"] = "none"
    state["layers.1.weight"] = [[1.0], [1.0, 2.0]]
    state["layers.2.bias"] = state.pop("layers.0.bias")
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    assert str(error.value).splitlines() == [
        "not the state of this MLP, which is left as it was:",
        "  missing: layers.0.bias (3,)",
        "  layers.0.weight: expected shape (3, 2), got (3, 3)",
        "  layers.1.weight: expected an array of numbers, got [[1.0], [1.0, 2.0]]",
        "  layers.1.bias: expected an array of numbers, got 'none'",
        "  unexpected: layers.2.bias",
    ]
    with pytest.raises(TypeError, match=r"a dict of names to arrays, .* got MLP"):
        model.load_state_dict(model)
    assert texts(model.parameters()) == before


def test_numbers_that_states_may_hold():
    neuron = nn.Neuron(2)
    for given, want in [
        (np.float32([0.5, 1.5]), [0.5, 1.5]),
        (np.uint8([1, 255]), [1, 255]),
        ([math.inf, -0.0], [math.inf, -0.0]),
        (np.longdouble([0.5, 1.5]), [0.5, 1.5]),
    ]:
        neuron.load_state_dict({"w": given, "b": 0})
        assert [repr(w.data) for w in neuron.w] == list(map(repr, want))
    with pytest.raises(ValueError, match="w: expected an array of numbers"):
        neuron.load_state_dict({"w": [True, False], "b": 0})


def test_modes():
    class Mine(nn.Module):
        def __init__(self):
            self.kept = {"drop": nn.Dropout(), "all": [self]}

        def __call__(self, x):
            return self.kept["drop"](x)

        def train(self, rows):
            raise AssertionError("a script's own train() is another matter")

    model = nn.Sequential(nn.Layer(1, 1), nn.Sequential(nn.Dropout()), Mine())
    inner = [model, model.layers[0], model.layers[1].layers[0], model.layers[2].kept["drop"]]
    assert all(part.training for part in inner)
    assert model.eval() is model
    assert not any(part.training for part in inner)
    assert model.train() is model
    assert all(part.training for part in inner)


def test_modules_are_given_once_each():
    shared = nn.Layer(2, 2)
    model = nn.Sequential(shared, nn.Dropout(0.5), shared)
    names = [type(one).__name__ for one in model.modules()]
    assert names == ["Sequential", "Layer", "Dropout"]
    model.eval()
    assert not any(one.training for one in model.modules())
