"""Custom operations: a function of floats with its partials, as one entry.

On the tape such an entry is one made by hand whose rule is a `CustomOp`; a recording keeps it as
OP_CUSTOM (``recording.pyx``), and the kernels come back here for it, a run of entries at a time.

Invariant: what a user's function returns is checked before anything is added or written.

Threads: the functions run under the GIL, in a program's run on any of its threads.
"""

import pickle
import sys

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int32_t, int64_t

from fastgrad.contexts cimport CHECKED, modes
from fastgrad.record cimport (
    attributes_of, describe, handle, is_value, link_children, read_number, set_rule, unusual_made,
)
from fastgrad.row cimport check_operand, value_of
from fastgrad.sweep cimport EntryRule, Sweep, check_adjoints, entry_rule, mark_operands
from fastgrad.tape cimport GRAD_INT, tape
from fastgrad.trace cimport depends, is_tracer


cdef class CustomOp(EntryRule):
    """An operation of one's own on Values, made by `custom_op`; call it as a function.

    Parameters
    ----------
    forward, partials, second, name
        As `custom_op` takes them.

    Raises
    ------
    TypeError
        If `forward`, `partials` or a given `second` cannot be called, or `name` is no string.
    """

    def __init__(self, forward, partials, second=None, name=None):
        for what, function in (("forward", forward), ("partials", partials), ("second", second)):
            if not callable(function) and (what != "second" or function is not None):
                raise TypeError(
                    f"custom_op: {what} must be a function of floats, got {describe(function)}"
                )
        if name is None:
            name = getattr(forward, "__name__", type(forward).__name__)
        if not isinstance(name, str):
            raise TypeError(f"custom_op: name must be a string, got {describe(name)}")
        self.forward, self.partials, self.second, self.name = forward, partials, second, name

    def __repr__(self):
        return f"<custom op {self.name}>"

    def __call__(self, *operands):
        """Apply it.

        Parameters
        ----------
        *operands : Value or number
            At least one. Numbers become leaves, as beside an operator.

        Returns
        -------
        Value

        Raises
        ------
        TypeError
            If an operand is something else, or a function returns what it should not.
        ValueError
            If a function returns too many numbers, or too few.
        """
        if not operands:
            raise TypeError(f"{self.name}: expected at least one operand, a number or a Value")
        for k, operand in enumerate(operands):
            check_operand(operand, self.name, f"operand {k}")
        values = tuple([value_of(operand) for operand in operands])
        number = 1.0
        if not depends_on_input(values):  # else the runs will call it
            number = self.value([tape.val[handle(value).slot] for value in values])
        if tape.contexts and unusual_made(self.name, number, values):
            return (<object>tape.type)(number)
        out = (<object>tape.type)(number)
        link_children(out, values, None, True)
        set_rule(handle(out), self)
        attributes_of(out)["_op"] = self.name
        return out

    cdef int push(self, int32_t slot, Sweep *sweep) except -1:
        cdef int32_t k, operand, count = tape.b[slot], first = tape.a[slot]
        cdef bint checked = tape.contexts and modes() & CHECKED if sweep == NULL else sweep.checked
        cdef double partial
        before = [tape.adj[tape.pool[first + k]] for k in range(count)] if checked else None
        numbers = self.partials_at([tape.val[tape.pool[first + k]] for k in range(count)])
        for k in range(count):
            operand, partial = tape.pool[first + k], numbers[k]
            tape.adj[operand] += partial * tape.adj[slot]
            tape.flags[operand] &= ~GRAD_INT
        if checked:
            check_adjoints(slot, before)
        if sweep != NULL:
            mark_operands(slot, sweep)
        return 0

    # ---- the functions, what they return checked

    cpdef double value(self, xs) except? -1:
        """The result, for operands given as floats."""
        cdef double number = 0.0
        cdef int kind = 0
        result = self.forward(*xs)
        if is_value(result) or not read_number(result, &number, &kind):
            raise self.failure("forward", "a number", result, TypeError)
        return number

    cpdef list partials_at(self, xs):
        """The partial derivatives, a float an operand."""
        return self.numbers("partials", self.partials(*xs), len(xs))

    def second_at(self, xs):
        """The second partial derivatives: a row an operand, with a float an operand.

        Parameters
        ----------
        xs : list of float

        Returns
        -------
        list of list of float

        Raises
        ------
        TypeError
            If the operation was made without `second`, or that returns something else.
        ValueError
            If that returns another number of rows, or a row of another length.
        """
        if self.second is None:
            raise TypeError(
                f"{self.name} has no second partials, which this derivative needs: "
                "give custom_op a function as `second`"
            )
        rows = self.items("second", self.second(*xs), len(xs), "rows")
        return [self.numbers("second", row, len(xs)) for row in rows]

    cdef tuple items(self, str function, object result, Py_ssize_t count, str what):
        """The result of a function as a tuple of so many items."""
        cdef str expected = f"a sequence of {count} {what}, one for each operand"
        if isinstance(result, (str, bytes)) or is_value(result):
            raise self.failure(function, expected, result, TypeError)
        try:
            found = tuple(result)
        except TypeError:
            raise self.failure(function, expected, result, TypeError) from None
        if len(found) != count:
            raise self.failure(function, expected, result, ValueError)
        return found

    cdef list numbers(self, str function, object result, Py_ssize_t count):
        """The same as a list of floats."""
        cdef double number = 0.0
        cdef int kind = 0
        cdef list found = []
        for item in self.items(function, result, count, "numbers"):
            if is_value(item) or not read_number(item, &number, &kind):
                raise self.failure(function, "numbers", item, TypeError)
            found.append(number)
        return found

    cdef object failure(self, str function, str expected, object got, type kind):
        hint = ": compute with floats" if is_value(got) else ""
        return kind(
            f"{self.name}: {function} must return {expected}, got {describe(got)}{hint}"
        )

    # ---- copies

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        """By reference to the functions."""
        for what in ("forward", "partials", "second"):
            function = getattr(self, what)
            name, module = (getattr(function, a, None) for a in ("__qualname__", "__module__"))
            found = sys.modules.get(module)
            for part in (name or "").split("."):
                found = getattr(found, part, None)
            if name is not None and found is not function:
                raise pickle.PicklingError(
                    f"cannot pickle {self.name}, a custom op: its {what} {describe(function)} is "
                    f"not found as {module}.{name}; expected a function that is defined by def at "
                    "the top level of a module"
                )
        return CustomOp, (self.forward, self.partials, self.second, self.name)


def custom_op(forward, partials, second=None, *, name=None):
    """Make an operation of functions of floats, which takes part like the built-in ones.

    Its result is one entry of the tape, whatever the functions do: `forward` is called when the
    operation is, `partials` when ``backward()`` comes to it. In a program of `fastgrad.compile`
    they are called for each sample.

    Parameters
    ----------
    forward : callable
        ``forward(x0, x1, ...)`` with a float for each operand gives a number.
    partials : callable
        ``partials(x0, x1, ...)`` gives a sequence of numbers: the partial derivative by each
        operand.
    second : callable, optional
        ``second(x0, x1, ...)`` gives a matrix as nested sequences: row i has the partial
        derivatives of the i-th partial. Without it what needs second derivatives raises TypeError.
    name : str, optional
        What ``_op`` shows; by default the name of `forward`.

    Returns
    -------
    CustomOp
        A function of Values and numbers, with the attributes ``forward``, ``partials``, ``second``
        and ``name``.

    Raises
    ------
    TypeError
        If `forward`, `partials` or a given `second` cannot be called, or `name` is no string.

    Notes
    -----
    The functions must give the same for the same numbers: programs compute what occurs twice once.
    An error that they raise comes out of the operation, of ``backward()``, or of the call of the
    program, which then has changed nothing. Nothing checks the partials against `forward`.

    A program with the operation pickles if the functions do, by their names.

    Threads: under the GIL; programs call them from their own threads too.

    Examples
    --------
    >>> import math
    >>> from fastgrad import Value, custom_op
    >>> hypot = custom_op(
    ...     math.hypot, lambda x, y: (x / math.hypot(x, y), y / math.hypot(x, y)))
    >>> x, y = Value(3.0), Value(4.0)
    >>> z = hypot(x, y)
    >>> z.backward()
    >>> z.data, z._op, x.grad, y.grad
    (5.0, 'hypot', 0.6, 0.8)
    """
    return CustomOp(forward, partials, second, name)


cdef bint depends_on_input(tuple values) except -1:
    """Is a program being traced, in which these are other at each run?"""
    if is_tracer():
        for value in values:
            if depends(handle(value).slot):
                return True
    return False


cdef CustomOp custom_of(int32_t slot):
    """The operation of an entry, if it is one of these."""
    rule = entry_rule(slot)
    return <CustomOp>rule if isinstance(rule, CustomOp) else None


# ---- in programs


cdef class Calls:
    """Where a run of a program has its operations, and the error that one has raised."""

    def __cinit__(self, tuple customs):
        self.customs = customs


cdef const int32_t *call_customs(
    void *calls, int back, int32_t n, const int32_t *code, double *workspace, int64_t lanes,
    int64_t samples
) noexcept with gil:
    """Do `n` places of a code stream; returns where it goes on, or NULL after an error.

    Only `samples` of the lanes are computed: the others repeat the last.
    """
    cdef Calls run = <Calls>calls
    if run.failed:  # of another thread: this one need not go on
        return NULL
    try:
        for _ in range(n):
            PyErr_CheckSignals()
            if back:
                code = add_partials(run, code, workspace, lanes, samples)
            else:
                code = compute(run, code, workspace, lanes, samples)
        return code
    except BaseException as error:
        run.error, run.failed = error, True
        return NULL


cdef list operands_in(
    const int32_t *slots, int32_t count, const double *workspace, int64_t lanes, int64_t lane
):
    return [workspace[slots[k] * lanes + lane] for k in range(count)]


cdef const int32_t *compute(
    Calls run, const int32_t *code, double *workspace, int64_t lanes, int64_t samples
) except NULL:
    cdef CustomOp op = run.customs[code[1]]
    cdef int32_t count = code[2]
    cdef double *to = workspace + code[0] * lanes
    cdef int64_t lane
    for lane in range(samples):
        to[lane] = op.value(operands_in(code + 3, count, workspace, lanes, lane))
    for lane in range(samples, lanes):
        to[lane] = to[samples - 1]
    return code + 3 + count


cdef const int32_t *add_partials(
    Calls run, const int32_t *code, double *workspace, int64_t lanes, int64_t samples
) except NULL:
    cdef CustomOp op = run.customs[code[0]]
    cdef int32_t count = code[2], k
    cdef const double *g = workspace + code[1] * lanes
    cdef const int32_t *pairs = code + 3 + count
    cdef int64_t lane
    cdef double partial
    numbers = None
    for lane in range(lanes):
        if lane < samples:
            numbers = op.partials_at(operands_in(code + 3, count, workspace, lanes, lane))
        for k in range(count):  # one after the other: they may be one operand
            partial = numbers[k]
            workspace[pairs[2 * k + 1] * lanes + lane] = (
                workspace[pairs[2 * k] * lanes + lane] + partial * g[lane]
            )
    return pairs + 2 * count
