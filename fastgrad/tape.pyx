"""The tape: this process's one growing Wengert list.

Here live its storage and the views that Python has of it; the picture of the struct of arrays is in
``kernels/tape.h``, the table of operations in ``kernels/ops.h``.

Invariant: operands lie below the entries that use them, and outside of a sweep every mark is 0.

Recording is in ``value.pyx``, the reverse sweep in ``sweep.pyx``, reclamation in ``reclaim.pyx``.

Threads: everything here runs under the GIL and never lets go of it half way.
"""

from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy


cdef enum:
    FLOOR = 1 << 15  # entries below which collecting is not worth it: 1.1 MB

tape.dialect.fresh = tape.dialect.seed = GRAD_INT
tape.dialect.kinds = 255


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
        tape.collect()
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
    """The values as they are now, until `end_reading`: whoever changes them copies them first.

    A run may write to them too, but nothing other than what is there.
    """
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
        tape.collect()
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
