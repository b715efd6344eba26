from libc.stdint cimport int32_t, int64_t


cdef bint pooled_value(
    int op, const double *val, const int32_t *words, int64_t count, double *z
) noexcept nogil
