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
from fastgrad.dialect cimport failure_hook, from_left, from_right, is_numpys
from fastgrad.record cimport (
    apply, describe, handle, is_value, number_from, raise_error_of, read_number, record,
    record_number,
)
from fastgrad.tape cimport (
    DATA_INT, DATA_NUMPY, ERROR_NONE, OP_ADD, OP_MUL, OP_POW, OP_POW_CONST, OP_SUB, append_leaf,
    check_room, handle_alloc, op_error, op_value, tape,
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
    cdef bint left_is_value = is_value(left), right_is_value = is_value(right)
    cdef int of = 0
    cdef double number = 0.0
    cdef object given = left
    if tape.dialect.numpy:
        if not left_is_value and is_numpys(left):
            left = from_left(left)
        elif not right_is_value and is_numpys(right):
            right = from_right(
                right, kind == PLUS or kind == TIMES or (kind == MINUS and tape.dialect.own_sub),
                tape.flags[handle(left).slot] & DATA_INT)
    if not left_is_value and not read_number(left, &number, &of):
        return not_a_number(kind, left, right, left)
    if not right_is_value and not read_number(right, &number, &of):
        return not_a_number(kind, left, right, right)
    if of == DATA_INT | DATA_NUMPY and tape.dialect.no_numpy_int & (1 << kind):
        return not_a_number(kind, left, right, right)
    if left_is_value and right_is_value:
        if kind == POWER and tape.dialect.no_value_power:
            return not_a_number(kind, left, right, right)
        return of_values(kind, left, right)
    if left_is_value:
        return of_value_and_number(kind, left, number, of)
    if tape.dialect.no_reflected & (1 << kind):
        # Python's own words, which name the type; that of what NumPy hands over.
        return NotImplemented if given is left else ELEMENTWISE[kind](left, right)
    return of_number_and_value(kind, number, of, right)


cdef object of_values(int kind, object left, object right):
    if kind == PLUS or kind == TIMES or kind == POWER:
        return record(OP_ADD if kind == PLUS else OP_MUL if kind == TIMES else OP_POW,
                      <PyObject *>left, <PyObject *>right)
    if kind == MINUS and tape.dialect.own_sub:
        return record(OP_SUB, <PyObject *>left, <PyObject *>right)
    cdef object out = handle_alloc(&tape)
    check_room()
    cdef int32_t minus_one = append_leaf(-1.0, minus_one_kind(kind), NULL)
    if kind == MINUS:
        apply(OP_ADD, handle(left).slot, apply(OP_MUL, handle(right).slot, minus_one, NULL),
              handle(out))
    else:
        apply(OP_MUL, handle(left).slot, apply(OP_POW_CONST, handle(right).slot, minus_one, NULL),
              handle(out))
    return out


cdef inline int minus_one_kind(int kind) noexcept:
    """Of the -1 in a - b = a + b * -1, which becomes a Value, and in a / b = a * b**-1."""
    return DATA_INT if kind == OVER else DATA_INT & tape.dialect.kinds


cdef object of_value_and_number(int kind, object left, double number, int of):
    """`of` is the number's kind."""
    cdef int kept = of & tape.dialect.kinds
    if kind == PLUS:
        return record_number(OP_ADD, left, number, kept)
    if kind == MINUS and tape.dialect.own_sub:
        return record_number(OP_SUB, left, number, kept)
    if kind == MINUS:
        return record_number(OP_ADD, left, 0.0 - number if of & DATA_INT else -number, kept)
    if kind == TIMES:
        return record_number(OP_MUL, left, number, kept)
    if kind == OVER:
        return record_number(OP_MUL, left, inverse(left, number, of), kept & ~DATA_INT)
    return record_number(OP_POW_CONST, left, number, of)


cdef object of_number_and_value(int kind, double number, int of, object right):
    if kind == PLUS or kind == TIMES:  # micrograd's __radd__ turns the operands round
        return of_value_and_number(kind, right, number, of)
    cdef object out = handle_alloc(&tape)
    check_room()
    cdef int32_t slot = handle(right).slot
    if kind == POWER:
        apply(OP_POW, append_leaf(number, of, NULL), slot, handle(out))
        return out
    slot = apply(OP_MUL if kind == MINUS else OP_POW_CONST, slot,
                 append_leaf(-1.0, minus_one_kind(kind), NULL), NULL)
    apply(OP_ADD if kind == MINUS else OP_MUL, slot,
          append_leaf(number, of & tape.dialect.kinds, NULL), handle(out))
    return out


cdef double inverse(object left, double number, int of) except? -1.0:
    """number**-1 as Python computes it, which is not always 1 / number."""
    cdef double power = op_value(OP_POW_CONST, number, -1.0)
    cdef int error = op_error(OP_POW_CONST, number, -1.0, power)
    if error != ERROR_NONE or of == DATA_INT | DATA_NUMPY:
        divisor = number_from(number, of)
        if error != ERROR_NONE and tape.contexts and modes() & CHECKED:
            raise_error_of(OP_POW_CONST, divisor, -1, error, False)
        if of & DATA_NUMPY and failure_hook is not None:
            failure_hook("__truediv__", left, divisor)  # so the class's line warns, or raises
        else:
            return divisor ** -1  # raises
    return power


cdef object not_a_number(int kind, object left, object right, object stranger):
    """An array goes element by element; another type may know what to do with a Value."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(stranger, numpy.ndarray) and (
        stranger is left or not tape.dialect.numpy  # a script's own Value would hold the array
    ):
        return ELEMENTWISE[kind](as_objects(numpy, left), as_objects(numpy, right))
    if failure_hook is not None:
        failure_hook(f"__{ELEMENTWISE[kind].__name__}__", left, right)
    if tape.dialect.numpy and is_numpys(stranger):
        # Not NotImplemented: NumPy would hand a float over, where the script has another kind.
        raise TypeError(
            f"cannot compute {describe(left)} {SYMBOLS[kind]} {describe(right)}: expected numbers "
            "that are np.float64, np.int64 or Python's (or run the script with --as-written)"
        )
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
    cdef int of = 0
    if is_value(other):
        return record(op, <PyObject *>self, <PyObject *>other)
    if not read_number(other, &number, &of):
        raise TypeError(f"{what} must be a number or a Value, got {describe(other)}")
    return record_number(op, self, number, of)
