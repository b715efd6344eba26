from libc.stdint cimport int32_t, int64_t

from fastgrad.custom cimport CustomOp
from fastgrad.edges cimport Linearised


cdef bint forward(
    Linearised g, const double *const *inputs, const int64_t *strides, int64_t sample
) noexcept nogil
cdef bint compute(Linearised g, int64_t entry) noexcept nogil
cdef void fill(Linearised g) noexcept nogil
cdef void fill_node(Linearised g, int32_t node) noexcept nogil
cdef int fill_custom_bends(Linearised g) except -1
cdef CustomOp custom_of(Linearised g, int64_t entry)
