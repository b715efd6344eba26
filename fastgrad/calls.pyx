"""Calls of programs: what every one of them does, from its arguments to its results.

A signature that has been traced is a `Traced`.  `Calls` is what `Program` inherits: it finds the
signature of the arguments and runs it.  A step of a small model takes ten microseconds, so all of
this is C.

Invariant: a call that raises has touched no data and no grad.

Threads: programs may be called from several threads at once.
"""

import math
import operator

from fastgrad.batch cimport Batch, new_batch
from fastgrad.contexts cimport is_detecting
from fastgrad.optimizer cimport Optimizer
from fastgrad.pool cimport wanted_threads
from fastgrad.recording cimport Recording
from fastgrad.replay cimport Replay
from fastgrad.slots cimport Slots
from fastgrad.trace cimport is_tracer

import numpy as np

from fastgrad.arguments import exact
from fastgrad.examine import examine
from fastgrad.linear import Linear
from fastgrad.pool import checked_threads
from fastgrad.replay import NoIndex
from fastgrad.signature import check_sums, order_of
from fastgrad.trace import TraceError, user_line


SERIAL_NS = 200_000  # a run of less work is not worth waking threads for


cdef class Traced:
    """One signature: a replay, and where its parameters stand in the program's list.

    Parameters
    ----------
    recording : Recording
    own : list of Value
        The recording's parameters.
    captured : Captured
        Those of the program.
    static : tuple of (str, object)
    output : tuple of int
        Shape of the output for one sample.
    hidden : list of (int, callable)
        Columns behind those of the arguments, and what fills them.
    """

    def __init__(
        self, Recording recording, list own, captured, tuple static, tuple output, list hidden
    ):
        self.replay = Replay(recording)
        self.captured, self.recording, self.places = captured, recording, captured.places(own)
        self.static, self.output, self.hidden = static, output, hidden
        self.linears, self.steered = {}, ()

    cdef tuple run(
        self, str mode, Batch batch, list names, int threads, theta, Optimizer optimizer, order
    ):
        """Do what `Replay.run` does; `names` are the arguments' for errors."""
        cdef Slots reader = self.captured.reader
        try:
            return self.replay.run(
                batch, reader, self.places, theta, mode, threads, optimizer, order
            )
        except NoIndex as error:
            sample, column = error.args
        what = "a computed index"
        if column is not None:
            sizes = [math.prod(shape) for shape in batch.shapes]
            number, at = 0, column
            while at >= sizes[number]:
                at -= sizes[number]
                number += 1
            what = f"{names[number]}, {batch.number(sample, column)!r} at place {at},"
        raise IndexError(
            f"sample {sample}: {what} is no index into the values given to take(): expected a "
            "whole number from 0 to their number less 1"
        )

    def check_indices(self, Batch batch, names):
        """Raise IndexError if one names nothing, as a run would."""
        self.run("forward", batch, names, 1, None, None, None)

    def describe(self):
        """What `Replay.describe` tells of it."""
        return self.replay.describe(self.output == (), 1 << 20)

    def examine(self, Batch batch, theta, gradient):
        """Find the first entry that is not finite, as `fastgrad.examine.examine`."""
        return examine(self.recording, batch, self.parameters(theta), gradient)

    def parameters(self, theta):
        """The recording's parameters, from those of the program: their data if None."""
        if theta is None:
            theta = np.array([value.data for value in self.captured.values], dtype=np.float64)
        return theta if self.places is None else theta[self.places]

    def linearised(self, key, numbers):
        """A `Linear` by what `key` names, nobody else's until it is `put_back`."""
        idle = self.linears.get(key)
        return idle.pop() if idle else Linear(self.recording, numbers())

    def put_back(self, key, linear):
        """Keep a `Linear` for the next one who wants it."""
        self.linears.setdefault(key, []).append(linear)

    cdef object order(self, tuple steered, name):
        """Where an optimizer's parameters stand in the gradient of the program of this name.

        -1 where nowhere; None for 0, 1, 2, ...
        """
        if self.steered is not steered:
            self.steered_order = self.new_order(steered, name)
            self.steered = steered
        return self.steered_order

    cdef object new_order(self, tuple steered, name):
        count = self.recording.parameters
        in_order = self.places is None and count == len(steered)
        if in_order and all(map(operator.is_, self.captured.values, steered)):
            return None  # as a rule, and without a table of ids
        return order_of(self.captured.own(self.places, count), steered, name)


cdef class Calls:
    """What `Program` inherits; it traces what is met for the first time."""

    @property
    def threads(self):
        """int or None: at most so many; None for `get_num_threads`. May be assigned."""
        return self.own_threads or None

    @threads.setter
    def threads(self, n):
        self.own_threads = 0 if n is None else checked_threads(n)

    def _prepare(self, tuple args, dict kwargs, bint gradient=False):
        """Check and convert the arguments, and find or trace their signature.

        Returns
        -------
        Traced
        Batch
        list of str
            The arguments' names.
        """
        return self.prepare(args, kwargs, gradient)

    cdef tuple prepare(self, tuple args, dict kwargs, bint gradient):
        cdef Traced traced
        cdef Batch batch
        if is_tracer():
            raise TraceError(
                f"{user_line()}: running a program inside of another would happen once, "
                "while that is recorded: call it on Values, or run it outside"
            )
        names, static = self._call.names, self._call.static
        if kwargs or static or len(args) != len(names):
            args, static, names = self._call.bind(args, kwargs)
        batch = new_batch(args, names)
        key = (batch.shapes, exact(static) if static else ())
        traced = self._traced.get(key)
        if traced is None:
            traced = self._trace(key, tuple(static), batch)
        if gradient and traced.output != ():
            raise ValueError(
                f"backward needs one number a sample, this program gives {traced.output}: "
                "return one Value, say the sum"
            )
        if gradient and batch.samples == 0:
            raise ValueError(f"{names[0]} has no samples: there is no mean, and no gradient")
        for count, fill in traced.hidden:
            batch.append(fill(batch.samples, count))
        return traced, batch, names

    def _run(self, str mode, Traced traced, Batch batch, list names, theta=None):
        """Run what `_prepare` has returned; the rest is as for `Replay.run`."""
        return self.run(mode, traced, batch, names, theta, None, None)

    def _descend(self, Optimizer optimizer, tuple steered, tuple args, dict kwargs):
        """Run forward and in reverse for `Optimizer.minimize`."""
        cdef Traced traced
        cdef Batch batch
        traced, batch, names = self.prepare(args, kwargs, True)
        order = traced.order(steered, self.__name__)
        return self.run("descend", traced, batch, names, None, optimizer, order)[0]

    cdef tuple run(
        self, str mode, Traced traced, Batch batch, list names, theta, Optimizer optimizer, order
    ):
        cdef int threads = self.own_threads or wanted_threads
        cdef bint gradient = mode != "forward"
        if threads > 1 and traced.replay.cost(gradient) * batch.samples < SERIAL_NS:
            threads = 1
        if self.check_finite or is_detecting():
            self._examine(traced, batch, theta, gradient)
            if gradient:  # into grads of their own first
                out = traced.run("return", batch, names, threads, theta, None, None)
                check_sums(out[1])
                if mode == "return":
                    return out
        return traced.run(mode, batch, names, threads, theta, optimizer, order)
