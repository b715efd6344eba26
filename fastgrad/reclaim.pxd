from libc.stdint cimport int32_t


cdef bint rewind(int32_t start) noexcept
