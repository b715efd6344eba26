from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int32_t, int64_t, uint8_t

from fastgrad.tape cimport (
    DATA_INT, DATA_NUMPY, INNER, KEPT, USED, Handle, Tape, append, append_leaf, check_room,
    handle_alloc, op_error, op_is_int, op_is_numpy, op_value, tape,
)


cdef extern from "Python.h":
    bint PyObject_TypeCheck(object, PyTypeObject *type)


cdef str describe(object thing)
cdef int check_numpys(int op, int32_t a, int32_t b, double z, int kind) except -1
cdef int check_power(int op, int32_t a, int32_t b, int least, bint reverse) except -1
cdef int raise_error(int op, int32_t a, int32_t b, int error, bint reverse) except -1
cdef int raise_error_of(int op, object x, object y, int error, bint reverse) except -1
cdef int unusual(int op, int32_t a, int32_t b, double z) except -1
cdef int unusual_sum(int64_t at, int64_t count, double z) except -1
cdef int unusual_made(str label, object number, tuple children) except -1
cdef int keep(Handle *user, int32_t slot) except -1
cdef int set_rule(Handle *handle, object rule) except -1
cdef object handle_of(int32_t slot)
cdef list operand_slots(int32_t slot)
cdef list operands_of(int32_t slot)
cdef str label_of(int32_t slot)
cdef object number_of(int32_t slot)
cdef dict attributes_of(object value)
cdef int link_children(
    object self, tuple children, tuple factors, bint in_trace=*
) except -1
cdef object record_pooled(int op, tuple operands)
cdef tuple all_values(object children)
cdef tuple all_numbers(object factors, tuple children)
cdef object other_number(double value, int kind)
cdef int read_other_number(object number, double *value, int *kind) except -1


cdef inline Handle *handle(object value) noexcept:
    return <Handle *><PyObject *>value


cdef inline object number_from(double value, int kind):
    """A number of its kind; past 2**53, where a double cannot hold every int, a float."""
    return other_number(value, kind) if kind else value


cdef inline bint is_value(object thing) noexcept:
    if PyFloat_CheckExact(thing) or PyLong_CheckExact(thing):
        return False  # what is no Value is most often one of these
    return PyObject_TypeCheck(thing, tape.type)


cdef inline int read_number(object number, double *value, int *kind) except -1:
    """Read a Python or NumPy number; returns 0 if it is none.  May run Python code."""
    if PyFloat_CheckExact(number):
        value[0] = PyFloat_AS_DOUBLE(number)
        kind[0] = 0
        return 1
    return read_other_number(number, value, kind)


cdef inline int32_t apply(int op, int32_t a, int32_t b, Handle *owner) except -1:
    """Append the entry of an op on two slots (`b` is `a` again for one operand).

    The room has been checked.  Returns the new slot; raises what Python's float would.
    """
    cdef uint8_t flags_a = tape.flags[a], flags_b = tape.flags[b]
    cdef uint8_t kept = (flags_a | flags_b) & KEPT
    cdef double x = tape.val[a], y = tape.val[b], z = op_value(op, x, y)
    cdef int kind = DATA_INT if op_is_int(op, flags_a & DATA_INT, flags_b & DATA_INT, x, y) else 0
    kind &= tape.dialect.kinds
    cdef int32_t slot
    cdef int error = op_error(op, x, y, z)
    if error:
        raise_error(op, a, b, error, False)
    if kind:
        z += 0.0  # an int 0 has no sign
    if tape.numpy:
        kind |= op_is_numpy(op, flags_a & DATA_NUMPY, flags_b & DATA_NUMPY, x, y)
        if kind & DATA_NUMPY:
            check_numpys(op, a, b, z, kind)
        kind &= tape.dialect.kinds
    if tape.contexts and unusual(op, a, b, z):
        return append_leaf(z, kind, owner)
    tape.flags[a] = flags_a | USED
    tape.flags[b] |= USED
    slot = append(op, a, b, z, INNER | tape.dialect.fresh | kind | kept, owner)
    if kept and owner != NULL:
        keep(owner, slot)
    return slot


cdef inline object record(int op, PyObject *left, PyObject *right):
    """Append the entry of an op on two handles; returns its handle."""
    cdef object out = handle_alloc(&tape)
    check_room()
    apply(op, (<Handle *>left).slot, (<Handle *>right).slot, <Handle *>out)
    return out


cdef inline object record_number(int op, object value, double number, int kind):
    """Append the entry of an op on a handle and a number, which becomes a leaf."""
    cdef object out = handle_alloc(&tape)
    check_room()
    apply(op, handle(value).slot, append_leaf(number, kind, NULL), handle(out))
    return out


cdef inline int adopt(object output, int32_t slot) except -1:
    """Give an entry that was appended without a handle its handle."""
    handle(output).slot = slot
    tape.owner[slot] = handle(output)
    if tape.flags[slot] & KEPT:
        keep(tape.owner[slot], slot)
    return 0
