from cpython.object cimport Py_TYPE, PyObject

from fastgrad.record cimport record
from fastgrad.tape cimport OP_ADD, OP_MUL, tape


cdef enum:  # in the order of SYMBOLS and ELEMENTWISE
    PLUS
    MINUS
    TIMES
    OVER
    POWER


cdef object mixed(int kind, object left, object right)
cdef object record_with(int op, object self, object other, str what)


cdef inline object binary(int kind, object left, object right):
    """`left kind right`, where at least one of them is a Value."""
    if kind == PLUS and Py_TYPE(left) is tape.type and Py_TYPE(right) is tape.type:
        return record(OP_ADD, <PyObject *>left, <PyObject *>right)
    if kind == TIMES and Py_TYPE(left) is tape.type and Py_TYPE(right) is tape.type:
        return record(OP_MUL, <PyObject *>left, <PyObject *>right)
    return mixed(kind, left, right)
