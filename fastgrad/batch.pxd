from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t


cdef class Batch:
    cdef readonly tuple shapes    # of one sample of each argument
    cdef readonly int64_t samples
    cdef list arrays              # that hold what the pointers point at
    cdef int64_t columns, given   # given: those of arguments
    cdef int64_t room             # for columns
    cdef const double **starts    # where each column of sample 0 lies ...
    cdef int64_t *strides         # ... and how far apart samples are, in doubles
    cdef int begin(self, tuple arguments, list names) except -1
    cdef tuple add(self, object argument, str name)
    cdef tuple add_view(self, object argument, str name)
    cdef int make_room(self, int64_t more) except -1
    cdef int add_columns(self, const double *start, int axis, Py_buffer *view) except -1


cdef Batch new_batch(tuple arguments, list names)
