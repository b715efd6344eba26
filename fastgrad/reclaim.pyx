"""Reclamation: entries that no live handle reaches leave the tape.

The tape is a bump allocator with a compacting collector.  When it has grown to twice what survived
last time, entries that no live handle reaches are dropped and the others slide together; order
is kept, so slots stay topological, and each live handle is told its new slot.  That costs O(1) an
entry, amortised.  A collection out of turn, when the root of a graph dies in a large tape, is paid
for by credit that entries and deaths have earned.

Invariant: no Python code runs before all entries are where they belong.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc

from fastgrad.tables cimport forget_from, renumber, renumber_tables
from fastgrad.tape cimport (
    INNER, LARGE, OP_FIRST_POOLED, OP_RUN, USED, Handle, Run, detached, op_pool_words, op_words,
    set_limit, shrink, tape, use_run,
)

cdef extern from "Python.h":
    bint PyGC_Disable()
    bint PyGC_Enable()


cdef enum:
    CREDIT_OF_ENTRY = 3  # doublings spend less than 2 of it, so a root's death finds the rest
    CREDIT_OF_DEATH = 2

tape.collect = collect
tape.root_died = root_died


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
