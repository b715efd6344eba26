from libc.stdint cimport int32_t, uint8_t


cdef object attributes_left_at(int32_t slot)
cdef double *partial_sums(int32_t slot) except NULL
cdef int read_recorded(int32_t slot, int32_t user, double *val, uint8_t *flags) except -1
cdef int set_line(int32_t slot, str line) except -1
cdef str line_at(int32_t slot)
cdef bint has_lines() noexcept
cdef tuple renumber_tables(int32_t first_dead, const int32_t *moved, int32_t end)
cdef void forget_from(int32_t end, int32_t before) noexcept


cdef inline int32_t renumber(int32_t slot, int32_t first_dead, const int32_t *moved) noexcept:
    return slot if slot < first_dead else moved[slot - first_dead]
