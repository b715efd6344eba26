"""What people write around micrograd, its lecture and microgpt, run unchanged on fastgrad.

A script that needs a class gets it as an argument, so that the oracle runs the same text.
"""

import math
import random

import numpy as np
import pytest
from micrograd.engine import Value as MicrogradValue
from oracles import (
    LectureValue,
    SlottedValue,
    close,
    nodes_of,
    notebook_trace,
    readme_example,
    same_number,
)

from fastgrad.engine import Value


def lecture_tanh(self):
    """The lecture's tanh, as scripts paste it into the class."""
    x = self.data
    t = (math.exp(2 * x) - 1) / (math.exp(2 * x) + 1)
    out = type(self)(t, (self,), "tanh")

    def _backward():
        self.grad += (1 - t**2) * out.grad

    out._backward = _backward
    return out


def lecture_neuron(cls):
    """The lecture's neuron with its labels; the nodes in the order of their making."""
    x1 = cls(2.0, label="x1")
    x2 = cls(0.0, label="x2")
    w1 = cls(-3.0, label="w1")
    w2 = cls(1.0, label="w2")
    b = cls(6.8813735870195432, label="b")
    x1w1 = x1 * w1
    x1w1.label = "x1*w1"
    x2w2 = x2 * w2
    x2w2.label = "x2*w2"
    x1w1x2w2 = x1w1 + x2w2
    x1w1x2w2.label = "x1*w1 + x2*w2"
    n = x1w1x2w2 + b
    n.label = "n"
    o = n.tanh()
    o.label = "o"
    return [x1, x2, w1, w2, b, x1w1, x2w2, x1w1x2w2, n, o]


def facts(nodes):
    """All that a printed graph shows: label, op, data and grad."""
    return [(v.label, v._op, v.data, v.grad) for v in nodes]


def manual_pass(nodes):
    *_, x1w1, x2w2, both, n, o = nodes
    o.grad = 1.0
    for v in (o, n, both, x2w2, x1w1):
        v._backward()


def pass_over_users_topological_order(nodes):
    topo = []
    visited = set()

    def build_topo(v):
        if v not in visited:
            visited.add(v)
            for child in v._prev:
                build_topo(child)
            topo.append(v)

    root = nodes[-1]
    build_topo(root)
    root.grad = 1.0
    for node in reversed(topo):
        node._backward()


def library_pass(nodes):
    nodes[-1].backward()


@pytest.mark.parametrize("run_pass", [manual_pass, pass_over_users_topological_order, library_pass])
def test_lecture_neuron(run_pass):
    ours, theirs = lecture_neuron(Value), lecture_neuron(LectureValue)
    run_pass(ours)
    run_pass(theirs)
    assert [f[:2] for f in facts(ours)] == [f[:2] for f in facts(theirs)]
    assert [v.data for v in ours] == [v.data for v in theirs]
    assert [v.grad for v in ours] == close([v.grad for v in theirs])
    assert [v.grad for v in ours[:5]] == close([-1.5, 0.5, 1.0, 0.0, 0.5])


def test_gradients_set_by_hand_are_read_back():
    *_, n, o = lecture_neuron(Value)
    n.grad = 0.5
    o.grad = 1
    assert same_number(n.grad, 0.5)
    assert same_number(o.grad, 1)


def test_draw_dot_trace_sees_each_node_once():
    def drawing(root):
        nodes, edges = notebook_trace(root)
        boxes = sorted((n.label, n._op, f"{n.data:.4f}", f"{n.grad:.4f}") for n in nodes)
        uids = {str(id(n)) for n in nodes}
        arrows = sorted((a.label, b.label + b._op) for a, b in edges)
        return boxes, len(uids), arrows

    assert drawing(lecture_neuron(Value)[-1]) == drawing(lecture_neuron(LectureValue)[-1])


def test_readme_example_of_micrograd():
    def script(cls):
        a, b, g = readme_example(cls)
        g.backward()
        return f"{g.data:.4f} {a.grad:.4f} {b.grad:.4f}"

    assert script(Value) == script(MicrogradValue) == "24.7041 138.8338 645.5773"


def two_losses_in_turn(cls):
    a, b = cls(2.0), cls(-3.0)
    shared = a * b
    first, second = (shared + a).relu() + shared, shared * shared + b
    first.backward()
    second.backward()
    return [v.grad for v in (a, b, shared, first, second)]


def older_loss_after_the_younger(cls):
    a = cls(3.0)
    inner = a * 2
    older, younger = inner * 5, inner**2 + a
    younger.backward()
    older.backward()
    return [v.grad for v in (a, inner, older, younger)]


def the_same_loss_twice(cls):
    a, b = cls(2), cls(5)
    inner = a * b
    loss = inner * inner + a
    loss.backward()
    loss.backward()
    return [v.grad for v in (a, b, inner, loss)]


def data_nudged_before_backward(cls):
    a, b = cls(2.0), cls(3.0)
    inner = a * b
    loss = inner**2 + inner.relu()
    a.data += 0.5
    b.data = -1.0
    inner.data = 4.0
    loss.backward()
    return [v.grad for v in (a, b, inner)]


def gradient_seeded_in_the_middle(cls):
    a = cls(2.0)
    inner = a * 3
    inner.grad = 10
    loss = inner * 1
    loss.grad = 99
    loss.backward()
    return [v.grad for v in (a, inner, loss)]


def a_leaf_as_root(cls):
    a = cls(7.0)
    a.grad = 4.0
    a.backward()
    return [a.grad]


def rules_run_by_hand_twice(cls):
    a, b = cls(2.0), cls(3.0)
    c = a * b
    c.grad = 1.0
    c._backward()
    c._backward()
    a._backward()
    return [a.grad, b.grad, c.grad]


def hinge_loss_with_regularisation(cls):
    random.seed(3)
    weights = [cls(random.uniform(-1, 1)) for _ in range(3)]
    for step in range(5):
        losses = []
        for row, label in (([1, 2], 1), ([-1.5, 0.5], -1), ([0, 0], 1)):
            score = sum((w * x for w, x in zip(weights, row, strict=False)), weights[-1])
            losses.append((1 + -label * score).relu())
        total = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(w * w for w in weights)
        for w in weights:
            w.grad = 0
        total.backward()
        for w in weights:
            w.data -= (1.0 - 0.1 * step) * w.grad
    return [total.data] + [w.data for w in weights] + [w.grad for w in weights]


@pytest.mark.parametrize(
    "script",
    [
        two_losses_in_turn,
        older_loss_after_the_younger,
        the_same_loss_twice,
        data_nudged_before_backward,
        gradient_seeded_in_the_middle,
        a_leaf_as_root,
        rules_run_by_hand_twice,
        hinge_loss_with_regularisation,
    ],
)
def test_script_gives_micrograd_s_numbers(script):
    assert script(Value) == close(script(MicrogradValue))


def test_tanh_patched_in_after_the_fact(monkeypatch):
    monkeypatch.setattr(Value, "tanh", lecture_tanh)
    ours, theirs = Value(0.7), LectureValue(0.7)
    out, expected = (ours * 2).tanh() * 3, (theirs * 2).tanh() * 3
    out.backward()
    expected.backward()
    assert out.data == pytest.approx(expected.data, rel=1e-14)
    assert ours.grad == pytest.approx(theirs.grad, rel=1e-12)
    assert {v._op for v in nodes_of(out)} == {"", "*", "tanh"}


def test_method_added_and_taken_away():
    Value.cube = lambda self: self * self * self
    try:
        assert Value(3).cube().data == 27
    finally:
        del Value.cube
    assert not hasattr(Value(3), "cube")


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("__add__", lambda a, b: a + b),
        ("__mul__", lambda a, b: a * b),
        ("__pow__", lambda a, b: a**2),
        ("__radd__", lambda a, b: sum([a])),
        ("__neg__", lambda a, b: -a),
        ("__truediv__", lambda a, b: a / b),
        ("__repr__", lambda a, b: repr(a)),
    ],
)
def test_operator_replaced_and_restored(name, use):
    a, b = Value(2.0), Value(3.0)
    before = str(use(a, b))
    original = getattr(Value, name)
    calls = []

    def noisy(self, *rest):
        calls.append(rest)
        return original(self, *rest)

    setattr(Value, name, noisy)
    try:
        assert str(use(a, b)) == before
        assert len(calls) >= 1
    finally:
        setattr(Value, name, original)
    seen = len(calls)
    assert str(use(a, b)) == before
    assert len(calls) == seen


def test_operation_written_by_hand_with_its_own_rule():
    a, b = Value(2.0), Value(3.0)
    out = Value(a.data + b.data, (a, b), "+")

    def _backward():
        a.grad += 1.0 * out.grad
        b.grad += 10.0 * out.grad

    out._backward = _backward
    (out * 2).backward()
    assert (out._op, out._prev) == ("+", {a, b})
    assert (a.grad, b.grad, out.grad) == (2.0, 20.0, 2)
    assert out._backward is _backward


def test_node_without_a_rule_passes_no_gradient_on():
    a = Value(2.0)
    out = Value(5.0, (a,), "opaque")
    out.backward()
    assert (out.grad, a.grad) == (1, 0)


def test_local_gradients_given_at_construction():
    a, b = Value(2.0), Value(3.0)
    out = Value(6.0, (a, b), (b.data, a.data))
    a.data = 100.0
    (out + 1).backward()
    assert (a.grad, b.grad) == (3.0, 2.0)
    assert tuple(out._children) == (a, b)
    assert tuple(out._local_grads) == (3.0, 2.0)
    assert out._prev == {a, b}


def test_local_gradients_of_the_same_child_twice():
    a = Value(3.0)
    out = Value(9.0, (a, a), (3.0, 3.0))
    out.backward()
    assert a.grad == 6.0
    assert out._prev == {a}


@pytest.mark.parametrize(
    ("positional", "keywords"),
    [
        ((), {"data": 1.5}),
        ((1.5, ()), {"_op": "x"}),
        ((1.5,), {"_children": (), "_op": "x", "label": "l"}),
        ((1.5, (), "x"), {"label": "l"}),
        ((1.5, (), "x", "l"), {}),
        ((1.5,), {"label": "l"}),
        ((1.5,), {"children": (), "local_grads": ()}),
        ((1.5,), {"children": (), "op": "x"}),
        ((1.5, [], ""), {}),
    ],
)
def test_keywords_in_use(positional, keywords):
    v = Value(*positional, **keywords)
    assert v.data == 1.5
    assert v._op == (positional[2] if len(positional) > 2 else _op_in(keywords))
    assert v.label == (positional[3] if len(positional) > 3 else keywords.get("label", ""))
    assert v._prev == set()


def _op_in(keywords):
    return keywords.get("_op", keywords.get("op", ""))


@pytest.mark.parametrize("container", [tuple, list, set])
@pytest.mark.parametrize("keyword", ["_children", "children"])
def test_children_by_keyword(keyword, container):
    a, b = Value(1.0), Value(2.0)
    assert Value(3.0, **{keyword: container((a, b))})._prev == {a, b}
    if container is not set:
        out = Value(3.0, **{keyword: container((a, b))}, local_grads=container((5.0, 7.0)))
        out.backward()
        assert (a.grad, b.grad) == (5.0, 7.0)


def test_microgpt_training():
    """Softmax regression in microgpt's style, with its Adam update."""

    def script(cls):
        random.seed(1)
        rows = [[cls(random.gauss(0, 0.5)) for _ in range(3)] for _ in range(4)]
        params = [p for row in rows for p in row]
        m, v = [0.0] * len(params), [0.0] * len(params)
        losses = []
        for step in range(12):
            x, target = [1.0, step % 3 - 1.0, 0.5], step % 4
            logits = [sum(wi * xi for wi, xi in zip(w, x, strict=True)) for w in rows]
            top = max(val.data for val in logits)
            exps = [(val - top).exp() for val in logits]
            total = sum(exps)
            probs = [e / total for e in exps]
            loss = -probs[target].log() + 0.01 * sum(p.relu() ** 2 for p in params)
            loss.backward()
            for i, p in enumerate(params):
                m[i] = 0.9 * m[i] + 0.1 * p.grad
                v[i] = 0.99 * v[i] + 0.01 * p.grad**2
                m_hat, v_hat = m[i] / (1 - 0.9 ** (step + 1)), v[i] / (1 - 0.99 ** (step + 1))
                p.data -= 0.05 * m_hat / (v_hat**0.5 + 1e-8)
                p.grad = 0
            losses.append(loss.data)
        return losses

    ours, theirs = script(Value), script(SlottedValue)
    assert ours[0] == theirs[0]
    assert ours == pytest.approx(theirs, rel=1e-8)


def test_softmax_written_by_the_user():
    values = [Value(x) for x in (0.5, -1.0, 2)]
    counts = [v.exp() for v in values]
    probs = [c / sum(counts) for c in counts]
    (-probs[1].log()).backward()
    exact = np.exp([0.5, -1.0, 2]) / np.exp([0.5, -1.0, 2]).sum()
    assert [p.data for p in probs] == pytest.approx(exact)
    assert [v.grad for v in values] == pytest.approx(exact - [0, 1, 0])
