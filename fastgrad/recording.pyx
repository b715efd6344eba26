"""Recordings: the part of the tape that some outputs reach, copied and renumbered.

A recording is the tape's struct of arrays in small: the parameters first, in the order of their
slots, then what was recorded, in that order.  n-ary entries keep (first, count) of its own pool:

    LEAF                 a constant: val
    PARAMETER, INPUT     a: which one
    elementary ops       a, b as on the tape
    DOT                  bias, (w, x)...
    DETACH, ARGMAX       x...
    TAKE, WHERE          index, x...; c, x, y

Invariant: it never changes, and refers to nothing outside of itself, so it pickles as it is.
"""

import numpy

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free, qsort, realloc

from fastgrad.record cimport handle, handle_of
from fastgrad.tape cimport (
    INNER, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_LOCAL, OP_MADE, OP_RUN, RULE, has_lines, line_at,
    op_words, tape,
)

from fastgrad.trace import TraceError


cdef class Recording:
    """See the head of this file.

    Parameters
    ----------
    parameters, inputs : int
        How many there are.
    arrays : tuple of ndarray
        ``op`` uint8, ``a``, ``b`` int32, ``val`` float64, all as long; ``pool``, ``outputs`` int32.
    lines : tuple (ndarray, tuple of str), optional
        For each entry the place of its "file:line" in the tuple, or -1; None if none was noted.
    """

    def __init__(self, parameters, inputs, arrays, lines=None):
        cdef uint8_t[::1] op = arrays[0]
        cdef int32_t[::1] a = arrays[1], b = arrays[2], pool = arrays[4], outputs = arrays[5]
        cdef double[::1] val = arrays[3]
        self.parameters, self.inputs, self.arrays = parameters, inputs, arrays
        self.lines = lines
        self.size, self.output_count, self.pool_size = len(op), len(outputs), len(pool)
        self.op = &op[0]
        self.a, self.b = &a[0], &b[0]
        self.val = &val[0]
        self.pool = &pool[0] if len(pool) else NULL
        self.outputs = &outputs[0]

    def __reduce__(self):
        return Recording, (self.parameters, self.inputs, self.arrays, self.lines)

    def line(self, entry):
        """The user's line that recorded an entry, as "file:line", or None."""
        if self.lines is None or self.lines[0][entry] < 0:
            return None
        return self.lines[1][self.lines[0][entry]]

    def with_lines_of(self, other):
        """This recording with another's lines if that was recorded entry by entry alike."""
        for k in (0, 1, 2, 4, 5):  # constants may differ
            if not numpy.array_equal(self.arrays[k], other.arrays[k]):
                return self
        return Recording(self.parameters, self.inputs, self.arrays, other.lines)


cdef struct Found:  # slots of parameters
    int32_t *slots
    int64_t size
    int64_t room


cdef int by_slot(const void *left, const void *right) noexcept nogil:
    return (<const int32_t *>left)[0] - (<const int32_t *>right)[0]


def freeze(first, inputs, outputs):
    """Copy what the outputs reach.

    Parameters
    ----------
    first : int or None
        Slot of the first entry of a trace: what lies below was there before, must be a leaf, and
        is a parameter. None to copy a whole graph: then a leaf that somebody holds is a parameter.
    inputs, outputs : list of Value

    Returns
    -------
    Recording
    list of Value
        The parameters.

    Raises
    ------
    TraceError
        If a captured value is no leaf, or something was made by hand.
    """
    cdef int32_t *ids = <int32_t *>calloc(tape.size, sizeof(int32_t))
    cdef int32_t end = tape.size  # finalizers may record while handles are made
    cdef Found found = Found(NULL, 0, 0)
    cdef int64_t count = 0, words = 0
    cdef int32_t start = -1 if first is None else first
    if ids == NULL:
        raise MemoryError(f"no memory for {tape.size} numbers of entries")
    tape.pins += 1
    try:
        for value in inputs:
            ids[handle(value).slot] = -2
        count = reach(start, outputs, ids, &found, &words)
        parameters = number_parameters(ids, &found)
        copied = copy_entries(start, inputs, outputs, ids, found.size, count, words)
        (<Recording>copied).lines = lines_of(ids, end, copied.size)
        return copied, parameters
    finally:
        tape.pins -= 1
        free(ids)
        free(found.slots)


cdef int64_t reach(
    int32_t start, list outputs, int32_t *ids, Found *found, int64_t *words
) except -1:
    """Set ids to -1 where the outputs reach, -3 for parameters; returns how many entries."""
    cdef int32_t slot, top = max(start, 0) - 1, k
    cdef int64_t count = 0
    cdef int32_t *pool
    cdef int op
    for value in outputs:
        slot = handle(value).slot
        top = max(top, slot)
        touch(slot, start, ids, found)
    for slot in range(top, max(start, 0) - 1, -1):
        if ids[slot] == 0 or ids[slot] == -3:
            continue
        count += 1
        if not tape.flags[slot] & INNER:
            continue
        op = tape.op[slot]
        if ids[slot] == -2:
            raise TraceError(f"an input must be a leaf, got {handle_of(slot)!r}, a result")
        if tape.flags[slot] & RULE or op == OP_MADE or op == OP_LOCAL:
            raise_rule(slot)
        if op < OP_FIRST_POOLED:
            touch(tape.a[slot], start, ids, found)
            touch(tape.b[slot], start, ids, found)
            continue
        pool = tape.pool + tape.a[slot]
        if op == OP_RUN:
            touch(pool[0], start, ids, found)
            for k in range(tape.b[slot]):
                touch(pool[1] + k, start, ids, found)
                touch(pool[2] + k, start, ids, found)
            words[0] += op_words(OP_DOT, tape.b[slot])
        else:
            for k in range(op_words(op, tape.b[slot])):
                touch(pool[k], start, ids, found)
            words[0] += op_words(op, tape.b[slot])
    return count


cdef int raise_rule(int32_t slot) except -1:
    raise TraceError(
        f"a program cannot run the rule of {handle_of(slot)!r}, a Value made by hand: "
        "build it from operators and functions"
    )


cdef inline int touch(int32_t slot, int32_t start, int32_t *ids, Found *found) except -1:
    if ids[slot] == 0:
        return touch_first(slot, start, ids, found)
    return 0


cdef int touch_first(int32_t slot, int32_t start, int32_t *ids, Found *found) except -1:
    cdef int32_t *moved
    if slot < start and tape.flags[slot] & RULE:
        raise_rule(slot)
    if slot < start and tape.flags[slot] & INNER:
        value = handle_of(slot)
        raise TraceError(
            f"the function uses {value!r}, the result of {value._op!r} outside of it: compute it "
            "inside, or detach() it outside to make it a parameter"
        )
    if slot >= start and (
        start >= 0 or tape.flags[slot] & INNER or tape.owner[slot] == NULL
    ):
        ids[slot] = -1
        return 0
    ids[slot] = -3
    if found.size == found.room:
        found.room = 2 * found.room + 64
        moved = <int32_t *>realloc(found.slots, found.room * sizeof(int32_t))
        if moved == NULL:
            raise MemoryError(f"no memory for {found.room} parameters")
        found.slots = moved
    found.slots[found.size] = slot
    found.size += 1
    return 0


cdef list number_parameters(int32_t *ids, Found *found):
    cdef int64_t k
    if found.size:
        qsort(found.slots, found.size, sizeof(int32_t), by_slot)
    for k in range(found.size):
        ids[found.slots[k]] = <int32_t>k + 1
    return [handle_of(found.slots[k]) for k in range(found.size)]


cdef Recording copy_entries(
    int32_t start, list inputs, list outputs, int32_t *ids, int64_t parameters, int64_t count,
    int64_t words
):
    """Copy the entries whose ids are negative; ids then hold the new numbers plus 1."""
    cdef Recording copied
    cdef int32_t slot, new = <int32_t>parameters, at = 0, k
    cdef int op
    columns = {handle(value).slot: k for k, value in enumerate(inputs)}
    if len(columns) != len(inputs):
        raise ValueError("the same Value is given as input twice: make another Value")
    size = parameters + count
    arrays = (
        numpy.empty(size, numpy.uint8), numpy.empty(size, numpy.int32),
        numpy.empty(size, numpy.int32), numpy.zeros(size), numpy.empty(words, numpy.int32),
        numpy.empty(len(outputs), numpy.int32),
    )
    copied = Recording(parameters, len(inputs), arrays)
    for k in range(<int32_t>parameters):
        copied.op[k] = OP_PARAMETER
        copied.a[k] = copied.b[k] = k
    for slot in range(max(start, 0), tape.size):
        if new == size:
            break
        if ids[slot] >= 0:
            continue
        op = tape.op[slot]
        copied.op[new] = op
        copied.a[new] = copied.b[new] = 0
        copied.val[new] = tape.val[slot]
        if ids[slot] == -2:
            copied.op[new] = OP_INPUT
            copied.a[new] = columns[slot]
        elif op == OP_LEAF:
            pass
        elif op < OP_FIRST_POOLED:
            copied.a[new] = ids[tape.a[slot]] - 1
            copied.b[new] = ids[tape.b[slot]] - 1
        else:
            copied.a[new] = at
            copied.b[new] = tape.b[slot]
            at = copy_words(slot, ids, copied, new, at)
        ids[slot] = new + 1
        new += 1
    for k in range(len(outputs)):
        copied.outputs[k] = ids[handle(outputs[k]).slot] - 1
    return copied


cdef tuple lines_of(const int32_t *ids, int32_t end, int64_t size):
    """What the tape has noted for the entries that have been copied."""
    cdef int32_t slot
    if not has_lines():
        return None
    known = {}
    places = numpy.full(size, -1, numpy.int32)
    for slot in range(end):
        line = line_at(slot) if ids[slot] > 0 else None
        if line is not None:
            places[ids[slot] - 1] = known.setdefault(line, len(known))
    return (places, tuple(known)) if known else None


cdef int32_t copy_words(
    int32_t slot, int32_t *ids, Recording copied, int32_t new, int32_t at
) noexcept:
    cdef int32_t *words = tape.pool + tape.a[slot]
    cdef int32_t k
    if tape.op[slot] != OP_RUN:
        for k in range(op_words(tape.op[slot], tape.b[slot])):
            copied.pool[at + k] = ids[words[k]] - 1
        return at + <int32_t>op_words(tape.op[slot], tape.b[slot])
    copied.op[new] = OP_DOT
    copied.pool[at] = ids[words[0]] - 1
    for k in range(tape.b[slot]):
        copied.pool[at + 2 * k + 1] = ids[words[1] + k] - 1
        copied.pool[at + 2 * k + 2] = ids[words[2] + k] - 1
    return at + <int32_t>op_words(OP_DOT, tape.b[slot])
