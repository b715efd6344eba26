from libc.stdint cimport int32_t, int64_t, uint8_t


cdef enum:
    OP_INPUT = 251  # a leaf; a: which column of the inputs


cdef class Recording:
    cdef readonly int64_t parameters, inputs, size  # size: of the entries
    cdef readonly object arrays  # op, a, b, val, pool, outputs, as NumPy arrays
    cdef readonly object lines   # where it was recorded, or None
    cdef readonly tuple customs  # the operations that OP_CUSTOM entries name
    cdef uint8_t *op
    cdef int32_t *a
    cdef int32_t *b
    cdef double *val
    cdef int32_t *pool
    cdef int32_t *outputs
    cdef readonly int64_t output_count, pool_size
