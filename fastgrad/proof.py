"""Proof by probes that a script's own class computes what fastgrad's ``Value`` computes.

This module lets you compare the two operation by operation: the numbers that come out, int or
float, to the last bit; the gradients; what backward does when values are shared, when it is called
twice and when data has changed meanwhile; the errors.

Invariant: a probe calls nothing but the two engines that it is given, and prints nothing.

Limitations: probes are samples. That a method does nothing else than compute is for `impurity` in
``shapes.py`` to say.
"""

import math
import operator
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

TWICE, BELOW = "when an operand is used twice", "below another operation"
FORWARD, GRADIENT = 1e-12, 1e-9  # relative, above 1; forward counts only for another formula
SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}
FUNCTIONS = frozenset(
    ("relu", "tanh", "exp", "log", "sigmoid", "sqrt", "sin", "cos", "softplus")
) | {"__neg__", "__pos__", "__abs__"}
_MODERATE = (0.5, -0.7, 2.5, -2.5, 0.1, 1.0, 2, -3, 0)
_EXTREME = (
    *(0.0, -0.0, 1e-9, -1e-9, 40.0, -40.0, 400.0, -400.0, 1000.0, -1000.0, 1e200, -1e200),
    *(math.inf, -math.inf, math.nan),
)
_PAIRS = (
    (2.0, -3.0),
    (0.5, 0.25),
    (-1.5, 2.0),
    (0.1, 0.3),
    (2, 3),
    (3, 0.5),
    (-2, 4),
    (3.0, 10.0),
    (49.0, 49.0),
)
_POWERS = (
    *((2.0, 3), (0.5, 2), (-1.5, 3), (0.3, -1), (2, 3), (3, 2), (2, -1), (4.0, 0.5), (2.5, -0.5)),
    *((1.5, 2.0), (-3, 2), (0.0, 2), (1.5, 1), (1.5, 0), (0.0, -1), (1e200, 2), (7.0, -3)),
)


@dataclass
class Engine:
    """A class, and under which name it has each function."""

    Value: Any
    names: dict[str, str] = field(default_factory=dict)

    def call(self, function: str, v: Any) -> Any:
        return getattr(v, self.names.get(function, function))()


class Raised(NamedTuple):
    """What stands for a number where there is none."""

    error: str

    def __str__(self) -> str:
        return self.error


Observed = list[tuple[str, Any]]


class Probe(NamedTuple):
    """One expression: of which method it tells, in what situation, and how to compute it."""

    method: str
    situation: str
    make: Callable[[Engine], tuple[Any, list[Any]]]  # the root, and values to watch
    backwards: int = 1


def observe(engine: Engine, probe: Probe) -> Observed:
    """The numbers that a probe gives on an engine: values, then gradients."""
    try:
        root, watched = probe.make(engine)
        seen = [("value", v.data) for v in (root, *watched)]
    except Exception as error:
        return [("value", Raised(type(error).__name__))]
    try:
        for _ in range(probe.backwards):
            root.backward()
    except Exception as error:
        return [*seen, ("gradient", Raised(type(error).__name__))]
    return seen + [("gradient", v.grad) for v in (root, *watched)]


def always_fails(engine: Engine, probes: Iterable[Probe]) -> bool:
    """Does an operation raise whatever it is given, say as an operator that it uses is missing?"""
    return all(isinstance(observe(engine, probe)[0][1], Raised) for probe in probes)


def same(got: Any, expected: Any) -> bool:
    """Equal in kind and to the last bit."""
    if type(got) is not type(expected):
        return False
    if isinstance(got, float):
        return struct.pack("<d", got) == struct.pack("<d", expected) or (
            got != got and expected != expected
        )
    return bool(got == expected)


def close(got: Any, expected: Any, tolerance: float) -> bool:
    """Equal numbers within a tolerance, relative above 1; nan equals nan."""
    if isinstance(got, Raised) or isinstance(expected, Raised):
        return bool(got == expected)
    try:
        x, y = float(got), float(expected)
    except (TypeError, ValueError):
        return False
    if x == y or (x != x and y != y):
        return True
    return abs(x - y) <= tolerance * max(1.0, abs(y))


def difference(probe: Probe, got: Observed, expected: Observed, exact: bool = True) -> str | None:
    """In what two observations differ, in words; None if they agree."""
    for (what, theirs), (_, ours) in zip(got, expected):
        if what == "value":
            agree = same(theirs, ours) if exact else close(theirs, ours, FORWARD)
        else:
            alike = not exact or type(theirs) is type(ours)
            agree = alike and close(theirs, ours, GRADIENT)
        if not agree:
            numbers = f"got {_show(theirs)}, expected {_show(ours)}"
            link = "after" if probe.method == "backward" else "of"
            return f"{what} {link} {probe.method} differs {probe.situation} ({numbers})"
    return None


def _show(number: Any) -> str:
    if isinstance(number, (int, float, Raised)) and type(number).__module__ != "numpy":
        return str(number)
    return f"{type(number).__name__} {number!r}"


def compare(
    theirs: Engine, ours: Engine, probes: Iterable[Probe], exact: bool = True
) -> str | None:
    """The first difference between two engines.

    Parameters
    ----------
    theirs, ours : Engine
        The script's class, and what it is compared with.
    probes : iterable of Probe
    exact : bool
        Forward values to the last bit and all numbers of the same kind; else within `FORWARD`.

    Returns
    -------
    str or None
        Such as ``"gradient of __mul__ differs ..."``.

    Examples
    --------
    >>> from fastgrad import Value
    >>> compare(Engine(Value), Engine(Value), operator_probes("__mul__"))
    """
    for probe in probes:
        found = difference(probe, observe(theirs, probe), observe(ours, probe), exact)
        if found:
            return found
    return None


# ---- probes


def function_probes(name: str, extreme: bool = True) -> list[Probe]:
    """Probes of a function of one value."""

    def at(x: Any) -> Probe:
        def make(engine: Engine) -> tuple[Any, list[Any]]:
            v = engine.Value(x)
            return engine.call(name, v), [v]

        return Probe(name, f"at {x!r}", make)

    def twice(x: float) -> Probe:
        def make(engine: Engine) -> tuple[Any, list[Any]]:
            v = engine.Value(x)
            return engine.call(name, v) + engine.call(name, v), [v]

        return Probe(name, TWICE, make)

    def below(x: float) -> Probe:
        def make(engine: Engine) -> tuple[Any, list[Any]]:
            v = engine.Value(x)
            return engine.call(name, v) * 3.0, [v]

        return Probe(name, BELOW, make)

    points = (*_MODERATE, *_EXTREME) if extreme else _MODERATE
    return [*map(at, points), twice(0.5), twice(2.5), below(0.5), below(2.5)]


def operator_probes(method: str) -> list[Probe]:
    """Probes of an arithmetic operator, forward or reflected, such as ``__rsub__``."""
    name = method.strip("_")
    reflected = name not in SYMBOLS
    function: Any = getattr(operator, f"__{name[1:] if reflected else name}__")
    probes = []

    def with_number(x: Any, number: Any) -> Probe:
        def make(engine: Engine) -> tuple[Any, list[Any]]:
            v = engine.Value(x)
            return (function(number, v) if reflected else function(v, number)), [v]

        symbol = SYMBOLS[name[1:] if reflected else name]
        shown = f"{number!r} {symbol} {x!r}" if reflected else f"{x!r} {symbol} {number!r}"
        return Probe(method, f"for {shown}, of a Value and a number", make)

    def with_values(x: Any, y: Any) -> Probe:
        def make(engine: Engine) -> tuple[Any, list[Any]]:
            a, b = engine.Value(x), engine.Value(y)
            return function(a, b), [a, b]

        return Probe(method, f"for {x!r} {SYMBOLS[name]} {y!r}", make)

    def with_itself(engine: Engine) -> tuple[Any, list[Any]]:
        v = engine.Value(3.0)
        return function(v, v), [v]

    def twice(engine: Engine) -> tuple[Any, list[Any]]:
        a, b = engine.Value(3.0), engine.Value(-2.0)
        root = function(a, b) + function(a, b)
        return root, [a, b]

    def twice_with_number(engine: Engine) -> tuple[Any, list[Any]]:
        v = engine.Value(3.0)
        first, second = (
            (function(2, v), function(1.5, v)) if reflected else (function(v, 2), function(v, 3))
        )
        return first + second, [v]

    def below(engine: Engine) -> tuple[Any, list[Any]]:
        v = engine.Value(3.0)
        return (function(2, v) if reflected else function(v, 2)) * 5.0, [v]

    def below_with_values(engine: Engine) -> tuple[Any, list[Any]]:
        a, b = engine.Value(3.0), engine.Value(-2.0)
        return function(a, b) * 5.0, [a, b]

    if name == "pow" or name == "rpow":
        pairs = _POWERS if name == "pow" else ((2.0, 2), (3, 0.5), (1.5, 3.0), (-1, 2))
        probes = [with_number(x, n) for x, n in pairs]
    else:
        numbers = (*_PAIRS, (2.0, 0), (0.0, -1.0), (1.5, True))
        probes = [with_number(x, n) for x, n in numbers]
        if not reflected:
            probes = [*(with_values(x, y) for x, y in _PAIRS), *probes]
            probes.append(Probe(method, "when both operands are the same", with_itself))
            probes.append(Probe(method, TWICE, twice))
            probes.append(Probe(method, BELOW, below_with_values, 2))
    return [*probes, Probe(method, TWICE, twice_with_number), Probe(method, BELOW, below, 2)]


def value_power_probes() -> list[Probe]:
    """Probes of a power whose exponent is a Value too."""

    def of(x: Any, y: Any) -> Probe:
        def make(engine: Engine) -> tuple[Any, list[Any]]:
            a, b = engine.Value(x), engine.Value(y)
            return a**b, [a, b]

        return Probe("__pow__", f"for {x!r} ** {y!r}, both Values", make)

    return [of(2.0, 3.0), of(1.5, -0.5), of(2, 3)]


def _uneven(engine: Engine) -> tuple[Any, list[Any]]:
    """A value used near the root and far below it: only a topological order gets this right."""
    a, b = engine.Value(2.0), engine.Value(-3.0)
    c = a * b
    d = c + a
    e = d * c
    f = e + d
    g = f * e + c
    return g * d + a, [a, b, c, d, e, f, g]


def _diamond(engine: Engine) -> tuple[Any, list[Any]]:
    a = engine.Value(1.5)
    b, c = a * 2.0, a + 3.0
    d = b * c
    e = d + b
    return e * d, [a, b, c, d, e]


def _shared_leaf(engine: Engine) -> tuple[Any, list[Any]]:
    a, b = engine.Value(3.0), engine.Value(-2.0)
    return (a * b) * b + a, [a, b]


def _mean(engine: Engine) -> tuple[Any, list[Any]]:
    w, b = engine.Value(0.7), engine.Value(-0.2)
    total = engine.Value(0.0)
    for x in (0.5, -1.5, 2.0, 1.0):
        out = w * x + b
        total = total + out * out
    return total * 0.25 + w * b, [w, b, total]


def _two_losses(engine: Engine) -> tuple[Any, list[Any]]:
    a, b = engine.Value(2.0), engine.Value(5.0)
    c = a * b
    first, second = c + a, c * b
    first.backward()
    return second, [a, b, c, first]


def _seed(engine: Engine) -> tuple[Any, list[Any]]:
    return engine.Value(2.0) + engine.Value(3.0), []


def sum_twice() -> Probe:
    """A second call of backward, on nothing but a sum."""

    def make(engine: Engine) -> tuple[Any, list[Any]]:
        a, b = engine.Value(2.0), engine.Value(3.0)
        return a + b, [a, b]

    return Probe("backward", "when it is called twice", make, backwards=2)


def backward_probes() -> list[Probe]:
    """Probes of ``backward``: the order, the seed, a second call, a second loss."""
    return [
        Probe("backward", "for the root itself", _seed),
        Probe("backward", TWICE, _shared_leaf),
        Probe("backward", "when a value is used at different depths", _diamond),
        Probe("backward", "when a value is used at different depths", _uneven),
        Probe("backward", "in a sum of terms with shared operands", _mean),
        Probe("backward", "when it is called twice", _shared_leaf, backwards=2),
        Probe("backward", "when it is called twice", _uneven, backwards=3),
        Probe("backward", "for a second root over the same values", _two_losses),
        Probe("backward", "for a leaf", lambda engine: (engine.Value(2.0), [])),
    ]


def with_edits(probe: Probe) -> Probe:
    """The same, with other data in the watched values when backward is called."""

    def make(engine: Engine) -> tuple[Any, list[Any]]:
        root, watched = probe.make(engine)
        for v in watched:
            v.data = 1.25
        return root, watched

    return Probe(probe.method, "after the data of its operands was changed", make)


def keeps_partials(theirs: Engine, ours: Engine, probe: Probe) -> bool | None:
    """Are the partials of an operation computed with it, rather than by backward?

    None if what they are computed from is neither the data at the time nor the data later.
    """
    got = observe(theirs, with_edits(probe))
    live, frozen = observe(ours, with_edits(probe)), observe(ours, probe)
    if not difference(probe, got[-2:], live[-2:], exact=False):
        return False
    return None if difference(probe, got[-2:], frozen[-2:], exact=False) else True


def reaches_operands(engine: Engine) -> bool:
    """Does backward change any operand's grad, whatever to?"""
    a, b, c = (engine.Value(x) for x in (2.0, 3.0, 5.0))
    (a + b).backward()
    (b * c).backward()
    return any(v.grad != 0 for v in (a, b, c))


def reaches_down(engine: Engine) -> bool:
    """And two operations below the root?  Not if rules run from the leaves up."""
    a, b, c = (engine.Value(x) for x in (2.0, 3.0, 5.0))
    ((a + b) * c).backward()
    ((a * b) + c).backward()
    return bool(a.grad != 0)


def compare_method(theirs: Any, ours: Any, name: str) -> str | None:
    """Compare what a method without required arguments, or a property, gives on two classes."""
    probe = Probe(name, "on a small expression", lambda engine: (engine, []))
    for x in 0.7, -1.2:
        why = difference(probe, _result_of(theirs, name, x), _result_of(ours, name, x))
        if why:
            return why
    return None


def _result_of(Value: Any, name: str, x: float) -> Observed:
    try:
        a = Value(x)
        v = a * 2.0 + 1.0
        found = getattr(v, name)
        if callable(found):
            found = found()
        if isinstance(found, Value):
            found.backward()
            return [("value", found.data), ("gradient", found.grad), ("gradient", a.grad)]
        return [("value", found), ("value", v.data), ("gradient", v.grad)]
    except Exception as error:
        return [("value", Raised(type(error).__name__))]
