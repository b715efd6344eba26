"""Contexts: what ``with no_grad()`` and ``with detect_anomaly()`` change, for one thread alone.

`tape.contexts` says how many are open in any thread.  That number is all that an operator tests;
where it is not 0, `modes` says what holds for the thread (or task) that asks.

Invariant: nothing here runs Python code of the user's, so slots that a caller holds stay valid.

What is checked inside of detect_anomaly is in ``record.pyx``, ``sweep.pyx`` and ``examine.pyx``.
"""

import sys
from contextlib import ContextDecorator
from contextvars import ContextVar

from fastgrad.tables cimport set_line
from fastgrad.tape cimport tape
from fastgrad.trace cimport is_tracer

from fastgrad.trace import TraceError, user_line

cdef extern from "Python.h":
    bint PyGC_Disable()
    bint PyGC_Enable()


cdef object innermost = ContextVar("fastgrad_context", default=None)


class Opened:
    """One ``with`` block: a task or generator that inherits it sees when it has ended."""

    __slots__ = ("is_open", "modes", "outer")

    def __init__(self, modes, outer):
        self.is_open = True
        self.modes = modes
        self.outer = outer


cdef int modes() noexcept:
    """Which modes hold here, or-ed together.  Asked only while `tape.contexts` is not 0."""
    cdef int found = 0
    if is_tracer():  # what a program does is not up to where it happens to be traced
        return NOTED if tape.tracing == 2 else 0
    opened = innermost.get()
    while opened is not None:
        if opened.is_open:
            found |= <int>opened.modes
        opened = opened.outer
    return found


cdef object resume():
    """Let operations record, also inside of no_grad; returns what `pause_again` ends it with."""
    return innermost.set(Opened(modes() & ~PAUSED, None))


cdef int pause_again(object token) except -1:
    innermost.reset(token)
    return 0


cpdef bint is_detecting() noexcept:
    """Is this thread inside of detect_anomaly?"""
    return tape.contexts and modes() & CHECKED


cdef int note_lines(int32_t first, int32_t end) except -1:
    """Let entries remember the user's line that is being executed, where that is wanted.

    `first` may be the entry that is appended next: no finalizer comes in between.
    """
    cdef bint collector_on
    cdef int32_t slot
    if not modes() & NOTED:
        return 0
    collector_on = PyGC_Disable()
    try:
        line = sys.intern(user_line())  # shared by the entries, gone with the last of them
        for slot in range(first, end):
            set_line(slot, line)
    finally:
        if collector_on:
            PyGC_Enable()
    return 0


class _Context(ContextDecorator):
    """What the contexts have in common; they nest, and one object may be entered many times."""

    def __init__(self):
        self._opened = []

    def _recreate_cm(self):
        return type(self)()  # as a decorator it may run in several threads at once

    def __enter__(self):
        if is_tracer():
            raise TraceError(
                f"{user_line()}: {type(self).__name__}() inside of a program: {self._instead}"
            )
        opened = Opened(self._modes, innermost.get())
        self._opened.append(opened)
        innermost.set(opened)
        tape.contexts += 1
        return self

    def __exit__(self, *error):
        opened = self._opened.pop()
        opened.is_open = False
        tape.contexts -= 1
        if innermost.get() is opened:
            innermost.set(opened.outer)
        return False


class no_grad(_Context):
    """Context manager and decorator under which operations give leaves.

    Values computed inside have data but no operands: nothing is recorded behind them, and a
    ``backward()`` that reaches them stops there.  Contexts nest.

    Threads: applies to the thread (or asyncio task) that entered it alone.

    Examples
    --------
    >>> from fastgrad import Value, no_grad
    >>> w = Value(3.0)
    >>> with no_grad():
    ...     y = w * 2
    >>> y._prev, (w * 2)._op
    (set(), '*')
    """

    _modes = PAUSED
    _instead = "cut gradients by detach()"


class detect_anomaly(_Context):
    """Context manager and decorator under which the first nan or inf raises, naming its line.

    An operation that gives nan or inf raises FloatingPointError, and so does ``backward()`` where
    it would make the adjoint of an operand nan or inf.  The error says which operation it was, on
    which numbers, and which line of your code recorded it.  nan or inf that you put in yourself,
    as the data of a leaf, is reported by the first operation that passes it on.  Programs of
    `fastgrad.compile` that are called inside run as with ``check_finite=True``.

    It replaces the errors that the operators raise of themselves (``0.0 ** -1`` is a
    ZeroDivisionError outside). All numbers are the same to the last bit, but everything is
    slower: it is for looking for an error.  Contexts nest.

    Threads: applies to the thread (or asyncio task) that entered it alone.

    Notes
    -----
    Open it around the forward pass and ``backward()``: the line of an entry that was recorded
    outside is not known.  Layers record their neurons sum by sum, as `nn.Neuron` does.

    Examples
    --------
    >>> from fastgrad import Value, detect_anomaly
    >>> x = Value(1e200)
    >>> with detect_anomaly():
    ...     y = x * x
    Traceback (most recent call last):
    FloatingPointError: <doctest ...>:2: * gave inf from (1e+200, 1e+200)
    """

    _modes = CHECKED | NOTED
    _instead = "compile it with check_finite=True, or open the context around the call"
