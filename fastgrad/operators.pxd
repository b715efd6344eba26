from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.object cimport Py_TYPE, PyObject

from fastgrad.record cimport record, record_number
from fastgrad.tape cimport tape


cdef enum:  # in the order of SYMBOLS and ELEMENTWISE
    PLUS
    MINUS
    TIMES
    OVER
    POWER


cdef object mixed(int kind, object left, object right)
cdef object record_with(int op, object self, object other, str what)


cdef inline object binary(int kind, int op, object left, object right):
    """`left + right` or `left * right`, where at least one of them is a Value."""
    if Py_TYPE(left) is tape.type:
        if Py_TYPE(right) is tape.type:
            return record(op, <PyObject *>left, <PyObject *>right)
        if PyFloat_CheckExact(right):
            return record_number(op, left, PyFloat_AS_DOUBLE(right), False)
    elif PyFloat_CheckExact(left) and Py_TYPE(right) is tape.type:
        return record_number(op, right, PyFloat_AS_DOUBLE(left), False)
    return mixed(kind, left, right)
