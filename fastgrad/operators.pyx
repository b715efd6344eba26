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

from fastgrad.contexts cimport CHECKED, modes
from fastgrad.record cimport (
    apply, describe, failure_hook, handle, is_value, number_from, raise_error_of, read_number,
    record, record_number,
)
from fastgrad.tape cimport (
    ERROR_NONE, OP_ADD, OP_MUL, OP_POW, OP_POW_CONST, append_leaf, check_room, handle_alloc,
    op_error, op_value, tape,
)

SYMBOLS = ("+", "-", "*", "/", "**")
REFLECTED = ("__radd__", "__rsub__", "__rmul__", "__rtruediv__", "__rpow__")
ELEMENTWISE = (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow)


cdef object mixed(int kind, object left, object right):
    """The other operators, and numbers on either side, spelled as micrograd spells them."""
    if kind != OVER or failure_hook is None:
        return spelled(kind, left, right)
    # A script's own class fails in the power that its division is made of; it shall say so.
    try:
        return spelled(kind, left, right)
    except ArithmeticError as error:
        failure = error
    failure_hook("__truediv__", left, right)
    raise failure


cdef object spelled(int kind, object left, object right):
    cdef bint from_left = is_value(left), from_right = is_value(right)
    cdef bint is_int = False
    cdef double number = 0.0
    if not from_left and not read_number(left, &number, &is_int):
        return not_a_number(kind, left, right, left)
    if not from_right and not read_number(right, &number, &is_int):
        return not_a_number(kind, left, right, right)
    if from_left and from_right:
        if kind == POWER and tape.dialect.no_value_power:
            return not_a_number(kind, left, right, right)
        return of_values(kind, left, right)
    if from_left:
        return of_value_and_number(kind, left, number, is_int)
    if tape.dialect.no_reflected & (1 << kind):
        return NotImplemented
    return of_number_and_value(kind, number, is_int, right)


cdef object of_values(int kind, object left, object right):
    if kind == PLUS or kind == TIMES or kind == POWER:
        return record(OP_ADD if kind == PLUS else OP_MUL if kind == TIMES else OP_POW,
                      <PyObject *>left, <PyObject *>right)
    cdef object out = handle_alloc(&tape)
    check_room()
    cdef int32_t minus_one = append_leaf(-1.0, kind == OVER or not tape.dialect.floats, NULL)
    if kind == MINUS:
        apply(OP_ADD, handle(left).slot, apply(OP_MUL, handle(right).slot, minus_one, NULL),
              handle(out))
    else:
        apply(OP_MUL, handle(left).slot, apply(OP_POW_CONST, handle(right).slot, minus_one, NULL),
              handle(out))
    return out


cdef object of_value_and_number(int kind, object left, double number, bint is_int):
    cdef bint stays_int = is_int and not tape.dialect.floats
    if kind == PLUS:
        return record_number(OP_ADD, left, number, stays_int)
    if kind == MINUS:
        return record_number(OP_ADD, left, 0.0 - number if is_int else -number, stays_int)
    if kind == TIMES:
        return record_number(OP_MUL, left, number, stays_int)
    if kind == OVER:
        return record_number(OP_MUL, left, inverse(number, is_int), False)
    return record_number(OP_POW_CONST, left, number, is_int)


cdef object of_number_and_value(int kind, double number, bint is_int, object right):
    if kind == PLUS or kind == TIMES:  # micrograd's __radd__ turns the operands round
        return of_value_and_number(kind, right, number, is_int)
    cdef object out = handle_alloc(&tape)
    check_room()
    cdef int32_t slot = handle(right).slot
    if kind == POWER:
        apply(OP_POW, append_leaf(number, is_int, NULL), slot, handle(out))
        return out
    cdef bint floats = tape.dialect.floats
    slot = apply(OP_MUL if kind == MINUS else OP_POW_CONST, slot,
                 append_leaf(-1.0, kind == OVER or not floats, NULL), NULL)
    apply(OP_ADD if kind == MINUS else OP_MUL, slot,
          append_leaf(number, is_int and not floats, NULL), handle(out))
    return out


cdef double inverse(double number, bint is_int) except? -1.0:
    """number**-1 as Python computes it, which is not always 1 / number."""
    cdef double power = op_value(OP_POW_CONST, number, -1.0)
    cdef int error = op_error(OP_POW_CONST, number, -1.0, power)
    if error != ERROR_NONE:
        if tape.contexts and modes() & CHECKED:
            raise_error_of(OP_POW_CONST, number_from(number, is_int), -1, error, False)
        return number_from(number, is_int) ** -1  # raises
    return power


cdef object not_a_number(int kind, object left, object right, object stranger):
    """An array goes element by element; another type may know what to do with a Value."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(stranger, numpy.ndarray):
        return ELEMENTWISE[kind](as_objects(numpy, left), as_objects(numpy, right))
    if failure_hook is not None:
        failure_hook(f"__{ELEMENTWISE[kind].__name__}__", left, right)
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
    cdef double number = 0.0
    cdef bint is_int = False
    if is_value(other):
        return record(op, <PyObject *>self, <PyObject *>other)
    if not read_number(other, &number, &is_int):
        raise TypeError(f"{what} must be a number or a Value, got {describe(other)}")
    return record_number(op, self, number, is_int)
