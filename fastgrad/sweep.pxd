from libc.stdint cimport int32_t


cdef int reverse(int32_t root) except -1
cdef int push_alone(int32_t slot) except -1
cdef list partials(int32_t slot)
