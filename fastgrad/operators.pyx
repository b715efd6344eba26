"""The operators: what `+ - * / **` append, with Values, numbers and arrays on either side.

Everything is spelled as micrograd spells it: ``a - b`` is ``a + (b * -1)``, ``a / b`` is
``a * b**-1``, and a Python number becomes a leaf.

Invariant: operands are converted first (that can run Python code), then the room is checked
(entries may move), and only then slots are read.
"""

import operator
import sys

from cpython.object cimport PyObject
from libc.stdint cimport int32_t

from fastgrad.record cimport apply, describe, handle, is_value, read_number, record
from fastgrad.tape cimport (
    OP_ADD, OP_MUL, OP_POW, OP_POW_CONST, Handle, append_leaf, check_room, handle_alloc, tape,
)

SYMBOLS = ("+", "-", "*", "/", "**")
REFLECTED = ("__radd__", "__rsub__", "__rmul__", "__rtruediv__", "__rpow__")
ELEMENTWISE = (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow)


cdef object mixed(int kind, object left, object right):
    """The other operators, and numbers on either side, spelled as micrograd spells them."""
    cdef bint from_left = is_value(left), from_right = is_value(right)
    cdef bint x_is_int = False, y_is_int = False
    cdef double x = 0.0, y = 0.0
    if not from_left and not read_number(left, &x, &x_is_int):
        return not_a_number(kind, left, right, left)
    if not from_right and not read_number(right, &y, &y_is_int):
        return not_a_number(kind, left, right, right)
    cdef object out = handle_alloc(&tape)
    cdef Handle *owner = handle(out)
    cdef int32_t a, b
    check_room()
    if kind == PLUS or kind == TIMES:
        # micrograd's __radd__ and __rmul__ turn the operands round.
        a = handle(left).slot if from_left else handle(right).slot
        if from_left and from_right:
            b = handle(right).slot
        else:
            b = append_leaf(y, y_is_int, NULL) if from_left else append_leaf(x, x_is_int, NULL)
        apply(OP_ADD if kind == PLUS else OP_MUL, a, b, owner)
    elif kind == MINUS:
        if not from_right:
            b = append_leaf(0.0 - y if y_is_int else -y, y_is_int, NULL)  # an int 0 has no sign
            apply(OP_ADD, handle(left).slot, b, owner)
        else:
            b = apply(OP_MUL, handle(right).slot, append_leaf(-1.0, True, NULL), NULL)
            if from_left:
                apply(OP_ADD, handle(left).slot, b, owner)
            else:
                apply(OP_ADD, b, append_leaf(x, x_is_int, NULL), owner)
    elif kind == OVER:
        a = tape.size
        b = handle(right).slot if from_right else append_leaf(y, y_is_int, NULL)
        b = apply(OP_POW_CONST, b, append_leaf(-1.0, True, NULL), NULL)
        if not from_right:  # 2**-1 is a number, not a graph: take its entries back
            y = tape.val[b]
            tape.size = a
            b = append_leaf(y, False, NULL)
        if from_left:
            apply(OP_MUL, handle(left).slot, b, owner)
        else:
            apply(OP_MUL, b, append_leaf(x, x_is_int, NULL), owner)
    else:
        a = handle(left).slot if from_left else append_leaf(x, x_is_int, NULL)
        if from_right:
            apply(OP_POW, a, handle(right).slot, owner)
        else:
            apply(OP_POW_CONST, a, append_leaf(y, y_is_int, NULL), owner)
    return out


cdef object not_a_number(int kind, object left, object right, object stranger):
    """An array goes element by element; another type may know what to do with a Value."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(stranger, numpy.ndarray):
        return ELEMENTWISE[kind](as_objects(numpy, left), as_objects(numpy, right))
    if kind == POWER and stranger is right:
        # micrograd's own type of error
        raise AssertionError(f"the exponent must be a number or a Value, got {describe(stranger)}")
    if hasattr(type(stranger), REFLECTED[kind]) and not isinstance(stranger, (list, tuple, str)):
        return NotImplemented
    raise TypeError(
        f"cannot compute {describe(left)} {SYMBOLS[kind]} {describe(right)}: "
        "expected numbers, Values or NumPy arrays"
    )


cdef object as_objects(object numpy, object operand):
    """An array of Python objects, so that NumPy applies Python's operators to the elements."""
    array = numpy.empty((), dtype=object)
    if isinstance(operand, numpy.ndarray):
        return operand.astype(object)
    array[()] = operand
    return array


cdef object record_with(int op, object self, object other, str what):
    """Append an op on a handle and a number or Value."""
    cdef double y = 0.0
    cdef bint is_int = False
    if is_value(other):
        return record(op, <PyObject *>self, <PyObject *>other)
    if not read_number(other, &y, &is_int):
        raise TypeError(f"{what} must be a number or a Value, got {describe(other)}")
    cdef object out = handle_alloc(&tape)
    check_room()
    apply(op, handle(self).slot, append_leaf(y, is_int, NULL), handle(out))
    return out
