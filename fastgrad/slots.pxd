from libc.stdint cimport int32_t, int64_t, uint64_t

from fastgrad.record cimport handle
from fastgrad.tape cimport Run


cdef class Slots:
    cdef readonly list values
    cdef int32_t first  # slot of the first if they lie in consecutive slots, else -1
    cdef Run *runs      # stretches of Values that do, in order
    cdef int64_t run_count
    cdef uint64_t collections

    cdef int find(self) except -1
    cdef bint are_together(self) except -1
    cdef int read(
        self, double *to, int64_t count, const int64_t *places, int threads
    ) except -1
    cdef int add(
        self, const double *sums, int64_t count, const int64_t *places, double samples
    ) except -1

    cdef inline int32_t slot(self, int64_t k) noexcept:
        return self.first + <int32_t>k if self.first >= 0 else handle(self.values[k]).slot


cdef void copy_numbers(
    double *to, const double *numbers, int64_t count, int threads
) noexcept nogil
cdef void divide(double *to, const double *sums, int64_t count, double samples) noexcept nogil
