"""The tape: this process's one growing Wengert list.

Here live its storage, its reclamation and the views that Python has of it; the picture of the
struct of arrays is in ``kernels/tape.h``, the table of operations in ``kernels/ops.h``.

Invariant: operands lie below the entries that use them, and outside of a sweep every mark is 0.

The tape is a bump allocator with a compacting collector.  When it has grown to twice what survived
last time, entries that no live handle reaches are dropped and the others slide together; order
is kept, so slots stay topological, and each live handle is told its new slot.  That costs O(1) an
entry, amortised.  A collection out of turn, when the root of a graph dies in a large tape, is paid
for by credit that entries and deaths have earned.

Recording is in ``value.pyx``, the reverse sweep in ``sweep.pyx``.

Threads: everything here runs under the GIL and never lets go of it half way.
"""

from cpython.exc cimport PyErr_Fetch, PyErr_Restore
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

cdef extern from "Python.h":
    bint PyObject_IS_GC(object)
    bint PyGC_Disable()
    bint PyGC_Enable()


cdef enum:
    FLOOR = 1 << 15  # entries below which collecting is not worth it: 1.1 MB
    LARGE = 1 << 18  # entries from which giving memory back is worth it: 9 MB
    CREDIT_OF_ENTRY = 3  # doublings spend less than 2 of it, so a root's death finds the rest
    CREDIT_OF_DEATH = 2
    OF_DATA = DATA_INT | DATA_NUMPY  # no entry that an edit is noted for is fused

tape.dialect.fresh = tape.dialect.seed = GRAD_INT
tape.dialect.kinds = 255
tape.root_died = root_died
tape.store_attributes = store_attributes
tape.note_edit = note_edit
# What few entries have, by slot.
cdef dict attic = {}  # attributes of a handle that died before its entry
cdef dict echoes = {}  # bytearray: adjoints of the hidden partial sums of a fused entry
cdef dict edits = {}  # list of (entries at the time, value, kind until then), for frozen partials
cdef dict lines = {}  # "file:line" that recorded it, for detect_anomaly


# ---- storage


cpdef int check_count(int64_t count, str what, int64_t most=MOST) except -1:
    """Refuse more of something than is numbered in 32 bits, before anything is written.

    Parameters
    ----------
    count : int
    what : str
        What it is that is counted, for the error: "the tape's entries".
    most : int

    Raises
    ------
    MemoryError
        If `count` is more than `most`.

    Examples
    --------
    >>> check_count(2**31, "the tape's entries")
    Traceback (most recent call last):
    MemoryError: the tape's entries: 2147483648 are needed, at most 2147483631 can be numbered
    """
    if count > most:
        raise MemoryError(f"{what}: {count} are needed, at most {most} can be numbered")
    return 0


cdef int resize_array(void **array, int64_t count, size_t size) except -1:
    cdef void *moved = realloc(array[0], <size_t>count * size)
    if moved == NULL:
        raise MemoryError(f"no memory for {count} entries of {size} bytes on the tape")
    array[0] = moved
    return 0


cdef int resize(int64_t capacity) except -1:
    """Give every array `capacity` entries; after a failure each still has `tape.capacity`."""
    own_values()
    tape.capacity = min(<int64_t>tape.capacity, capacity)
    resize_array(<void **>&tape.val, capacity, sizeof(double))
    resize_array(<void **>&tape.adj, capacity, sizeof(double))
    resize_array(<void **>&tape.a, capacity, sizeof(int32_t))
    resize_array(<void **>&tape.b, capacity, sizeof(int32_t))
    resize_array(<void **>&tape.op, capacity, 1)
    resize_array(<void **>&tape.flags, capacity, 1)
    resize_array(<void **>&tape.mark, capacity, 1)
    resize_array(<void **>&tape.owner, capacity, sizeof(Handle *))
    tape.capacity = capacity
    return 0


cdef int64_t threshold() noexcept:
    """Entries at which the next collection is due."""
    return max(<int64_t>FLOOR, 2 * <int64_t>tape.survivors)


cdef int make_room(int64_t entries, int64_t words=0) except -1:
    """Room for so many entries and pool words; collects first if that is due."""
    cdef int64_t wanted
    if tape.pins == 0 and tape.size + entries > threshold():
        collect()
    wanted = tape.size + entries
    check_count(wanted, "the tape's entries")
    wanted = max(wanted + ROOM, threshold() + 2 * ROOM)
    if wanted > tape.capacity:
        # While pins forbid collecting, or for one huge call: grow by half at least.
        if tape.size + entries > threshold():
            wanted = max(wanted, <int64_t>tape.size + tape.size // 2)
        resize(min(wanted, <int64_t>MOST + 2 * ROOM))
    wanted = tape.pool_size + words
    check_count(wanted, "the words of the tape's operand pool")
    if wanted > tape.pool_capacity:
        wanted += wanted // 2 + 64
        resize_array(<void **>&tape.pool, wanted, sizeof(int32_t))
        tape.pool_capacity = wanted
    set_limit()
    return 0


cdef void set_limit() noexcept:
    cdef int64_t due = threshold()
    if due < tape.size + ROOM:
        due = tape.capacity  # a collection was due but not possible
    tape.limit = <int32_t>(min(due, <int64_t>tape.capacity) - ROOM)


# ---- reclamation


cdef void collect() noexcept:
    """Drop what no live handle reaches.  Call only where no slot is held in a C local.

    Without memory for that the tape stays as it is, and grows.
    """
    cdef int32_t first_dead, end
    cdef int32_t *moved = NULL
    cdef bint collector_on = PyGC_Disable()  # no Python code before entries are where they belong
    cdef tuple replaced = None
    earn_credit()
    tape.credit -= tape.size
    first_dead = mark_used()
    if first_dead < tape.size and detached():
        moved = <int32_t *>malloc((tape.size - first_dead) * sizeof(int32_t))
    if first_dead == tape.size or moved != NULL:
        end = number_survivors(first_dead, moved)
        replaced = renumber_tables(first_dead, moved, end)
        if replaced is not None and moved != NULL:
            slide(first_dead, moved)
    tape.survivors = tape.size
    tape.counted = tape.size
    tape.collections += 1
    free(moved)
    shrink()
    set_limit()
    if collector_on:
        PyGC_Enable()


cdef int32_t mark_used() noexcept:
    """Make USED exact for the entries that live handles reach; returns the lowest dead slot."""
    cdef int32_t slot, first_dead = tape.size
    cdef uint8_t *flags = tape.flags
    cdef Handle **owner = tape.owner
    cdef Run last_run = Run(-1, 0)
    for slot in range(tape.size):
        flags[slot] &= ~USED
    for slot in range(tape.size - 1, -1, -1):
        if owner[slot] == NULL and not flags[slot] & USED:
            first_dead = slot
        elif flags[slot] & INNER:
            if tape.op[slot] < OP_FIRST_POOLED:
                flags[tape.a[slot]] |= USED
                flags[tape.b[slot]] |= USED
            else:
                use_pooled(slot, &last_run)
    return first_dead


cdef void use_pooled(int32_t slot, Run *last_run) noexcept:
    """Flag the operands of an n-ary entry; the neurons of a layer share their last run."""
    cdef int32_t *words = tape.pool + tape.a[slot]
    cdef int32_t count = tape.b[slot]
    cdef int64_t k
    if tape.op[slot] == OP_RUN:
        tape.flags[words[0]] |= USED
        use_run(words[1], count)
        if words[2] != last_run.first or count != last_run.count:
            last_run[0] = Run(words[2], count)
            use_run(words[2], count)
    else:
        for k in range(op_words(tape.op[slot], count)):
            tape.flags[words[k]] |= USED


cdef int32_t number_survivors(int32_t first_dead, int32_t *moved) noexcept:
    """Write the new slots from `first_dead` up, -1 for the dead; returns how many will be left."""
    cdef const uint8_t *flags = tape.flags
    cdef Handle **owner = tape.owner
    cdef int32_t slot, to = first_dead
    for slot in range(first_dead, tape.size):
        if owner[slot] == NULL and not flags[slot] & USED:
            moved[slot - first_dead] = -1
        else:
            moved[slot - first_dead] = to
            to += 1
    return to


cdef void slide(int32_t first_dead, const int32_t *moved) noexcept:
    """Close the gaps from `first_dead` up.

    The entries of a run survive together and have nothing between them, so they stay a run and
    renumbering its first slot is enough.
    """
    # In locals: to the C compiler any store through a byte pointer might change the tape.
    cdef uint8_t *op = tape.op
    cdef uint8_t *flags = tape.flags
    cdef int32_t *a = tape.a
    cdef int32_t *b = tape.b
    cdef double *val = tape.val
    cdef double *adj = tape.adj
    cdef Handle **owner = tape.owner
    cdef int32_t slot, a_before, to = first_dead
    cdef int64_t pool_to = pool_before(first_dead)
    for slot in range(first_dead, tape.size):
        if moved[slot - first_dead] < 0:
            continue
        op[to] = op[slot]
        flags[to] = flags[slot]
        val[to] = val[slot]
        adj[to] = adj[slot]
        owner[to] = owner[slot]
        if owner[to] != NULL:
            owner[to].slot = to
        a[to], b[to] = a[slot], b[slot]
        if op[to] >= OP_FIRST_POOLED:
            a_before = a[to]
            a[to] = <int32_t>pool_to
            slide_words(op[to], b[to], a_before, pool_to, first_dead, moved)
            pool_to += op_pool_words(op[to], b[to])
        elif flags[to] & INNER:
            a[to] = renumber(a[to], first_dead, moved)
            b[to] = renumber(b[to], first_dead, moved)
        to += 1
    tape.size = to
    tape.pool_size = pool_to


cdef int64_t pool_before(int32_t slot) noexcept:
    """Pool words of the entries below `slot`."""
    while slot > 0:
        slot -= 1
        if tape.op[slot] >= OP_FIRST_POOLED and tape.b[slot]:
            return tape.a[slot] + op_pool_words(tape.op[slot], tape.b[slot])
    return 0


cdef void slide_words(
    int op, int64_t count, int64_t first, int64_t to, int32_t first_dead, const int32_t *moved
) noexcept:
    cdef int32_t *pool = tape.pool
    cdef int64_t k, slots = op_words(op, count)
    for k in range(slots):
        pool[to + k] = renumber(pool[first + k], first_dead, moved)
    for k in range(slots, op_pool_words(op, count)):
        pool[to + k] = pool[first + k]


cdef inline int32_t renumber(int32_t slot, int32_t first_dead, const int32_t *moved) noexcept:
    return slot if slot < first_dead else moved[slot - first_dead]


cdef void shrink() noexcept:
    """Give memory back to the system when much of it is not in use."""
    cdef int64_t entries = max(threshold(), <int64_t>LARGE) + 2 * ROOM
    cdef int64_t words = max(2 * tape.pool_size, <int64_t>LARGE)
    try:
        if tape.capacity > 2 * entries:
            resize(entries)
        if tape.pool_capacity > 2 * words:
            resize_array(<void **>&tape.pool, words, sizeof(int32_t))
            tape.pool_capacity = words
    except MemoryError:
        pass  # the larger arrays are still good


# ---- runs of programs read values where they are, without the GIL


cdef struct Left:  # values that changed while somebody read them: these are as they were
    double *val
    int readers


cdef Left *left_values = NULL
cdef int left_count = 0


cdef const double *begin_reading() except NULL:
    """The values as they are now, until `end_reading`: whoever changes them copies them first."""
    tape.readers += 1
    return tape.val


cdef void end_reading(const double *val) noexcept:
    global left_count
    cdef int k
    if val == tape.val:
        tape.readers -= 1
        return
    for k in range(left_count):
        if left_values[k].val == val:
            left_values[k].readers -= 1
            if left_values[k].readers == 0:
                free(left_values[k].val)
                left_count -= 1
                left_values[k] = left_values[left_count]
            return


cdef int detach_values() except -1:
    if not detached():
        raise MemoryError(f"no memory for a copy of the data of {tape.size} entries")
    return 0


cdef bint detached() noexcept:
    """Leave the values to those who read them, and go on with a copy; False without memory."""
    global left_values, left_count
    cdef double *copied
    cdef void *more
    if not tape.readers:
        return True
    more = realloc(left_values, (left_count + 1) * sizeof(Left))
    if more == NULL:
        return False
    left_values = <Left *>more
    copied = <double *>malloc(tape.capacity * sizeof(double))
    if copied == NULL:
        return False
    memcpy(copied, tape.val, tape.size * sizeof(double))
    left_values[left_count] = Left(tape.val, tape.readers)
    left_count += 1
    tape.val, tape.readers = copied, 0
    return True


cdef bint rewind(int32_t start) noexcept:
    """Take back the entries from `start` on, but for those up to the last that a handle holds.

    Returns whether all are gone.  None are while somebody but sweeps holds slots.
    """
    cdef int32_t end = tape.size, slot
    if tape.pins != tape.sweeps:
        return end <= start
    while end > start and tape.owner[end - 1] == NULL:
        end -= 1
    if end == tape.size:
        return end <= start
    earn_credit()
    for slot in range(tape.size - 1, end - 1, -1):
        if tape.op[slot] >= OP_FIRST_POOLED and tape.b[slot]:
            tape.pool_size = tape.a[slot]
    slot = tape.size
    tape.size = tape.counted = end
    tape.survivors = min(tape.survivors, end)
    forget_from(end, slot)
    set_limit()
    return end <= start


cdef void earn_credit() noexcept:
    tape.credit += CREDIT_OF_ENTRY * (<int64_t>tape.size - tape.counted)
    tape.credit += CREDIT_OF_DEATH * tape.deaths
    # A long run of small graphs must not pay for many collections of a large one.
    tape.credit = min(tape.credit, 3 * <int64_t>tape.size)
    tape.counted = tape.size
    tape.deaths = 0


cdef void root_died() noexcept:
    """An unused inner entry lost its handle: its graph is dead, unless others hold parts of it."""
    if tape.size < LARGE or tape.pins:
        return
    earn_credit()
    if tape.credit >= tape.size:
        collect()


# ---- tables by slot


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


# ---- what Python sees


def reclaim():
    """Drop the entries that no live handle reaches, now.

    The tape does this by itself; call it to measure memory, or before a pause.

    Returns
    -------
    int
        Number of entries dropped; 0 while a backward pass is under way, which forbids moving.

    Examples
    --------
    >>> from fastgrad import Value, tape
    >>> v = Value(1.0) * 2 + 3
    >>> del v
    >>> tape.reclaim() >= 5
    True
    """
    cdef int32_t before = tape.size
    if tape.pins == 0:
        collect()
    return before - tape.size


def usage():
    """Say how much the tape holds.

    Returns
    -------
    dict
        ``entries``: on the tape now, dead ones included; ``handles``: Values that are alive;
        ``capacity``: entries it has room for; ``bytes``: allocated for them, operand pool included;
        ``collections``: so far.

    Examples
    --------
    >>> from fastgrad import tape
    >>> sorted(tape.usage())
    ['bytes', 'capacity', 'collections', 'entries', 'handles']
    """
    cdef int64_t handles = 0
    cdef int32_t slot
    for slot in range(tape.size):
        handles += tape.owner[slot] != NULL
    entry_bytes = 2 * sizeof(double) + 2 * sizeof(int32_t) + 3 + sizeof(Handle *)
    return {
        "entries": tape.size,
        "handles": handles,
        "capacity": tape.capacity,
        "bytes": tape.capacity * entry_bytes + tape.pool_capacity * sizeof(int32_t),
        "collections": tape.collections,
    }


def op_table():
    """List the elementary operations, a row each as in ``kernels/ops.h``.

    Returns
    -------
    list of dict
        ``name``; ``label``, what ``_op`` shows; ``operands``; ``shown``, how many of them `_prev`
        lists; ``domain``, an open interval for each operand on which the partials are smooth.

    Examples
    --------
    >>> from fastgrad import tape
    >>> tape.op_table()[0]["name"]
    'ADD'
    """
    return [
        {
            "name": row.name.decode(),
            "label": row.label.decode(),
            "operands": row.operands,
            "shown": row.shown,
            "domain": tuple(
                (row.domain[2 * k], row.domain[2 * k + 1]) for k in range(row.operands)
            ),
        }
        for row in op_rows[OP_LEAF + 1:OP_FIRST_POOLED]
    ]


make_room(ROOM)
