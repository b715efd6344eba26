"""A fuzzer of compiled programs: they must give what the operators give, sample by sample.

`ProgramMachine` compiles a random recipe, and runs it on batches of all sizes and kinds, on any
number of threads, with parameters edited in between, copied, inside of another program, after
errors.  Outputs are equal to the last bit, gradients within 1e-12 of the sum of the absolute
contributions, and equal bits on every further run.

Run by ``test_fuzz.py`` and, for as long as one likes, by ``python tests/fuzz.py``.
"""

import contextlib
import math
import pickle
import threading

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from oracles import nodes_of, state_of
from recipes import CLASSES, EXACT, INTS, batch_of, bits, eager, magnitudes, recipes, unchecked

import fastgrad
from fastgrad import TraceError, calls, optim
from fastgrad.engine import Value

KINDS = [*EXACT, *INTS, "layer", "layer", "wide"]
TAME = st.one_of(st.floats(-2, 2).map(lambda x: round(x, 3) or 1.0), st.integers(-3, 3))
FORMS = {
    "as it is": lambda x: x,
    "list": lambda x: x.tolist() or x,
    "Fortran": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every second column": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read only": lambda x: np.frombuffer(x.tobytes()).reshape(x.shape),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), offset=1).reshape(x.shape),
    "float32": lambda x: x.astype(np.float32),
    "int": lambda x: np.nan_to_num(x * 3, posinf=3, neginf=-3).clip(-9, 9).astype(int),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder(">")),
}
OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.02),
}


class Boom(Exception):
    """What a function raises while it is traced."""


class Batch:
    """Samples in some form, and the float64 numbers that they are."""

    def __init__(self, seed, size, inputs, form, special):
        xs, self.index = batch_of(np.random.default_rng(seed), size, inputs, special)
        with np.errstate(all="ignore"):
            self.xs = FORMS[form](xs)
            self.numbers = np.asarray(self.xs).astype(float).reshape(size, inputs)
        self.args = self.xs, self.index

    def samples(self):
        return zip(self.numbers, self.index, strict=True)


batches = st.builds(
    Batch,
    seed=st.integers(0, 9999),
    size=st.one_of(st.integers(0, 70), st.sampled_from([1, 8, 16, 31, 32, 33, 64])),
    inputs=st.integers(1, 4),
    form=st.sampled_from(sorted(FORMS)),
    special=st.sampled_from([False, False, True]),
)
some_threads = st.sampled_from([1, 2, 7])


def same_bits(a, b):
    """A nan may be any: which of two its sum is, the processor decides by their order."""
    a, b = (np.where(np.isnan(array), np.nan, array) for array in (np.asarray(a), np.asarray(b)))
    return a.tobytes() == b.tobytes()


class ProgramMachine(RuleBasedStateMachine):
    """One recipe, compiled twice: its outputs, and their sum as a loss."""

    steps = 0  # of all machines, for whoever wants to know

    def __init__(self):
        super().__init__()
        self.serial, calls.SERIAL_NS = calls.SERIAL_NS, 0  # every run uses its threads

    def teardown(self):
        calls.SERIAL_NS = self.serial

    @initialize(recipe=recipes(KINDS, TAME, steps=24))
    def begin(self, recipe):
        self.recipe = recipe
        self.parameters, self.outputs, self.loss = self.build()
        self.has_ints = any(kind in INTS or kind == "layer" for kind, *_ in recipe.steps)

    def build(self):
        inner, parameters = self.recipe.build()

        def outputs(x, i, *, shift=0.0, fail=False):
            out = inner(x, i)
            if fail:
                raise Boom
            return [v + shift for v in out] if shift else out

        def loss(x, i):
            return sum(outputs(x, i))

        self.function = outputs
        outputs = fastgrad.compile(outputs)
        return parameters, outputs, fastgrad.compile(loss, parameters=parameters)

    def key(self, number):
        """An int in the recipe has no sign when it is 0."""
        ints = self.has_ints or any(type(p.data) is int for p in self.parameters)
        return bits(number + 0.0 if ints else number)

    def check_outputs(self, got, batch, function=None):
        function = function or self.function
        assert got.shape == (len(batch.index), len(got[0]) if len(got) else got.shape[1])
        for (sample, i), outputs in zip(batch.samples(), got.tolist(), strict=True):
            for want in (eager(function, sample, i), unchecked(function, sample, i)):
                if want is not None:
                    assert [*map(self.key, outputs)] == [*map(self.key, want)]

    @rule(batch=batches, threads=some_threads, shift=st.sampled_from([0.0, 0.0, 0.5]))
    def forward(self, batch, threads, shift):
        ProgramMachine.steps += 1
        self.outputs.threads = threads
        got = self.outputs(*batch.args, shift=shift)
        self.check_outputs(got, batch, lambda x, i: self.function(x, i, shift=shift))
        self.outputs.threads = 8 - threads
        assert same_bits(got, self.outputs(*batch.args, shift=shift))

    @rule(batch=batches, threads=some_threads, theta=st.one_of(st.none(), st.integers(0, 99)))
    def gradient(self, batch, threads, theta):
        ProgramMachine.steps += 1
        if not len(batch.index):
            return
        self.loss.threads = threads
        self.loss(*batch.args)  # traces it: then all parameters are known
        parameters = self.loss.parameters
        data = [p.data for p in parameters]
        if theta is not None:
            theta = np.random.default_rng(theta).uniform(-1, 1, len(parameters))
        answer = self.loss.value_and_grad(*batch.args, theta=theta)
        for self.loss.threads in (1, 2, 7):
            again = self.loss.value_and_grad(*batch.args, theta=theta)
            assert same_bits(answer[0], again[0]) and same_bits(answer[1], again[1])
        for p, number in zip(parameters, data if theta is None else theta.tolist()):
            p.data = number
        with contextlib.suppress(ArithmeticError, ValueError), np.errstate(all="ignore"):
            self.check_gradient(*answer, batch, parameters)
        for p, number in zip(parameters, data):
            p.data = number

    def check_gradient(self, value, grads, batch, parameters):
        """Raises where Python's floats raise, and there is nothing to compare with."""
        size, total, most = len(batch.index), 0.0, 0.0
        bounds, want = np.zeros((2, len(parameters)))
        before = [p.grad for p in parameters]
        try:
            for sample, i in batch.samples():
                xs = [Value(float(x)) for x in sample]
                out = sum(self.function(xs, Value(int(i))))
                sums = magnitudes(out)
                bounds += [sums.get(id(p), 0.0) / size for p in parameters]
                for p in parameters:
                    p.grad = 0.0
                (out * (1.0 / size)).backward()
                want += [p.grad for p in parameters]
                total, most = total + out.data, most + abs(out.data)
        finally:
            for p, grad in zip(parameters, before):
                p.grad = grad
        if not np.isfinite(bounds).all() or bounds.max(initial=0) > 1e150:
            return
        if math.isfinite(most):
            assert abs(value - total / size) <= 1e-13 * most / size
        wrong = np.abs(grads - want) > 1e-12 * bounds + 1e-300
        assert not wrong.any(), (grads[wrong], want[wrong], bounds[wrong])

    @rule(batch=batches, threads=some_threads)
    def backward(self, batch, threads):
        """What is added to the grads is what value_and_grad returns."""
        ProgramMachine.steps += 1
        if not len(batch.index):
            return
        self.loss.threads = threads
        value, grads = self.loss.value_and_grad(*batch.args)
        before = [p.grad for p in self.loss.parameters]
        assert same_bits(self.loss.backward(*batch.args), value)
        after = [p.grad for p in self.loss.parameters]
        assert same_bits(np.array(before, float) + grads, np.array(after, float))

    @rule(index=st.integers(0, 400), number=TAME)
    def edit(self, index, number):
        parameters = self.loss.parameters
        parameters[index % len(parameters)].data = number

    @rule(batch=batches)
    def copied(self, batch):
        """A pickled program has parameters of its own, and the signatures that were known."""
        ProgramMachine.steps += 1
        got = self.outputs(*batch.args)
        copy = pickle.loads(pickle.dumps(self.outputs))
        for p in self.outputs.parameters:
            p.data = p.data + 1
        assert same_bits(copy(*batch.args), got)
        for p in self.outputs.parameters:
            p.data = p.data - 1
        assert not {*map(id, copy.parameters)} & {*map(id, self.outputs.parameters)}
        try:
            copy(np.ones((2, 9)), [0, 0])
        except TraceError:
            return
        raise AssertionError("a copy has no function to trace")

    @rule(batch=batches, bad=st.sampled_from([-1, CLASSES, 0.5, math.nan, math.inf]),
          at=st.integers(0, 70))  # fmt: skip
    def bad_index(self, batch, bad, at):
        ProgramMachine.steps += 1
        if not len(batch.index):
            return
        index = batch.index.astype(float)
        index[at % len(index)] = bad
        good = self.outputs(*batch.args)
        before = repr(state_of(self.outputs))
        try:
            got = self.outputs(batch.xs, index)
        except IndexError:
            assert repr(state_of(self.outputs)) == before
            got = self.outputs(*batch.args)
        # Else the index decides nothing that the outputs need, and any index gives the same.
        assert same_bits(got, good)

    @rule(batch=batches)
    def failing_trace(self, batch):
        ProgramMachine.steps += 1
        before = repr(state_of(self.outputs))
        try:
            self.outputs(*batch.args, fail=True)
        except Boom:
            assert repr(state_of(self.outputs)) == before
            return
        raise AssertionError("the function's error is lost")

    @rule(batch=batches)
    def check_finite(self, batch):
        ProgramMachine.steps += 1
        if not np.isfinite(batch.numbers).all():
            return
        checked = fastgrad.compile(self.function, check_finite=True)
        finite = all(
            math.isfinite(v.data)
            for sample, i in batch.samples()
            for out in example(self.function, sample, i)
            for v in nodes_of(out)
            if v._children
        )
        try:
            got = checked(*batch.args)
        except FloatingPointError:
            assert not finite
            return
        assert finite
        assert same_bits(got, self.outputs(*batch.args))

    @rule(batch=batches)
    def from_values(self, batch):
        """A graph that is there already, whose choices are those of its own sample."""
        ProgramMachine.steps += 1
        for sample, i in [*batch.samples()][:1]:
            x = [Value(float(number)) for number in sample]
            try:
                out = self.function(x, Value(int(i)))
            except (ArithmeticError, ValueError):
                return
            graph = fastgrad.Program.from_values([x], out)
            got = graph(np.repeat(batch.numbers[:1], 3, axis=0))
            for row in got.tolist():
                assert [*map(self.key, row)] == [self.key(v.data) for v in out]

    @rule(batch=batches, threads=some_threads)
    def inside_of_another(self, batch, threads):
        ProgramMachine.steps += 1
        outer = fastgrad.compile(lambda x, i: self.outputs(x, i), threads=threads)
        assert same_bits(outer(*batch.args), self.outputs(*batch.args))

    @rule(batch=batches)
    def in_threads(self, batch):
        ProgramMachine.steps += 1
        want, found = self.outputs(*batch.args), []
        threads = [
            threading.Thread(target=lambda: found.append(self.outputs(*batch.args)))
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 3 and all(same_bits(got, want) for got in found)

    @rule(batch=batches, name=st.sampled_from(sorted(OPTIMIZERS)), threads=some_threads)
    def minimize(self, batch, name, threads):
        """The same bits as zero_grad, backward and step, of a twin."""
        ProgramMachine.steps += 1
        if not len(batch.index):
            return
        self.loss(*batch.args)
        try:
            OPTIMIZERS[name](self.loss.parameters).minimize(self.loss, *batch.args)
        except ValueError as error:
            assert "uses none of the optimizer's" in str(error)
            assert not self.loss.value_and_grad(*batch.args)[1].any()
            return
        function = self.function
        _, _, twin = self.build()
        self.function = function
        twin(*batch.args)
        twin.threads, self.loss.threads = threads, 8 - threads
        for p, q in zip(twin.parameters, self.loss.parameters, strict=True):
            p.data = q.data
        by_hand = OPTIMIZERS[name](twin.parameters)
        at_once = OPTIMIZERS[name](self.loss.parameters)
        for _ in range(2):
            by_hand.zero_grad()
            want = twin.backward(*batch.args)
            by_hand.step()
            assert same_bits(at_once.minimize(self.loss, *batch.args), want)
        moved = [[float(p.data) for p in one.parameters] for one in (twin, self.loss)]
        assert [*map(bits, moved[0])] == [*map(bits, moved[1])]
        for p in self.loss.parameters:
            p.data = p.data if abs(p.data) < 10 else 0.5


def example(function, sample, index):
    """What the function records while it is traced, where nothing raises."""
    _, inputs, _ = fastgrad.trace.begin([float(x) for x in sample] + [float(index)])
    try:
        return function(inputs[:-1], inputs[-1])
    finally:
        fastgrad.trace.end()
