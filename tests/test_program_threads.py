"""Programs among threads, signals and processes, and what they keep in memory.

Whatever is interrupted or measured has a process of its own.
"""

import os
import random
import threading

import numpy as np
import pytest
from oracles import MIB, run_snippet

import fastgrad
from fastgrad import functional, nn, optim
from fastgrad.engine import Value

MODELS = {
    "dense": lambda: nn.MLP(20, [40, 40, 1]),
    "wide": lambda: nn.MLP(20, [3, 400, 1]),
    "scalar": lambda: scalar,
}
W = [Value(0.1 * k - 0.5) for k in range(20)]


def scalar(x):
    """Sums of parameters' adjoints by strands, choices, powers."""
    out = functional.logsumexp([(wi * xi).tanh() + wi**2 for wi, xi in zip(W, x)])
    return out * functional.take(W, functional.argmax(x)) + (x[0] * W[3]) ** 3


def run_in_threads(function, count):
    """Run function(k) for each k in a thread of its own, all from the same moment on."""
    gate, errors = threading.Barrier(count), []

    def body(k):
        gate.wait()
        try:
            function(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=body, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def answer_of(program, *xs):
    value, grads = program.value_and_grad(*xs)
    return value, grads.tobytes(), program(*xs).tobytes()


@pytest.mark.parametrize("size", [1, 33, 1000, 5003])
@pytest.mark.parametrize("name", MODELS)
def test_the_same_bits_for_any_number_of_threads(name, size):
    random.seed(4)
    model = MODELS[name]()
    x = np.random.default_rng(size).normal(size=(size, 20))
    programs = [fastgrad.compile(model, threads=n) for n in (1, 2, 7, 300)]
    want = answer_of(programs[0], x)
    for program in programs:
        assert answer_of(program, x) == answer_of(program, x) == want
    before = fastgrad.get_num_threads()
    try:
        for n in (1, 3):
            fastgrad.set_num_threads(n)
            assert answer_of(fastgrad.compile(model), x) == want
    finally:
        fastgrad.set_num_threads(before)
    halves = [programs[1].value_and_grad(part)[1] for part in (x[: size // 2 + 1], x)]
    assert halves[1].tobytes() == want[1]


def one_layer():
    layer = nn.Layer(1100, 33)
    return lambda x, y: functional.sum(layer(x)) * y[0]


def net():
    model = nn.MLP(301, [70, 3])
    return lambda x, y: functional.logsumexp(model(x)) * y[0]


def two_layers():
    """The first one twice, and the other after it and by itself."""
    first, second = nn.Layer(130, 130), nn.Layer(130, 140)
    return lambda x, y: functional.sum([*second(first(x)), *first(y), *second(x)])


FORMS = {
    "rows": lambda x: x,
    "columns": np.asfortranarray,
    "some": lambda x: np.repeat(np.pad(x, [(0, 0), (3, 2)]), 2, axis=0)[::2, 3:-2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "every other": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [40, 64, 71, 300])
@pytest.mark.parametrize(("make", "inputs"), [(one_layer, 1100), (net, 301), (two_layers, 130)])
def test_large_layers_of_inputs(make, inputs, size, form):
    """With several threads their neurons are divided, if an array is as that likes it."""
    random.seed(7)
    program = fastgrad.compile(make(), threads=1)
    x, y = np.random.default_rng(size).normal(size=(2, size, inputs))
    want = answer_of(program, x, y)
    optimizer = optim.SGD(program.parameters, lr=1e-9)
    start = [p.data for p in program.parameters]
    ends = []
    for program.threads in (1, 2, 3, 300, 1):
        for p, data in zip(program.parameters, start):
            p.data = data
        assert answer_of(program, FORMS[form](x), y) == want
        for _ in range(2):
            optimizer.minimize(program, FORMS[form](x), y)
        ends.append([p.data for p in program.parameters])
    assert ends[0] != start
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize("size", [64, 65, 200])
def test_adjoints_that_vanish(size):
    """Products too small for a double leave -0.0, or 0.0 once a lane without a sample is added."""
    layer = nn.Layer(600, 40)
    program = fastgrad.compile(lambda x: functional.sum(layer(x)) * -1e-200, threads=1)
    x = np.full((size, 600), 1e-200)
    want = answer_of(program, x)
    for program.threads in (2, 7):
        assert answer_of(program, x) == want


@pytest.mark.parametrize("name", MODELS)
def test_threads_that_run_one_program(name):
    random.seed(5)
    program = fastgrad.compile(MODELS[name](), threads=3)
    batches = [np.random.default_rng(k).normal(size=(200 + 700 * k, 20)) for k in range(4)]
    want = [answer_of(program, x) for x in batches]
    for p in program.parameters:
        p.grad = 0

    def body(k):
        for _ in range(10):
            assert answer_of(program, batches[k]) == want[k]
            program.backward(batches[k])

    run_in_threads(body, 4)
    total = 10 * sum(np.frombuffer(grads) for _, grads, _ in want)
    bound = 10 * sum(np.abs(np.frombuffer(grads)) for _, grads, _ in want)
    got = np.array([p.grad for p in program.parameters])
    assert np.all(np.abs(got - total) <= 1e-12 * bound)


def test_threads_that_trace_and_threads_that_record():
    """Other threads' entries lie between those of a trace; they are read and swept meanwhile."""
    w = Value(2.0)
    programs = [fastgrad.compile(traced_slowly) for _ in range(3)]

    def trace_it(k):
        for size in range(2, 40):
            x = np.arange(3.0 * size).reshape(3, size)
            assert programs[k](x).tolist() == (2.0 * x.sum(axis=1)).tolist()
            assert programs[k].parameters == []

    def record(k):
        for i in range(3000):
            mine = Value(float(i))
            y = mine * w + mine
            assert (y.data, bool(y), y < 3.0 * i + 1) == (3.0 * i, True, True)
            y.backward()
            assert mine.grad == 3.0
            assert mine.detach()._op == ""

    def traced_slowly_and_refused(k):
        for _ in range(200):
            with pytest.raises(fastgrad.TraceError):
                fastgrad.compile(lambda x: x[0] if x[-1] > 0.5 else x[1])([[1.0] * 30])

    run_in_threads(
        lambda k: (trace_it, trace_it, trace_it, record, record, traced_slowly_and_refused)[k](k), 6
    )


def traced_slowly(x):
    total = x[0] * 2.0
    for v in x[1:]:
        threading.Event().wait(0)  # lets others run
        total = total + v * 2.0
    return total


def test_threads_that_trace_one_program():
    w = [Value(float(k)) for k in range(8)]
    program = fastgrad.compile(lambda x, *, k: w[k] * x)

    def body(k):
        for n in range(8):
            assert program([3.0], k=(k + n) % 8).tolist() == [3.0 * ((k + n) % 8)]
            program.backward([1.0, 2.0], k=k)

    run_in_threads(body, 8)
    assert len(program.signatures) == 8
    assert {*map(id, program.parameters)} == {*map(id, w)}
    assert [v.grad for v in w] == [8 * 1.5] * 8


# ---- Interruptions


INTERRUPTED = """
import os, signal, threading
import numpy as np
import fastgrad
from fastgrad import nn
from fastgrad.engine import Value

signal.signal(signal.SIGINT, signal.default_int_handler)
w = [Value(0.1), Value(-0.2)]
program = fastgrad.compile(eval(model), threads=threads)
batch = np.broadcast_to(0.5, (size, 20))
program.backward(batch[:1])
step = program.value_and_grad(batch[:1000])[1]
parameters = program.parameters
finished = interrupted = 0
for p in parameters:
    p.grad = 0
for k in range(2):
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            program.backward(batch)
            finished += 1
    except KeyboardInterrupt:
        interrupted += 1
grads = np.array([p.grad for p in parameters])
times = grads[abs(step).argmax()] / step[abs(step).argmax()]
again = program.value_and_grad(batch[:1000])[1].tobytes() == step.tobytes()
answer([interrupted, finished, round(times), bool(np.allclose(grads, times * step)), again])
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("nn.MLP(20, [300, 300, 300, 1])", 300_000),
        ("lambda x: sum([(w[0] * v + w[1]).tanh() ** 3 for v in x * 20])", 1_000_000),
    ],
)
def test_ctrl_c(model, size, threads):
    """A run that would take tens of seconds ends; the grads are those of the runs that did."""
    interrupted, finished, times, same, again = run_snippet(
        INTERRUPTED, model=model, size=size, threads=threads
    )
    assert interrupted == 2
    assert finished <= times <= finished + 2  # it may come when a run has just ended
    assert same
    assert again


def test_ctrl_c_while_tracing():
    assert run_snippet(
        """
        import signal
        import fastgrad
        from fastgrad import trace
        from fastgrad.engine import Value

        signal.signal(signal.SIGINT, signal.default_int_handler)
        w = Value(1.0)

        def function(x):
            for k in range(100):
                x = x * w
                if k == 50 and interrupts:
                    signal.raise_signal(signal.SIGINT)
            return x

        program = fastgrad.compile(function)
        caught = 0
        for _ in range(3):
            interrupts = True
            try:
                program.backward([1.0])
            except KeyboardInterrupt:
                caught += 1
            answered = [trace.is_tracing(), program.signatures, program.parameters, w.grad]
        interrupts = False
        answer([caught, answered, program.backward([2.0]), w.grad])
        """
    ) == [3, [False, [], [], 0], 2.0, 200.0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_use():
    assert (
        run_snippet(
            """
        import os
        import numpy as np
        import fastgrad
        from fastgrad import nn

        program = fastgrad.compile(nn.MLP(20, [64, 64, 1]), threads=2)
        x = np.random.default_rng(0).normal(size=(2000, 20))
        want = program.value_and_grad(x)[1].tobytes()
        codes = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                same = all(program.value_and_grad(x)[1].tobytes() == want for _ in range(3))
                fresh = fastgrad.compile(lambda v: v * 2)([1.0])[0] == 2.0
                os._exit(0 if same and fresh else 1)
            assert program.value_and_grad(x)[1].tobytes() == want
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        answer(codes)
        """
        )
        == [0] * 5
    )


# ---- Memory


FLAT = {
    "runs": "program.backward(x); program(x)",
    "sizes": "program.value_and_grad(x[: 1 + k % 50]); program(x[: 1 + k % 7])",
    "bad indices": "refused(lambda: chosen(x[:, 0], x[:, 1] * 1e3))",
    "other shapes": "refused(lambda: program(x[:, :1]))",
}
SLOW = {
    "copies": "pickle.loads(pickle.dumps(program)).value_and_grad(x[:2])",
    "retraces": "fastgrad.compile(lambda r: model(r) * 2).backward(x)",
    "failed traces": "refused(lambda: fastgrad.compile(lambda r: model(r) * r[0].data)(x))",
    "from values": "v = Value(1.0); Program.from_values([v], v * w + model([v, w]))([1.0])",
}


@pytest.mark.parametrize("name", [*FLAT, *SLOW])
def test_memory_is_flat(name):
    """A leak of a block of work space each time would be fifty times the bound."""
    rounds = 10_000 if name in ("runs", "sizes") else 2000 if name in FLAT else 300
    assert (
        run_snippet(
            """
            import gc, pickle
            import numpy as np
            from instruments import resident_bytes
            import fastgrad
            from fastgrad import Program, functional, nn
            from fastgrad.engine import Value

            def refused(call):
                try:
                    call()
                except (IndexError, ValueError, fastgrad.TraceError):
                    return
                raise AssertionError("not refused")

            w = Value(2.0)
            model = nn.MLP(2, [40, 40, 1])
            program = fastgrad.compile(model)
            chosen = fastgrad.compile(lambda v, i: functional.take([w, v], i))
            x = np.random.default_rng(0).normal(size=(50, 2))
            program(x)
            step = compile(step, "step", "exec")
            for k in range(rounds // 5):
                exec(step)
            before = resident_bytes()
            for k in range(rounds):
                exec(step)
            answer(resident_bytes() - before)
            """,
            step=(FLAT | SLOW)[name],
            rounds=rounds,
        )
        < 4 * MIB
    )
