"""What must not happen while a function is traced, in which words; nothing is left of it."""

import copy
import gc
import math
import re
from pathlib import Path

import pytest
from oracles import refused, state_of

import fastgrad
from fastgrad import TraceError, Value, nn, no_grad, tape

REMEDY = (
    "A program fixes one path through the code: express a choice by fastgrad.functional "
    "(where, maximum, minimum, max, argmax, take, softmax, cross_entropy), cut a gradient by "
    "detach(), and read numbers outside of the function"
)


def line_of(function, offset):
    return f"{__file__}:{function.__code__.co_firstlineno + offset}"


def reads_data(x, w):
    return w * x.data


def reads_grad(x, w):
    return w * (w * x).grad


def reads_local_grads(x, w):
    return w * sum((w * x)._local_grads)


def compares(x, w):
    return x if x > 0 else w


def compares_with_the_other(x, w):
    return x if w < x * 2 else w


def converts(x, w):
    return w * float(x)


def converts_to_int(x, w):
    return w * int(x)


def calls_math(x, w):
    return w * math.exp(x)


def asks_for_truth(x, w):
    return w if x else x


def asks_by_not(x, w):
    return w if not x * 1 else x


def takes_the_largest(x, w):
    return max([x, w])


def sorts(x, w):
    return sorted([x, w, x * 2])[0]


def sweeps(x, w):
    out = x * w
    out.backward()
    return out


def runs_a_rule(x, w):
    out = x * w
    out._backward()
    return out


def makes_by_hand(x, w):
    return Value(1.0, (x, w), "mine")


READERS = {
    reads_data: "reading .data of",
    reads_grad: "reading .grad of",
    reads_local_grads: "reading ._local_grads of",
    compares: "comparing",
    compares_with_the_other: "comparing",
    converts: "float() of",
    converts_to_int: "int() of",
    calls_math: "float() of",
    asks_for_truth: "the truth of",
    asks_by_not: "the truth of",
    takes_the_largest: "comparing",
    sorts: "comparing",
    sweeps: "backward() of",
    runs_a_rule: "running _backward() of",
    makes_by_hand: "a Value made by hand from",
}
SECOND_LINE = {sweeps, runs_a_rule}


def backward_of_parameters(x, w):
    (w * w).backward()
    return w * x


def rule_of_parameters(x, w):
    (w * w)._backward()
    return w * x


def edits_a_parameter(x, w):
    w.data = 1.0
    return w * x


def edits_an_input(x, w):
    x.data = 1.0
    return w * x


def edits_what_was_used(x, w):
    c = Value(2.0)
    first = c * x
    c.data = 3.0
    return first + c * x * w


def clears_a_grad(x, w):
    w.grad = 0
    return w * x


def zeroes(x, w):
    nn.Module.zero_grad(type("", (), {"parameters": lambda self: [w]})())
    return w * x


def runs_another(x, w):
    fastgrad.compile(lambda y: y * w).backward([1.0])
    return w * x


EFFECTS = {
    backward_of_parameters: (1, "backward()"),
    rule_of_parameters: (1, "_backward()"),
    edits_a_parameter: (1, "assigning .data"),
    edits_an_input: (1, "assigning .data"),
    edits_what_was_used: (3, "assigning .data"),
    clears_a_grad: (1, "assigning .grad"),
    zeroes: (1, "zero_grad()"),
}
W = Value(2.0)
RESULT = W * 3
HOOKED, MINE = Value(4.0), Value(1.0, (W,), "mine")
HOOKED._backward = lambda: None


def pauses(x, w):
    with no_grad():
        return x * w


def uses_a_result(x, w):
    return x * RESULT * w


def detaches_a_result(x, w):
    return x * RESULT.detach() * w


def uses_a_hooked_leaf(x, w):
    return x * HOOKED * w


def uses_one_made_by_hand(x, w):
    return x * MINE * w


def has_a_rule(x, w):
    out = x * w
    out._backward = lambda: None
    return out


def made_of_parameters(x, w):
    return x * Value(3.0, (w,), (1.0,))


class Boom(Exception):
    pass


def raises(x, w):
    x * w + 1.0
    raise Boom("mine")


BY_HAND = "a Value made by hand: build it from operators and functions"
OUTSIDE = (
    "the function uses Value(data=6.0, grad=0), the result of '*' outside of it: compute it "
    "inside, or detach() it outside to make it a parameter"
)
WORDS = {
    **{
        function: (
            TraceError,
            f"{line_of(function, 2 if function in SECOND_LINE else 1)}: {what} a value that "
            f"depends on an input. {REMEDY}",
        )
        for function, what in READERS.items()
    },
    **{
        function: (
            TraceError,
            f"{line_of(function, offset)}: {what} inside of a program would happen once, while it "
            "is recorded: do it outside",
        )
        for function, (offset, what) in EFFECTS.items()
    },
    runs_another: (
        TraceError,
        f"{line_of(runs_another, 1)}: running a program inside of another would happen once, while "
        "that is recorded: call it on Values, or run it outside",
    ),
    pauses: (
        TraceError,
        f"{line_of(pauses, 1)}: no_grad() inside of a program: cut gradients by detach()",
    ),
    uses_a_result: (TraceError, OUTSIDE),
    detaches_a_result: (TraceError, OUTSIDE),
    uses_a_hooked_leaf: (
        TraceError,
        f"a program cannot run the rule of Value(data=4.0, grad=0), {BY_HAND}",
    ),
    uses_one_made_by_hand: (
        TraceError,
        OUTSIDE.replace("6.0", "1.0").replace("'*'", "'mine'"),
    ),
    has_a_rule: (TraceError, f"a program cannot run the rule of Value(traced '*'), {BY_HAND}"),
    made_of_parameters: (
        TraceError,
        f"a program cannot run the rule of Value(data=3.0, grad=0), {BY_HAND}",
    ),
    raises: (Boom, "mine"),
}
RESULTS = {
    "None": (
        None,
        TypeError,
        "the function's result must be a Value or nested lists of Values, got NoneType None",
    ),
    "text": (
        "loss",
        TypeError,
        "the function's result must be a Value or nested lists of Values, got str 'loss'",
    ),
    "dict": (
        {"loss": 1},
        TypeError,
        "the function's result must be a Value or nested lists of Values, got dict {'loss': 1}",
    ),
    "ragged": (
        [1.0, [2.0, 3.0]],
        ValueError,
        "the function's result must be rectangular, got parts of shapes [(), (2,)]",
    ),
    "empty": ([], ValueError, "the function's result must hold a Value at least, got []"),
    "empty rows": (
        [[], []],
        ValueError,
        "the function's result must hold a Value at least, got []",
    ),
}


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("function", WORDS, ids=lambda function: function.__name__)
def test_what_a_trace_refuses(function, known):
    """Also in a program that has traced something before: that stays, and goes on."""
    w, other = Value(5.0), Value(7.0)
    w.grad = 1.5
    program = fastgrad.compile(
        lambda x, *, bad=True: function(x, w) if bad else other * x, parameters=[w] * known
    )
    if known:
        program.backward([1.0], bad=False)
    before = state_of(program)
    kind, text = WORDS[function]
    for call in (program, program.backward, program.value_and_grad):
        refused(lambda call=call: call([2.0]), kind, text)
    assert state_of(program) == before
    assert (w.data, w.grad, W.grad, RESULT.data) == (5.0, 1.5, 0, 6.0)
    # Eager work goes on, with all that a trace forbids.
    x = Value(2.0)
    y = x * w
    assert (y.data, bool(y), y > 3) == (10.0, True, True)
    with no_grad():
        assert (y * 2)._prev == set()
    y.backward()
    assert (x.grad, w.grad) == (5.0, 3.5)
    with pytest.raises(TypeError, match="must be real number, not"):
        math.exp(y)
    assert program([1.0], bad=False).tolist() == [7.0]


@pytest.mark.parametrize("name", RESULTS)
def test_results(name):
    result, kind, text = RESULTS[name]
    program = fastgrad.compile(lambda x: result)
    refused(lambda: program([1.0]), kind, text)
    assert (program.signatures, program.parameters) == ([], [])


def test_what_a_trace_allows():
    """What depends on no input: a choice by a static number, a look at a constant, a label."""
    w = Value(2.0)

    def function(x):
        c = Value(0.0)
        c.data = 3.0
        c.label = "c"
        y = x * c + w
        y.label = "y"
        assert (y._op, y._prev == set(y._children)) == ("+", True)
        assert repr(x) == "Value(traced '')"
        assert repr(y) == "Value(traced '+')"
        assert repr(c) == "Value(data=3.0, grad=0)"
        return y if c.data > 2 and w.data == 2.0 else x

    assert fastgrad.compile(function)([1.0]).tolist() == [5.0]


def test_failed_traces_leave_no_memory():
    w = Value(2.0)
    program = fastgrad.compile(lambda x: [w * v for v in x * 100] + [raises(x[0], w)])
    sizes = []
    for _ in range(40):
        with pytest.raises(Boom):
            program([[1.0, 2.0]])
        gc.collect()
        tape.reclaim()
        sizes.append(tape.usage()["entries"])
    assert sizes[-1] <= sizes[2]


def test_a_copy_of_an_input():
    """The line is that of the innermost file which is not the package's."""
    for copied in (copy.copy, copy.deepcopy):
        with pytest.raises(TraceError, match=re.escape(f"{copy.__file__}:")):
            fastgrad.compile(lambda x, *, how: how(x))([1.0], how=copied)


def test_only_files_of_the_package_are_not_the_user_s():
    """A neighbour whose name begins like the package's is the user's."""
    path = str(Path(fastgrad.__file__).parent) + "_of_mine/model.py"
    names = {"Value": Value}
    exec(compile("def f(x):\n    return x.data", path, "exec"), names)
    with pytest.raises(TraceError, match=re.escape(f"{path}:2: reading .data of")):
        fastgrad.compile(names["f"])([1.0])
