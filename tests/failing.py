"""Memory that runs out at each place in turn: what `test_failing.py` runs in processes of its own.

A scenario is a class: making it prepares, `act` is the call under test and returns numbers, `look`
returns all that a call which fails must leave as it was.  `walk` lets the first, the second, the
third ... allocation of `act` fail, each in a fork of the prepared process, until there are no more.
"""

import ctypes
import gc
import itertools
import json
import os
import random
import tempfile
import traceback

import numpy as np
from alive import entries_alive
from instruments import nodes_of

import fastgrad
from fastgrad import Value, functional, nn, optim, tape


def walk(scenario, large=0):
    """Let every allocation fail once: those of fastgrad's modules, or all of `large` bytes on.

    Returns
    -------
    list of str or None
        For each allocation the text of the error it led to; None if the call did without.
    """
    errors = []
    prepared = scenario()
    gc.collect()
    gc.freeze()  # what is there already need not be looked at in every round
    expected = in_fork(expected_of, prepared)
    for n in itertools.count(1):
        error, came = in_fork(one_round, prepared, n, large, expected)
        if not came:
            return errors
        errors.append(error)


def expected_of(prepared):
    state_of(prepared)
    return prepared.act(), state_of(prepared)


def one_round(prepared, n, large, expected):
    library = ctypes.CDLL(None)  # with what has been preloaded
    before = state_of(prepared)
    text = None
    library.fail_at(ctypes.c_long(n), ctypes.c_size_t(large))
    try:
        result = prepared.act()
        came = library.failed()
    except MemoryError as error:
        came = library.failed()
        text = str(error)
    if text is not None:
        equal(state_of(prepared), before, f"what there was, after allocation {n} failed")
        result = prepared.act()
    equal([result, state_of(prepared)], expected, f"numbers after allocation {n} failed")
    return text, bool(came)


def without_threads():
    """Whether a program then gives the same numbers, how many threads it had, and with more."""
    prepared = RunsOnLargerBatches()
    expected = json.dumps(prepared.act())  # the threads of this one are not in the forks

    def act(fails):
        ctypes.CDLL(None).fail_threads(ctypes.c_int(fails))
        return json.dumps(prepared.act()) == expected, len(os.listdir("/proc/self/task"))

    (same, threads), (also_same, _) = in_fork(act, 1), in_fork(act, 0)
    return same, threads, also_same


def state_of(prepared):
    return [entries_alive(), prepared.look()]


def equal(got, expected, what):
    got = json.loads(json.dumps(got))
    expected = json.loads(json.dumps(expected))
    assert got == expected, f"{what}: {difference(got, expected)}"


def difference(got, expected):
    """The first place where nested lists differ."""
    if isinstance(got, list) and isinstance(expected, list) and len(got) == len(expected):
        for k, (a, b) in enumerate(zip(got, expected)):
            if a != b:
                return f"[{k}]{difference(a, b)}"
    return f" got {got!r:.500}, expected {expected!r:.500}"


def in_fork(call, *arguments):
    """What the call returns in a fork of this process, which no round changes."""
    source, sink = os.pipe()
    child = os.fork()
    if not child:
        try:
            answer = [call(*arguments), None]
        except BaseException:
            answer = [None, traceback.format_exc()]
        with os.fdopen(sink, "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(sink)
    with os.fdopen(source) as file:
        text = file.read()
    status = os.waitpid(child, 0)[1]
    assert text and not status, f"a round ended with status {status}"
    answer, error = json.loads(text)
    if error:
        raise AssertionError(error)
    return answer


# ---- scenarios: the tape


def numbers_of(values):
    return [[v.data, v.grad] for v in values]


class Scenario:
    """With a graph that is there before, has been swept, and is looked at.

    Python's own lists must not grow in `act` where all large allocations fail: CPython and Cython
    have releases that then count a reference wrong.
    """

    def __init__(self):
        random.seed(1)
        self.w, self.x = Value(1.5), Value(2)
        self.old = (self.w * self.x + 1).relu() * self.w
        self.old.label = "old"
        self.old.backward()
        self.prepare()

    def prepare(self):
        """What this one needs besides."""

    def look(self):
        return sorted(numbers_of(nodes_of(self.old))), self.old.label, self.numbers()

    def numbers(self):
        """What this one must leave alone besides."""
        return []


class Records(Scenario):
    def act(self):
        y = self.old
        for _ in range(30_000):
            y = y * self.w + 0.25
            y = y * 0.5
        return y.data


class RecordsAndCollects(Scenario):
    """Collections have tables to renumber: labels, hidden sums, and edits of frozen partials."""

    def prepare(self):
        self.neuron = nn.Neuron(3)
        self.layer = nn.Layer(3, 2)
        self.outputs = self.layer([self.w, self.x, 1.0])
        sum(self.outputs).backward()

    def numbers(self):
        return numbers_of(self.layer.parameters())

    def act(self):
        for _ in range(3):
            y = self.old * 1
            for k in range(12_000):
                labelled = y * self.w
                if k % 1000 == 0:
                    labelled.label = str(k)
                y = labelled * 0.5 + 1.0
        return y.data


class MovesTables(Scenario):
    """So many labels, and neurons swept twice, that the tables of them are large allocations."""

    def prepare(self):
        layer = nn.Layer(2, 600)
        self.y = sum(layer([self.w, self.x]))
        for k in range(1000):
            self.y = self.y * 1.0
            self.y.label = f"y{k}"
        self.y.backward()
        self.y.backward()
        self.parameters = layer.parameters()

    def numbers(self):
        return sorted(v.label for v in nodes_of(self.y)), numbers_of(self.parameters)

    def act(self):
        for _ in range(40_000):
            self.w * 2.0
        self.y.backward()


class GivesMemoryBack(Scenario):
    """After a large graph has died; without memory for that the arrays stay as they are."""

    def act(self):
        total = functional.sum([self.w] * 600_000)
        del total
        tape.reclaim()
        return (self.old + 1).data


class GrowsThePool(Scenario):
    def prepare(self):
        self.row = [Value(k / 7) for k in range(3000)]

    def numbers(self):
        return numbers_of(self.row)

    def act(self):
        kept = [functional.dot(self.row, self.row) for _ in range(5)]
        return sum(kept).data


class Links(Scenario):
    """Values made by hand, with rules and with local gradients."""

    def act(self):
        row = [self.w * k for k in range(2000)]
        made = Value(1.0, tuple(row), "made")
        local = Value(2.0, tuple(row), [0.5] * len(row))
        return (made + local).data


class Functions(Scenario):
    def act(self):
        row = [self.w, self.x, self.old, 3.0]
        found = [functional.cross_entropy(row, 1), functional.logsumexp(row), functional.max(row)]
        found += [functional.mse(row, [1.0] * 4), functional.hinge(row, [1, -1, 1, -1])]
        found += [*functional.softmax(row), *functional.rmsnorm(row), functional.mean(row)]
        return [v.data for v in found]


class SweepsInsideOfASweep(Scenario):
    """A rule that sweeps another graph, and tries again where there was no memory."""

    def prepare(self):
        self.inner = self.x * self.x * 3
        self.outer = Value(5.0, (self.w,), "outer")
        self.outer._backward = self.rule
        self.root = self.outer * 2

    def rule(self):
        before = numbers_of([self.x, self.inner])
        try:
            self.inner.backward()
        except MemoryError as error:
            assert "nested backward pass" in str(error)
            assert numbers_of([self.x, self.inner]) == before
            self.inner.backward()
        self.w.grad += self.outer.grad * 7

    def act(self):
        self.root.backward()
        return numbers_of([self.w, self.x, self.inner, self.outer])

    def numbers(self):
        return numbers_of([self.inner, self.root])


class CallsALayer(Scenario):
    def prepare(self):
        self.model = nn.MLP(3, [40, 30, 1])

    def numbers(self):
        return numbers_of(self.model.parameters())

    def act(self):
        return [self.model([self.w, k / 100, 0.5]).data for k in range(9)]


class SweepsTwice(Scenario):
    """The second sweep keeps the adjoints of a neuron's hidden sums."""

    def prepare(self):
        self.layer = nn.Layer(6000, 1, nonlin=False)
        self.out = self.layer([k / 6000 for k in range(6000)])
        self.out.backward()

    def act(self):
        self.out.backward()

    def numbers(self):
        neuron = self.layer.neurons[0]
        return [neuron.b.grad, neuron.w[0].grad, neuron.w[-1].grad]


class LooksAtLargeGraphs(Scenario):
    def prepare(self):
        self.many = [self.w * k for k in range(2000)]
        self.made = Value(1.0, tuple(self.many), [0.5] * len(self.many))

    def act(self):
        return len(self.made._prev), len(self.made._children), self.made._local_grads


class Derives(Scenario):
    """Derivatives of both orders, which touch no grad, as a program's and of Values."""

    def prepare(self):
        self.root = (self.old * self.w).tanh() + self.x**3
        self.act()  # imports what it needs

    def act(self):
        of = [self.w, self.x]
        program = fastgrad.compile(lambda y: (y * self.w).tanh() * self.x)
        found = [fastgrad.hessian(self.root, of), fastgrad.hessian(program, [0.5, 1.5])]
        found += [fastgrad.jvp([self.root, self.old], of, v=[1.0, 2.0])]
        found += [fastgrad.vjp([self.root, self.old], of, u=[1.0, 2.0])]
        return [derivatives.tolist() for derivatives in found]


class Recomputes(Scenario):
    """Checkpoints and operations of one's own, recorded."""

    def prepare(self):
        self.op = fastgrad.custom_op(lambda *xs: sum(xs), lambda *xs: [1.0] * len(xs))

    def act(self):
        row = [self.w * k for k in range(1500)]
        total = fastgrad.checkpoint(lambda *xs: sum(xs), *row)
        return (total + self.op(*row)).data


# ---- scenarios: programs and optimizers


class Programs(Scenario):
    batch = 50

    def prepare(self):
        self.model = nn.MLP(4, [12, 9, 1])
        rng = np.random.default_rng(0)
        self.X, self.Y = rng.normal(size=(self.batch, 4)), rng.normal(size=self.batch)
        self.k = rng.integers(0, 3, size=self.batch)

        @fastgrad.compile(threads=3)
        def loss(x, y, k):
            score = self.model(x)
            picked = functional.take([self.w, score, x[0]], k)
            return (score - y) ** 2 + (picked * self.w).tanh() + self.w / (score**2 + 2.0)

        self.program = loss
        self.once()

    def once(self):
        """What has been called before."""

    def numbers(self):
        return numbers_of(self.model.parameters())


class TracesAndRuns(Programs):
    def act(self):
        return self.program(self.X, self.Y, self.k).tolist()


class PlansGradients(Programs):
    def once(self):
        self.program(self.X, self.Y, self.k)

    def act(self):
        return self.program.backward(self.X, self.Y, self.k)


class RunsOnLargerBatches(Programs):
    batch = 5000

    def once(self):
        self.program(self.X[:9], self.Y[:9], self.k[:9])
        self.program.value_and_grad(self.X[:9], self.Y[:9], self.k[:9])

    def act(self):
        value, gradient = self.program.value_and_grad(self.X, self.Y, self.k)
        return self.program(self.X, self.Y, self.k).tolist(), value, gradient.tolist()


class ExaminesPrograms(Programs):
    def once(self):
        self.program.check_finite = True
        self.program(self.X, self.Y, self.k)

    def act(self):
        return self.program(self.X[:5], self.Y[:5], self.k[:5]).tolist()


class DropsOut(Programs):
    def prepare(self):
        self.model = nn.Sequential(nn.Layer(4, 6), nn.Dropout(0.5), nn.Layer(6, 1))
        self.X = np.ones((40, 4))
        fastgrad.compile(self.model)(self.X)  # imports what it needs
        self.program = fastgrad.compile(self.model)

    def act(self):
        random.seed(4)
        return self.program(self.X).tolist()


class CollectsDuringARun(Scenario):
    """A run reads parameters where they are: who moves or changes them meanwhile copies them."""

    begun = False

    def prepare(self):
        self.layer = nn.Layer(40, 3, nonlin=False)
        op = fastgrad.custom_op(self.forward, lambda x: (1.0,))
        self.program = fastgrad.compile(lambda x: sum(self.layer(x)) * op(x[0]), threads=1)
        self.X = np.ones((3, 40))
        self.program(self.X)
        self.begun = True

    def forward(self, x):
        if self.begun:
            self.meanwhile()
        return x

    def meanwhile(self):
        self.w * 2
        tape.reclaim()

    def numbers(self):
        return numbers_of(self.layer.parameters())

    def act(self):
        return self.program(self.X).tolist()


class ChangesDuringARun(CollectsDuringARun):
    def meanwhile(self):
        self.layer.neurons[2].w[5].data = 7.0


class Minimizes(Programs):
    def once(self):
        self.program.value_and_grad(self.X, self.Y, self.k)
        self.optimizer = optim.Adam([*self.model.parameters(), self.w])

    def numbers(self):
        state = self.optimizer.state_dict()
        averages = state["exp_avg"].tolist(), state["exp_avg_sq"].tolist()
        return [*super().numbers(), *averages, state["step"]]

    def act(self):
        return self.optimizer.minimize(self.program, self.X, self.Y, self.k)


class Steps(Scenario):
    """Parameters in many runs of slots, so that where they lie is a list that grows."""

    def prepare(self):
        values = [Value(k / 3000) for k in range(6000)]
        self.parameters = values[::2]
        for k, p in enumerate(self.parameters):
            p.grad = k / 7
        self.optimizer = optim.RMSprop(self.parameters, momentum=0.5, centered=True)

    def numbers(self):
        state = self.optimizer.state_dict()
        return [*numbers_of(self.parameters), [state["step"]], state["grad_avg"].tolist()]

    def act(self):
        self.optimizer.step()


class StepsFirst(Steps):
    """What the optimizer remembers is not there yet."""

    def numbers(self):
        return numbers_of(self.parameters)


class Clips(Steps):
    def act(self):
        return optim.clip_grad_norm_(self.parameters, 2.0)


class ClipsValues(Steps):
    def act(self):
        return optim.clip_grad_value_(self.parameters, 2.0)


class SavesAndLoads(Steps):
    def prepare(self):
        super().prepare()
        self.path = tempfile.mkstemp()[1]
        self.act()  # imports what it needs

    def act(self):
        fastgrad.save({"optimizer": self.optimizer, "note": "x"}, self.path)
        self.optimizer.load_state_dict(fastgrad.load(self.path)["optimizer"])


SCENARIOS = {
    kind.__name__: kind
    for kind in globals().copy().values()
    if isinstance(kind, type) and issubclass(kind, Scenario) and hasattr(kind, "act")
}
