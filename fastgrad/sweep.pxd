from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t

from fastgrad.tape cimport Run


cdef struct Marks:  # by slot: which entries are reached and still waiting
    uint8_t *own        # NULL: the tape's
    int64_t room


cdef struct Sweep:  # from the marked entries down to `floor`
    Marks *marks
    Sweep *outer        # whose part this is, or NULL: entries below `floor` are visited by that
    int32_t floor
    int64_t waiting     # marked entries from `floor` on
    uint64_t number     # of the whole sweep; 0 if rules are run by hand
    bint checked
    Run last_run


cdef class EntryRule:
    cdef int push(self, int32_t slot, Sweep *sweep) except -1

cdef EntryRule entry_rule(int32_t slot)
cdef int reverse(int32_t root) except -1
cdef int walk(int32_t slot, Sweep *sweep) except -1
cdef void mark_entry(int32_t slot, Sweep *sweep) noexcept
cdef int mark_operands(int32_t slot, Sweep *sweep) except -1
cdef int reserve_marks(Marks *marks, int64_t entries) except -1
cdef int push_alone(int32_t slot) except -1
cdef int check_adjoints(int32_t slot, list before) except -1
cdef list partials(int32_t slot)
