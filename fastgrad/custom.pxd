from libc.stdint cimport int32_t, int64_t

from fastgrad.sweep cimport EntryRule


cdef class CustomOp(EntryRule):
    cdef readonly object forward, partials, second
    cdef readonly str name

    cpdef double value(self, xs) except? -1
    cpdef list partials_at(self, xs)
    cdef tuple items(self, str function, object result, Py_ssize_t count, str what)
    cdef list numbers(self, str function, object result, Py_ssize_t count)
    cdef object failure(self, str function, str expected, object got, type kind)


cdef CustomOp custom_of(int32_t slot)


cdef class Calls:  # of one run of a program
    cdef tuple customs
    cdef object error
    cdef bint failed


cdef const int32_t *call_customs(
    void *calls, int back, int32_t n, const int32_t *code, double *workspace, int64_t lanes,
    int64_t samples
) noexcept with gil
