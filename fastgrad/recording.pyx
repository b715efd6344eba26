"""Recordings: the part of the tape that some outputs reach, copied and renumbered.

A recording is the tape's struct of arrays in small.  Numbers 0, 1, 2, ... name the parameters, in
the order of their slots: these are no entries, as a large model has far more of them than of
anything else.  The numbers from there on name the entries, in the order in which they were
recorded; entry k has the number parameters + k.  n-ary entries keep (first, count) of its own pool:

    LEAF                 a constant: val
    INPUT                a: which one
    elementary ops       a, b as on the tape
    DOT                  bias, (w, x)...
    RUN                  bias, first w, first x: a DOT whose w are parameters, side by side as its x
    DETACH, ARGMAX       x...
    TAKE, WHERE          index, x...; c, x, y
    CUSTOM               which of the custom operations, x...

Invariant: it never changes, and refers to nothing outside of itself but the functions of custom
operations, so it pickles as it is.
"""

import numpy

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free

from fastgrad.custom cimport custom_of
from fastgrad.record cimport handle, handle_of
from fastgrad.sweep cimport entry_rule
from fastgrad.tables cimport has_lines, line_at
from fastgrad.tape cimport (
    INNER, OP_CUSTOM, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_LOCAL, OP_MADE, OP_RUN, RULE,
    check_count, op_words, tape,
)

from fastgrad.trace import TraceError


cdef enum:
    LARGEST = (1 << 30) - 2  # numbers: a program has two slots for each, and SLOTS_FIXED


cdef class Recording:
    """See the head of this file.

    Parameters
    ----------
    parameters, inputs : int
        How many there are.
    arrays : tuple of ndarray
        Of the entries ``op`` uint8, ``a``, ``b`` int32, ``val`` float64; ``pool``, ``outputs``
        int32.
    lines : tuple (ndarray, tuple of str), optional
        For each entry the place of its "file:line" in the tuple, or -1; None if none was noted.
    customs : tuple of CustomOp
        What the first words of CUSTOM entries are places in.

    Raises
    ------
    MemoryError
        If it is too large for a program.
    """

    def __init__(self, parameters, inputs, arrays, lines=None, customs=()):
        cdef uint8_t[::1] op = arrays[0]
        cdef int32_t[::1] a = arrays[1], b = arrays[2], pool = arrays[4], outputs = arrays[5]
        cdef double[::1] val = arrays[3]
        self.parameters, self.inputs, self.arrays = parameters, inputs, arrays
        self.lines, self.customs = lines, customs
        self.size, self.output_count, self.pool_size = len(op), len(outputs), len(pool)
        check_count(self.parameters + self.size, "a program's parameters and entries", LARGEST)
        if self.size:
            self.op = &op[0]
            self.a, self.b = &a[0], &b[0]
            self.val = &val[0]
        self.pool = &pool[0] if len(pool) else NULL
        self.outputs = &outputs[0]

    def __reduce__(self):
        return Recording, (
            self.parameters, self.inputs, self.arrays, self.lines, self.customs
        )

    def line(self, entry):
        """The user's line that recorded an entry, as "file:line", or None."""
        if self.lines is None or self.lines[0][entry] < 0:
            return None
        return self.lines[1][self.lines[0][entry]]

    def input_numbers(self):
        """The number of each input, -1 where no output comes from it; an ndarray of int64."""
        cdef int64_t k
        numbers = numpy.full(self.inputs, -1, numpy.int64)
        for k in range(self.size):
            if self.op[k] == OP_INPUT:
                numbers[self.a[k]] = self.parameters + k
        return numbers

    def with_lines_of(self, other):
        """This recording with another's lines if that was recorded entry by entry alike."""
        for k in (0, 1, 2, 4, 5):  # constants may differ
            if not numpy.array_equal(self.arrays[k], other.arrays[k]):
                return self
        if self.customs != other.customs:
            return self
        return Recording(self.parameters, self.inputs, self.arrays, other.lines, self.customs)


cdef struct Reached:  # by the outputs
    int32_t *ids        # by slot: -1 an entry, -2 an input, -3 a parameter, 0 not reached
    int32_t start       # as `freeze` gets it, -1 for None
    int32_t first, end  # all parameters are from one to the other
    int64_t parameters, entries, words
    bint captured       # for derivatives


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
    recording, parameters, _ = copy(first, inputs, outputs, None)
    return recording, parameters


def capture(outputs, wanted):
    """Copy what the outputs reach, as it is now.

    Parameters
    ----------
    outputs, wanted : list of Value

    Returns
    -------
    Recording
    list of Value
        The parameters: leaves that somebody holds.
    ndarray of int64
        The recording's numbers of what is `wanted`, -1 where the outputs do not reach it.

    Raises
    ------
    TraceError
        If something was made by hand.
    """
    return copy(None, [], outputs, wanted)


cdef tuple copy(object first, list inputs, list outputs, list wanted):
    cdef int32_t end = tape.size  # finalizers may record while handles are made
    cdef Reached found = Reached(
        <int32_t *>calloc(end, sizeof(int32_t)), -1 if first is None else first, end, 0, 0, 0, 0,
        wanted is not None,
    )
    if found.ids == NULL:
        raise MemoryError(f"no memory for {end} numbers of entries")
    tape.pins += 1
    try:
        for value in inputs:
            found.ids[handle(value).slot] = -2
        reach(outputs, &found)
        parameters = number_parameters(&found)
        copied = copy_entries(inputs, outputs, &found)
        (<Recording>copied).lines = lines_of(&found, end)
        numbers = [found.ids[handle(value).slot] - 1 for value in wanted or ()]
        return copied, parameters, numpy.array(numbers, numpy.int64)
    finally:
        tape.pins -= 1
        free(found.ids)


cdef int reach(list outputs, Reached *found) except -1:
    """Mark what the outputs reach, and count it."""
    cdef int32_t slot, lowest = max(found.start, 0), top = lowest - 1, k
    cdef int32_t *pool
    cdef int op
    for value in outputs:
        slot = handle(value).slot
        top = max(top, slot)
        touch(slot, found)
    for slot in range(top, lowest - 1, -1):
        if found.ids[slot] == 0 or found.ids[slot] == -3:
            continue
        found.entries += 1
        if not tape.flags[slot] & INNER:
            continue
        op = tape.op[slot]
        if found.ids[slot] == -2:
            raise TraceError(f"an input must be a leaf, got {handle_of(slot)!r}, a result")
        if tape.flags[slot] & RULE and custom_of(slot) is not None:
            found.words += 1
        elif tape.flags[slot] & RULE or op == OP_MADE or op == OP_LOCAL:
            raise_rule(slot, found)
        if op < OP_FIRST_POOLED:
            touch(tape.a[slot], found)
            touch(tape.b[slot], found)
            continue
        pool = tape.pool + tape.a[slot]
        if op == OP_RUN:
            touch(pool[0], found)
            for k in range(tape.b[slot]):
                touch(pool[1] + k, found)
                touch(pool[2] + k, found)
        else:
            for k in range(op_words(op, tape.b[slot])):
                touch(pool[k], found)
        found.words += op_words(OP_DOT if op == OP_RUN else op, tape.b[slot])
    return 0


cdef int raise_rule(int32_t slot, Reached *found) except -1:
    what = "a derivative" if found.captured else "a program"
    if entry_rule(slot) is not None:
        raise TraceError(
            f"{what} cannot be made of {handle_of(slot)!r}, a checkpoint's: of how that was "
            "computed nothing is kept; build the graph without checkpoint()"
        )
    raise TraceError(
        f"{what} cannot run the rule of {handle_of(slot)!r}, a Value made by hand: "
        "build it from operators and functions"
    )


cdef inline int touch(int32_t slot, Reached *found) except -1:
    if found.ids[slot] == 0:
        if slot >= found.start >= 0:
            found.ids[slot] = -1
        else:
            touch_older(slot, found)
    return 0


cdef int touch_older(int32_t slot, Reached *found) except -1:
    """The same for what was there before a trace, if there is one."""
    if slot < found.start and tape.flags[slot] & RULE and entry_rule(slot) is None:
        raise_rule(slot, found)
    if slot < found.start and tape.flags[slot] & INNER:
        value = handle_of(slot)
        raise TraceError(
            f"the function uses {value!r}, the result of {value._op!r} outside of it: compute it "
            "inside, or detach() it outside to make it a parameter"
        )
    if slot >= found.start and (tape.flags[slot] & INNER or tape.owner[slot] == NULL):
        found.ids[slot] = -1
        return 0
    found.ids[slot] = -3
    found.first, found.end = min(found.first, slot), max(found.end, slot + 1)
    found.parameters += 1
    return 0


cdef list number_parameters(Reached *found):
    """Give parameters the ids 1, 2, 3, ..., in the order of their slots."""
    cdef list values = [None] * found.parameters
    cdef int32_t slot, number = 0
    for slot in range(found.first, found.end):
        if found.ids[slot] == -3:
            values[number] = handle_of(slot)
            number += 1
            found.ids[slot] = number
    return values


cdef Recording copy_entries(list inputs, list outputs, Reached *found):
    """Copy the entries whose ids are negative; ids then hold the new numbers plus 1."""
    cdef Recording copied
    cdef int32_t *ids = found.ids
    cdef int32_t slot, new = 0, k
    cdef int64_t count = found.entries, at = 0
    cdef int op
    customs = {}
    columns = {handle(value).slot: k for k, value in enumerate(inputs)}
    if len(columns) != len(inputs):
        raise ValueError("the same Value is given as input twice: make another Value")
    # The pool has so many words at most: a RUN that stays one takes three.
    arrays = [
        numpy.empty(count, numpy.uint8), numpy.empty(count, numpy.int32),
        numpy.empty(count, numpy.int32), numpy.zeros(count), numpy.empty(found.words, numpy.int32),
        numpy.empty(len(outputs), numpy.int32),
    ]
    copied = Recording(found.parameters, len(inputs), arrays)
    for slot in range(max(found.start, 0), tape.size):
        if new == count:
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
            copied.a[new] = <int32_t>at
            copied.b[new] = tape.b[slot]
            custom = custom_of(slot)
            if custom is not None:
                copied.op[new] = OP_CUSTOM
                copied.b[new] += 1
                copied.pool[at] = customs.setdefault(custom, len(customs))
                at += 1
            at = copy_words(slot, ids, copied, new, at)
            check_count(at, "the operands of a program")
        ids[slot] = <int32_t>found.parameters + new + 1
        new += 1
    for k in range(len(outputs)):
        copied.outputs[k] = ids[handle(outputs[k]).slot] - 1
    arrays[4] = arrays[4][:at].copy()
    return Recording(found.parameters, len(inputs), tuple(arrays), None, tuple(customs))


cdef tuple lines_of(Reached *found, int32_t end):
    """What the tape has noted for the entries that have been copied."""
    cdef int32_t slot
    if not has_lines():
        return None
    known = {}
    places = numpy.full(found.entries, -1, numpy.int32)
    for slot in range(end):
        line = line_at(slot) if found.ids[slot] > found.parameters else None
        if line is not None:
            places[found.ids[slot] - 1 - found.parameters] = known.setdefault(line, len(known))
    return (places, tuple(known)) if known else None


cdef int64_t copy_words(
    int32_t slot, int32_t *ids, Recording copied, int32_t new, int64_t at
) noexcept:
    cdef int32_t *words = tape.pool + tape.a[slot]
    cdef int64_t k
    cdef int32_t count = tape.b[slot]
    if tape.op[slot] != OP_RUN:
        for k in range(op_words(tape.op[slot], count)):
            copied.pool[at + k] = ids[words[k]] - 1
        return at + op_words(tape.op[slot], count)
    copied.pool[at] = ids[words[0]] - 1
    if side_by_side(ids + words[1], count, copied.parameters) and (
        ids[words[1]] <= copied.parameters
        and side_by_side(ids + words[2], count, copied.parameters)
    ):
        copied.pool[at + 1], copied.pool[at + 2] = ids[words[1]] - 1, ids[words[2]] - 1
        return at + 3
    copied.op[new] = OP_DOT
    for k in range(count):
        copied.pool[at + 2 * k + 1] = ids[words[1] + k] - 1
        copied.pool[at + 2 * k + 2] = ids[words[2] + k] - 1
    return at + op_words(OP_DOT, count)


cdef inline bint side_by_side(const int32_t *ids, int32_t count, int64_t parameters) noexcept:
    """Have consecutive slots consecutive numbers?  Those of one kind follow the slots."""
    return ids[count - 1] - ids[0] == count - 1 and (
        (ids[0] <= parameters) == (ids[count - 1] <= parameters)
    )
