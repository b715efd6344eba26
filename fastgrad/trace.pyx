"""Tracing: what must not happen while a function is recorded as a program.

A trace runs a function once on `Value` inputs and fixes the path that Python takes.  Whatever would
let that path, or a number on it, depend on the example raises `TraceError`: reading ``data``,
comparing, ``float()``, ``bool()``, ``backward()`` of an entry that depends on an input.

Invariant: while a trace is under way the tape is pinned, so that slots stay; the entries of the
trace are those from `first` on that depend on an input, so other threads may go on recording.

Threads: one trace at a time; whoever begins one holds a lock for it (``program.py``).
"""

import os
import sys
from pathlib import Path

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport realloc
from libc.string cimport memset

from fastgrad.tape cimport INNER, OP_FIRST_POOLED, OP_RUN, USED, Handle, make_room, op_words


cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() noexcept


cdef extern from *:
    """
    /* float(v), int(v) and bool(v) of a Value while a program is traced; at other times the type
     * has none of these, so that math.exp(v) is the TypeError that CPython words. */
    static void set_conversions(PyTypeObject *type, unaryfunc to_float, unaryfunc to_int,
                                inquiry to_bool)
    {
        PyNumberMethods *methods = type->tp_as_number;
        methods->nb_float = to_float;
        methods->nb_int = to_int;
        methods->nb_bool = to_bool;
    }
    """
    ctypedef object (*unaryfunc)(object)
    ctypedef int (*inquiry)(object) except -1
    void set_conversions(PyTypeObject *type, unaryfunc, unaryfunc, inquiry) noexcept


cdef object package = str(Path(__file__).parent) + os.sep
cdef int32_t first = 0  # entries below this slot were there before the trace
cdef unsigned long tracer = 0  # the thread that traces
cdef uint8_t *dependent = NULL  # an entry from `first` on, up to `known`: does it depend on inputs?
cdef int64_t known = 0, room = 0
cdef list inputs = None  # of the trace
cdef list hidden = None  # what `hidden_inputs` was given, call by call


class TraceError(TypeError):
    """A function does, while it is recorded as a program, what only an example could decide."""


def user_line():
    """Say which line of the user's code is being executed.

    Returns
    -------
    str
        ``"file:line"`` of the innermost Python frame outside of this package.

    Examples
    --------
    >>> user_line()
    '<doctest ...>:1'
    """
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def begin(numbers, lines=False):
    """Begin a trace.

    Parameters
    ----------
    numbers : list of float
        The example's inputs.
    lines : bool
        Whether entries remember the line of the user's code that recorded them.

    Returns
    -------
    int
        Slot from which on entries belong to the trace.
    list of Value
        The inputs.  Other threads may have recorded entries between them; `hidden_inputs` adds
        its own at the end.
    list of tuple (int, callable)
        To which `hidden_inputs` adds what it is given.
    """
    global first, tracer, known, inputs, hidden
    cdef int64_t count
    if tape.tracing:
        raise TraceError("a trace is under way already")
    make_room(len(numbers))
    tape.pins += 1
    try:
        known = 0
        first = tape.size
        inputs = [(<object>tape.type)(number) for number in numbers]
        count = tape.size - first
        grow(count)
        memset(dependent, 0, count)
        for value in inputs:
            dependent[(<Handle *><PyObject *>value).slot - first] = 1
        known = count
    except BaseException:
        tape.pins -= 1
        inputs = None
        raise
    hidden = []
    tracer = PyThread_get_thread_ident()
    tape.tracing = 2 if lines else 1
    tape.contexts += tape.tracing == 2
    set_conversions(tape.type, to_float, to_int, to_bool)
    return first, inputs, hidden


def hidden_inputs(count, fill):
    """Add inputs to this thread's trace that are no arguments: every run fills them itself.

    Parameters
    ----------
    count : int
    fill : callable
        ``fill(samples, count)`` gives an ndarray of float64, shape (samples, count), at each run.

    Returns
    -------
    list of Value
    """
    added = [(<object>tape.type)(1.0) for _ in range(count)]
    depends(tape.size - 1)  # makes room for all of them
    for value in added:
        dependent[(<Handle *><PyObject *>value).slot - first] = 1
    inputs.extend(added)
    hidden.append((count, fill))
    return added


def end():
    """End the trace, if this thread has one under way: entries may move again."""
    global inputs, hidden
    if is_tracer():
        set_conversions(tape.type, NULL, NULL, NULL)
        tape.contexts -= tape.tracing == 2
        tape.tracing = 0
        tape.pins -= 1
        inputs = hidden = None


def is_tracing():
    """Is this thread recording a program?"""
    return is_tracer()


cdef bint is_tracer() noexcept:
    return tape.tracing and PyThread_get_thread_ident() == tracer


cdef int grow(int64_t wanted) except -1:
    global dependent, room
    cdef uint8_t *moved
    if wanted > room:
        wanted += wanted // 2 + 64
        moved = <uint8_t *>realloc(dependent, wanted)
        if moved == NULL:
            raise MemoryError(f"no memory for a trace of {wanted} entries")
        dependent, room = moved, wanted
    return 0


cdef bint depends(int32_t slot) except -1:
    """Does an entry depend on an input of the trace that is under way?"""
    global known
    cdef int32_t at
    if slot < first:
        return False
    if slot - first >= known:
        grow(tape.size - first)
        for at in range(first + <int32_t>known, tape.size):
            dependent[at - first] = has_dependent_operand(at)
        known = tape.size - first
    return dependent[slot - first]


cdef inline bint is_dependent(int32_t slot) noexcept:
    return slot >= first and dependent[slot - first]


cdef bint has_dependent_operand(int32_t slot) noexcept:
    cdef int32_t k
    cdef int32_t *words
    if not tape.flags[slot] & INNER:
        return False
    if tape.op[slot] < OP_FIRST_POOLED:
        return is_dependent(tape.a[slot]) or is_dependent(tape.b[slot])
    words = tape.pool + tape.a[slot]
    if tape.op[slot] == OP_RUN:
        for k in range(tape.b[slot]):
            if is_dependent(words[1] + k) or is_dependent(words[2] + k):
                return True
        return is_dependent(words[0])
    for k in range(op_words(tape.op[slot], tape.b[slot])):
        if is_dependent(words[k]):
            return True
    return False


REMEDY = (
    "A program fixes one path through the code: express a choice by fastgrad.functional "
    "(where, maximum, minimum, max, argmax, take, softmax, cross_entropy), cut a gradient by "
    "detach(), and read numbers outside of the function"
)


cdef int refuse(int32_t slot, str what) except -1:
    if depends(slot):
        raise TraceError(f"{user_line()}: {what} a value that depends on an input. {REMEDY}")
    return 0


cdef int refuse_effect(str what) except -1:
    """Refuse what would happen once, while a program is recorded, and not at its runs."""
    if is_tracer():
        raise TraceError(
            f"{user_line()}: {what} inside of a program would happen once, while it is recorded: "
            "do it outside"
        )
    return 0


cdef int refuse_edit(int32_t slot, str what) except -1:
    """Refuse to change a Value that a program may use; a fresh one is not used yet."""
    if is_tracer() and (slot < first or tape.flags[slot] & (USED | INNER) or depends(slot)):
        refuse_effect(what)
    return 0


# ---- conversions


cdef object to_float(object value):
    refuse((<Handle *><PyObject *>value).slot, "float() of")
    raise TypeError(
        "float() argument must be a string or a real number, "
        f"not {type(value).__name__!r}"
    )


cdef object to_int(object value):
    refuse((<Handle *><PyObject *>value).slot, "int() of")
    raise TypeError(
        "int() argument must be a string, a bytes-like object or a real number, "
        f"not {type(value).__name__!r}"
    )


cdef int to_bool(object value) except -1:
    refuse((<Handle *><PyObject *>value).slot, "the truth of")
    return True
