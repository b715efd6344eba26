from libc.stdint cimport int32_t

from fastgrad.row cimport Row


cdef enum:
    SINGLE = 1  # the parameter of rows that are one number each, of which no mean is taken

cdef int32_t append_max(Row xs, Row _) except -1
cdef int32_t append_sum(Row xs, Row _) except -1
cdef int32_t append_mean(Row xs, Row _) except -1
cdef int32_t append_dot(Row xs, Row ys) except -1
cdef int32_t append_softmax(Row xs, Row _) except -1
cdef int32_t append_log_sum_exp(Row xs, Row _) except -1
cdef int32_t append_log_softmax(Row xs, Row _) except -1
cdef int32_t append_cross_entropy(Row xs, Row _) except -1
cdef int32_t append_squares(Row ys, Row ts) except -1
cdef int32_t append_margins(Row ys, Row ts) except -1
cdef int32_t append_rmsnorm(Row xs, Row _) except -1
