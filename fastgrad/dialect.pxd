from fastgrad.tape cimport DATA_INT, DATA_NUMPY, GRAD_INT, GRAD_NUMPY, tape
from libc.stdint cimport int32_t


cdef object failure_hook  # called before an operator raises, see set_dialect

cdef bint is_numpys(object number)
cdef int read_numpys(object number, double *value, int *kind) except -1
cdef object make_numpys(double value, bint is_int)
cdef object from_left(object number)
cdef object from_right(object number, bint is_sum_or_product, bint with_int)


# The kind of a number is the flags that an entry has for its data: 0 for a float, DATA_INT,
# DATA_NUMPY for np.float64, both for np.int64.


cdef inline int data_kind(int32_t slot) noexcept:
    return tape.flags[slot] & (DATA_INT | (tape.numpy & DATA_NUMPY))


cdef inline int grad_kind(int32_t slot) noexcept:
    return (tape.flags[slot] & (GRAD_INT | (tape.numpy & GRAD_NUMPY))) >> 1
