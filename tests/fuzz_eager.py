"""A fuzzer of the eager engine: fastgrad and plain Python do the same, and must agree to the bit.

`EagerMachine` draws what people do with Values: operators and functions, handles dropped and found
again, data and grads edited, sweeps from anywhere, rules of their own that raise or record or sweep
in the middle of a sweep, copies, layers, threads, collections of every kind.  The other side is
``plain.py``.  A `Pair` is a Value and what it is there; whatever one can see of both must be equal:
numbers and their kinds, errors, operations, operands, attributes, identity.

Run by ``test_fuzz.py`` and, for as long as one likes, by ``python tests/fuzz.py``.
"""

import contextlib
import copy
import gc
import pickle
import random
import sys
import threading
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import plain
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from oracles import BeyondThePromise, checked, number_key
from oracles import plain as python_number
from plain import Plain
from recipes import EXPONENTS, MIXED_NUMBERS

from fastgrad import functional, nn, no_grad, tape
from fastgrad.engine import Value

MOST = 24  # pairs held at a time
DEEPEST = 3  # rules that run sweeps and rules
FLOOD = 40_000  # entries that bring about a collection in turn
BALLAST = 300_000  # entries that make a tape a large one
ACTIVATIONS = ("relu", "linear", "tanh", "sigmoid", "gelu")


class Boom(Exception):
    """What a rule raises."""


class Named(Value):
    """A subclass of somebody's."""


class Pair(NamedTuple):
    ours: Any
    theirs: Any


class Side(NamedTuple):
    """What an action is done with: the place in a pair, the class, the functions."""

    of: int
    Value: Any
    functional: Any

    def number(self, x):
        return python_number(x) if self is THEIRS else x


OURS = Side(0, Value, functional)
THEIRS = Side(1, Plain, SimpleNamespace(**(vars(plain) | {"max": plain.max_of})))
ERRORS = (ArithmeticError, ValueError, TypeError, AssertionError, IndexError, Boom)


def outcome(call):
    """What a call gives, or the type of the error it raises."""
    try:
        return call()
    except ERRORS as error:
        return type(error)


def in_thread(call):
    """The same call in a thread of its own."""
    found = []

    def body():
        try:
            found.append((call(), None))
        except BaseException as error:
            found.append((None, error))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    result, error = found.pop()
    if error is not None:
        raise error
    return result


def flattened(result):
    """The Values in nested lists."""
    if isinstance(result, (list, tuple, np.ndarray)):
        return [v for item in result for v in flattened(item)]
    return [result]


def assign_grad(v, number):
    v.grad = number
    if number == 0 and isinstance(v, Plain):
        v.hidden = None  # what a fused entry keeps of earlier sweeps is part of its grad


# ---- what is recorded: v are some Values, c is a number

CALLS = {
    "+": lambda f, v, c: v[0] + v[-1],
    "-": lambda f, v, c: v[0] - v[-1],
    "*": lambda f, v, c: v[0] * v[-1],
    "/": lambda f, v, c: v[0] / v[-1],
    "**": lambda f, v, c: v[0] ** v[-1],
    "v+c": lambda f, v, c: v[0] + c,
    "c+v": lambda f, v, c: c + v[0],
    "v-c": lambda f, v, c: v[0] - c,
    "c-v": lambda f, v, c: c - v[0],
    "v*c": lambda f, v, c: v[0] * c,
    "c*v": lambda f, v, c: c * v[0],
    "v/c": lambda f, v, c: v[0] / c,
    "c/v": lambda f, v, c: c / v[0],
    "c**v": lambda f, v, c: c ** v[0],
    "neg": lambda f, v, c: -v[0],
    "pos": lambda f, v, c: +v[0],
    "abs": lambda f, v, c: abs(v[0]),
    "relu": lambda f, v, c: v[0].relu(),
    "leaky_relu": lambda f, v, c: v[0].leaky_relu(c),
    "maximum": lambda f, v, c: v[0].maximum(v[-1]),
    "minimum of c": lambda f, v, c: v[0].minimum(c),
    "detach": lambda f, v, c: v[0].detach(),
    "builtin sum": lambda f, v, c: sum(v),
    "sum from": lambda f, v, c: sum(v, v[-1]),
    "sum": lambda f, v, c: f.sum(v),
    "sum with c": lambda f, v, c: f.sum([*v, c]),
    "mean": lambda f, v, c: f.mean(v),
    "dot": lambda f, v, c: f.dot(v, v[::-1]),
    "dot with c": lambda f, v, c: f.dot([c, *v], [*v, c]),
    "softmax": lambda f, v, c: f.softmax(v),
    "log_softmax": lambda f, v, c: f.log_softmax([*v, c]),
    "logsumexp": lambda f, v, c: f.logsumexp(v),
    "cross_entropy": lambda f, v, c: f.cross_entropy([c, *v], 1),
    "cross_entropy of v": lambda f, v, c: f.cross_entropy(v, v[0]),
    "mse": lambda f, v, c: f.mse(v, [*v[1:], c]),
    "mse of two": lambda f, v, c: f.mse(v[0], v[-1]),
    "hinge": lambda f, v, c: f.hinge(v, [c, *v[1:]]),
    "hinge of two": lambda f, v, c: f.hinge(v[0], c),
    "rmsnorm": lambda f, v, c: f.rmsnorm(v),
    "max": lambda f, v, c: f.max(v),
    "max with c": lambda f, v, c: f.max([c, *v]),
    "minimum of two": lambda f, v, c: f.minimum(c, v[0]),
    "where": lambda f, v, c: f.where(v[0], v[-1], c),
    "take": lambda f, v, c: f.take([c, *v], v[0]),
    "take a row": lambda f, v, c: f.take([[v[0], c], [v[-1], v[0]]], 1),
    "of argmax": lambda f, v, c: f.take(v, f.argmax(v)),
} | {
    name: lambda f, v, c, name=name: getattr(v[0], name)()
    for name in plain.FUNCTIONS.keys() - {"abs"}
}  # fmt: skip
NAMES = sorted(CALLS)


# ---- rules of the user's own


class Script:
    """A user-made rule: what it does, one action after the other, alike on both sides."""

    depth: ClassVar = [0, 0]

    def __init__(self, machine, side, out, operands, actions, original):
        self.machine, self.side, self.out = machine, side, out
        self.operands, self.actions, self.original = operands, actions, original
        self.calls, self.made = 0, []

    def __call__(self):
        self.calls += 1
        Script.depth[self.side.of] += 1
        try:
            for kind, k, number in self.actions:
                x = self.operands[k % len(self.operands)] if self.operands else self.out
                getattr(self, kind)(x, python_number(number))
        finally:
            Script.depth[self.side.of] -= 1

    def is_deep(self):
        return Script.depth[self.side.of] > DEEPEST

    def add(self, x, number):
        assign_grad(x, x.grad + number * self.out.grad)

    def pass_on(self, x, number):
        assign_grad(x, x.grad + self.out.grad)

    def fail(self, x, number):
        if self.calls % 2:
            raise Boom

    def record(self, x, number):
        self.made.append(x * number + self.out)
        del self.made[:-3]

    def sweep(self, x, number):
        if not self.is_deep():
            x.backward()

    def sweep_made(self, x, number):
        if self.made and not self.is_deep():
            self.made[0].detach().backward()

    def by_hand(self, x, number):
        if not self.is_deep() and x is not self.out:
            x._backward()

    def as_before(self, x, number):
        self.original()

    def edit(self, x, number):
        x.data = number

    def name(self, x, number):
        x.label = f"by a rule in call {self.calls}"

    def drop(self, x, number):
        self.alone(lambda: self.machine.pairs and self.machine.pairs.pop(0))

    def collect(self, x, number):
        self.alone(gc.collect)
        self.alone(tape.reclaim)

    def flood(self, x, number):
        self.alone(flood)

    def thread(self, x, number):
        self.alone(lambda: in_thread(lambda: work_alone(3)))

    def alone(self, action):
        """What the other side has nothing of."""
        if self.side is OURS:
            action()


SCRIPTS = sorted(vars(Script).keys() - {"depth", "is_deep", "alone"} - vars(object).keys())
SCRIPTS = [name for name in SCRIPTS if not name.startswith("_")]


def flood():
    v = Value(1.0)
    for _ in range(FLOOD):
        v * 2


class Finalizer:
    """Garbage that only the cyclic collector finds; then, at any moment, it acts."""

    def __init__(self, action):
        self.action, self.me = action, self

    def __del__(self):
        self.action()


def look_around(machine):
    for pair in list(machine.pairs):
        for child in pair.ours._prev:
            repr(child)


BURIED = {
    "record": lambda machine: [Value(k) * 2.0 for k in range(100)],
    "reclaim": lambda machine: tape.reclaim(),
    "flood": lambda machine: flood(),
    "look": look_around,
    "sweep": lambda machine: work_alone(5),
}


# ---- threads


def work(side, seed, shared=()):
    """Record and sweep a graph of one's own on leaves of everybody's; what its own nodes hold.

    All numbers are whole or halves, so that the shared grads are exact in any order.
    """
    rng = random.Random(seed)
    own = [side.Value(float(rng.randint(-3, 3))) for _ in range(3)]
    values = [*own, *shared]
    for _ in range(12):
        a, b = rng.choice(values[-6:]), rng.choice(values)
        made = [a + b, a - b, a * 2.0, b.relu(), -a, (a + b) * 0.5][rng.randrange(6)]
        values.append(made)
        if rng.random() < 0.3:  # its rule is Python code, where another thread may go on
            last = side.Value(made.data, (made,), "user")
            last._backward = lambda x=made, out=last: assign_grad(x, x.grad + out.grad)
            values.append(last)
    values[-1].backward()
    return [(v.data, v.grad) for v in [*own, values[-1]]]


def work_alone(seed):
    assert work(OURS, seed) == work(THEIRS, seed)


# ---- the machine

indices = st.one_of(st.integers(0, 3), st.integers(0, 3), st.integers(0, 40))  # from the end
picks = st.lists(indices, min_size=1, max_size=5)
places = st.sampled_from(["here", "here", "here", "here", "thread", "no_grad"])
scripts = st.lists(
    st.tuples(
        st.sampled_from([*SCRIPTS, "add", "pass_on", "pass_on", "pass_on", "fail"]),
        indices,
        MIXED_NUMBERS,
    ),
    max_size=4,
)


class EagerMachine(RuleBasedStateMachine):
    """Pairs, models and ballast; every step leaves both sides alike."""

    steps = 0  # of all machines, for whoever wants to know

    def __init__(self):
        super().__init__()
        self.pairs, self.models, self.ballast = [], [], None
        self.is_whole = True  # was every step carried out to its end?
        self.thresholds = gc.get_threshold()
        gc.collect()
        gc.freeze()  # what is there already need not be traversed again and again
        tape.reclaim()
        self.entries = tape.usage()["entries"]

    def teardown(self):
        try:
            if self.is_whole:
                self.run(self.compare_all)
        finally:
            gc.set_threshold(*self.thresholds)
            self.start_over()
            while gc.collect():  # what is buried makes garbage of its own
                pass
            tape.reclaim()
        if self.is_whole:
            assert tape.usage()["entries"] == self.entries, "entries are left on the tape"

    def start_over(self):
        self.pairs.clear()
        self.models.clear()
        self.ballast = None
        Script.depth[:] = 0, 0

    def run(self, step, *args):
        """Carry out a step; where it leaves the promised ground, forget everything."""
        EagerMachine.steps += 1
        self.is_whole = False
        try:
            step(*args)
        except BeyondThePromise:
            self.start_over()
        if not self.pairs:
            self.add([Value(1.5)], [Plain(1.5)])
        del self.pairs[:-MOST]
        self.is_whole = True

    # -- both sides

    def pick(self, side, index):
        return self.at(index)[side.of]

    def at(self, index):
        return self.pairs[-1 - index % len(self.pairs)]

    def some(self, side, indices):
        return [self.pick(side, index) for index in indices]

    def both(self, action, place="here", keep=True):
        """Do the same on both sides, theirs first, and compare what it gives."""
        first = next(Plain.made)
        theirs = outcome(lambda: action(THEIRS))
        context = no_grad() if place == "no_grad" else contextlib.nullcontext()
        with context:
            if place == "thread":
                ours = outcome(lambda: in_thread(lambda: action(OURS)))
            else:
                ours = outcome(lambda: action(OURS))
        if isinstance(theirs, type) or isinstance(ours, type):
            assert ours is theirs, f"expected {theirs!r}, got {ours!r}"
            return
        if not keep:
            assert ours == theirs, f"expected {theirs!r}, got {ours!r}"
            return
        theirs = flattened(theirs)
        if place == "no_grad":
            cut = [v.order > first and v._children for v in theirs]
            theirs = [Plain(v.data) if new else v for v, new in zip(theirs, cut)]
        self.add(flattened(ours), theirs)

    def add(self, ours, theirs):
        for pair in zip(ours, theirs, strict=True):
            self.pairs.append(Pair(*pair))
            self.compare(self.pairs[-1])

    # -- comparing

    def compare(self, pair):
        """What both show of themselves."""
        mine, ours = pair.theirs, pair.ours
        for what in ("data", "grad"):
            want, got = checked(getattr(mine, what)), getattr(ours, what)
            assert number_key(got) == number_key(want), f"{what} {got!r} of {ours}, not {want!r}"
        assert repr(ours) == repr(mine)
        assert ours._op == mine._op
        assert ours.label == mine.label, f"label {ours.label!r} of {ours}, not {mine.label!r}"
        assert getattr(ours, "m", None) == getattr(mine, "m", None)
        assert type(ours).__name__ == getattr(mine, "type_name", "Value")

    def compare_held(self):
        for pair in list(self.pairs):
            self.compare(pair)
        for model in self.models:
            for pair in model.parameters():
                self.compare(pair)

    def compare_all(self):
        """The whole graphs below all that is held, found again by their operands."""
        held = [*self.pairs, *(p for model in self.models for p in model.parameters())]
        known = {}
        for pair in held:
            assert known.setdefault(pair.theirs, pair.ours) is pair.ours
        objects = {id(ours): mine for mine, ours in known.items()}
        assert len(objects) == len(known)
        waiting = list(known)
        while waiting:
            mine = waiting.pop()
            ours = known[mine]
            self.compare(Pair(ours, mine))
            children = ours._children
            assert len(children) == len(mine._children), f"{ours._op} has {children}"
            assert ours._prev == {*children}
            for child, of_mine in zip(children, mine._children):
                if of_mine not in known:
                    waiting.append(of_mine)
                known.setdefault(of_mine, child)
                assert known[of_mine] is child, f"{child} is another object, or at another place"
                assert objects.setdefault(id(child), of_mine) is of_mine
            slopes, found = (outcome(lambda v=v: v._local_grads) for v in (mine, ours))
            if isinstance(slopes, type) or isinstance(found, type):
                assert slopes is found, f"_local_grads of {ours}: {found}, not {slopes}"
            else:
                assert [*map(number_key, found)] == [*map(number_key, slopes)], f"{found} {slopes}"

    @rule()
    def look_at_everything(self):
        self.run(self.compare_all)

    # -- recording

    @initialize(numbers=st.lists(MIXED_NUMBERS, min_size=2, max_size=5), often=st.booleans(),
                large=st.integers(0, 9))  # fmt: skip
    def begin(self, numbers, often, large):
        if often:
            gc.set_threshold(20, 2, 2)
        if large == 9:
            self.hold_ballast()
        for number in numbers:
            self.leaf(number, "")

    @rule(number=MIXED_NUMBERS, label=st.sampled_from(["", "", "x"]))
    def leaf(self, number, label):
        self.run(self.both, lambda side: side.Value(side.number(number), (), "", label))

    @rule(name=st.sampled_from(NAMES), picks=picks, number=MIXED_NUMBERS, place=places)
    def record(self, name, picks, number, place):
        self.run(
            self.both,
            lambda side: CALLS[name](side.functional, self.some(side, picks), side.number(number)),
            place,
        )

    @rule(names=st.lists(st.tuples(st.sampled_from(NAMES), picks, MIXED_NUMBERS), min_size=2,
                         max_size=8))  # fmt: skip
    def record_more(self, names):
        for name, picks, number in names:
            self.record(name, picks, number, "here")

    @rule(index=indices, exponent=EXPONENTS, place=places)
    def power(self, index, exponent, place):
        self.run(self.both, lambda side: self.pick(side, index) ** side.number(exponent), place)

    @rule(index=indices, numbers=st.lists(st.floats(-2, 2), min_size=1, max_size=3),
          turned=st.booleans())  # fmt: skip
    def array(self, index, numbers, turned):
        def action(side):
            v = self.pick(side, index)
            row = numbers if side is THEIRS else np.array(numbers)
            if side is THEIRS:
                return [v * x for x in row]
            with np.errstate(all="ignore"):
                return row * v if turned else v * row

        self.run(self.both, action)

    @rule(picks=picks, number=MIXED_NUMBERS)
    def compared(self, picks, number):
        def action(side):
            v, w = self.pick(side, picks[0]), self.pick(side, picks[-1])
            if side is THEIRS:
                v, w = v.data, w.data
            c = side.number(number)
            return [v < w, v >= c, v <= w, c < v]

        self.run(self.both, action, "here", False)

    # -- made by hand

    @rule(picks=st.lists(indices, max_size=4), number=MIXED_NUMBERS, actions=scripts,
          named=st.integers(0, 5), place=places)  # fmt: skip
    def make(self, picks, number, actions, named, place):
        """A Value with operands and a rule of its own."""

        def action(side):
            children = self.some(side, picks)
            hidden = side is THEIRS and place == "no_grad"
            cls = Named if side is OURS and named == 5 else side.Value
            out = cls(side.number(number), () if hidden else children, "user")
            if side is THEIRS and named == 5:
                out.type_name = "Named"
            out._backward = Script(self, side, out, children, actions, out._backward)
            return out

        self.run(self.both, action, place)

    @rule(picks=st.lists(indices, max_size=4), number=MIXED_NUMBERS,
          slopes=st.lists(MIXED_NUMBERS, min_size=4, max_size=4), place=places)  # fmt: skip
    def make_with_slopes(self, picks, number, slopes, place):
        """microgpt's form."""

        def action(side):
            local_grads = [side.number(x) for x in slopes[: len(picks)]]
            return side.Value(side.number(number), self.some(side, picks), local_grads)

        self.run(self.both, action, place)

    @rule(index=indices, actions=scripts)
    def replace_rule(self, index, actions):
        def action(side):
            v = self.pick(side, index)
            v._backward = Script(self, side, v, list(v._children), actions, v._backward)

        self.run(self.both, action, "here", False)

    # -- edits

    @rule(index=indices, number=MIXED_NUMBERS)
    def set_data(self, index, number):
        def action(side):
            self.pick(side, index).data = side.number(number)

        self.run(self.both, action, "here", False)

    @rule(index=indices, number=st.floats(-0.5, 0.5))
    def descend(self, index, number):
        def action(side):
            v = self.pick(side, index)
            v.data += number * v.grad

        self.run(self.both, action, "here", False)

    @rule(picks=picks, number=st.one_of(st.just(0), MIXED_NUMBERS))
    def set_grad(self, picks, number):
        def action(side):
            for v in self.some(side, picks):
                assign_grad(v, side.number(number))

        self.run(self.both, action, "here", False)

    @rule(index=indices, label=st.sampled_from(["", "a", "b"]), m=st.sampled_from([None, 0.5, [1]]))
    def annotate(self, index, label, m):
        def action(side):
            v = self.pick(side, index)
            v.label, v.m = label, copy.copy(m)

        self.run(self.both, action, "here", False)

    @rule(picks=picks)
    def befriend(self, picks):
        """References that only the cyclic collector can undo."""
        v, w = self.some(OURS, [picks[0], picks[-1]])
        v.friend = w

    # -- sweeps

    @rule(index=indices, place=st.sampled_from(["here", "here", "thread"]), twice=st.booleans())
    def backward(self, index, place, twice):
        for _ in range(1 + twice):
            self.run(self.both, lambda side: self.pick(side, index).backward(), place, False)
        self.run(self.compare_held)

    @rule(picks=picks)
    def backward_by_hand(self, picks):
        def action(side):
            for v in self.some(side, picks):
                v._backward()

        self.run(self.both, action, "here", False)
        self.run(self.compare_held)

    # -- handles and copies

    @rule(picks=picks)
    def drop(self, picks):
        self.run(lambda: [self.pairs.pop(k % len(self.pairs)) for k in picks if self.pairs])

    @rule(keep=st.integers(1, 4), collect=st.booleans())
    def drop_all_but(self, keep, collect):
        del self.pairs[:-keep]
        if collect:
            gc.collect()
            tape.reclaim()

    @rule(index=indices, child=indices)
    def find_again(self, index, child):
        def action(side):
            children = self.pick(side, index)._children
            return children[child % len(children)] if children else []

        self.run(self.both, action)

    @rule(picks=picks, how=st.sampled_from(["pickle", "deepcopy", "copy"]))
    def copies(self, picks, how):
        self.run(self.copy_some, picks, how)

    def copy_some(self, picks, how):
        originals = {id(pair.ours): pair for pair in map(self.at, picks)}
        found = [pair.ours for pair in originals.values()]
        if how == "copy":
            copied = [copy.copy(v) for v in found]
        else:
            twice = [found, found]
            twice = copy.deepcopy(twice) if how == "deepcopy" else pickle.loads(pickle.dumps(twice))
            copied, again = twice
            assert all(v is w for v, w in zip(copied, again, strict=True))
        self.add(copied, [leaf_of(pair.theirs) for pair in originals.values()])

    # -- layers

    @rule(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=3), seed=st.integers(0, 99),
          activation=st.sampled_from(ACTIVATIONS), whole=st.booleans())  # fmt: skip
    def new_model(self, sizes, seed, activation, whole):
        random.seed(seed)
        self.models = [*self.models[-1:], Model(sizes, activation, whole)]

    @rule(which=indices, picks=st.lists(indices, min_size=4, max_size=4), numbers=st.lists(
          MIXED_NUMBERS, min_size=4, max_size=4), how=st.sampled_from(["mlp", "layer", "neuron"]),
          place=places)  # fmt: skip
    def call_model(self, which, picks, numbers, how, place):
        if not self.models:
            return
        model = self.models[which % len(self.models)]
        mixed = [index if index % 3 else None for index in picks]
        mine = [self.pick(THEIRS, index) for index in picks]
        if model.has_overlaps(mine):
            return

        def action(side):
            row = [
                side.number(c) if index is None else self.pick(side, index)
                for index, c in zip(mixed, numbers)
            ]
            return model.call(side, how, row)

        self.run(self.both, action, place)

    @rule(which=indices, index=indices, at=indices)
    def transplant(self, which, index, at):
        """Make any Value a weight."""
        if self.models:
            self.models[which % len(self.models)].replace(at, self.at(index))

    @rule(which=indices)
    def zero_grad(self, which):
        if not self.models:
            return
        model = self.models[which % len(self.models)]
        model.ours.zero_grad()
        for pair in model.parameters():
            assign_grad(pair.theirs, 0)
        self.run(self.compare_held)

    @rule(which=indices, index=indices)
    def hold_parameter(self, which, index):
        if self.models:
            parameters = self.models[which % len(self.models)].parameters()
            self.pairs.append(parameters[index % len(parameters)])

    # -- memory

    @rule()
    def reclaim(self):
        tape.reclaim()

    @rule()
    def collect(self):
        gc.collect()

    @rule()
    def overflow(self):
        flood()

    @rule()
    def hold_ballast(self):
        v = Value(1.0)
        self.ballast = None if self.ballast else functional.sum([v] * BALLAST)

    @rule(action=st.sampled_from(sorted(BURIED)), soon=st.integers(1, 30))
    def bury(self, action, soon):
        """An action that the cyclic collector sets off in the middle of something."""
        Finalizer(lambda: BURIED[action](self))
        gc.set_threshold(soon + gc.get_count()[0], 2, 2)

    @rule(seeds=st.lists(st.integers(0, 999), min_size=2, max_size=3))
    def work_in_threads(self, seeds):
        """All at once, on two leaves of everybody's."""
        shared, theirs = ([side.Value(2.0), side.Value(-1.0)] for side in (OURS, THEIRS))
        found, interval = {}, sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            threads = [
                threading.Thread(target=lambda k=k: found.update({k: work(OURS, k, shared)}))
                for k in {*seeds}
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert found == {k: work(THEIRS, k, theirs) for k in {*seeds}}
        assert [v.grad for v in shared] == [v.grad for v in theirs]


def leaf_of(v):
    """What a copy is: a leaf with the data, the grad and the attributes."""
    leaf = Plain(v.data, (), "user" if v._op == "user" else "", v.label)
    leaf.grad = v.grad
    leaf.__dict__ |= {key: x for key, x in vars(v).items() if key in ("m", "type_name")}
    return leaf


class Model:
    """An MLP, and the Plain weights and biases of its neurons, layer by layer."""

    def __init__(self, sizes, activation, whole):
        self.ours = nn.MLP(sizes[0], sizes[1:], activation=activation)
        self.activation = None if activation == "linear" else activation
        if whole:
            for k, p in enumerate(self.ours.parameters()):
                p.data = k % 5 - 2
        self.theirs = [
            [[[Plain(w.data) for w in n.w], Plain(n.b.data)] for n in layer.neurons]
            for layer in self.ours.layers
        ]

    def parameters(self):
        theirs = [p for layer in self.theirs for w, b in layer for p in (*w, b)]
        return [Pair(*pair) for pair in zip(self.ours.parameters(), theirs, strict=True)]

    def has_overlaps(self, inputs):
        """Would the order within a fused sum's rule matter?"""
        theirs = {id(p.theirs) for p in self.parameters()}
        return len(theirs) < len(self.parameters()) or any(id(x) in theirs for x in inputs)

    def call(self, side, how, row):
        row = row[: len(self.theirs[0][0][0])]
        if len(row) < len(self.theirs[0][0][0]):
            row = row + [0.5] * (len(self.theirs[0][0][0]) - len(row))
        first = self.ours.layers[0]
        last = len(self.theirs) - 1
        of = [self.activation if k < last else None for k in range(last + 1)]
        if side is OURS:
            if how == "mlp":
                return self.ours(row)
            return first(row) if how == "layer" else first.neurons[0](row)
        if how == "neuron":
            return plain.neuron(*self.theirs[0][0], row, of[0])
        for neurons, activation in zip(self.theirs if how == "mlp" else self.theirs[:1], of):
            row = plain.layer(neurons, row, activation)
        return row

    def replace(self, at, pair):
        neurons = [n for layer in self.ours.layers for n in layer.neurons]
        theirs = [n for layer in self.theirs for n in layer]
        k = at % len(neurons)
        place = at // 7 % (len(neurons[k].w) + 1)
        if place == len(neurons[k].w):
            neurons[k].b = pair.ours
            theirs[k][1] = pair.theirs
        else:
            neurons[k].w[place] = pair.ours
            theirs[k][0][place] = pair.theirs
