"""A program's gradient as the sum of those of shards, which are stretches of samples.

What a step of `fastgrad.distributed` computes is here, and `value_and_grad` computes it in this
process: a check of what a cluster gives, and of what the order of additions makes of it.

Invariant: a step is a function of the parameters, the samples, the shards' ends and the rows, to
the last bit.
"""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fastgrad.batch import numbers_of
from fastgrad.contexts import detect_anomaly, is_detecting
from fastgrad.program import Program
from fastgrad.schedules import check_whole
from fastgrad.slots import Slots

FAN_IN = 4  # gradients that are added at a time: fewer tasks than pairs make, no longer a way
_drawing = threading.Lock()


def value_and_grad(
    program: Program,
    *arrays: Any,
    shards: int,
    rows: Any = None,
    theta: Any = None,
    seed: int | None = None,
) -> tuple[float, np.ndarray]:
    """Compute in this process, to the last bit, what `DataParallel.value_and_grad` does.

    Parameters
    ----------
    program : Program
    *arrays : array_like, shape (n, ...)
        What the program takes.
    shards : int
        From 1 to n: stretches of samples, whose lengths differ by 1 at most.
    rows, seed
        As for `DataParallel.value_and_grad`.
    theta : array_like, shape (P,), optional
        As for `Program.value_and_grad`.

    Returns
    -------
    float
        The mean of the program's output over the samples.
    ndarray, shape (P,)
        Its gradient.

    Raises
    ------
    TypeError, ValueError
        If the number of shards or the rows are out of range; else as `Program.value_and_grad`.

    Notes
    -----
    A shard's mean and gradient are multiplied by its share of the samples, then added up by fours,
    the fours' sums by fours again, and so on, each from the left. One shard, without `rows`, is
    `Program.value_and_grad`; more differ from it in the order of the additions alone.

    Examples
    --------
    >>> import fastgrad
    >>> w = fastgrad.Value(3.0)
    >>> square = fastgrad.compile(lambda x: (w * x) ** 2)
    >>> value_and_grad(square, [1.0, 2.0, 3.0, 4.0], shards=2)
    (67.5, array([45.]))
    """
    given, _, names = program._call.bind(arrays, {})
    arrays = tuple(numbers_of(array, name) for name, array in zip(names, given))
    check_arrays(names, arrays)
    ends = ends_of(len(arrays[0]), shards)
    record(program, arrays)
    step = step_of(program, Slots(program.parameters), ends, rows, theta, seed)
    gradients = []
    for k, part in enumerate(step.parts):
        own = tuple(array[part.start : part.end] for array in arrays)
        gradients.append(part_gradient(program, own, step, k))
    total = in_tree(gradients, add_up)
    return float(total[0]), total[1:]


# ---- samples, and who has them


class Part(NamedTuple):
    """What one shard does in a step."""

    shard: int
    start: int  # its samples among all
    end: int
    rows: np.ndarray | None  # those that take part, from 0; None for all
    share: float  # of the step's samples


class Step(NamedTuple):
    """What workers must know of a step beside the samples."""

    theta: np.ndarray
    parts: list[Part]
    seed: int | None  # of what the program draws at random
    checked: bool  # inside of detect_anomaly


def check_arrays(names: list[str], arrays: Sequence[Any]) -> None:
    """Raise unless they have as many samples, and one at least."""
    for name, array in zip(names, arrays):
        if array.ndim == 0:
            raise ValueError(f"{name} must be an array of samples, got the number {array!r:.60}")
    lengths = {name: len(array) for name, array in zip(names, arrays)}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f"expected arrays of as many samples, one at least, got {lengths}")


def record(program: Program, arrays: Sequence[np.ndarray]) -> None:
    """Let a program be recorded for such samples, as if it drew nothing at random."""
    with _seeded(0):
        program._prepare(tuple(array[:1] for array in arrays), {}, gradient=True)


def ends_of(samples: int, shards: int) -> np.ndarray:
    """Where each of so many shards ends."""
    check_whole("shards", shards, 1)
    if shards > samples:
        raise ValueError(f"shards must be at most {samples}, a sample each, got {shards}")
    return np.arange(1, shards + 1) * samples // shards


def step_of(
    program: Program, slots: Slots, ends: np.ndarray, rows: Any, theta: Any, seed: int | None
) -> Step:
    """A step with these parameters, or their data in the slots."""
    parts = list(_parts(ends, rows))
    numbers = _parameters(slots, theta)
    if seed is not None:
        check_whole("seed", seed, 0)
    if not any(traced.hidden for traced in list(program._traced.values())):
        seed = None
    elif seed is None:
        seed = random.getrandbits(64)
    return Step(numbers, parts, seed, is_detecting())


def _parts(ends: np.ndarray, rows: Any) -> Iterator[Part]:
    starts = [0, *ends[:-1].tolist()]
    chosen: list[np.ndarray | None] = [None] * len(ends)
    total = int(ends[-1])
    if rows is not None:
        rows = np.asarray(rows)
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not len(rows):
            raise TypeError(
                f"rows must be a row of ints, one at least, got {rows.dtype} of shape {rows.shape}"
            )
        if rows.min() < 0 or rows.max() >= total:
            raise ValueError(
                f"rows must be from 0 to {total - 1}, got {rows.min()} to {rows.max()}"
            )
        shard_of = np.searchsorted(ends, rows, side="right")
        order = np.argsort(shard_of, kind="stable")
        cuts = np.searchsorted(shard_of[order], np.arange(1, len(ends)))
        chosen = [part - start for part, start in zip(np.split(rows[order], cuts), starts)]
        total = len(rows)
    for k, (start, end, own) in enumerate(zip(starts, ends.tolist(), chosen)):
        count = end - start if own is None else len(own)
        if count:
            yield Part(k, start, end, own, count / total)


def _parameters(slots: Slots, theta: Any) -> np.ndarray:
    """`theta`, or the parameters' data."""
    count = len(slots.values)
    if theta is None:
        numbers = np.empty(count)
        if count:
            slots.copy_data(numbers)
        return numbers
    numbers = numbers_of(theta, "theta")
    if numbers.shape != (count,):
        raise ValueError(
            f"theta must have the shape ({count},), a number for each of the program's "
            f"parameters, got {numbers.shape}"
        )
    return numbers


# ---- what a step computes


def in_tree(parts: list[Any], add: Callable[..., Any]) -> Any:
    """Their sum, by fours."""
    while len(parts) > 1:
        fours = [parts[k : k + FAN_IN] for k in range(0, len(parts), FAN_IN)]
        parts = [add(*four) if len(four) > 1 else four[0] for four in fours]
    return parts[0]


def part_gradient(
    program: Program, arrays: tuple[np.ndarray, ...], step: Step, k: int
) -> np.ndarray:
    """Mean and gradient of the samples of part k, times their share."""
    part = step.parts[k]
    if part.rows is not None:
        arrays = tuple(array[part.rows] for array in arrays)
    try:
        with _seeded(None if step.seed is None else step.seed + part.shard):
            prepared = program._prepare(arrays, {}, gradient=True)
        with detect_anomaly() if step.checked else contextlib.nullcontext():
            mean, gradient = program._run("return", *prepared, step.theta)
    except Exception as error:
        error.add_note(f"in shard {part.shard}, which has samples {part.start} to {part.end - 1}")
        raise
    out = np.empty(1 + len(gradient))
    out[0], out[1:] = mean, gradient
    out *= part.share
    return out


@contextlib.contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Let Dropout draw as the step says."""
    if seed is None:
        yield
        return
    with _drawing:
        state = random.getstate()
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)


def add_up(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    total: np.ndarray = first + others[0]
    for other in others[1:]:
        total += other
    return total
