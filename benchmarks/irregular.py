"""Irregular scalar programs: random graphs in which nothing is a layer.

Each operation takes two (or one) of the last few hundred values, now and then an input or a
parameter. It is drawn again if its result or a derivative leaves a sane range on the very batch
that is run, so that no engine meets an overflow, a constant, or a relu that is always shut.
Operations that the result does not need are left out before anything is counted.
"""

import operator
import random
from dataclasses import dataclass
from functools import cache

import numpy as np

INPUTS, PARAMETERS = 8, 50
WINDOW = 300  # how far back an operand may lie
SUMMED = 100  # of the last values; their sum is the result
LEAVES = 0.1  # how many of the operands are inputs or parameters
LEAST_SPREAD = 0.05  # between the batch's smallest and largest value
LARGEST = 2.0  # absolute value, or derivative

POWERS = {"square": 2, "inverse": -1, "root": 0.5, "cube": 3}
BINARY = {"add": operator.add, "mul": operator.mul}
ARITHMETIC = BINARY | {op: lambda x, n=n: x**n for op, n in POWERS.items()}
NUMPY = ARITHMETIC | {"relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "exp": np.exp}

# How often an operation is drawn, relative to the others.
PLAIN = {"add": 4, "mul": 4, "relu": 1}
MIXED = PLAIN | {"tanh": 1, "exp": 1} | dict.fromkeys(POWERS, 0.5)


@dataclass(frozen=True)
class Irregular:
    """A program of some thousand operations; the value is the mean over the batch."""

    operations: int  # about as many
    mixed: bool  # or else only add, mul and relu
    batch: int = 1024

    kind = "Irregular"
    reference = "NumPy by hand"
    steps = 1  # to check

    def __str__(self):
        ops = "mixed" if self.mixed else "add, mul, relu"
        return f"{self.operations} ops ({ops}), batch {self.batch}"

    def data(self):
        """Inputs (batch, 8) and parameters (50,)."""
        rng = np.random.default_rng(3)
        return rng.uniform(-1, 1, (self.batch, INPUTS)), rng.uniform(-1, 1, PARAMETERS)

    def work(self):
        """How many operations a step is, on all samples."""
        return len(self.ops()) * self.batch

    def ops(self):
        """The operations in order, [(op, operands), ...].

        An operand is the number of a value: inputs come first, then parameters, then results.
        """
        return draw(self)


def run(ops, inputs, parameters, functions):
    """Run a program on numbers of any kind, by a table of functions; returns every value."""
    values = [*inputs, *parameters]
    for op, operands in ops:
        values.append(functions[op](*[values[i] for i in operands]))
    return values


def partials(op, operands, result):
    """What an operation multiplies its result's adjoint by, an operand each."""
    if op == "add":
        return 1, 1
    if op == "mul":
        x, y = operands
        return y, x
    (x,) = operands
    if op in POWERS:
        n = POWERS[op]
        return (n * x ** (n - 1.0),)
    return ({"relu": x > 0, "tanh": 1 - result * result, "exp": result}[op],)


# ---- drawing one


@cache
def draw(program):
    rng = random.Random(4)
    weights = MIXED if program.mixed else PLAIN
    inputs, parameters = program.data()
    values = [*inputs.T, *(np.full(program.batch, p) for p in parameters)]
    leaves = len(values)
    ops, needed = [], []
    while len(needed) < program.operations:
        (op,) = rng.choices([*weights], weights.values())
        for _ in range(30):  # so that each kind keeps its share
            operands = [pick(rng, leaves, len(values)) for _ in range(1 + (op in BINARY))]
            numbers = [values[i] for i in operands]
            with np.errstate(all="ignore"):
                result = NUMPY[op](*numbers)
                if sane(result, partials(op, numbers, result)):
                    ops.append((op, operands))
                    values.append(result)
                    break
        if len(ops) % 500 == 0:
            needed = without_dead(ops + total(leaves + len(ops)), leaves)
    return needed


def pick(rng, leaves, count):
    if rng.random() < LEAVES:
        return rng.randrange(leaves)
    return rng.randrange(max(0, count - WINDOW), count)


def sane(result, slopes):
    """Whether an operation may stay; not if there is a nan, as no comparison holds."""
    return (
        np.ptp(result) > LEAST_SPREAD
        and np.max(np.abs(result)) < LARGEST
        and all(np.max(np.abs(slope)) < LARGEST for slope in slopes)
    )


def total(count):
    """Operations that add up the last of so many values."""
    first, *others = range(count - SUMMED, count)
    sums = [first, *range(count, count + len(others) - 1)]
    return [("add", [so_far, k]) for so_far, k in zip(sums, others)]


def without_dead(ops, leaves):
    """Leave out what the last operation does not need, and renumber."""
    alive = {leaves + len(ops) - 1}
    for k in reversed(range(len(ops))):
        if leaves + k in alive:
            alive.update(ops[k][1])
    kept = [*range(leaves), *(k for k in sorted(alive) if k >= leaves)]
    number = {old: new for new, old in enumerate(kept)}
    return [
        (op, [number[i] for i in operands])
        for k, (op, operands) in enumerate(ops)
        if leaves + k in alive
    ]
