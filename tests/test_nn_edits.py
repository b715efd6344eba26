"""What users do to the insides of a model: every edit must give what the Python loops give.

A Layer is recorded by one C call, with cached weights; here weights, neurons and layers are
replaced and shared, methods patched, rules put on inputs, weights and outputs, models copied.
"""

import copy
import gc
import pickle
import random

import micrograd.nn
import pytest
from micrograd.engine import Value as MicrogradValue
from oracles import close, outputs_of, same_model

from fastgrad import nn
from fastgrad.engine import Value


class Negated(nn.Neuron):
    def __call__(self, x):
        return -super().__call__(x)


def test_subclass_of_neuron_inside_a_layer():
    random.seed(1)
    layer = nn.Layer(2, 3, nonlin=False)
    plain = [v.data for v in layer([1.0, 2.0])]
    own = Negated(2, nonlin=False)
    own.w, own.b = layer.neurons[1].w, layer.neurons[1].b
    layer.neurons[1] = own
    assert [v.data for v in layer([1.0, 2.0])] == [plain[0], -plain[1], plain[2]]
    (layer([1.0, 2.0])[1] * 5).backward()
    assert own.b.grad == -5


def replaced_weight(m, V, model):
    model.layers[0].neurons[0].w[0] = V(0.75)


def replaced_weights(m, V, model):
    model.layers[0].neurons[1].w = [V(0.1 * i) for i in range(3)]


def replaced_bias(m, V, model):
    model.layers[0].neurons[1].b = V(-0.5)


def replaced_neuron(m, V, model):
    model.layers[0].neurons[1] = m.Neuron(3, nonlin=False)


def replaced_layer(m, V, model):
    model.layers[0] = m.Layer(3, 2, nonlin=False)


def more_neurons(m, V, model):
    model.layers[1].neurons.append(m.Neuron(2))


def a_layer_less(m, V, model):
    del model.layers[1]


def toggled_nonlinearity(m, V, model):
    model.layers[0].neurons[0].nonlin = False
    model.layers[1].neurons[0].nonlin = True


def shared_within_a_layer(m, V, model):
    first, second = model.layers[0].neurons
    second.w[1] = first.w[1]
    second.b = first.b


def shared_between_layers(m, V, model):
    model.layers[1].neurons[0].w[0] = model.layers[0].neurons[0].w[2]


def the_same_neuron_twice(m, V, model):
    model.layers[0].neurons[1] = model.layers[0].neurons[0]


def swapped_weights(m, V, model):
    w = model.layers[0].neurons[0].w
    w[0], w[2] = w[2], w[0]


def computed_weight(m, V, model):
    w = model.layers[0].neurons[0].w
    w[1] = w[0] * 2 + w[2]


def weights_that_are_numbers(m, V, model):
    model.layers[0].neurons[0].w[0] = 0.5
    model.layers[0].neurons[1].b = 2


def a_function_between_layers(m, V, model):
    model.layers.insert(1, lambda x: [v * 0.5 for v in x])


def new_data(m, V, model):
    for i, p in enumerate(model.parameters()):
        p.data = 0.3 * i - 1


EDITS = [
    replaced_weight,
    replaced_weights,
    replaced_bias,
    replaced_neuron,
    replaced_layer,
    more_neurons,
    a_layer_less,
    toggled_nonlinearity,
    shared_within_a_layer,
    shared_between_layers,
    the_same_neuron_twice,
    swapped_weights,
    computed_weight,
    weights_that_are_numbers,
    a_function_between_layers,
    new_data,
]


@pytest.mark.parametrize("garbage", [0, 300_000], ids=["", "after garbage"])
@pytest.mark.parametrize("edit", EDITS)
def test_edited_models(edit, garbage):
    theirs, ours = same_model(nn, lambda m: m.MLP(3, [2, 1]))
    row = [0.5, -1.0, 2.0]
    theirs(row)
    ours(row)
    for m, V, model in ((micrograd.nn, MicrogradValue, theirs), (nn, Value, ours)):
        random.seed(7)
        edit(m, V, model)
    x = Value(1.0)
    for _ in range(garbage):
        x * 2
    for _ in range(2):
        want, got = outputs_of(theirs(row)), outputs_of(ours(row))
        assert [v.data for v in got] == [v.data for v in want]
        sum(want).backward()
        sum(got).backward()
    parameters = [
        [
            p
            for layer in model.layers
            if hasattr(layer, "neurons")
            for n in layer.neurons
            for p in [*n.w, n.b]
            if hasattr(p, "grad")
        ]
        for model in (theirs, ours)
    ]
    assert [p.grad for p in parameters[1]] == close([p.grad for p in parameters[0]])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@pytest.mark.parametrize("called_before", [False, True])
def test_copied_model_is_independent(duplicate, called_before):
    model = nn.MLP(2, [3, 1])
    row = [0.5, -1.0]
    if called_before:
        model(row).backward()
    twin = duplicate(model)
    assert repr(twin) == repr(model)
    assert [p.data for p in twin.parameters()] == [p.data for p in model.parameters()]
    assert [p.grad for p in twin.parameters()] == [p.grad for p in model.parameters()]
    assert twin(row).data == model(row).data
    before = [(p.data, p.grad) for p in model.parameters()]
    (twin(row) * 2 + 1).backward()
    for p in twin.parameters():
        p.data += 1
    assert [(p.data, p.grad) for p in model.parameters()] == before
    del model
    gc.collect()
    assert outputs_of(twin(row))[0].data == twin(row).data


def test_shared_weights_stay_shared_in_a_copy():
    model = nn.MLP(2, [2, 1])
    model.layers[0].neurons[1] = model.layers[0].neurons[0]
    twin = copy.deepcopy(model)
    assert twin.layers[0].neurons[1] is twin.layers[0].neurons[0]


@pytest.mark.parametrize("name", ["relu", "__add__", "__mul__"])
def test_patched_value_method_is_honoured_by_layers(monkeypatch, name):
    original = getattr(Value, name)
    calls = []

    def counted(self, *rest):
        calls.append(name)
        return original(self, *rest)

    model = nn.MLP(2, [3, 3, 1])
    before = model([0.5, 1.0]).data
    monkeypatch.setattr(Value, name, counted)
    assert model([0.5, 1.0]).data == before
    assert len(calls) == (6 if name == "relu" else 6 + 9 + 3)
    monkeypatch.undo()
    out = model([0.5, 1.0])
    assert out.data == before
    assert out._op == "dot"  # as fast as before


@pytest.mark.parametrize("cls", [nn.Neuron, nn.Layer])
def test_patched_call_is_honoured_by_what_contains_it(monkeypatch, cls):
    calls = []
    original = cls.__call__

    def counted(self, x):
        calls.append(self)
        return original(self, x)

    model = nn.MLP(2, [3, 1])
    before = model([0.5, 1.0]).data
    monkeypatch.setattr(cls, "__call__", counted)
    assert model([0.5, 1.0]).data == before
    assert len(calls) == (4 if cls is nn.Neuron else 2)


def hooked(x, seen):
    out = Value(x.data, (x,), "hook")

    def rule():
        seen.append(out.grad)
        x.grad += 10 * out.grad

    out._backward = rule
    return out


@pytest.mark.parametrize("drop", [False, True])
def test_user_rule_on_the_input_of_a_layer(drop):
    seen = []
    a = Value(0.5)
    x = hooked(a, seen)
    model = nn.MLP(2, [3, 1])
    for p in model.parameters():
        p.data = 1.0
    out = model([x, Value(2.0)])
    if drop:
        del x
        gc.collect()
    out.backward()
    assert seen == [3.0]
    assert a.grad == 30.0


def test_user_rules_on_weights_of_a_layer():
    seen, hooks = [], []
    base = Value(2.0)
    layer = nn.Layer(2, 2, nonlin=False)
    layer.neurons[0].w[1] = hooked(base, seen)
    layer.neurons[1].b._backward = lambda: hooks.append(layer.neurons[1].b.grad)
    gc.collect()
    first, second = layer([3.0, 5.0])
    (first + second * 2).backward()
    assert seen == [5.0]
    assert base.grad == 50.0
    assert hooks == [2]


def test_rule_replaced_on_an_output_of_a_layer():
    layer = nn.Layer(1, 2)
    for p in layer.parameters():
        p.data = 1.0
    first, second = layer([3.0])
    total = first + second
    first._backward = lambda: None
    total.backward()
    assert [p.grad for p in layer.parameters()] == [0, 0, 3.0, 1]


def test_graph_of_a_single_neuron_is_micrograd_s():
    theirs, ours = same_model(nn, lambda m: m.Neuron(2))
    row = [1.0, -2.0]

    def ops(v):
        return sorted([v._op, *(op for child in v._prev for op in ops(child))])

    assert ops(ours(row)) == ops(theirs(row))
