from libc.stdint cimport int64_t

from fastgrad.slots cimport Slots


cdef class Optimizer:
    cdef readonly tuple param_groups
    cdef tuple params
    cdef Slots slots
    cdef int prepare(self, str what) except -1
    cdef int descend(self, const double *sums, const int64_t *order, double samples) except -1
    cdef int read_settings(self, dict group) except -1
    cdef void begin_step(self) noexcept
    cdef void move(self, double *p, const double *g, int64_t at, int64_t count) noexcept
