"""Tables of what few entries have, by slot: labels left behind, partial sums, edits, lines.

Invariant: they know of entries on the tape only; collections renumber them.
"""

from cpython.exc cimport PyErr_Fetch, PyErr_Restore
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy

from fastgrad.tape cimport DATA_INT, DATA_NUMPY, ECHOES, INNER, USED, Handle, op_words, tape

cdef extern from "Python.h":
    bint PyObject_IS_GC(object)


cdef enum:
    OF_DATA = DATA_INT | DATA_NUMPY  # no entry that an edit is noted for is fused

tape.store_attributes = store_attributes
tape.note_edit = note_edit
cdef dict attic = {}  # attributes of a handle that died before its entry
cdef dict echoes = {}  # bytearray: adjoints of the hidden partial sums of a fused entry
cdef dict edits = {}  # list of (entries at the time, value, kind until then), for frozen partials
cdef dict lines = {}  # "file:line" that recorded it, for detect_anomaly


cdef object attributes_left_at(int32_t slot):
    """The attributes that an entry's last handle left behind, taken out; or None."""
    return attic.pop(slot, None) if attic else None


cdef double *partial_sums(int32_t slot) except NULL:
    """Adjoints of the partial sums of a fused entry that has been swept, first to last.

    After its first sweep all of them are the adjoint that the entry passed on.
    """
    cdef int64_t k, count = tape.b[slot]
    cdef double *sums
    if not tape.flags[slot] & ECHOES:
        echoes[slot] = bytearray(count * sizeof(double))
        tape.flags[slot] |= ECHOES
        sums = <double *><char *>(<bytearray>echoes[slot])
        for k in range(count):
            memcpy(&sums[k], tape.pool + tape.a[slot] + op_words(tape.op[slot], count),
                   sizeof(double))
    return <double *><char *>(<bytearray>echoes[slot])


cdef int set_line(int32_t slot, str line) except -1:
    """Remember which line recorded an entry."""
    lines[slot] = line
    return 0


cdef str line_at(int32_t slot):
    return lines.get(slot)


cdef bint has_lines() noexcept:
    return len(lines) > 0


# These three run at a handle's death, so perhaps with an error on its way, and may run Python
# code when they allocate: the error is put aside and the tape pinned meanwhile.


cdef void store_attributes(int32_t slot, Handle *handle) noexcept:
    """Let a graph that is drawn after the function that labelled it has returned show the labels.

    Only data is stored.  The cyclic collector does not look in here, so what might refer to a
    Value, and so keep its own graph alive for ever, dies with the handle.
    """
    cdef PyObject *error[3]
    PyErr_Fetch(&error[0], &error[1], &error[2])
    tape.pins += 1
    try:
        attributes = <dict>handle.attributes
        kept = {name: value for name, value in attributes.items() if is_data(value, 0)}
        if kept:
            attic[slot] = kept
    finally:
        tape.pins -= 1
        PyErr_Restore(error[0], error[1], error[2])


cdef tuple renumber_tables(int32_t first_dead, const int32_t *moved, int32_t end):
    """Let the tables follow their entries, which will move; drop what belongs to the dead.

    Returns the tables until now, to be let go of once entries have moved, for that may run Python
    code; None, and nothing is changed, if there is no memory.
    """
    global attic, echoes, edits, lines
    cdef PyObject *error[3]
    cdef int32_t slot, stale_below = 0
    if not attic and not echoes and not edits and not lines:
        return ()
    PyErr_Fetch(&error[0], &error[1], &error[2])
    tape.pins += 1
    try:
        before = (attic, echoes, edits, lines)
        after = ({}, {}, {}, {})
        for old, new in zip(before, after):
            for slot, kept in old.items():
                slot = renumber(slot, first_dead, moved)
                if slot >= 0:
                    new[slot] = kept
        forget_edits(after[2], first_dead, moved, end, &stale_below)
        attic, echoes, edits, lines = after
        tape.stale_below = stale_below
        return before
    except MemoryError:
        return None
    finally:
        tape.pins -= 1
        PyErr_Restore(error[0], error[1], error[2])


cdef void forget_from(int32_t end, int32_t before) noexcept:
    """Drop what the tables have of the entries from `end` to `before`, which are gone."""
    cdef PyObject *error[3]
    cdef int32_t slot
    if not attic and not echoes and not edits and not lines:
        return
    PyErr_Fetch(&error[0], &error[1], &error[2])
    tape.pins += 1
    try:
        for table in (attic, echoes, edits, lines):
            if table:
                for slot in range(end, before):
                    table.pop(slot, None)
        # What changed while they were recorded has changed before the next entry.
        for slot, known in edits.items():
            edits[slot] = [(min(size, end), value, kind) for size, value, kind in known]
        tape.stale_below = min(tape.stale_below, end)
    finally:
        tape.pins -= 1
        PyErr_Restore(error[0], error[1], error[2])


cdef void note_edit(int32_t slot) noexcept:
    """Remember an entry's value, which is about to change, for the entries that used it."""
    cdef PyObject *error[3]
    if not tape.flags[slot] & (USED | INNER):
        return
    PyErr_Fetch(&error[0], &error[1], &error[2])
    tape.pins += 1
    try:
        known = edits.setdefault(slot, [])
        if not known or known[len(known) - 1][0] != tape.size:
            known.append((tape.size, tape.val[slot], tape.flags[slot] & OF_DATA))
            tape.stale_below = tape.size
    finally:
        tape.pins -= 1
        PyErr_Restore(error[0], error[1], error[2])


cdef int read_recorded(int32_t slot, int32_t user, double *val, uint8_t *flags) except -1:
    """An entry's value at the time when `user` was recorded, and its flags with those of then."""
    val[0], flags[0] = tape.val[slot], tape.flags[slot]
    for size, value, kind in edits.get(slot, ()):
        if size > user:
            val[0] = value
            flags[0] = (flags[0] & ~OF_DATA) | <uint8_t>kind
            break
    return 0


cdef int forget_edits(
    dict known, int32_t first_dead, const int32_t *moved, int32_t end, int32_t *stale_below
) except -1:
    """Renumber the edits' times too; drop edits that came before all entries that will be left."""
    cdef int32_t lowest = 0, size, now
    while lowest < tape.size and not (
        tape.flags[lowest] & INNER and renumber(lowest, first_dead, moved) >= 0
    ):
        lowest += 1
    lowest = renumber(lowest, first_dead, moved) if lowest < tape.size else end
    times = {}
    for slot in list(known):
        kept = []
        for size, value, kind in known[slot]:
            if size not in times:
                now = size
                while now < tape.size and renumber(now, first_dead, moved) < 0:
                    now += 1
                times[size] = renumber(now, first_dead, moved) if now < tape.size else end
            if times[size] > lowest:
                kept.append((times[size], value, kind))
                stale_below[0] = max(stale_below[0], <int32_t>times[size])
        if kept:
            known[slot] = kept
        else:
            del known[slot]
    return 0


cdef bint is_data(object value, int depth) noexcept:
    """Does the value consist of plain data, as far as one can see?"""
    if not PyObject_IS_GC(value):  # but an array may hold objects
        return not getattr(getattr(value, "dtype", None), "hasobject", False)
    if depth == 8:
        return False
    if type(value) is dict:
        return is_data([*value, *value.values()], depth + 1)
    if type(value) not in (list, tuple, set, frozenset):
        return False
    for item in value:
        if not is_data(item, depth + 1):
            return False
    return True
