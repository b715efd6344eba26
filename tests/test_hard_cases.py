"""Cases that a review or a fuzzer found: one short script each, with what it must give.

Most make Python's cyclic collector run in the middle of something; some replace what nobody should.
"""

import contextvars
import gc
import weakref

import numpy as np
import pytest
from oracles import run_snippet

from fastgrad import Value, nn, no_grad, tape


@pytest.fixture
def collector():
    """Whatever a test does to the cyclic collector is undone."""
    threshold = gc.get_threshold()
    yield gc
    gc.set_threshold(*threshold)
    gc.enable()


class Finalizer:
    """Garbage at once, but only for the cyclic collector; then runs `action`."""

    def __init__(self, action):
        self.action = action
        self.me = self

    def __del__(self):
        self.action()


def collections_during(collector, setup, work, action, most=40):
    """Run `work` again and again, with the collector firing at its k-th allocation."""
    for k in range(1, most):
        collector.disable()
        state = setup()
        collector.collect()
        Finalizer(lambda state=state: action(state))
        collector.set_threshold(k + collector.get_count()[0])
        collector.enable()
        work(state)
        collector.disable()
        yield state
        collector.collect()


def made(x, cls=Value):
    out = cls(x.data, (x,), "id")

    def rule():
        x.grad += out.grad

    out._backward = rule
    return out


def test_handles_put_off_by_the_trashcan(collector):
    collector.disable()
    marker = type("Marker", (), {})()
    alive = weakref.ref(marker)
    x = Value(1.0)
    x.m = marker
    del marker
    for i in range(400):
        x = made(x)
        x.label = f"l{i}"
    del x
    collector.collect()
    assert alive() is None
    assert [v.label for v in [Value(1.0) for _ in range(600)] if v.label] == []


def test_a_dying_handle_is_not_found_through_its_entry(collector):
    def setup():
        a = Value(1.0)
        p = a * 2
        p.label, p.history = "x", [1, 2]
        return {"p": p, "y": p + 1}

    def find(state):
        state["found"] = list(state["y"]._prev)

    for state in collections_during(collector, setup, lambda s: s.pop("p"), find):
        assert sorted(v.data for v in state["y"]._prev) == [1, 2.0]
        assert all(v.data in (1, 2.0) for v in state.get("found", []))


@pytest.mark.parametrize("form", ["local", "made", "run"])
def test_operands_while_the_pool_moves(collector, form):
    def setup():
        a = Value(1.0)
        if form == "run":
            v = nn.Layer(50, 1, nonlin=False)([1.0] * 50)
        else:
            v = Value(1.0, (a,) * 50, (2.0,) * 50 if form == "local" else "user")
        return {"a": a, "v": v}

    def work(state):
        v = state["v"]
        state["seen"] = (v._children, v._local_grads)

    def grow(state):
        if state:
            state["big"] = Value(1.0, (state["a"],) * 100_000, "big")

    for state in collections_during(collector, setup, work, grow, most=20):
        children, local_grads = state["seen"]
        assert len(children) == (101 if form == "run" else 50)
        assert form != "local" or list(local_grads) == [2.0] * 50
        assert form == "run" or all(child is state["a"] for child in children)
        state.clear()
        tape.reclaim()


def test_a_late_rule_while_users_are_collected(collector):
    for k in range(1, 40):
        collector.disable()
        x = Value(1.0)
        users = [x * 2 for _ in range(5)]
        for user in users:
            user.all = users
        del user, users
        collector.set_threshold(k + collector.get_count()[0])
        collector.enable()
        x._backward = int
        y = x * 3
        y.backward()
        assert x.grad == 3


def test_operands_that_a_subclass_calls_equal():
    class Equal(Value):
        def __eq__(self, other):
            return isinstance(other, Value) and self.data == other.data

        def __hash__(self):
            return hash(self.data)

    a, b = Value(1.0), Value(1.0)
    y = made(a, Equal) + made(b, Equal)
    gc.collect()
    y.backward()
    assert (a.grad, b.grad) == (1, 1)


def test_an_input_that_changes_the_layer_while_it_is_called():
    layer = nn.Layer(2, 2)
    for neuron in layer.neurons:
        neuron.b.data = 100.0  # above relu's kink
    before = [n.parameters() for n in layer.neurons]

    class Evil:
        def __float__(self):
            layer.neurons = nn.Layer(20, 30).neurons
            assert len(layer([1.0] * 20)) == 30
            return 1.0

    out = layer([Evil(), 2.0])  # goes on with the neurons it began with
    assert [set(p) < set(v._children[0]._children) for v, p in zip(out, before)] == [True, True]
    assert len(layer.neurons) == 30


@pytest.mark.parametrize("break_it", [lambda la: delattr(la, "_seat"), lambda la: None])
def test_a_layer_that_has_lost_its_seat(break_it):
    layer = nn.Layer(2, 2, nonlin=False)
    expected = [v.data for v in layer([1.0, 2.0])]
    if break_it(layer) is None and hasattr(layer, "_seat"):
        layer._seat = None
    assert [v.data for v in layer([1.0, 2.0])] == expected


def test_zero_grad_of_fused_entries_forgets_their_partial_sums():
    layer = nn.Layer(3, 1, nonlin=False)
    x = Value(1.0)
    hidden = layer([x, 1.0, 1.0])

    class Everything(nn.Module):
        def parameters(self):
            return [hidden, x, *layer.parameters()]

    hidden.backward()
    first = x.grad
    Everything().zero_grad()
    hidden.backward()
    assert x.grad == first


def test_labels_of_handles_in_cycles():
    a = Value(1.0)
    p = a * 2
    p.label, p.me = "p", p
    y = p + 1
    del p
    gc.collect()
    assert sorted(v.label for v in y._prev) == ["", "p"]


def test_arrays_of_values_hung_on_a_value_are_collected():
    def run(rounds):
        for _ in range(rounds):
            p = a * 2
            y = p + 1
            p.users = np.empty(1, dtype=object)
            p.users[0] = y

    a = Value(1.0)
    run(1)
    gc.collect()
    tape.reclaim()
    before = tape.usage()["entries"]
    run(300)
    gc.collect()
    tape.reclaim()
    assert tape.usage()["entries"] <= before


def test_no_grad_left_in_another_context():
    def generator():
        with no_grad():
            yield

    x = Value(1.0)
    paused = generator()
    contextvars.copy_context().run(next, paused)
    assert list(paused) == []
    with no_grad():
        assert (x * 2)._prev == set()
    assert len((x * 2)._prev) == 2


def test_patched_setattr_and_del():
    """Replacing what every Value has is done to a process of its own."""
    assert run_snippet(
        """
        from fastgrad import Value
        plain, log = Value.__setattr__, []

        def logged(self, name, value):
            log.append(name)
            plain(self, name, value)

        Value.__setattr__ = logged
        v = Value(1.0)
        v.label = "mine"
        Value.__del__ = lambda self: log.append("del")
        del v
        answer([log, Value(2.0).label])
        """
    ) == [["label", "del", "del"], ""]


def test_a_patched_new():
    """An instance counter, as one would write it for micrograd."""
    assert run_snippet(
        """
        from fastgrad import Value
        count = 0

        def counted(cls, *args):
            global count
            count += 1
            return object.__new__(cls)

        Value.__new__ = counted
        values = [Value(float(i)) for i in range(5)]
        answer([count, [v.data for v in values], (values[3] * values[4]).data])
        """
    ) == [5, [0.0, 1.0, 2.0, 3.0, 4.0], 12.0]


def test_rules_wrapped_one_by_one():
    """Not quadratic in Python objects; the numbers stay those of the rules they wrap."""
    x = Value(1.0)
    nodes = [x]
    for _ in range(3000):
        nodes.append(nodes[-1] + 1.0)
    calls = []
    for node in nodes[1:]:
        rule = node._backward
        node._backward = lambda rule=rule: (calls.append(1), rule())
    nodes[-1].backward()
    assert (x.grad, len(calls)) == (1, 3000)


def test_an_item_that_is_no_number():
    class Endless:
        ndim = 0

        def __getitem__(self, key):
            return self

        def item(self):
            return self

    with pytest.raises(TypeError, match="data must be a number, got Endless"):
        Value(Endless())


def test_a_value_given_another_class():
    class Named(Value):
        pass

    v = Value(2.0)
    v.__class__ = Named
    y = v * 3
    del v
    gc.collect()
    assert {type(operand) for operand in y._prev} == {Named, Value}


def test_sweeps_while_entries_move(collector):
    """A sweep run by a finalizer that the tape's own collection would set off."""
    layer = nn.Layer(2, 2, nonlin=False)
    for k in range(1, 40):
        collector.disable()
        x = Value(1.0)
        out = sum(layer([x, 1.0]))
        out.backward()
        out.backward()
        labelled = [x * 2 for _ in range(3)]
        for p in labelled:
            p.label = "kept"
        users = [p + 1 for p in labelled]
        del p, labelled
        Finalizer(out.backward)
        collector.set_threshold(k + collector.get_count()[0])
        collector.enable()
        tape.reclaim()
        collector.disable()
        collector.collect()
        assert [sorted(v.label for v in user._prev) for user in users] == [["", "kept"]] * 3
