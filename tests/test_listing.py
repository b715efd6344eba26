"""The tape as a table, and the reverse sweep in steps: what `backward` does, entry by entry."""

import random
import re

import pytest
from oracles import same_number

import fastgrad
from fastgrad import Value, functional, nn, tape
from fastgrad.look import reached, slots_of


def rows_of(root, **kwargs):
    """The table's rows, slots as places in it."""
    lines = repr(fastgrad.tape_table(root, **kwargs)).splitlines()
    for k, slot in enumerate(slots_of(reached(root))):
        lines = [re.sub(rf"(?<![\d.]){slot}(?![\d.])", f"s{k}", line) for line in lines]
    return [line.split() for line in lines]


def test_table_is_a_wengert_list():
    tape.reclaim()
    _churn = [Value(0.0) for _ in range(1000)]  # so that slots do not look like values
    z = Value(2.0) * Value(3) + 1.0
    z.backward()
    assert rows_of(z) == [
        ["slot", "op", "operands", "val", "adj"],
        ["s0", "2.0", "3"],
        ["s1", "3", "2.0"],
        ["s2", "*", "s0", "s1", "6.0", "1"],
        ["s3", "1.0", "1"],
        ["s4", "+", "s2", "s3", "7.0", "1"],
    ]


def test_columns_are_aligned():
    lines = repr(fastgrad.tape_table(Value(1234.5) * Value(2.0).tanh())).splitlines()
    assert len({line.index(word) for line, word in zip(lines[3:], ("tanh", "*"))}) == 1
    assert len({len(line) for line in lines}) == 1


def test_labels_have_a_column_if_there_are_any():
    x = Value(2.0, label="x")
    lines = repr(fastgrad.tape_table(x * 3)).splitlines()
    assert lines[0].split()[-1] == "label"
    assert [line.split()[-1] for line in lines[1:]] == ["x", "0", "0"]


def test_dot_lists_bias_weights_and_inputs():
    layer = nn.Layer(2, 1, nonlin=False)
    row = rows_of(layer([1.0, 2.0]))[-1]
    assert row[1] == "dot" and len(row[2:-2]) == 5


@pytest.mark.parametrize(("limit", "first", "last"), [(2, 1, 1), (5, 3, 2), (100, 50, 50)])
def test_limit_leaves_out_the_middle(limit, first, last):
    root = sum((Value(float(k)) for k in range(200)), Value(0.0))
    lines = repr(fastgrad.tape_table(root, limit=limit)).splitlines()
    assert lines[1 + first] == f"… {401 - limit} more"
    assert len(lines) == 1 + first + 1 + last
    assert lines[-1].split()[-2] == "19900.0"
    html = fastgrad.tape_table(root, limit=limit)._repr_html_()
    assert html.count("<tr>") == len(lines) and html.count("<td colspan") == 1


def test_html_escapes():
    html = fastgrad.tape_table(Value(1.0, (Value(2.0),), "<&>"))._repr_html_()
    assert "<td>&lt;&amp;&gt;</td>" in html
    assert html.startswith("<table>\n<tr><th>slot</th>")


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: fastgrad.tape_table("x"), TypeError, "expected a Value, the root of a graph"),
        (lambda: fastgrad.backward_steps([1]), TypeError, r"expected a Value, .* got list \[1\]"),
        (lambda: fastgrad.tape_table(Value(1), limit=1), ValueError, "at least 2 rows, got 1"),
    ],
)
def test_errors_say_what_was_expected(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---- steps


def net():
    random.seed(3)
    model = nn.MLP(3, [4, 4, 1], activation="tanh")
    xs = [Value(float(k)) for k in range(3)]
    return [*model.parameters(), *xs], model(xs)


def ints():
    x, y = Value(2), Value(3)
    return [x, y], (x * y + x**2).relu() + x * 2


def rule():
    x = Value(3.0)
    y = x * 2
    out = Value(y.data**2, (y,), "square")

    def push():
        y.grad += 2 * y.data * out.grad

    out._backward = push
    return [x, y], out + x


def losses():
    xs = [Value(0.1 * k) for k in range(5)]
    return xs, functional.cross_entropy(xs, 2) + xs[0].exp() / xs[1]


@pytest.mark.parametrize("make", [net, ints, rule, losses])
@pytest.mark.parametrize("sweeps", [1, 2])
def test_steps_give_what_backward_gives(make, sweeps):
    leaves, root = make()
    for _ in range(sweeps):
        root.backward()
    want = [value.grad for value in reached(root)]
    others, root = make()
    for _ in range(sweeps):
        for _step in fastgrad.backward_steps(root):
            pass
    got = [value.grad for value in reached(root)]
    assert len(got) == len(want) and len(leaves) == len(others)
    assert all(same_number(one, other) for one, other in zip(want, got))


def test_each_step_shows_one_entry():
    x, y = Value(2.0), Value(3.0)
    z = x * y + x
    steps = list(fastgrad.backward_steps(z))
    slots = slots_of([x, y])
    assert [step.op for step in steps] == ["+", "*"]
    assert steps[0].slot > steps[1].slot
    assert steps[1].changes == [(slots[0], 1, 4.0), (slots[1], 0, 2.0)]
    assert str(steps[1]) == (
        f"slot {steps[1].slot}, *, adj 1: adj[{slots[0]}]: 1 -> 4.0, adj[{slots[1]}]: 0 -> 2.0"
    )


def test_steps_may_be_looked_at_and_recorded_between():
    x = Value(2.0)
    z = (x * x + 1).tanh()
    for _ in fastgrad.backward_steps(z):
        [Value(1.0) + 1 for _ in range(50_000)]
        tape.reclaim()
        fastgrad.tape_table(z)
    other = Value(2.0)
    (other * other + 1).tanh().backward()
    assert x.grad == other.grad


def test_nothing_happens_before_the_first_step():
    x = Value(2.0)
    z = x * 3
    steps = fastgrad.backward_steps(z)
    assert (z.grad, x.grad) == (0, 0)
    next(steps)
    assert (z.grad, x.grad) == (1, 3)
    assert list(steps) == []


def test_a_leaf_has_no_steps():
    x = Value(2.0)
    assert list(fastgrad.backward_steps(x)) == []
    assert x.grad == 1
