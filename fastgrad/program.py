"""Programs: a function on one sample, recorded once and replayed for whole batches.

`compile` makes a `Program` of a function.  The first call with arguments of new shapes traces it:
the function runs once on `Value` inputs, what its outputs reach is copied off the tape
(``recording.pyx``), optimised (``fuse.pyx``), planned (``plan.pyx``) and from then on replayed
(``replay.pyx``).

Invariant: a call that raises has touched no data and no grad, and one that cannot be traced has
left no signature.  A signature that was traced stays, also if its run then refuses the data.

Limitations: a trace fixes one path through the function's Python code.  What would choose another
path for another sample raises `TraceError`; what depends on anything else (a global that is no
Value, a random number) stays as it was at the trace, but for `nn.Dropout`: each run fills the
inputs that `trace.hidden_inputs` has given it.

Threads: a program may be called from several threads; traces take turns.
"""

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from fastgrad import trace
from fastgrad.anomaly import located
from fastgrad.arguments import Arguments, exact
from fastgrad.batch import Batch, numbers_of
from fastgrad.calls import Calls, Traced
from fastgrad.contexts import is_detecting
from fastgrad.engine import Value
from fastgrad.recording import Recording, freeze
from fastgrad.signature import Captured, Fill, Signature, flatten, nested
from fastgrad.trace import TraceError

_tracing = threading.RLock()


class Program(Calls):
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
        lanes or threads and takes much longer than the run. Any call inside of
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
    read afresh at each run. Values are those of the eager operators to the last bit, but floats
    throughout (an int 0 may be -0.0 here); where the operators raise (a division by zero, say),
    programs go on with inf and nan.

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
            raise TypeError(
                f"compile needs a function, or a module with __call__, got "
                f"{type(function).__name__} {function!r:.60}"
            )
        values = list(parameters)
        for value in values:
            if not isinstance(value, Value):
                raise TypeError(f"parameters must be Values, got {type(value).__name__} {value!r}")
        self.threads = threads
        self.check_finite = bool(check_finite)
        self._function: Callable[..., Any] | None = function
        self._call = Arguments.of(function)
        self._captured = Captured(values)
        self._traced = {}
        functools.update_wrapper(self, function, updated=())
        self.__name__ = getattr(function, "__name__", type(function).__name__)

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
        threads : int, optional
            As for `Program`.
        check_finite : bool
            As for `Program`; lines are known of what was recorded inside of
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
        self._function, self.__name__ = None, "from_values"
        shapes, leaves = [], []
        for number, argument in enumerate(inputs):
            values, shape = flatten(argument, f"input {number}")
            shapes.append(shape)
            leaves += values
        self._call = Arguments([f"input {k}" for k in range(len(shapes))], {}, set(), False)
        results, output = flatten(outputs, "the output")
        with _tracing:
            recording, own = freeze(None, leaves, results)
        self._traced[(tuple(shapes), ())] = Traced(recording, own, self._captured, (), output, [])
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
        traced, batch, names = self._prepare(args, kwargs)
        if batch.samples == 0:
            return np.empty((0, *traced.output))
        out, _ = self._run("forward", traced, batch, names)
        return out.reshape(batch.samples, *traced.output)

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
        traced, batch, names = self._prepare(args, kwargs, gradient=True)
        mean: float = self._run("add", traced, batch, names)[0]
        return mean

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
        traced, batch, names = self._prepare(args, kwargs, gradient=True)
        if theta is not None:
            count = len(self._captured.values)
            theta = np.ascontiguousarray(numbers_of(theta, "theta"))
            if theta.shape != (count,):
                raise ValueError(
                    f"theta must have the shape ({count},), a number for each of the program's "
                    f"parameters, got {theta.shape}"
                )
        return self._run("return", traced, batch, names, theta)

    def _structure(self, *args: Any) -> tuple[np.ndarray, ...]:
        """Operations, operands and constants of a signature that was run; not the parameters'."""
        given, static, names = self._call.bind(args, {})
        traced = self._traced[Batch(given, names).shapes, exact(static) if static else ()]
        op, a, b, val, pool, outputs, *_ = traced.recording.arrays
        return op, a, b, pool, outputs, val[op == 0]  # a leaf that is no parameter is a constant

    def _examine(
        self, traced: Traced, batch: Batch, theta: np.ndarray | None, gradient: bool
    ) -> None:
        """Raise FloatingPointError at the first entry that is not finite."""
        found = traced.examine(batch, theta, gradient)
        if found is None:
            return
        sample, entry, what = found
        recording = self._with_lines(traced, batch)
        raise FloatingPointError(located(recording.line(entry), f"in sample {sample}, {what}"))

    def _with_lines(self, traced: Traced, batch: Batch) -> Recording:
        """The recording, with the user's lines if they can be found."""
        if traced.recording.lines is None and self._function is not None:
            with contextlib.suppress(Exception):  # of the user's function: then without lines
                again, *_ = self._record(traced.static, batch, lines=True)
                traced.recording = traced.recording.with_lines_of(again)
        return traced.recording

    def _trace(self, key: Any, static: tuple[tuple[str, Any], ...], batch: Batch) -> Traced:
        with _tracing:
            lines = self.check_finite or is_detecting()
            recording, own, output, hidden = self._record(static, batch, lines)
            traced = Traced(recording, own, self._captured, static, output, hidden)
            return self._traced.setdefault(key, traced)

    def _record(
        self, static: tuple[tuple[str, Any], ...], batch: Batch, lines: bool
    ) -> tuple[Recording, list[Value], tuple[int, ...], list[tuple[int, Fill]]]:
        if self._function is None:
            known = ", ".join(str(one.shapes) for one in self.signatures) or "none"
            raise TraceError(
                f"samples of shapes {batch.shapes} were not traced, and this program has no "
                f"function to trace: it knows {known}"
            )
        with _tracing:
            try:  # Ctrl-C may come at any call
                first, inputs, hidden = trace.begin(batch.example(), lines)
                source = iter(inputs)
                samples = [nested(source, shape) for shape in batch.shapes]
                result = self._function(*samples, **dict(static))
                results, output = flatten(result, "the function's result")
                return *freeze(first, inputs, results), output, hidden
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
                dict(traced.static),
                traced.output,
                *traced.describe(),
            )
            for (shapes, _), traced in list(self._traced.items())
        ]

    def __repr__(self) -> str:
        lines = [f"Program {self.__name__}: {len(self._captured.values)} parameters"]
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
            "name": self.__name__,
            "threads": self.threads,
            "check_finite": self.check_finite,
            "call": self._call,
            "parameters": values,
            "traced": [
                (key, one.recording, one.places, one.static, one.output, one.hidden)
                for key, one in list(self._traced.items())
            ],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__name__ = state["name"]
        self.threads = state["threads"]
        self.check_finite = state["check_finite"]
        self._function = None
        self._call = state["call"]
        self._captured = Captured(state["parameters"])
        self._traced = {}
        for key, recording, places, static, output, hidden in state["traced"]:
            own = self._captured.own(places, recording.parameters)
            self._traced[key] = Traced(recording, own, self._captured, static, output, hidden)


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
    threads : int, optional
        As for `Program`.
    parameters : iterable of Value
        As for `Program`.
    check_finite : bool
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
