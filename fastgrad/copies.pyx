"""One run of a function that a checkpoint records again: what it gets, what it had from outside.

Invariant: after a run its entries are gone, or, where the function has put one of them elsewhere,
they are a graph of its own.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free

from fastgrad.record cimport attributes_of, handle, handle_of, keep, set_rule
from fastgrad.reclaim cimport rewind
from fastgrad.sweep cimport EntryRule, Sweep, mark_operands
from fastgrad.tape cimport (
    DATA_INT, GRAD_INT, INNER, KEPT, OP_FIRST_POOLED, OP_MADE, OP_RUN, USED, append, handle_alloc,
    make_room, op_words, tape,
)
from fastgrad.words cimport Words
from fastgrad.words cimport push as push_word


cdef enum:
    SEEN = 128  # in tape.mark, for as long as no Python code runs


cdef class Copies:
    """What a run gets in place of arguments that descend from a rule.

    Entries on a copy need not keep alive what the rule needs, which the segment does, and so cost
    what others cost.  A copy has the argument as its operand; its adjoint is carried over by hand,
    unless it outlives the run.
    """

    def __cinit__(self):
        self.originals, self.copies = [], []
        self.copy_of, self.original_of = {}, {}

    cdef object argument(self, object thing):
        """A nested argument with copies in it."""
        if type(thing) is list:
            return [self.argument(item) for item in thing]
        if type(thing) is tuple:
            return tuple([self.argument(item) for item in thing])
        if type(thing) is not <object>tape.type or not tape.flags[handle(thing).slot] & KEPT:
            return thing
        copy = self.copy_of.get(id(thing))
        if copy is None:
            copy = copy_of(thing)
            self.originals.append(thing)
            self.copies.append(copy)
            self.copy_of[id(thing)], self.original_of[id(copy)] = copy, thing
        return copy

    cdef void take_adjoints(self) noexcept:
        """Let copies go on from their arguments' adjoints, so that the order of sums is kept."""
        cdef Py_ssize_t k
        cdef int32_t x, copy
        for k in range(len(self.copies)):
            x, copy = handle(self.originals[k]).slot, handle(self.copies[k]).slot
            set_adjoint(copy, tape.adj[x], tape.flags[x])
            set_adjoint(x, 0.0, GRAD_INT)

    cdef void give_adjoints(self) noexcept:
        """Add them to what `fn` has added to an argument that it captures too."""
        cdef Py_ssize_t k
        cdef int32_t x, copy
        for k in range(len(self.copies)):
            x, copy = handle(self.originals[k]).slot, handle(self.copies[k]).slot
            set_adjoint(x, tape.adj[copy] + tape.adj[x], tape.flags[copy] & tape.flags[x])

    cdef int close(self, int32_t start) except -1:
        """Take back the entries of a run from `start` on, whose handles are gone.

        If some are not, they are what `fn` has put elsewhere, which is a graph of its own.  The
        tape is pinned, as by a sweep.
        """
        cdef int32_t slot
        slots = [handle(copy).slot for copy in self.copies]
        self.copies = []
        self.copy_of.clear()
        if rewind(start):
            return 0
        tape.pins += 1  # now another thread must not take back anything either
        try:
            for slot in slots:
                if slot < tape.size:
                    copy = handle_of(slot)
                    set_rule(handle(copy), Same.__new__(Same))
                    keep(handle(copy), slot)
        finally:
            tape.pins -= 1
        return 0


cdef class Same(EntryRule):
    """The rule of a copy that is used by something else than its run."""

    cdef int push(self, int32_t slot, Sweep *sweep) except -1:
        cdef int32_t x = tape.pool[tape.a[slot]]
        set_adjoint(x, tape.adj[x] + tape.adj[slot], tape.flags[x] & tape.flags[slot])
        if sweep != NULL:
            mark_operands(slot, sweep)
        return 0


cdef object copy_of(object x):
    cdef object out = handle_alloc(&tape)
    cdef int32_t slot
    make_room(1, 1)
    slot = handle(x).slot
    tape.flags[slot] |= USED
    tape.pool[tape.pool_size] = slot
    append(OP_MADE, <int32_t>tape.pool_size, 1, tape.val[slot],
           INNER | tape.dialect.fresh | (tape.flags[slot] & DATA_INT), handle(out))
    tape.pool_size += 1
    if handle(x).attributes != NULL:
        attributes_of(out).update(attributes_of(x))
        attributes_of(out).pop("_op", None)
    return out


cdef list operands_below(list values, int32_t start):
    """Handles of the entries below `start` that entries from there on reach from these Values."""
    cdef Words found = Words(NULL, 0, 0)
    cdef int32_t slot, top = start - 1, end = tape.size
    cdef int64_t k
    tape.pins += 1
    try:
        try:
            for value in values:
                tape.mark[handle(value).slot] |= SEEN
                top = max(top, handle(value).slot)
            for slot in range(top, start - 1, -1):
                if tape.mark[slot] & SEEN and tape.flags[slot] & INNER:
                    see_operands(slot, start, &found)
        finally:
            for slot in range(start, end):
                tape.mark[slot] &= ~SEEN
            for k in range(found.size):
                tape.mark[found.at[k]] &= ~SEEN
        return [handle_of(found.at[k]) for k in range(found.size)]
    finally:
        tape.pins -= 1
        free(found.at)


cdef int see_operands(int32_t slot, int32_t start, Words *found) except -1:
    cdef int32_t count = tape.b[slot], k
    cdef const int32_t *words = tape.pool + tape.a[slot]
    if tape.op[slot] < OP_FIRST_POOLED:
        see(tape.a[slot], start, found)
        return see(tape.b[slot], start, found)
    if tape.op[slot] == OP_RUN:
        for k in range(count):
            see(words[1] + k, start, found)
            see(words[2] + k, start, found)
        return see(words[0], start, found)
    for k in range(op_words(tape.op[slot], count)):
        see(words[k], start, found)
    return 0


cdef inline int see(int32_t slot, int32_t start, Words *found) except -1:
    if tape.mark[slot] & SEEN:
        return 0
    if slot < start:
        push_word(found, slot)
    tape.mark[slot] |= SEEN
    return 0
