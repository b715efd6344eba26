"""Programs: a function on one sample, recorded once and replayed for whole batches.

`compile` makes a `Program` of a function.  The first call with arguments of new shapes traces it:
the function runs once on `Value` inputs, what its outputs reach is copied off the tape
(``recording.pyx``), optimised (``fuse.pyx``), planned (``plan.pyx``) and from then on replayed
(``replay.pyx``).

Invariant: a call that raises has changed nothing: no signature is kept, no grad touched.

Limitations: a trace fixes one path through the function's Python code.  What would choose another
path for another sample raises `TraceError`; what depends on anything else (a global that is no
Value, a random number) stays as it was at the trace.

Threads: a program may be called from several threads; traces take turns.
"""

import contextlib
import functools
import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from fastgrad import trace
from fastgrad.anomaly import located
from fastgrad.contexts import is_detecting
from fastgrad.engine import Value
from fastgrad.examine import examine
from fastgrad.recording import Recording, freeze
from fastgrad.replay import Parameters, Replay, processors
from fastgrad.trace import TraceError

SERIAL_NS = 200_000  # a run of less work is not worth waking threads for
_tracing = threading.RLock()
_threads = processors()


def set_num_threads(n: int) -> None:
    """Set how many threads programs use that were compiled without ``threads=``.

    Parameters
    ----------
    n : int
        At least 1. The numbers do not depend on it, to the last bit.

    Raises
    ------
    ValueError
        If `n` is no whole number of at least 1.

    Examples
    --------
    >>> import fastgrad
    >>> before = fastgrad.get_num_threads()
    >>> fastgrad.set_num_threads(1)
    >>> fastgrad.get_num_threads()
    1
    >>> fastgrad.set_num_threads(before)
    """
    global _threads
    _threads = _checked_threads(n)


def get_num_threads() -> int:
    """Say how many threads programs use: at first, as many as this process may run at once.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastgrad
    >>> fastgrad.get_num_threads() >= 1
    True
    """
    return _threads


def _checked_threads(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"the number of threads must be an int of at least 1, got {n!r}")
    return n


class Signature(NamedTuple):
    """What a program has traced: `Program.signatures` lists these.

    Attributes
    ----------
    shapes : tuple of tuple of int
        Of one sample of each argument.
    static : dict
        Keyword arguments.
    output : tuple of int
        Shape of the output for one sample.
    entries, operations : int
        Entries recorded, and what is left of them to be run for a sample after optimisation.
    lanes : int
        Samples of a block.
    workspace : int
        Bytes that a block works in.
    """

    shapes: tuple[tuple[int, ...], ...]
    static: dict[str, Any]
    output: tuple[int, ...]
    entries: int
    operations: int
    lanes: int
    workspace: int


class _Traced:
    """One signature: a replay, and where its parameters stand in the program's list."""

    def __init__(
        self,
        recording: Recording,
        own: list[Value],
        everyones: "_Captured",
        output: tuple[int, ...],
    ) -> None:
        self.replay = Replay(recording)
        self.recording = recording  # with lines if they have been asked for
        self.output = output
        self.places = everyones.places(own)

    def select(self, theta: np.ndarray) -> np.ndarray:
        """This signature's parameters out of the program's."""
        return theta if self.places is None else theta[self.places]

    def spread(self, grads: np.ndarray, count: int) -> np.ndarray:
        """Derivatives for all of the program's parameters; 0 for those of other signatures."""
        if self.places is None and len(grads) == count:
            return grads
        spread = np.zeros(count)
        spread[: len(grads)] = grads if self.places is None else 0.0
        if self.places is not None:
            spread[self.places] = grads
        return spread


class _Captured:
    """The parameters of a program, in the order in which they were captured."""

    def __init__(self, values: list[Value]) -> None:
        self.values = values
        self.index = {id(value): k for k, value in enumerate(values)}
        self.reader = Parameters(values)

    def places(self, own: list[Value]) -> np.ndarray | None:
        """Where `own` stand in the list, new ones at its end; None if that is 0, 1, 2, ..."""
        new = [value for value in own if id(value) not in self.index]
        if new:
            for value in new:
                self.index[id(value)] = len(self.index)
            self.values = self.values + new
            self.reader = Parameters(self.values)
        places = np.array([self.index[id(value)] for value in own], dtype=np.intp)
        return None if np.array_equal(places, np.arange(len(own))) else places


class Program:
    """A function on one sample, recorded for batches; made by `fastgrad.compile`.

    Parameters
    ----------
    function : callable
        Its positional arguments are arrays with a batch axis in front, keyword-only ones are
        static. It computes with `Value` on one sample: a `Value` for a number, a list for a vector,
        a list of lists for a matrix, and returns a `Value` or nested lists of them.
    threads : int, optional
        At most so many; `get_num_threads` if not given.
    parameters : iterable of Value, optional
        What shall come first in `Program.parameters`, in this order.
    check_finite : bool
        Whether each run first examines every sample, entry by entry, and raises FloatingPointError
        at the first value or adjoint that is nan or inf: the error names the operation, its
        operands, the line that recorded it and the sample. The examination runs without fusion,
        lanes or threads and takes about ten times as long as the run. Any call inside of
        `fastgrad.detect_anomaly` does the same.

    Raises
    ------
    TypeError
        If `function` is not callable or a parameter is no Value.
    ValueError
        If `threads` is no whole number of at least 1.

    Notes
    -----
    Every leaf `Value` that the function uses and that was there before is a parameter; its data is
    read afresh at each run. Values are those of the eager operators to the last bit; where these
    raise (a division by zero, say), programs go on with inf and nan.

    Threads: programs may be called from several threads at once.

    Examples
    --------
    >>> import fastgrad
    >>> w = fastgrad.Value(3.0)
    >>> @fastgrad.compile
    ... def loss(x, y):
    ...     return (w * x - y) ** 2
    >>> loss([1.0, 2.0], [1.0, 5.0])
    array([4., 1.])
    >>> loss.backward([1.0, 2.0], [1.0, 5.0]), w.grad
    (2.5, 4.0)
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        threads: int | None = None,
        parameters: Any = (),
        check_finite: bool = False,
    ) -> None:
        if not callable(function):
            raise TypeError(f"compile needs a function, got {function!r}")
        values = list(parameters)
        for value in values:
            if not isinstance(value, Value):
                raise TypeError(f"parameters must be Values, got {type(value).__name__} {value!r}")
        self.threads = None if threads is None else _checked_threads(threads)
        self.check_finite = bool(check_finite)
        self._function: Callable[..., Any] | None = function
        self._call = _Arguments.of(function)
        self._captured = _Captured(values)
        self._traced: dict[Any, _Traced] = {}
        functools.update_wrapper(self, function)

    @classmethod
    def from_values(
        cls, inputs: Any, outputs: Any, *, threads: int | None = None, check_finite: bool = False
    ) -> Self:
        """Make a program of a graph that is there already.

        Parameters
        ----------
        inputs : list
            One item an argument: a leaf `Value`, or nested lists of them.
        outputs : Value or nested lists of Value
            All other leaves that they reach and that somebody holds are parameters.
        threads, check_finite
            As for `fastgrad.compile`; lines are known of what was recorded inside of
            `fastgrad.detect_anomaly`.

        Returns
        -------
        Program

        Raises
        ------
        TraceError
            If an input is no leaf, or a part of the graph was made by hand.
        TypeError, ValueError
            If an input or output is no Value, or rows differ in length.

        Examples
        --------
        >>> from fastgrad import Program, Value
        >>> x, w = Value(1.0), Value(2.0)
        >>> Program.from_values([x], w * x)([3.0, 4.0])
        array([6., 8.])
        """
        self = cls(_no_function, threads=threads, check_finite=check_finite)
        self._function = None
        shapes, leaves = [], []
        for number, argument in enumerate(inputs):
            values, shape = _flatten(argument, f"input {number}")
            shapes.append(shape)
            leaves += values
        self._call = _Arguments([f"input {k}" for k in range(len(shapes))], {}, set(), False)
        results, output = _flatten(outputs, "the output")
        with _tracing:
            recording, own = freeze(None, leaves, results)
        self._traced[(tuple(shapes), ())] = _Traced(recording, own, self._captured, output)
        return self

    # ---- running

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run forward.

        Parameters
        ----------
        *args : array_like, shape (batch, ...)
            A sample's shape may be anything; ints and float32 are converted.
        **kwargs
            Static: a value for each keyword-only parameter, for the whole batch; must be hashable.

        Returns
        -------
        ndarray, shape (batch, ...)
            With the shape of the function's output behind the batch axis.

        Raises
        ------
        TypeError, ValueError
            If an argument is missing, unknown, not numeric, or has another batch size.
        TraceError
            If the function cannot be recorded.
        IndexError
            If an index of `fastgrad.functional.take` or `cross_entropy` names nothing.
        FloatingPointError
            With ``check_finite=True`` or inside of `fastgrad.detect_anomaly`, if a value is nan or
            inf.
        """
        if trace.is_tracing() and self._function is not None:
            return self._function(*args, **kwargs)
        traced, arrays, batch, names = self._prepare(args, kwargs)
        if batch == 0:
            return np.empty((0, *traced.output))
        theta = traced.select(self._captured.reader.read())
        out, _ = self._run(traced, arrays, batch, theta, False, names)
        return out.reshape(batch, *traced.output)

    def backward(self, *args: Any, **kwargs: Any) -> float:
        """Run forward and in reverse, and add the gradient to the parameters' grads.

        Takes what a call takes.

        Returns
        -------
        float
            The mean of the output over the batch; it is that mean's gradient which is added.

        Raises
        ------
        ValueError
            If the output is not one number a sample, or the batch is empty; else as a call.
        FloatingPointError
            As a call; also if an adjoint is nan or inf. No grad has been touched then.
        """
        traced, arrays, batch, names = self._prepare(args, kwargs, gradient=True)
        reader = self._captured.reader
        theta = traced.select(reader.read())
        out, grads = self._run(traced, arrays, batch, theta, True, names)
        assert grads is not None
        reader.add_grads(traced.spread(grads, len(reader.values)), float(batch))
        return _mean(out)

    def value_and_grad(
        self, *args: Any, theta: Any = None, **kwargs: Any
    ) -> tuple[float, np.ndarray]:
        """Run forward and in reverse, touching no grad.

        Parameters
        ----------
        *args, **kwargs
            What a call takes.
        theta : array_like, shape (P,), optional
            Numbers to use instead of the parameters' data, in the order of `parameters`.

        Returns
        -------
        float
            The mean of the output over the batch.
        ndarray, shape (P,)
            Its gradient.

        Raises
        ------
        ValueError
            If `theta` has another shape; else as `backward`.

        Examples
        --------
        >>> import fastgrad
        >>> w = fastgrad.Value(3.0)
        >>> square = fastgrad.compile(lambda x: (w * x) ** 2)
        >>> square.value_and_grad([1.0, 2.0], theta=[10.0])
        (250.0, array([50.]))
        """
        traced, arrays, batch, names = self._prepare(args, kwargs, gradient=True)
        reader = self._captured.reader
        count = len(reader.values)
        if theta is None:
            numbers = reader.read()
        else:
            numbers = np.ascontiguousarray(_numbers(theta, "theta"))
            if numbers.shape != (count,):
                raise ValueError(
                    f"theta must have the shape ({count},), a number for each of the program's "
                    f"parameters, got {numbers.shape}"
                )
        out, grads = self._run(traced, arrays, batch, traced.select(numbers), True, names)
        assert grads is not None
        return _mean(out), traced.spread(grads, count) / batch

    def _run(
        self,
        traced: _Traced,
        arrays: list[np.ndarray],
        batch: int,
        theta: np.ndarray,
        gradient: bool,
        names: list[str],
    ) -> tuple[np.ndarray, np.ndarray | None]:
        checked = self.check_finite or is_detecting()
        if checked:
            self._examine(traced, arrays, batch, theta, gradient)
        threads = self.threads or _threads
        if threads > 1 and traced.replay.cost(gradient) * batch < SERIAL_NS:
            threads = 1
        try:
            out, grads = traced.replay.run(arrays, batch, theta, gradient, threads)
            if checked and grads is not None and not np.isfinite(grads).all():
                own = int(np.argmin(np.isfinite(grads)))
                place = own if traced.places is None else traced.places[own]
                raise FloatingPointError(
                    f"the gradient of parameters[{place}] became {float(grads[own])!r} when those "
                    "of the samples, each of them finite, were added up"
                )
            return out, grads
        except IndexError as error:
            sample, column = error.args
        what = "a computed index"
        if column is not None:
            sizes = itertools.accumulate(array.shape[1] for array in arrays)
            number = next(k for k, end in enumerate(sizes) if column < end)
            at = column - sum(array.shape[1] for array in arrays[:number])
            what = f"{names[number]}, {arrays[number][sample, at]!r} at place {at},"
        raise IndexError(
            f"sample {sample}: {what} is no index into the values given to take(): expected a "
            "whole number from 0 to their number less 1"
        )

    def _examine(
        self,
        traced: _Traced,
        arrays: list[np.ndarray],
        batch: int,
        theta: np.ndarray,
        gradient: bool,
    ) -> None:
        """Raise FloatingPointError at the first entry that is not finite."""
        found = examine(traced.recording, arrays, batch, theta, gradient)
        if found is None:
            return
        sample, entry, what = found
        if traced.recording.lines is None and self._function is not None:
            key = next(key for key, one in self._traced.items() if one is traced)
            with contextlib.suppress(Exception):  # of the user's function: then without lines
                again, _, _ = self._record(key, arrays, batch, lines=True)
                traced.recording = traced.recording.with_lines_of(again)
        raise FloatingPointError(
            located(traced.recording.line(entry), f"in sample {sample}, {what}")
        )

    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], gradient: bool = False
    ) -> tuple[_Traced, list[np.ndarray], int, list[str]]:
        """Check and convert the arguments, and find or trace their signature."""
        given, static, names = self._call.bind(args, kwargs)
        arrays, shapes, batch = [], [], -1
        for name, argument in zip(names, given):
            array = _numbers(argument, name)
            if array.ndim == 0:
                raise ValueError(
                    f"{name} must have a batch axis in front, got the number {argument!r}: "
                    "for one sample pass a list of one"
                )
            if batch < 0:
                batch = array.shape[0]
            elif batch != array.shape[0]:
                raise ValueError(
                    f"{name} has {array.shape[0]} samples (shape {array.shape}), "
                    f"but {names[0]} has {batch}: expected the same number"
                )
            shapes.append(array.shape[1:])
            if array.ndim != 2 or not array.flags.c_contiguous:
                array = np.ascontiguousarray(array).reshape(batch, -1) if batch else array
            arrays.append(array)
        if batch < 0:
            raise TypeError("a program needs at least one argument, an array of samples, got none")
        key = (tuple(shapes), static)
        traced = self._traced.get(key)
        if traced is None:
            traced = self._trace(key, arrays, batch)
        if gradient and traced.output != ():
            raise ValueError(
                f"backward needs one number a sample, this program gives {traced.output}: "
                "return one Value, say the sum"
            )
        if gradient and batch == 0:
            raise ValueError(f"{names[0]} has no samples: there is no mean, and no gradient")
        return traced, arrays, batch, names

    def _trace(self, key: Any, arrays: list[np.ndarray], batch: int) -> _Traced:
        with _tracing:
            lines = self.check_finite or is_detecting()
            recording, own, output = self._record(key, arrays, batch, lines)
            traced = _Traced(recording, own, self._captured, output)
            return self._traced.setdefault(key, traced)

    def _record(
        self, key: Any, arrays: list[np.ndarray], batch: int, lines: bool
    ) -> tuple[Recording, list[Value], tuple[int, ...]]:
        shapes, static = key
        if self._function is None:
            known = ", ".join(str(one.shapes) for one in self.signatures)
            raise TraceError(
                f"samples of shapes {shapes} were not traced, and this program has no function "
                f"to trace: it knows {known}"
            )
        examples = [
            (array[0] if batch else np.zeros(max(1, np.prod(shape, dtype=int)))).tolist()
            for array, shape in zip(arrays, shapes)
        ]
        count = sum(int(np.prod(shape, dtype=int)) for shape in shapes)
        with _tracing:
            first = trace.begin(count, lines)
            try:
                inputs = [Value(number) for example in examples for number in example][:count]
                source = iter(inputs)
                samples = [_nested(source, shape) for shape in shapes]
                result = self._function(*samples, **dict(static))
                results, output = _flatten(result, "the function's result")
                return *freeze(first, inputs, results), output
            finally:
                trace.end()

    # ---- what it is

    @property
    def parameters(self) -> list[Value]:
        """list of Value: what was captured so far, in the order of gradients and of `theta`."""
        return list(self._captured.values)

    @property
    def signatures(self) -> list[Signature]:
        """list of Signature: what was traced so far."""
        return [
            Signature(
                shapes,
                dict(static),
                traced.output,
                *traced.replay.describe(traced.output == (), 1 << 20),
            )
            for (shapes, static), traced in list(self._traced.items())
        ]

    def __repr__(self) -> str:
        name = getattr(self, "__name__", "from_values")
        lines = [f"Program {name}: {len(self._captured.values)} parameters"]
        for one in self.signatures:
            static = "".join(f", {key}={value!r}" for key, value in one.static.items())
            shapes = ", ".join(map(str, one.shapes))
            lines.append(
                f"  {shapes}{static} -> {one.output}: {one.entries} entries, "
                f"{one.operations} operations, {one.lanes} lanes, {one.workspace} bytes a block"
            )
        return "\n".join(lines)

    def __getstate__(self) -> dict[str, Any]:
        """The traced signatures and the parameters by value, without the function."""
        values = self._captured.values
        return {
            "name": getattr(self, "__name__", "from_values"),
            "threads": self.threads,
            "check_finite": self.check_finite,
            "call": self._call,
            "parameters": values,
            "traced": [
                (key, one.recording, one.places, one.output) for key, one in self._traced.items()
            ],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__name__ = state["name"]
        self.threads = state["threads"]
        self.check_finite = state["check_finite"]
        self._function = None
        self._call = state["call"]
        self._captured = _Captured(state["parameters"])
        self._traced = {}
        for key, recording, places, output in state["traced"]:
            own = self._captured.values[: recording.parameters]
            if places is not None:
                own = [self._captured.values[k] for k in places]
            self._traced[key] = _Traced(recording, own, self._captured, output)


def compile(
    function: Callable[..., Any] | None = None,
    *,
    threads: int | None = None,
    parameters: Any = (),
    check_finite: bool = False,
) -> Any:
    """Record a function on one sample, for whole batches: see `Program`.

    Use it as ``compile(f)``, ``@compile`` or ``@compile(threads=1)``.

    Parameters
    ----------
    function : callable, optional
        A function of `Value` inputs.
    threads, parameters, check_finite
        As for `Program`.

    Returns
    -------
    Program
        A decorator that makes one, if there is no `function` yet.

    Raises
    ------
    TypeError, ValueError
        As `Program`.

    Examples
    --------
    >>> import fastgrad
    >>> double = fastgrad.compile(lambda x: x + x)
    >>> double([1.0, 2.5])
    array([2., 5.])
    """
    options = {"threads": threads, "parameters": parameters, "check_finite": check_finite}
    if function is None:
        return functools.partial(Program, **options)
    return Program(function, **options)


def _no_function() -> None:
    """What a program from values or from a file is made of."""


# ---- arguments


class _Arguments(NamedTuple):
    """How a function is called: its array arguments, and its static ones with their defaults."""

    names: list[str]
    static: dict[str, Any]
    required: set[str]
    more: bool  # *args

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "_Arguments":
        names, static, required, more = [], {}, set(), False
        for name, parameter in inspect.signature(function).parameters.items():
            match parameter.kind:
                case inspect.Parameter.VAR_POSITIONAL:
                    more = True
                case inspect.Parameter.KEYWORD_ONLY:
                    static[name] = parameter.default
                    if parameter.default is inspect.Parameter.empty:
                        static[name] = None
                        required.add(name)
                case inspect.Parameter.VAR_KEYWORD:
                    raise TypeError(
                        f"a compiled function cannot take **{name}: name the keyword arguments"
                    )
                case _:
                    names.append(name)
        return cls(names, static, required, more)

    def bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...], list[str]]:
        """Sort arguments into arrays and static ones."""
        if not kwargs and not self.static and len(args) == len(self.names):
            return args, (), self.names
        names = [*self.names, *(f"argument {k}" for k in range(len(self.names), len(args)))]
        if len(args) > len(self.names) and not self.more:
            raise TypeError(f"expected {len(self.names)} arguments {self.names}, got {len(args)}")
        given = dict(zip(names, args))
        static = dict(self.static)
        for name, value in kwargs.items():
            if name in static:
                static[name] = value
            elif name in self.names and name not in given:
                given[name] = value
            elif name in given:
                raise TypeError(f"{name} was given twice")
            else:
                known = ", ".join([*self.names, *self.static]) or "none"
                raise TypeError(f"unknown keyword argument {name}: expected one of {known}")
        missing = [name for name in self.names if name not in given]
        missing += sorted(self.required - kwargs.keys())
        if missing:
            raise TypeError(f"missing argument {', '.join(missing)}")
        for name, value in static.items():
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{name} is static, so it must be hashable, got {type(value).__name__} "
                    f"{value!r:.60}: pass a tuple, or make it a positional argument"
                ) from None
        return tuple(given[name] for name in names), tuple(static.items()), names


def _numbers(argument: Any, name: str) -> np.ndarray:
    """The argument as an array of float64."""
    if type(argument) is np.ndarray and argument.dtype == np.float64:
        return argument
    try:
        array = np.asarray(argument)
    except ValueError:  # ragged
        raise ValueError(
            f"{name} must be an array of numbers, got rows of different lengths: {argument!r:.200}"
        ) from None
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must be an array of numbers, got {array.dtype} of shape {array.shape}: "
            f"{argument!r:.100}"
        )
    return array.astype(np.float64)


def _nested(source: Iterator[Value], shape: tuple[int, ...]) -> Any:
    if not shape:
        return next(source)
    return [_nested(source, shape[1:]) for _ in range(shape[0])]


def _flatten(result: Any, what: str) -> tuple[list[Value], tuple[int, ...]]:
    """Nested lists as a flat one, and their shape."""
    if isinstance(result, Value):
        return [result], ()
    if isinstance(result, (list, tuple, np.ndarray)):
        parts = [_flatten(part, what) for part in result]
        shapes = {shape for _, shape in parts}
        if len(shapes) > 1:
            raise ValueError(f"{what} must be rectangular, got parts of shapes {sorted(shapes)}")
        values = [value for part, _ in parts for value in part]
        if not values:
            raise ValueError(f"{what} must hold a Value at least, got {result!r:.100}")
        return values, (len(parts), *parts[0][1])
    try:
        return [Value(result)], ()
    except TypeError:
        raise TypeError(
            f"{what} must be a Value or nested lists of Values, got "
            f"{type(result).__name__} {result!r:.100}"
        ) from None


def _mean(outputs: np.ndarray) -> float:
    """From the left, as Python's sum."""
    return float(sum(outputs[:, 0].tolist())) / len(outputs)
