"""A run reads parameters as they are at its start, whatever happens to them meanwhile."""

import gc
import random
import threading

import numpy as np
import pytest
from conftest import resident_bytes_now

import fastgrad
from fastgrad import Value, custom_op, functional, nn, optim

X = np.random.default_rng(3).normal(size=(70, 40))
Y = np.random.default_rng(4).integers(0, 3, 70)


class Net:
    """A custom operation between its layers calls `meanwhile`, once in each direction."""

    def __init__(self, threads=1):
        random.seed(7)
        self.model = nn.MLP(40, [34, 34, 3])
        self.parameters = self.model.parameters()
        self.meanwhile = lambda: None
        self.called = set()
        through = custom_op(self.forward, self.partials)

        def loss(x, y):
            first, *layers = self.model.layers
            x = first(x)
            x = [through(x[0]), *x[1:]]
            for layer in layers:
                x = layer(x)
            return functional.cross_entropy(x, y)

        self.program = fastgrad.compile(loss, threads=threads)

    def forward(self, x):
        self.once("forward")
        return x

    def partials(self, x):
        self.once("reverse")
        return (1.0,)

    def once(self, direction):
        if direction not in self.called:
            self.called.add(direction)
            self.meanwhile()

    def run(self, meanwhile):
        self.called, self.meanwhile = set(), meanwhile
        try:
            return self.program.value_and_grad(X, Y)
        finally:
            self.meanwhile = lambda: None

    def data(self):
        return [p.data for p in self.parameters]


@pytest.mark.parametrize("order", [[3, 0, 5, 1], [5, 4, 3, 2, 1, 0], [0, 2, 4], [1, 2, 3, 4]])
def test_neurons_that_two_layers_have_in_other_orders(order):
    """The weights of one of them are copied together, those of the other read where they are."""
    layer, other = nn.Layer(40, 6), nn.Layer(40, len(order))
    other.neurons = [layer.neurons[k] for k in order]

    def product(x, y):
        return sum(layer(x)) * sum(other(y))

    program = fastgrad.compile(product)
    pairs = [(list(map(Value, x)), list(map(Value, y))) for x, y in zip(X, X[::-1])]
    products = [product(x, y) for x, y in pairs]
    assert program(X, X[::-1]).tolist() == [z.data for z in products]
    sum(products).backward()
    grads = [p.grad / len(X) for p in program.parameters]
    assert program.value_and_grad(X, X[::-1])[1] == pytest.approx(grads, rel=1e-11, abs=1e-11)


def same(got, expected):
    return got[0] == expected[0] and np.array_equal(got[1], expected[1])


def edit(net):
    for p in net.parameters:
        p.data = p.data + 1


def edit_with_ints(net):
    for p in net.parameters:
        p.data = 2


def step(net):
    for p in net.parameters:
        p.grad = 0.5
    optim.SGD(net.parameters, lr=0.1).step()


def descend(net):
    square = fastgrad.compile(lambda x: net.model(x)[0] ** 2)
    optim.Adam(net.parameters, lr=0.1).minimize(square, X)


def load(net):
    net.model.load_state_dict(
        {name: 0 * np.asarray(array) for name, array in net.model.state_dict().items()}
    )


def grow(net):
    """The arrays of the tape must become larger."""
    net.kept = [Value(1.0) for _ in range(300_000)]
    edit(net)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("change", [edit, edit_with_ints, step, descend, load, grow])
def test_what_changes_during_a_run_is_not_seen_by_it(change, threads):
    net = Net(threads)
    expected = net.run(lambda: None)
    start = net.data()
    assert same(net.run(lambda: change(net)), expected)
    assert net.called == {"forward", "reverse"}
    changed = net.data()
    assert changed != start
    again = net.run(lambda: None)
    assert not same(again, expected)
    assert net.data() == changed
    for p, number in zip(net.parameters, start):
        p.data = number
    assert same(net.run(lambda: None), expected)


def test_a_run_inside_of_another_one():
    net = Net()
    expected = net.run(lambda: None)
    inner = Net()
    found = []

    def both():
        found.append(inner.run(lambda: edit(net) or edit(inner)))

    assert same(net.run(both), expected)
    assert same(found[0], expected)
    assert not same(found[1], expected)


def test_entries_may_move_during_a_run():
    dead = [Value(1.0) for _ in range(200_000)]
    net = Net()
    expected = net.run(lambda: None)

    def collect():
        dead.clear()
        for _ in range(20):  # collections come while graphs are recorded
            [Value(2.0) * 3 for _ in range(50_000)]

    assert same(net.run(collect), expected)
    assert same(net.run(collect), expected)


def test_another_thread_changes_them_during_a_run():
    net = Net()
    expected = net.run(lambda: None)
    inside, changed = threading.Event(), threading.Event()

    def wait():
        inside.set()
        assert changed.wait(20)

    def change():
        assert inside.wait(20)
        step(net)
        changed.set()

    other = threading.Thread(target=change)
    other.start()
    assert same(net.run(wait), expected)
    other.join()
    assert not same(net.run(lambda: None), expected)


def test_steps_of_other_threads_are_seen_whole_or_not_at_all():
    """All weights are always the same number, and all that is computed is exact."""
    layer = nn.Layer(500, 40, nonlin=False)
    parameters = layer.parameters()
    for p in parameters:
        p.data, p.grad = 0.0, -1.0
    program = fastgrad.compile(lambda x: sum(layer(x)), threads=2)
    ones, over = np.ones((64, 500)), threading.Event()
    program(ones)

    def step():
        optimizer = optim.SGD(parameters, lr=1.0)
        while not over.is_set():
            optimizer.step()

    def record():
        while not over.is_set():
            sum([Value(1.0) * k for k in range(40_000)])

    others = [threading.Thread(target=target) for target in (step, record)]
    for thread in others:
        thread.start()
    seen = set()
    try:
        for _ in range(300):
            outputs = program(ones)
            assert (outputs == outputs[0]).all()
            seen.add(outputs[0])
    finally:
        over.set()
        for thread in others:
            thread.join()
    assert {number % (501 * 40) for number in seen} == {0}
    assert len(seen) > 1


def test_an_error_ends_the_reading():
    net = Net()
    start = net.data()
    for error in ZeroDivisionError, KeyboardInterrupt:

        def fail(error=error):
            edit(net)
            raise error

        with pytest.raises(error):
            net.run(fail)
    assert net.data() == [x + 1 + 1 for x in start]


def test_copies_are_let_go():
    net = Net()
    net.kept = [Value(1.0) for _ in range(200_000)]  # so that a copy takes megabytes
    for _ in range(3):
        net.run(lambda: edit(net))
    gc.collect()
    before = resident_bytes_now()
    for _ in range(60):
        net.run(lambda: edit(net))
    assert resident_bytes_now() < before + 10e6
