"""fastgrad.functional while a program is traced: what operands decide is recorded, not decided."""

import contextlib
import math

import pytest
from oracles import close, nodes_of, same_number

from fastgrad import functional, no_grad, tape, trace
from fastgrad.engine import Value

NAN = math.nan


@contextlib.contextmanager
def traced(*inputs):
    """Trace with these inputs; afterwards their data and what was computed may be read again."""
    _, values, _ = trace.begin(inputs)
    try:
        yield values
    finally:
        trace.end()


def ops_of(out):
    """How often each op occurs in what `out` was computed from."""
    ops = [v._op for v in nodes_of(out) if v._op]
    return {op: ops.count(op) for op in sorted(set(ops))}


# ---- Choices


@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, -2, NAN])
def test_where(number):
    with traced(number) as (c,):
        a = Value(5.0)
        out = functional.where(c, a, 7.0)
        inner = functional.where(c * 2, a, 7.0)
    for result in (out, inner):
        assert result._op == "where"
        assert result._children[1] is a
        assert [v.data for v in result._children[1:]] == [5.0, 7.0]
        assert result.data == (5.0 if number != 0 else 7.0)


def test_a_number_decides_at_once_also_in_a_trace():
    with traced(1.0) as (x,):
        y = x * 2
        assert functional.where(1, y, x) is y
        assert functional.take([x, y], 1) is y
        assert functional.argmax([3, 4, 1]) == 1
        assert functional.softmax([1.0, 2])[0]._op == "*"
        with pytest.raises(IndexError, match=r"^take: index int 2 of 2 values: expected a whole"):
            functional.take([x, y], 2)


@pytest.mark.parametrize(
    ("index", "picked"), [(0, 0), (2.0, 2), (3, 0), (-1, 0), (0.5, 0), (NAN, 0), (1e300, 0)]
)
def test_take_of_a_row(index, picked):
    """An index that is out of range in the example is for the program to refuse."""
    row = [Value(10.0), 11, Value(12.0)]
    with traced(index) as (i,):
        out = functional.take(row, i)
    assert out._op == "take"
    assert out._children[0] is i
    assert out._children[1] is row[0]
    assert out._children[3] is row[2]
    assert out.data == (10.0, 11, 12.0)[picked]


def test_take_of_a_table_goes_by_columns():
    table = [[Value(10.0 * r + c) for c in range(3)] for r in range(4)]
    with traced(2) as (i,):
        out = functional.take(table, i)
        deep = functional.take([[table[0], table[1]], [table[2], table[3]]], i - 1)
    assert [v.data for v in out] == [20.0, 21.0, 22.0]
    for c, v in enumerate(out):
        assert v._op == "take"
        assert all(a is b for a, b in zip(v._children, [i, *[row[c] for row in table]]))
    assert [[v.data for v in row] for row in deep] == [[20.0, 21.0, 22.0], [30.0, 31.0, 32.0]]


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        (
            [[1, 2], [3]],
            ValueError,
            "take: values[0] has length 2, values[1] has length 1: "
            "expected rows of the same length",
        ),
        (
            [[1, 2], 3],
            TypeError,
            "take: values[1] must be a sequence of numbers and Values, got int 3",
        ),
        ([1, [2]], TypeError, "take: values[1] must be a number or a Value, got list [2]"),
        (
            [[1, 2], [3, "4"]],
            TypeError,
            "take: (column 1 of values)[1] must be a number or a Value, got str '4'",
        ),
        ([], ValueError, "take: values is empty, list []: expected at least one number or Value"),
    ],
)
def test_errors_of_take_record_nothing(values, kind, text):
    with traced(0) as (i,):
        before = tape.usage()["entries"]
        with pytest.raises(kind) as caught:
            functional.take(values, i)
        assert str(caught.value) == text
        assert tape.usage()["entries"] == before


@pytest.mark.parametrize("numbers", [(1.0, 3.0, 3.0, 2.0), (1, NAN, 5), (2,)])
def test_argmax(numbers):
    with traced(*numbers) as xs:
        out = functional.argmax(xs)
        picked = functional.take(xs, out)
    assert out._op == "argmax"
    assert [v is x for v, x in zip(out._children, xs, strict=True)] == [True] * len(xs)
    assert out.data == functional.argmax(numbers)
    assert same_number(float(picked.data), float(numbers[int(out.data)]))


def test_max_is_the_same_chain():
    with traced(1.0, 3.0, 2.0) as xs:
        out = functional.max(xs)
    assert ops_of(out) == {"maximum": 2}
    out.backward()
    assert [x.grad for x in xs] == [0, 1, 0]


def test_parameters_decide_afresh_too():
    """A program reads them at each run, so their data now must not be fixed either."""
    w = [Value(1.0), Value(0.0)]
    with traced(1.0) as (x,):
        assert functional.where(w[1], x, 2.0)._op == "where"
        assert functional.take([x, 2.0], w[0])._op == "take"
        assert functional.argmax(w)._op == "argmax"
        assert "detach" in ops_of(functional.softmax(w)[0])


# ---- The subtracted maximum


FUNCTIONS = {
    "softmax": functional.softmax,
    "log_softmax": functional.log_softmax,
    "logsumexp": lambda xs: [functional.logsumexp(xs)],
    "cross_entropy": lambda xs: [functional.cross_entropy(xs, 1)],
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "numbers", [(1.0, -2.5, 3.25), (0, -0.0), (1000.0, -1000.0, 5), (4.0, NAN)]
)
def test_the_largest_is_recorded_and_detached(name, numbers):
    with traced(*numbers) as xs:
        out = FUNCTIONS[name](xs)
    want = FUNCTIONS[name]([Value(x) for x in numbers])
    for got, eager in zip(out, want, strict=True):
        assert same_number(got.data, eager.data)
        ops = ops_of(got)
        assert ops["detach"] == 1
        assert ops.get("maximum", 0) == len(numbers) - 1
    chain = next(v for v in nodes_of(out[0]) if v._op == "detach")
    assert ops_of(chain) in ({"detach": 1, "maximum": len(numbers) - 1}, {"detach": 1})


def test_an_eager_sweep_refuses_what_was_recorded_for_a_program():
    with traced(1.0, 2.0) as xs:
        out = functional.softmax(xs)[0]
        with pytest.raises(trace.TraceError, match=r"backward\(\) of a value that depends"):
            out.backward()
    with pytest.raises(TypeError, match=r"^detach was recorded for a program"):
        out.backward()


@pytest.mark.parametrize("target", [0, 1, 2, 7])
def test_cross_entropy_with_a_traced_target(target):
    with traced(1.0, 2.5, -1.0, target) as (*xs, t):
        out = functional.cross_entropy(xs, t)
        mixed = functional.cross_entropy([*xs[:2], -1.0], t)
    want = functional.cross_entropy([1.0, 2.5, -1.0], target if target < 3 else 0)
    for got in (out, mixed):
        assert same_number(got.data, want.data)
        assert ops_of(got)["take"] == 1
        taken = next(v for v in nodes_of(got) if v._op == "take")
        assert taken._children[0] is t
        assert taken._children[1] is xs[0]


# ---- What decides nothing


def test_the_rest_is_recorded_as_ever():
    with traced(1.0, -2.0) as xs:
        outs = [
            functional.sum(xs),
            functional.mean(xs),
            functional.dot(xs, [2.0, 3.0]),
            functional.mse(xs, [0.0, 1.0]),
            functional.hinge(xs, [1, -1]),
            *functional.rmsnorm(xs),
        ]
    assert [ops_of(out) for out in outs] == [
        {"+": 2},
        {"*": 1, "+": 2},
        {"dot": 1},
        {"*": 1, "**2": 2, "+": 4},
        {"*": 3, "+": 4, "ReLU": 2},
        *[{"*": 2, "**-0.5": 1, "+": 1, "dot": 1}] * 2,
    ]
    sum(outs).backward()
    assert all(math.isfinite(x.grad) for x in xs)


def test_example_data_raise_nothing():
    """The example's numbers are not the user's: a program follows IEEE."""
    with traced(1e200, 0.0) as (big, zero):
        square = functional.mse(big, 0.0)
        scaled = functional.rmsnorm([zero, zero], eps=0)
    assert square.data == math.inf
    assert math.isnan(scaled[0].data)


def test_no_grad_around_a_trace():
    with no_grad(), traced(1.0, 2.0) as xs:
        assert functional.dot(xs, xs)._op == "dot"
        assert functional.softmax(xs)[0]._op == "*"


def test_many_entries_in_a_trace():
    """Arrays grow while the tape is pinned."""
    with traced(*[0.001 * k for k in range(50)]) as xs:
        rows = xs
        for _ in range(400):
            rows = functional.softmax([functional.max([x, 0.5]) for x in rows])
    eager = [0.001 * k for k in range(50)]
    for _ in range(400):
        eager = functional.softmax([functional.max([x, 0.5]) for x in eager])
    assert [v.data for v in rows] == [v.data for v in eager]
    assert sum(v.data for v in rows) == close(1.0)
