"""Derivatives as numbers: of Values by Values, of Programs by their arguments or parameters.

All are computed by the sweeps of ``linear.pyx``: forward along directions (tangents), in reverse
(adjoints), and in reverse over forward (second derivatives), several directions at a time.

Invariant: nothing here reads or changes a ``grad``, or leaves anything on the tape.

Of Values: ``grad(y, xs)``, where ``xs`` is a `Value` or nested lists of them, leaves or results;
the derivative by a result counts all ways from it to ``y``, as its ``grad`` does. The numbers are
those that the graph holds now.

Of Programs: ``grad(program, *arguments, wrt=0)``. ``wrt`` is the place of an argument: then there
is a derivative for each sample. Or it is ``"parameters"``, which all samples share: then `grad`,
`hvp` and `hessian` are those of the mean over the batch, as ``Program.backward`` has it, and `vjp`
adds up over the samples.

Shapes: ``S`` is the shape of what derivatives are taken by, ``O`` that of the output, ``B`` the
samples of a batch, ``P`` the program's parameters.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastgrad import trace
from fastgrad.batch import numbers_of
from fastgrad.linear import Linear
from fastgrad.program import Program
from fastgrad.recording import capture
from fastgrad.signature import flatten
from fastgrad.trace import TraceError

Shape = tuple[int, ...]


class _Place:
    """What derivatives are taken of, by what, and where: at one point, or at each of a batch."""

    linear: Linear
    xs: Shape
    ys: Shape
    samples = 1
    batched = False  # results have an axis of samples
    shared = False  # what is differentiated by is the same for all samples

    def __iter__(self) -> Iterator[int]:
        raise NotImplementedError

    @property
    def size(self) -> int:
        return math.prod(self.xs)

    @property
    def outputs(self) -> int:
        return math.prod(self.ys)

    def collect(
        self, rows: int, columns: int, add: Callable[[int, np.ndarray], None], summed: bool = False
    ) -> np.ndarray:
        """What `add` adds at each sample to an array (rows, columns); one for all if `summed`."""
        out = np.zeros((1 if summed else self.samples, rows, columns))
        for sample in self if out.size else ():
            add(sample, out[0 if summed else sample])
        return out

    def shaped(self, out: np.ndarray, *shapes: Shape) -> Any:
        """With the right axes, that of samples in front; a float if it is one number."""
        front = (self.samples,) * self.batched
        out = out.reshape(front + sum(shapes, ()))
        return out if out.ndim else float(out)

    def directions(self, given: Any, name: str, shape: Shape) -> tuple[np.ndarray, Shape]:
        """Directions as an array (1 or samples, K, n), and () or (K,)."""
        if given is None:
            raise TypeError(f"{name} is missing: directions of shape {shape}, or several of them")
        array = np.ascontiguousarray(numbers_of(given, name))
        front = array.shape[: array.ndim - len(shape)]
        samples = (self.samples,) * (self.batched and not (self.shared and name == "v"))
        known = front[: len(samples)] == samples and len(front) <= len(samples) + 1
        if not known or array.shape[len(front) :] != shape:
            raise ValueError(
                f"{name} must have the shape {(*samples, *shape)}, or "
                f"{(*samples, 'K', *shape)} for K directions, got {array.shape}".replace("'", "")
            )
        several = front[len(samples) :]
        return array.reshape(*(samples or (1,)), *(several or (1,)), -1), several


class _Graph(_Place):
    """A graph of Values, as it stands on the tape."""

    def __init__(self, name: str, ys: Any, xs: Any) -> None:
        if trace.is_tracing():
            raise TraceError(
                f"{trace.user_line()}: {name}() inside of a program would happen once, while it is "
                f"recorded: call {name}() on the program"
            )
        outputs, self.ys = flatten(ys, "y", numbers=False)
        wanted, self.xs = flatten(xs, "xs", numbers=False)
        recording, parameters, numbers = capture(outputs, wanted)
        self.linear = Linear(recording, numbers)
        self.linear.set_parameters(np.array([value.data for value in parameters], np.float64))

    def __iter__(self) -> Iterator[int]:
        self.linear.set_recorded()
        yield 0


class _Batched(_Place):
    """A program at the samples of a batch."""

    batched = True

    def __init__(
        self, program: Program, args: tuple[Any, ...], wrt: Any, static: dict[str, Any]
    ) -> None:
        self.traced, self.batch, self.names = program._prepare(args, static)
        self.samples, self.ys = self.batch.samples, self.traced.output
        if wrt == "parameters":
            self.shared, self.xs = True, (len(program.parameters),)
        elif isinstance(wrt, int) and not isinstance(wrt, bool) and 0 <= wrt < len(self.names):
            self.xs = self.batch.shapes[wrt]
        else:
            raise ValueError(
                f"wrt must be 'parameters' or the place of an argument, 0 to "
                f"{len(self.names) - 1}, got {wrt!r}"
            )
        self.key = wrt, self.xs
        self.linear = self.traced.linearised(self.key, lambda: self._numbers(wrt))
        self.linear.set_parameters(self.traced.parameters(None))

    def _numbers(self, wrt: Any) -> np.ndarray:
        """The recording's numbers of what is differentiated by."""
        recording, places = self.traced.recording, self.traced.places
        if self.shared:
            numbers = np.full(self.size, -1, np.int64)
            own = slice(recording.parameters) if places is None else places
            numbers[own] = np.arange(recording.parameters)
            return numbers
        before = sum(math.prod(shape) for shape in self.batch.shapes[:wrt])
        inputs: np.ndarray = recording.input_numbers()
        return inputs[before : before + self.size]

    def __iter__(self) -> Iterator[int]:
        for sample in range(self.samples):
            if not self.linear.set_sample(self.batch, sample):
                self.traced.check_indices(self.batch, self.names)
            yield sample
        self.traced.put_back(self.key, self.linear)


def _place(name: str, of: Any, at: tuple[Any, ...], wrt: Any, static: dict[str, Any]) -> _Place:
    if isinstance(of, Program):
        return _Batched(of, at, wrt, static)
    if callable(of):
        raise TypeError(
            f"{name} needs Values or a Program, got the function {of!r:.60}: fastgrad.compile it "
            "first, or call it and pass the result"
        )
    if static or len(at) != 1 or wrt != 0:
        raise TypeError(
            f"of Values it is {name}(y, xs), without other arguments: got {len(at)} after y"
        )
    return _Graph(name, of, at[0])


def _scalar(name: str, place: _Place) -> _Place:
    if place.ys != ():
        raise ValueError(
            f"{name} needs one output, got outputs of shape {place.ys}: take jacobian, or return "
            "their sum"
        )
    if place.shared and place.samples == 0:
        raise ValueError("the batch has no samples: there is no mean, and no derivative of it")
    return place


def grad(of: Any, *at: Any, wrt: Any = 0, **static: Any) -> Any:
    """The gradient of one output.

    Parameters
    ----------
    of : Value or Program
    *at
        Of a Value: `xs`. Of a Program: its arguments.
    wrt : int or "parameters"
        Of a Program: which argument to differentiate by.
    **static
        The program's keyword arguments.

    Returns
    -------
    float or ndarray, shape S
        Of Values; of a Program by an argument (B, S), by its parameters (P,).

    Raises
    ------
    TypeError, ValueError
        If something is no Value, or the output more than one number; else as a program's call.
    TraceError
        If the graph holds a Value made by hand.

    Notes
    -----
    Of Values it is to the last bit what ``y.backward()`` would add to fresh grads.

    Examples
    --------
    >>> import fastgrad
    >>> a, b = fastgrad.Value(2.0), fastgrad.Value(3.0)
    >>> fastgrad.grad(a * b**2, [a, b]), a.grad
    (array([ 9., 12.]), 0)
    >>> fastgrad.grad(fastgrad.compile(lambda x: x**3), [1.0, 2.0])
    array([ 3., 12.])
    """
    if isinstance(of, Program) and wrt == "parameters":
        return of.value_and_grad(*at, **static)[1]
    place = _scalar("grad", _place("grad", of, at, wrt, static))
    out = place.collect(1, place.size, lambda k, to: place.linear.adjoints(None, to))
    return place.shaped(out, place.xs)


def value_and_grad(of: Any, *at: Any, wrt: Any = 0, **static: Any) -> tuple[Any, Any]:
    """One output and its gradient.

    Parameters
    ----------
    of, *at, wrt, **static
        As for `grad`.

    Returns
    -------
    float or ndarray, shape (B,)
        The value; by a program's parameters the mean over the batch.
    float or ndarray
        As from `grad`.

    Raises
    ------
    TypeError, ValueError, TraceError
        As `grad`.

    Examples
    --------
    >>> import fastgrad
    >>> a = fastgrad.Value(2.0)
    >>> fastgrad.value_and_grad(a**3, a)
    (8.0, 12.0)
    """
    if isinstance(of, Program) and wrt == "parameters":
        return of.value_and_grad(*at, **static)
    place = _scalar("value_and_grad", _place("value_and_grad", of, at, wrt, static))
    values = np.empty((place.samples, 1))

    def both(sample: int, to: np.ndarray) -> None:
        place.linear.outputs(values[sample])
        place.linear.adjoints(None, to)

    out = place.collect(1, place.size, both)
    return place.shaped(values), place.shaped(out, place.xs)


def jvp(of: Any, *at: Any, v: Any = None, wrt: Any = 0, **static: Any) -> Any:
    """The outputs' derivative along a direction: the Jacobian times a vector, by one forward sweep.

    Parameters
    ----------
    of : Value, nested lists of Value, or Program
    *at
        Of Values: `xs`. Of a Program: its arguments.
    v : array_like, shape S or (K, S)
        A direction, or K of them. Of a Program by an argument (B, S) or (B, K, S).
    wrt, **static
        As for `grad`.

    Returns
    -------
    float or ndarray, shape O or (K, O)
        Of a Program (B, O) or (B, K, O).

    Raises
    ------
    TypeError, ValueError, TraceError
        If `v` has another shape; else as `grad`.

    Examples
    --------
    >>> import fastgrad
    >>> a, b = fastgrad.Value(2.0), fastgrad.Value(3.0)
    >>> fastgrad.jvp([a * b, a + b], [a, b], v=[1.0, 10.0])
    array([23., 11.])
    """
    place = _place("jvp", of, at, wrt, static)
    v, several = place.directions(v, "v", place.xs)

    def add(sample: int, to: np.ndarray) -> None:
        place.linear.tangents(v[0 if place.shared else sample], to)

    return place.shaped(place.collect(v.shape[1], place.outputs, add), several, place.ys)


def vjp(of: Any, *at: Any, u: Any = None, wrt: Any = 0, **static: Any) -> Any:
    """The gradient of a weighted sum of the outputs: a vector times the Jacobian, in one reverse.

    Parameters
    ----------
    of, *at
        As for `jvp`.
    u : array_like, shape O or (K, O)
        Weights, or K of them. Of a Program (B, O) or (B, K, O).
    wrt, **static
        As for `grad`.

    Returns
    -------
    float or ndarray, shape S or (K, S)
        Of a Program by an argument (B, S) or (B, K, S); by its parameters (P,) or (K, P), added up
        over the samples.

    Raises
    ------
    TypeError, ValueError, TraceError
        If `u` has another shape; else as `grad`.

    Examples
    --------
    >>> import fastgrad
    >>> a, b = fastgrad.Value(2.0), fastgrad.Value(3.0)
    >>> fastgrad.vjp([a * b, a + b], [a, b], u=[1.0, 10.0])
    array([13., 12.])
    """
    place = _place("vjp", of, at, wrt, static)
    u, several = place.directions(u, "u", place.ys)

    def add(sample: int, to: np.ndarray) -> None:
        place.linear.adjoints(u[sample], to)

    out = place.collect(u.shape[1], place.size, add, summed=place.shared)
    return out.reshape(*several, -1) if place.shared else place.shaped(out, several, place.xs)


def jacobian(of: Any, *at: Any, wrt: Any = 0, **static: Any) -> Any:
    """All first derivatives, by the cheaper of forward and reverse sweeps.

    Parameters
    ----------
    of, *at
        As for `jvp`.
    wrt, **static
        As for `grad`.

    Returns
    -------
    float or ndarray, shape (O, S)
        Of a Program (B, O, S), by its parameters (B, O, P).

    Raises
    ------
    TypeError, ValueError, TraceError
        As `jvp`.

    Examples
    --------
    >>> import fastgrad
    >>> a, b = fastgrad.Value(2.0), fastgrad.Value(3.0)
    >>> fastgrad.jacobian([a * b, a + b], [a, b])
    array([[3., 2.],
           [1., 1.]])
    """
    place = _place("jacobian", of, at, wrt, static)
    n, m = place.size, place.outputs
    if m <= n:
        out = place.collect(m, n, lambda k, to: place.linear.adjoints(None, to))
    else:
        out = place.collect(n, m, lambda k, to: place.linear.tangents(None, to)).swapaxes(1, 2)
    return place.shaped(out, place.ys, place.xs)


def hvp(of: Any, *at: Any, v: Any = None, wrt: Any = 0, **static: Any) -> Any:
    """The gradient's derivative along a direction: the Hessian times a vector.

    Parameters
    ----------
    of, *at
        As for `grad`.
    v : array_like, shape S or (K, S)
        As for `jvp`.
    wrt, **static
        As for `grad`.

    Returns
    -------
    float or ndarray, shape S or (K, S)
        Of a Program by an argument (B, S) or (B, K, S), by its parameters (P,) or (K, P).

    Raises
    ------
    TypeError, ValueError, TraceError
        If `v` has another shape, or an operation has no second derivatives; else as `grad`.

    Notes
    -----
    One forward and one reverse sweep over the program linearised twice (reverse over tangent:
    Pearlmutter, Fast exact multiplication by the Hessian, 1994); several directions run as lanes.

    Examples
    --------
    >>> import fastgrad
    >>> a, b = fastgrad.Value(2.0), fastgrad.Value(3.0)
    >>> fastgrad.hvp(a * b**2, [a, b], v=[1.0, 0.0])
    array([0., 6.])
    """
    place = _scalar("hvp", _place("hvp", of, at, wrt, static))
    v, several = place.directions(v, "v", place.xs)

    def add(sample: int, to: np.ndarray) -> None:
        place.linear.bend_by(v[0 if place.shared else sample], to)

    out = place.collect(place.size, v.shape[1], add, summed=place.shared).swapaxes(1, 2)
    if place.shared:
        return out.reshape(*several, -1) / place.samples
    return place.shaped(out, several, place.xs)


def hessian(of: Any, *at: Any, wrt: Any = 0, **static: Any) -> Any:
    """All second derivatives of one output.

    Parameters
    ----------
    of, *at, wrt, **static
        As for `grad`.

    Returns
    -------
    float or ndarray, shape (S, S)
        Of a Program by an argument (B, S, S), by its parameters (P, P).

    Raises
    ------
    TypeError, ValueError, TraceError
        If an operation has no second derivatives; else as `grad`.

    Notes
    -----
    A direction costs what its own part of the graph costs, so sparse Hessians are cheap.

    Examples
    --------
    >>> import fastgrad
    >>> a, b = fastgrad.Value(2.0), fastgrad.Value(3.0)
    >>> fastgrad.hessian(a * b**2, [a, b])
    array([[0., 6.],
           [6., 4.]])
    """
    place = _scalar("hessian", _place("hessian", of, at, wrt, static))
    n = place.size
    out = place.collect(n, n, lambda k, to: place.linear.bend_by(None, to), summed=place.shared)
    return out[0] / place.samples if place.shared else place.shaped(out, place.xs, place.xs)
