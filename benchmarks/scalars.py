"""Workloads of single numbers, for engines that record each operator. No engine lives here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recording:
    """Run ``x = x * a + b`` again and again; what dies is not timed."""

    operations: int
    recursion: int = 10**8  # Python's limit of it, which micrograd's backward may reach

    kind = "Recording"
    reference = "Python's float"
    steps = 1  # to check


@dataclass(frozen=True)
class Sweep(Recording):
    """The reverse sweep of the same, recorded afresh before each step."""

    kind = "Sweep"


@dataclass(frozen=True)
class Chain(Recording):
    """Record the same, sweep it, and let it die: all of it timed."""

    kind = "Chain"


@dataclass(frozen=True)
class Expression:
    """The expression of micrograd's README, recorded, swept and thrown away, many times."""

    times: int = 100

    kind = "Expression"
    reference = "Python's float"
    steps = 1


STARTS = {"x": 0.5, "a": 0.9999, "b": 0.0001}


def record(x, a, b, operations):
    """Two operations at a time."""
    for _ in range(operations // 2):
        x = x * a + b
    return x


def readme(a, b, relu):
    """micrograd's README: g of a and b, in some thirty operations."""
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + relu(b + a)
    d += 3 * d + relu(b - a)
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    return g
