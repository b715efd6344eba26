"""`custom_op` in programs: the bits of eager calls, errors, threads, pickles."""

import copy
import math
import pickle
import threading
from functools import reduce
from operator import add

import numpy as np
import pytest
from customs import cube, cube_partials, cube_second, cubed, raises, twist, twisted
from oracles import run_snippet, state_of

import fastgrad
from fastgrad import TraceError, Value, custom_op, functional


def built_in(x, y, z):
    return (Value(0.0) + x).sin() * y - z


w = [Value(0.3), Value(-1.2), Value(0.7)]


def mixed(op, a, b):
    """Uniform calls, varying ones, an operand twice, a shared result, one of constants."""
    u = op(w[0], w[1], 0.5)
    v = op(a * w[1], u, b)
    return op(v, v, op(a, b, w[2])).tanh() + v * u + op(1.0, 2.0, 3.0) + op(w[2], w[2], w[2])


@pytest.mark.parametrize("size", [1, 3, 8, 37, 200])
@pytest.mark.parametrize("threads", [1, 3])
def test_programs_give_the_bits_of_eager_calls(size, threads):
    a, b = np.random.default_rng(size).normal(size=(2, size))
    program = fastgrad.compile(lambda x, y: mixed(twisted, x, y), threads=threads, parameters=w)
    out = program(a, b)
    assert out.tolist() == [mixed(twisted, Value(x), Value(y)).data for x, y in zip(a, b)]
    mean, grads = program.value_and_grad(a, b)
    same = fastgrad.compile(lambda x, y: mixed(built_in, x, y), threads=threads, parameters=w)
    assert mean == reduce(add, out.tolist()) / size  # sum() rounds otherwise from Python 3.12 on
    assert grads == pytest.approx(same.value_and_grad(a, b)[1], rel=1e-12, abs=1e-13)
    (checked := fastgrad.compile(lambda x, y: mixed(twisted, x, y), check_finite=True))(a, b)
    assert checked.value_and_grad(a, b)[1].size == len(w)


def test_lanes_that_a_batch_has_not_got_are_not_computed():
    calls = []
    op = custom_op(lambda x: calls.append(x) or x, lambda x: calls.append(-x) or (1.0,))
    one = Value(1.0)
    program = fastgrad.compile(lambda x: op(x * one), threads=1)
    program.backward([1.0, 2.0, 3.0, 4.0, 5.0])
    assert sorted(calls) == [-5.0, -4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_what_occurs_twice_is_computed_once_and_what_is_uniform_once_a_run():
    calls = []

    def forward(x):
        calls.append(x)
        return x

    op = custom_op(forward, lambda x: (1.0,))
    program = fastgrad.compile(lambda x: op(x) * op(x) + op(w[0]) * op(w[0]))
    program([1.0])
    calls.clear()
    program([1.0, 2.0, 3.0])
    assert sorted(calls) == [w[0].data, 1.0, 2.0, 3.0]


def test_the_recording_lists_them():
    program = fastgrad.compile(lambda x: twisted(cubed(x), cubed(w[0]), x))
    program([1.0])
    ((_, traced),) = program._traced.items()
    assert traced.recording.customs == (cubed, twisted)


def test_programs_of_graphs_that_are_there():
    x = Value(1.5)
    program = fastgrad.Program.from_values([x], twisted(x, w[0], w[1]) + cubed(w[2]))
    want = twist(0.5, w[0].data, w[1].data) + cube(w[2].data)
    assert program([0.5]).tolist() == [want]


def test_results_from_outside_of_the_function_are_refused():
    outside = cubed(w[0])
    with pytest.raises(TraceError, match="the result of 'cube' outside of it: compute it inside"):
        fastgrad.compile(lambda x: x * outside)([1.0])


def test_data_cannot_be_read_off_a_traced_result():
    with pytest.raises(TraceError, match=r"reading \.data of a value that depends on an input"):
        fastgrad.compile(lambda x: Value(cubed(x).data))([1.0])
    with pytest.raises(TraceError, match=r"_backward\(\) of a value that depends on an input"):
        fastgrad.compile(lambda x: cubed(x)._backward())([1.0])


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("where", ["varying", "uniform"])
@pytest.mark.parametrize("what", ["forward", "partials"])
@pytest.mark.parametrize("error", [KeyError, IndexError])
def test_an_error_in_a_run_changes_nothing(error, what, where, threads):
    armed = []

    def checked(function):
        def call(x):
            if armed and (where == "uniform" or x == 700.0):
                raise error("in the user's function")
            return function(x)

        return call

    forward, partials = (
        (checked(cube), cube_partials) if what == "forward" else (cube, checked(cube_partials))
    )
    op = custom_op(forward, partials)
    program = fastgrad.compile(
        (lambda x: op(x * 1.0) * w[0] * w[1])
        if where == "varying" and what == "forward"
        else (lambda x: op(x * functional.maximum(w[0], 1.0)) * w[1])
        if where == "varying"
        else (lambda x: op(w[0]) * x * w[1]),
        threads=threads,
    )
    batch = np.arange(1000.0)
    before = program.value_and_grad(batch)
    state = state_of(program)
    armed.append(True)
    for call in (program.backward, program.value_and_grad):
        with pytest.raises(error, match="in the user's function"):
            call(batch)
    assert state_of(program) == state
    armed.clear()
    after = program.value_and_grad(batch)
    assert (after[0], after[1].tolist()) == (before[0], before[1].tolist())


def test_an_error_while_a_program_is_traced_keeps_no_signature():
    program = fastgrad.compile(lambda x: custom_op(raises, cube_partials)(w[0]) * x)
    with pytest.raises(KeyError, match="in the user's function"):
        program([1.0])
    assert program.signatures == []


def test_check_finite_names_the_operation():
    op = custom_op(lambda x: math.inf if x > 2 else x, lambda x: [math.nan if x > 1 else 1.0])
    op = custom_op(op.forward, op.partials, name="jump")
    program = fastgrad.compile(lambda x: 1 / op(x * w[0]), check_finite=True)
    with pytest.raises(FloatingPointError, match=r"in sample 1, jump gave inf from 3\.0"):
        program(np.array([1.0, 3.0]) / w[0].data)
    with pytest.raises(
        FloatingPointError, match=r"in sample 1, the adjoint of jump's operand 1\.5 became nan"
    ):
        program.backward(np.array([1.0, 1.5]) / w[0].data)
    broken = fastgrad.compile(lambda x: custom_op(cube, raises)(x * w[0]), check_finite=True)
    with pytest.raises(KeyError, match="in the user's function"):
        broken.backward([1.0])


def test_the_functions_may_use_programs_and_values():
    square = fastgrad.compile(lambda x: x * x)

    def forward(x):
        return float(square([x])[0]) + (Value(x) * 2).data

    op = custom_op(forward, lambda x: (2 * x + 2,))
    program = fastgrad.compile(lambda x: op(x * w[0]))
    batch = np.linspace(-1, 1, 500)
    assert program(batch).tolist() == [forward(x * w[0].data) for x in batch.tolist()]


def test_programs_run_in_several_threads_at_once():
    program = fastgrad.compile(lambda x, y: mixed(twisted, x, y), threads=2)
    a, b = np.random.default_rng(1).normal(size=(2, 3000))
    want, answers = program.value_and_grad(a, b), []
    threads = [
        threading.Thread(target=lambda: answers.append(program.value_and_grad(a, b)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(mean, grads.tolist()) for mean, grads in answers] == [(want[0], want[1].tolist())] * 4


def test_ctrl_c_ends_a_run():
    ended = run_snippet(
        """
import signal, threading, time
import numpy as np
import fastgrad
op = fastgrad.custom_op(lambda x: time.sleep(0.001) or x, lambda x: (1.0,))
program = fastgrad.compile(lambda x: op(x), threads=2)
program([1.0])
threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
try:
    program(np.zeros(1_000_000))
except KeyboardInterrupt:
    answer(program([2.0]).tolist())
"""
    )
    assert ended == [2.0]


# ---- copies


def test_programs_with_it_pickle_by_the_functions_names():
    program = fastgrad.compile(lambda x: twisted(x, w[0], cubed(x)))
    want = program([0.5, 1.5]).tolist()
    again = pickle.loads(pickle.dumps(program))
    assert again([0.5, 1.5]).tolist() == want
    assert copy.deepcopy(program)([0.5, 1.5]).tolist() == want
    twin = pickle.loads(pickle.dumps(cubed))
    assert (twin.forward, twin.second, twin.name) == (cube, cube_second, "cube")
    assert copy.deepcopy(cubed) is copy.copy(cubed) is cubed
    built = custom_op(math.hypot, math.hypot)
    assert pickle.loads(pickle.dumps(built)).forward is math.hypot


def test_functions_without_a_place_do_not_pickle():
    op = custom_op(lambda x: x, cube_partials, name="same")
    program = fastgrad.compile(lambda x: op(x))
    want = program([0.5]).tolist()
    text = (
        r"cannot pickle same, a custom op: its forward function <function test_functions.* is not "
        r"found as .*test_functions_without_a_place_do_not_pickle\.<locals>\.<lambda>; expected a "
        r"function that is defined by def at the top level of a module"
    )
    with pytest.raises(pickle.PicklingError, match=text):
        pickle.dumps(program)
    assert copy.deepcopy(program)([0.5]).tolist() == want
