"""The probe expressions by which ``proof.py`` compares a script's class with fastgrad's.

Each function returns probes of one thing: a function, an operator, the kinds of number that come
out where operands are NumPy's, ``backward``.

Invariant: a probe calls nothing but the engine that it is given, and prints nothing.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

from fastgrad.proof import FUNCTIONS, Engine, Probe

TWICE, BELOW = "when an operand is used twice", "below another operation"
SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "pow": "**"}
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


def numpy_probes(method: str, numpy: Any) -> list[Probe]:
    """Probes of a function or operator with NumPy's numbers: what kind of number comes out.

    Parameters
    ----------
    method : str
    numpy : module
        NumPy, which is not imported for programs that have none of its numbers.
    """
    f, i = numpy.float64, numpy.int64

    def seeded(compute: Callable[[Engine, list[Any]], Any], *data: Any, by: Any = None) -> Probe:
        """On Values of those data; below a product with `by`, whose kind the grads then have."""

        def make(engine: Engine) -> tuple[Any, list[Any]]:
            values = [engine.Value(x) for x in data]
            root = compute(engine, values)
            return root if by is None else root * by, values

        situation = f"for {', '.join(map(repr, data))}, of NumPy's numbers"
        return Probe(method, situation, make, any_error=True)

    if method in FUNCTIONS:
        points = (f(0.5), f(-0.7), f(0.0), i(2), i(-3), i(0), f(1000.0), f(-1000.0), f("nan"))

        def call(engine: Engine, values: list[Any]) -> Any:
            return engine.call(method, values[0])

        return [
            *(seeded(call, x) for x in points),
            *(seeded(call, x, by=by) for x in (0.5, f(2.0), f(-2.0)) for by in (f(3.0), i(2))),
        ]
    name = method.strip("_")
    reflected = name not in SYMBOLS
    function: Any = getattr(operator, f"__{name[1:] if reflected else name}__")

    def with_number(number: Any) -> Callable[[Engine, list[Any]], Any]:
        if reflected:
            return lambda engine, values: function(number, values[0])
        return lambda engine, values: function(values[0], number)

    def with_value(engine: Engine, values: list[Any]) -> Any:
        return function(values[0], values[1])

    pairs: list[tuple[Any, Any]] = [(f(2.0), 3.0), (2.0, f(3.0)), (f(2.0), f(-3.0)), (f(2.0), 3)]
    pairs += [(2, f(3.0)), (i(2), 3), (2, i(3)), (i(2), i(3)), (i(2), 3.0), (2.0, i(3))]
    pairs += [(f(2.0), i(3)), (f(0.0), -1)]
    pairs += [(f(0.0), -1.0), (f(1e200), 2), (f(-8.0), 0.5), (i(2), -1), (f(2.0), 0)]
    pairs += [(2.0, f(0.0)), (f(1e200), f(1e200))]
    probes = [seeded(with_number(y), x) for x, y in pairs]
    probes += [seeded(with_number(y), x, by=by) for x, y in pairs[:11] for by in (f(3.0), i(2))]
    if name in ("add", "mul"):
        probes.append(seeded(with_number(numpy.bool_(True)), 2.0))
    if name in SYMBOLS and name != "pow":
        probes += [seeded(with_value, x, y, by=by) for x, y in pairs[:11] for by in (None, i(2))]
    return probes


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
