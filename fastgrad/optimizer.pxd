from libc.stdint cimport int64_t

from fastgrad.slots cimport Slots
from fastgrad.tape cimport Run


cdef class Optimizer:
    cdef readonly tuple param_groups
    cdef tuple params, names  # of the settings
    cdef Slots slots
    cdef dict memory          # name: array.array, what steps hand on, a number a parameter
    cdef int64_t steps        # that have gone into the memory
    # What a descent's tasks need: of the whole, and of the run of slots that is moved now.
    cdef const double *sums
    cdef const int64_t *order
    cdef double samples
    cdef Run moved
    cdef int64_t moved_at
    cdef bint claims

    cdef int prepare(self, str what) except -1
    cdef int descend(
        self, const double *sums, const int64_t *order, double samples, int threads
    ) except -1
    cdef int read_settings(self, dict group) except -1
    cdef dict uses(self, dict group)
    cdef int allot(self, dict group) except -1
    cdef double *remembered(self, str name) noexcept
    cdef void begin_step(self) noexcept
    cdef void move(self, double *p, const double *g, int64_t at, int64_t count) noexcept nogil


cdef list all_parameters(object params, str user)
cdef double read_setting(
    dict group, str key, str name, double least=*, double below=*
) except? -1.0
cdef int read_flag(dict group, str key) except -1
cpdef double checked(
    object number, str key, str name, double least=*, double below=*
) except? -1.0
