from libc.stdint cimport int64_t

from fastgrad.slots cimport Slots


cdef class Optimizer:
    cdef readonly tuple param_groups
    cdef tuple params, names  # of the settings
    cdef Slots slots
    cdef dict memory          # name: array.array, what steps hand on, a number a parameter
    cdef int64_t steps        # that have gone into the memory

    cdef int prepare(self, str what) except -1
    cdef int descend(self, const double *sums, const int64_t *order, double samples) except -1
    cdef int read_settings(self, dict group) except -1
    cdef dict uses(self, dict group)
    cdef int allot(self, dict group) except -1
    cdef double *remembered(self, str name) noexcept
    cdef void begin_step(self) noexcept
    cdef void move(self, double *p, const double *g, int64_t at, int64_t count) noexcept


cdef list all_parameters(object params, str user)
cdef double read_setting(
    dict group, str key, str name, double least=*, double below=*
) except? -1.0
cdef int read_flag(dict group, str key) except -1
cpdef double checked(
    object number, str key, str name, double least=*, double below=*
) except? -1.0
