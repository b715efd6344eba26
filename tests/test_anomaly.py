"""detect_anomaly and check_finite=True: the first nan or inf raises, naming op, numbers, line."""

import math
import pickle
import random
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from oracles import node, pass_on, run_snippet

import fastgrad
from fastgrad import TraceError, Value, detect_anomaly, functional, nn, no_grad, tape
from fastgrad.dialect import set_dialect

NAN, INF = math.nan, math.inf
PATIENCE = 120  # seconds until a thread that should have come counts as stuck
UNKNOWN = "(line unknown: recorded without detect_anomaly() or check_finite=True)"
LEAF = "; the operand {} is a leaf: look at what set it"


def next_line():
    """``file:line`` of the line below the call."""
    frame = sys._getframe(1)
    return f"{frame.f_code.co_filename}:{frame.f_lineno + 1}"


def line_of(function):
    """``file:line`` of a lambda."""
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def message(function, *args):
    """What the FloatingPointError of a call says."""
    with pytest.raises(FloatingPointError) as caught:
        function(*args)
    return str(caught.value)


# ---- eager, forward

HUGE = [2.0, -1e200, 1.0]

FORWARD = [
    (lambda: Value(1e200) * 1e200, "* gave inf from (1e+200, 1e+200)"),
    (lambda: Value(1e308) + Value(1e308), "+ gave inf from (1e+308, 1e+308)"),
    (lambda: Value(0.0) ** -1.0, "** gave inf from (0.0, -1.0)"),
    (lambda: 1 / Value(0), "** gave inf from (0, -1)"),
    (lambda: Value(1.0) / 0.0, "** gave inf from (0.0, -1)"),
    (lambda: Value(-8.0) ** 0.5, "** gave nan from (-8.0, 0.5)"),
    (lambda: Value(-8.0) ** Value(0.5), "** gave nan from (-8.0, 0.5)"),
    (lambda: Value(0.0).log(), "log gave -inf from 0.0"),
    (lambda: Value(1000).exp(), "exp gave inf from 1000"),
    (lambda: Value(-1.0).sqrt(), "sqrt gave nan from -1.0"),
    (lambda: Value(INF) + 1.0, "+ gave inf from (inf, 1.0)" + LEAF.format(INF)),
    (lambda: 2.0 * Value(NAN), "* gave nan from (nan, 2.0)" + LEAF.format(NAN)),
    (lambda: Value(1.0) * INF, "* gave inf from (1.0, inf)" + LEAF.format(INF)),
    (lambda: Value(INF).sin(), "sin gave nan from inf" + LEAF.format(INF)),
    (lambda: Value(NAN).relu(), "ReLU gave nan from nan" + LEAF.format(NAN)),
    (lambda: Value(NAN).maximum(2), "maximum gave nan from (nan, 2)" + LEAF.format(NAN)),
    (lambda: Value(INF, (Value(3.0),), "own"), "own gave inf from 3.0"),
    (lambda: Value(NAN, (Value(3.0),)), "a hand-made operation gave nan from 3.0"),
    (lambda: functional.mse([Value(1e200)], [0.0]), "** gave inf from (1e+200, 2)"),
    (lambda: functional.sum([Value(1e308), 1e308]), "+ gave inf from (1e+308, 1e+308)"),
    (lambda: functional.softmax([Value(INF), 1]), "+ gave nan from (inf, -inf)" + LEAF.format(INF)),
    (lambda: functional.dot(HUGE, HUGE), "dot gave inf in term 2 of 3: 4.0 + -1e+200 * -1e+200"),
    (
        lambda: functional.dot([NAN], [1]),
        "dot gave nan in term 1 of 1: 0 + nan * 1" + LEAF.format(NAN),
    ),
    (lambda: nn.Neuron(1)([INF]), "* gave inf from (0.5, inf)" + LEAF.format(INF)),
    (lambda: nn.Layer(1, 1)([INF]), "* gave inf from (0.5, inf)" + LEAF.format(INF)),
    (lambda: nn.MLP(1, [1, 1])([INF]), "* gave inf from (0.5, inf)" + LEAF.format(INF)),
]


@pytest.mark.parametrize("function, text", FORWARD, ids=[text for _, text in FORWARD])
def test_an_operation_that_gives_nan_or_inf(function, text, monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.5)
    with detect_anomaly():
        assert message(function) == f"{line_of(function)}: {text}"


NUMPYS = [
    (lambda: Value(np.float64(1e200)) * 1e200, FloatingPointError, "* gave inf from"),
    (lambda: Value(np.float64(0.0)).log(), FloatingPointError, "log gave -inf from"),
    (lambda: Value(3.0) / np.float64(0.0), FloatingPointError, "** gave inf from"),
    (lambda: Value(np.float64(INF)) + 1, FloatingPointError, "is a leaf"),
    (lambda: (Value(np.float64(0.0)) ** 0.5).backward(), FloatingPointError, "became inf"),
    (lambda: Value(np.int64(2)) ** np.int64(-1), ValueError, "no negative powers"),
    (lambda: (Value(np.int64(2)) ** np.int64(0)).backward(), ValueError, "no negative powers"),
]


@pytest.mark.parametrize("function, kind, text", NUMPYS)
@pytest.mark.filterwarnings("error")
def test_numbers_of_numpy_in_a_scripts_own_class(function, kind, text):
    """They warn and go on by themselves; an np.int64 that has no such power is no anomaly."""
    set_dialect(int_grad=False, int_seed=False, numpy=lambda: None)
    try:
        with detect_anomaly(), pytest.raises(kind, match=re.escape(text)):
            function()
    finally:
        set_dialect()


def test_the_line_is_that_of_the_innermost_function():
    def deep(x):
        y = x * 1e200
        return y * y

    with detect_anomaly():
        told = message(deep, Value(1.0))
    assert (
        told == f"{__file__}:{deep.__code__.co_firstlineno + 2}: * gave inf from (1e+200, 1e+200)"
    )


def test_a_script_beside_the_package_with_a_name_like_it():
    name = str(Path(fastgrad.__file__).parent) + "_script.py"
    code = compile("Value(1e200) * 1e200", name, "exec")
    with detect_anomaly():
        assert message(exec, code, {"Value": Value}).startswith(f"{name}:1: ")


def test_an_operand_from_before():
    x = Value(1e308) * 10
    line = next_line()
    told = message(detect_anomaly()(lambda: x + 1))
    assert told == (
        f"{line}: + gave inf from (inf, 1); "
        "the operand inf is from outside of detect_anomaly(): look at what set it"
    )


def test_data_set_afterwards():
    with detect_anomaly():
        x = Value(2.0) * 3
        x.data = NAN
        told = message(lambda: x.relu())
    assert told.endswith("the operand nan is a result whose data was set: look at what set it")


def test_an_error_leaves_the_graph_usable():
    x = Value(1e200)
    y = x * 2
    with detect_anomaly():
        message(lambda: y * y)
        message(lambda: functional.softmax([y, INF]))
        z = y * 3
        z.backward()
    assert (z.data, x.grad) == (6e200, 6.0)


# ---- eager, backward


def test_backward_names_the_operation_and_its_line():
    x = Value(1e-320)
    with detect_anomaly():
        line = next_line()
        y = x**0.5
        told = message((y * 1e200).backward)
    assert told == (
        f"{line}: the adjoint of **'s operand {1e-320!r} in ({1e-320!r}, 0.5) became inf "
        "(adjoint of the result 1e+200)"
    )
    assert y.grad == 1e200
    y.backward()  # outside nothing is checked
    assert x.grad == INF


def test_backward_where_python_would_raise():
    x = Value(2.0)
    with detect_anomaly():
        line = next_line()
        y = x.log() * 3
        x.data = 0.0
        told = message(y.backward)
    assert told == f"{line}: the adjoint of log's operand 0.0 became inf (adjoint of the result 3)"
    with pytest.raises(ZeroDivisionError):
        y.backward()


@pytest.mark.parametrize("label", ["", "own"])
def test_backward_of_a_user_made_rule(label):
    x = Value(3.0)

    def rule():
        x.grad += NAN * out.grad

    with detect_anomaly():
        line = next_line()
        out = Value(1.0, (x,), label)
        out._backward = rule
        told = message((out * 2).backward)
    label = label or "a hand-made operation"
    assert (
        told == f"{line}: the adjoint of {label}'s operand 3.0 became nan (adjoint of the result 2)"
    )


def test_backward_of_local_gradients():
    with detect_anomaly():
        line = next_line()
        y = Value(1.0, (Value(3.0), Value(4.0)), (2.0, INF)) * 2
        told = message(y.backward)
    assert told == (
        f"{line}: the adjoint of a hand-made operation's operand 4.0 in (3.0, 4.0) became inf "
        "(adjoint of the result 2)"
    )


def test_backward_of_a_dot():
    with detect_anomaly():
        line = next_line()
        y = functional.dot([Value(1e-150), Value(2.0)], [1e200, 3.0])
        told = message((y * 1e200).backward)
    assert told == (
        f"{line}: the adjoint of dot's operand 1e-150 in term 1 of 2, 1e-150 * 1e+200, became inf "
        "(adjoint of the result 1e+200)"
    )


def test_backward_of_a_rule_run_by_hand():
    with detect_anomaly():
        line = next_line()
        y = Value(1e200) * 2.0
        y.grad = 1e308
        told = message(y._backward)
    assert told == (
        f"{line}: the adjoint of *'s operand 1e+200 in (1e+200, 2.0) became inf "
        "(adjoint of the result 1e+308)"
    )


def test_backward_of_what_was_recorded_outside():
    y = Value(1e-320) ** 0.5 * 1e200
    told = message(detect_anomaly()(y.backward))
    assert told.startswith(f"{UNKNOWN}: the adjoint of **'s operand ")


def test_a_grad_that_was_nan_before():
    x = Value(2.0)
    x.grad = NAN
    with detect_anomaly():
        line = next_line()
        y = x * 3
        told = message(y.backward)
    assert told == (
        f"{line}: the adjoint of *'s operand 2.0 in (2.0, 3) was nan before this backward pass "
        "came to it: set the grads to 0 first"
    )


def test_an_error_leaves_no_marks():
    """A second sweep visits what it would have visited anyway, and nothing twice."""
    a, x = Value(2.0), Value(1e-320)
    with detect_anomaly():
        b = a * 3
        bad = (x**0.5 * 1e200 + b) * 1.0
        message(bad.backward)
    bad.grad = b.grad = a.grad = 0
    (b + a).backward()
    assert (a.grad, b.grad, bad.grad) == (4, 1, 0)


def test_a_sweep_inside_a_rule():
    inner = []

    def rule(x, out):
        with detect_anomaly():
            inner.append(message((Value(1e-320) ** 0.5 * 1e200).backward))
        pass_on(x, out)

    w = Value(2.0)
    (node(Value, w * 3, rule) * 5).backward()
    assert len(inner) == 1
    assert w.grad != 0


def test_lines_follow_their_entries():
    with detect_anomaly():
        garbage = [Value(i) * 2.0 for i in range(1000)]
        x = Value(1e-320)
        line = next_line()
        y = x**0.5
        z = y * 1e200
        before = tape.usage()["collections"]
        del garbage
        for _ in range(3):
            assert tape.reclaim() > 0
            [Value(i) * 2.0 for i in range(100)]
        assert tape.usage()["collections"] == before + 3
        assert message(z.backward).startswith(f"{line}: the adjoint of **'s")


def test_nothing_is_kept():
    """In a process of its own, where no thread of a test runner allocates meanwhile."""
    growth = run_snippet(
        """
        import gc, tracemalloc
        from fastgrad import detect_anomaly, tape
        from fastgrad.engine import Value

        def work(rounds):
            with detect_anomaly():
                for _ in range(rounds):
                    loss = sum((Value(i) * 0.5 for i in range(100)), Value(0.0))
                    loss.backward()
            del loss
            tape.reclaim()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        work(200)
        tracemalloc.start()
        work(20)
        before = work(20)
        answer(work(400) - before)
        """
    )
    assert abs(growth) < 10_000  # bytes; 80,000 entries have been recorded


# ---- the context


def test_nesting_and_decorator():
    x = Value(1e200)
    guard = detect_anomaly()

    @detect_anomaly()
    def square(v):
        """Its docstring."""
        return v * v

    with guard, guard:
        message(lambda: x * x)
        with no_grad():
            message(lambda: x * x)
            assert (x + 1)._prev == set()
        assert len((x + 1)._prev) == 2
        message(lambda: x * x)
    assert (x * x).data == INF
    message(square, x)
    assert (square.__name__, square.__doc__) == ("square", "Its docstring.")
    with no_grad(), detect_anomaly():
        message(lambda: x * x)
        assert (x + 1)._prev == set()
    assert (x * x).data == INF


def test_it_is_per_thread():
    entered, checked = threading.Event(), threading.Event()
    x, found = Value(1e200), []

    def inside():
        with detect_anomaly():
            entered.set()
            assert checked.wait(PATIENCE)
            found.append(message(lambda: x * x))

    thread = threading.Thread(target=inside)
    thread.start()
    assert entered.wait(PATIENCE)
    assert (x * x).data == INF
    assert nn.Layer(1, 2)([1.0])[0]._prev != set()
    checked.set()
    thread.join(PATIENCE)
    assert len(found) == 1


def train(steps=5):
    random.seed(3)
    model = nn.MLP(2, [4, 4, 3])
    x = Value(2)
    numbers = []
    for _ in range(steps):
        rows = [[random.uniform(-1, 1), x * random.uniform(-1, 1)] for _ in range(4)]
        losses = [functional.cross_entropy(model(row), k % 3) for k, row in enumerate(rows)]
        extra = node(Value, functional.rmsnorm(model(rows[0]))[0], pass_on) + x**3 / 7 - x.tanh()
        loss = functional.mean(losses) + functional.dot([x, 2], [x, x]) + extra
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.05 * p.grad
        numbers += [loss.data, x.grad, *(p.data for p in model.parameters())]
    return [(type(number), number) for number in numbers]


def test_no_number_changes():
    expected = train()
    assert detect_anomaly()(train)() == expected


# ---- programs


def test_a_value_of_a_program():
    w = Value(2.0)

    @fastgrad.compile(check_finite=True)
    def f(x):
        h = w * x
        h = h**-1.0
        return h + 1

    line = f"{__file__}:{f.__wrapped__.__code__.co_firstlineno + 3}"
    text = f"{line}: in sample 2, ** gave inf from (0.0, -1.0)"
    assert f([1.0, 2.0]).tolist() == [1.5, 1.25]
    for run in (f, f.backward, f.value_and_grad):
        assert message(run, [1.0, 2.0, 0.0, 0.0]) == text
    assert w.grad == 0
    assert f.backward([1.0]) == 1.5
    assert (w.grad, len(f.signatures)) == (-0.25, 1)


def test_an_adjoint_of_a_program():
    w = Value(4.0)
    f = fastgrad.compile(lambda x: (w * x).sqrt() * 3, check_finite=True)
    assert f([0.0, 1.0]).tolist() == [0.0, 6.0]
    assert message(f.backward, [1.0, 0.0]) == (
        f"{line_of(f.__wrapped__)}: in sample 1, the adjoint of sqrt's operand 0.0 became inf "
        "(adjoint of the result 3.0)"
    )
    assert w.grad == 0
    f.backward([1.0])
    assert w.grad == 0.75


INPUT = "; the operand {} is an input: look at what set it"

PROGRAMS = [  # of two inputs and a parameter 2.0; the second sample
    (lambda x, w: 1 / x[0].exp(), [1000, 0], "exp gave inf from 1000.0"),
    (
        lambda x, w: functional.dot(x, [w, 1e200]),
        [1, -1e200],
        "dot gave -inf in term 2 of 2: 2.0 + -1e+200 * 1e+200",
    ),
    (lambda x, w: functional.where(x[0], x[1] * w, w), [0, 1e308], "* gave inf from (1e+308, 2.0)"),
    (
        lambda x, w: functional.where(x[0], w, x[1]),
        [0, INF],
        "where gave inf from (0.0, 2.0, inf)" + INPUT.format(INF),
    ),
    (
        lambda x, w: functional.take([w, x[1]], x[0]),
        [1, NAN],
        "take gave nan from (1.0, nan)" + INPUT.format(NAN),
    ),
    (lambda x, w: x[0].detach() + w, [NAN, 0], "detach gave nan from nan" + INPUT.format(NAN)),
    (lambda x, w: 1 / functional.argmax(x) + w, [1, 0], "** gave inf from (0.0, -1.0)"),
    (lambda x, w: functional.softmax(x)[0].log(), [-1000, 0], "log gave -inf from 0.0"),
]


@pytest.mark.parametrize("function, sample, text", PROGRAMS, ids=[text for *_, text in PROGRAMS])
def test_kinds_of_entries(function, sample, text):
    w = Value(2.0)
    f = fastgrad.compile(lambda x: function(x, w), check_finite=True)
    # The lines are noted in the trace, where the context of the process is not asked.
    with no_grad():
        told = message(f, [[0.0, 1.0], sample])
    first = function.__code__.co_firstlineno
    assert told == f"{__file__}:{first}: in sample 1, {text}"
    assert f([[0.0, 1.0]]) == fastgrad.compile(f.__wrapped__)([[0.0, 1.0]])


def test_adjoints_of_choices():
    w = Value(1e-320)
    good = Value(2.0)

    def f(x):
        kept = functional.take([good, w, good], functional.argmax(x))
        kept = functional.where(x[0], kept, good)
        return (kept**0.5 + kept.detach()) * 1e200

    f = fastgrad.compile(f, check_finite=True)
    f.backward([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    grads = (w.grad, good.grad)
    assert message(f.backward, [[1.0, 0.0], [1.0, 2.0]]) == (
        f"{__file__}:{f.__wrapped__.__code__.co_firstlineno + 3}: in sample 1, the adjoint of "
        f"**'s operand {1e-320!r} in ({1e-320!r}, 0.5) became inf (adjoint of the result 1e+200)"
    )
    assert (w.grad, good.grad) == grads


def test_layers_of_a_program():
    random.seed(1)
    model = nn.MLP(2, [3, 1])
    model.layers[1].neurons[0].w[1].data = 1e300
    neuron = model.layers[0].neurons[1]
    neuron.w[0].data, neuron.w[1].data, neuron.b.data = 1.0, -1.0, 1.0
    f = fastgrad.compile(lambda x: model(x), check_finite=True)
    f.backward([[1.0, 2.0]])
    model.zero_grad()
    line = line_of(f.__wrapped__)
    told = message(f, [[1.0, 2.0], [1e200, 0.0]])
    assert told.startswith(f"{line}: in sample 1, dot gave inf in term 2 of 3: ")
    assert told.endswith(" + 1e+300 * 1e+200")
    told = message(f.backward, [[1.0, 2.0], [1e10, 1e10]])  # the neuron gives 1
    assert told == (
        f"{line}: in sample 1, the adjoint of dot's operand 1.0 in term 1 of 2, "
        "1.0 * 10000000000.0, became inf (adjoint of the result 1e+300)"
    )
    assert all(p.grad == 0 for p in model.parameters())


def test_a_program_inside_of_detect_anomaly():
    """It was traced without lines, and is traced again when one is needed."""
    traces = []

    @fastgrad.compile
    def f(x):
        traces.append(x)
        y = x.exp()
        return 1 / y

    line = f"{__file__}:{f.__wrapped__.__code__.co_firstlineno + 3}"
    assert f([1000.0]) == 0
    with detect_anomaly():
        assert f([0.0, 0.0]).tolist() == [1.0, 1.0]
        assert len(traces) == 1
        for _ in range(2):
            assert message(f, [1.0, 1000.0]) == f"{line}: in sample 1, exp gave inf from 1000.0"
    assert len(traces) == 2
    assert len(f.signatures) == 1
    assert f([1000.0]) == 0


def test_what_is_traced_again_may_differ():
    powers = [1.0, 2.0]
    f = fastgrad.compile(lambda x: (x**3) ** -1 if len(powers) == 2 else x + 1)
    assert f([2.0]) == 0.125
    powers.pop()
    with detect_anomaly():
        told = message(f, [0.0])
    assert told == f"{UNKNOWN}: in sample 0, ** gave inf from (0.0, -1.0)"
    broken = fastgrad.compile(lambda x: x ** powers[0])
    broken([2.0])
    powers.clear()
    with detect_anomaly():
        assert message(broken, [1e999]).startswith(f"{UNKNOWN}: in sample 0, ** gave inf")


def test_a_program_first_called_inside_of_detect_anomaly():
    """The example of a trace is a sample like any other."""
    f = fastgrad.compile(lambda x: x[0] * x[1])
    with detect_anomaly():
        told = message(f, [[1e200, 1e200]])
        assert told == f"{line_of(f.__wrapped__)}: in sample 0, * gave inf from (1e+200, 1e+200)"
        assert f([[1, 2], [3, 4]]).tolist() == [2.0, 12.0]
        assert f(np.zeros((0, 2))).shape == (0,)
    assert len(f.signatures) == 1
    assert f([[1e200, 1e200]]) == INF


def test_pickled_programs():
    w = Value(0.0)
    checked = fastgrad.compile(lambda x: (x * w) ** -1, check_finite=True)
    plain = fastgrad.compile(checked.__wrapped__)
    line = line_of(checked.__wrapped__)
    text = "in sample 0, ** gave inf from (0.0, -1.0)"
    assert message(checked, [1.0]) == f"{line}: {text}"
    plain([1.0])
    checked, plain = pickle.loads(pickle.dumps((checked, plain)))
    assert message(checked, [1.0]) == f"{line}: {text}"
    assert plain([1.0]) == INF
    with detect_anomaly():
        assert message(plain, [1.0]) == f"{UNKNOWN}: {text}"


def test_programs_from_values():
    with detect_anomaly():
        x = Value(1.0)
        line = next_line()
        y = x.log()
        z = y * 2
    f = fastgrad.Program.from_values([x], z, check_finite=True)
    assert message(f, [1.0, 0.0]) == f"{line}: in sample 1, log gave -inf from 0.0"
    assert f([1.0]) == 0
    f = fastgrad.Program.from_values([x], Value(1e308) * x)
    assert f([10.0]) == INF
    with detect_anomaly():
        assert message(f, [10.0]).startswith(f"{UNKNOWN}: in sample 0, * gave inf")


def test_a_sum_over_samples():
    w, other = Value(1.0), Value(2.0)
    f = fastgrad.compile(lambda x: w * x, check_finite=True, parameters=[other])
    assert message(f.backward, [1e308, 1e308]) == (
        "the gradient of parameters[1] became inf when those of the samples, each of them finite, "
        "were added up"
    )
    assert w.grad == 0


def test_an_index_that_names_nothing():
    f = fastgrad.compile(lambda x, i: functional.take([x, 1 / x], i), check_finite=True)
    with pytest.raises(IndexError):
        f([1.0], [2])
    assert "in sample 0, ** gave inf" in message(f, [0.0, 1.0], [0, 2])


def test_several_arguments_and_signatures():
    f = fastgrad.compile(lambda x, y: functional.sum([a / y for a in x]), check_finite=True)
    x = np.arange(12.0).reshape(3, 4)
    assert f(x[:, ::2], [1, 2, 4]).tolist() == [2.0, 5.0, 4.5]
    assert "in sample 2, ** gave inf from (0.0, -1.0)" in message(f, x, np.array([1, 1, 0]))
    assert f(x, [1, 1, 2]).tolist() == [6.0, 22.0, 19.0]
    assert len(f.signatures) == 2


def test_it_cannot_be_opened_inside_of_a_program():
    @fastgrad.compile
    def f(x):
        with detect_anomaly():
            return x * 2

    with pytest.raises(TraceError, match="compile it with check_finite=True"):
        f([1.0])


def test_programs_give_the_same_bits():
    random.seed(2)
    model = nn.MLP(3, [5, 4])
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(37, 3)), rng.integers(0, 4, 37)

    def loss(x, i):
        row = functional.rmsnorm(model(x))
        return functional.cross_entropy(row, i) + functional.max(row) * 0.1

    plain = fastgrad.compile(loss)
    checked = fastgrad.compile(loss, check_finite=True)
    expected, grads = plain.value_and_grad(x, labels)
    with detect_anomaly():
        for f in (plain, checked):
            value, again = f.value_and_grad(x, labels)
            assert value == expected
            assert (again == grads).all()
            assert (f(x, labels) == plain(x, labels)).all()
