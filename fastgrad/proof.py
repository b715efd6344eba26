"""Proof by probes that a script's own class computes what fastgrad's ``Value`` computes.

This module lets you compare the two operation by operation: the numbers that come out, int or
float, to the last bit; the gradients; what backward does when values are shared, when it is called
twice and when data has changed meanwhile; the errors.

Invariant: a probe calls nothing but the two engines that it is given, and prints nothing.

Limitations: probes are samples. That a method does nothing else than compute is for `impurity` in
``shapes.py`` to say.
"""

import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FORWARD, GRADIENT = 1e-12, 1e-9  # relative, above 1; forward counts only for another formula
FUNCTIONS = frozenset(
    ("relu", "tanh", "exp", "log", "sigmoid", "sqrt", "sin", "cos", "softplus")
) | {"__neg__", "__pos__", "__abs__"}


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
    any_error: bool = False  # which error is raised does not matter, as the class itself will


def observe(engine: Engine, probe: Probe) -> Observed:
    """The numbers that a probe gives on an engine: values, then gradients."""

    def raised(error: Exception) -> Raised:
        return Raised("an error" if probe.any_error else type(error).__name__)

    try:
        root, watched = probe.make(engine)
        seen = [("value", v.data) for v in (root, *watched)]
    except Exception as error:
        return [("value", raised(error))]
    try:
        for _ in range(probe.backwards):
            root.backward()
    except Exception as error:
        return [*seen, ("gradient", raised(error))]
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
    >>> from fastgrad.probes import operator_probes
    >>> compare(Engine(Value), Engine(Value), operator_probes("__mul__"))
    """
    for probe in probes:
        found = difference(probe, observe(theirs, probe), observe(ours, probe), exact)
        if found:
            return found
    return None


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


def is_differentiated(engine: Engine, function: str) -> bool:
    """Does a function's gradient agree with differences of its values, also above and twice?

    Where it has a kink between the two points it is not asked.

    Examples
    --------
    >>> from fastgrad import Value
    >>> is_differentiated(Engine(Value), "tanh")
    True
    """

    def value(x: float) -> float:
        return float(engine.call(function, engine.Value(x)).data)

    def gradient(x: float, make: Callable[[Any], Any]) -> float:
        v = engine.Value(x)
        make(v).backward()
        return float(v.grad)

    asked = 0
    # Scripts clip a logarithm's operand, and whatever they do below 0 they do not come there.
    negative = () if function in ("log", "sqrt") else (-0.3, -0.7, -1.2, -2.5)
    for x in (0.3, 0.5, 0.9, 1.7, 2.5, *negative):
        try:
            below, here, above = value(x - 1e-5), value(x), value(x + 1e-5)
            grads = [
                gradient(x, lambda v: engine.call(function, v)),
                gradient(x, lambda v: engine.call(function, v) * 3.0) / 3.0,
                gradient(x, lambda v: engine.call(function, v) + engine.call(function, v)) / 2.0,
            ]
        except (ArithmeticError, ValueError):
            continue
        slope, other_slope = (above - here) / 1e-5, (here - below) / 1e-5
        if not math.isfinite(slope) or not math.isfinite(other_slope):
            continue
        if abs(slope - other_slope) > 1e-3 * max(1.0, abs(slope)):
            continue
        asked += 1
        middle = (slope + other_slope) / 2
        if any(not abs(g - middle) <= 1e-6 * max(1.0, abs(middle)) for g in grads):
            return False
    return asked >= 4


def compare_method(theirs: Any, ours: Any, name: str) -> str | None:
    """Compare what a method without required arguments, or a property, gives on two classes."""
    probe = Probe(name, "on a small expression", lambda engine: (engine, []))
    for x in 0.7, -1.2:
        result = _result_of(theirs, name, x)
        if isinstance(result[0][1], complex):
            continue  # of a negative number's power, where fastgrad raises
        why = difference(probe, result, _result_of(ours, name, x))
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
