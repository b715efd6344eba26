"""The dialect: in what a script's own ``Value`` differs from micrograd's, and its NumPy numbers.

A script that plays a class of its own sees ``np.float64`` and ``np.int64`` stay what they are, by
two flags an entry (`data_kind`); which operations give such a number is said by the rows of
``kernels/ops.h``. To micrograd's own Value they are floats and ints.

Invariant: ``tape.numpy`` is 0 until the first such number is read, so that a program without
NumPy pays nothing for them.

Limitations: np.int64 is exact below 2**53 only and raises beyond. Other NumPy types (float32,
int8, ...) and arrays cannot be data; that is a TypeError.
"""

import sys

from cpython.object cimport PyObject
from libc.math cimport fabs
from libc.stdint cimport uint64_t

from fastgrad.tape cimport OP_FIRST_POOLED, op_rows

cdef object attribute_hook = None  # keeps tape.dialect.may_set alive
cdef object numpy_hook = None  # called when the first NumPy number is read


def set_dialect(*, int_grad=True, int_seed=True, floats=False, no_reflected=0, no_comparison=0,
                no_value_power=False, own_sub=False, frozen=(), numpy=None, no_numpy_int=0, relu=0,
                may_set=None, hook=None):
    """Let Value behave as a script's own class does where that differs from micrograd's.

    Parameters
    ----------
    int_grad, int_seed : bool
        A new grad is 0 and backward starts from 1; else 0.0, 1.0.
    floats : bool
        The constructor makes its data a float.
    no_reflected, no_comparison : int
        A bit for each operator that the class lacks: with a number on the left of ``+ - * / **``;
        ``< <= == != > >=``.
    no_value_power : bool
        An exponent must be a number.
    own_sub : bool
        ``a - b`` is one operation, not ``a + b * -1``.
    frozen : iterable of str
        Rows of ``ops.h`` whose partials are kept from the forward pass, so that a later change of
        an operand's data does not reach them.
    numpy : callable, optional
        ``np.float64`` and ``np.int64`` stay what they are; ``numpy()`` is called before the first
        is read, and may raise. Else they read back as float and int.
    no_numpy_int : int
        A bit for each of ``+ - * / **``, and one for the constructor, that takes no ``np.int64``.
    relu : int
        What relu's derivative compares with 0, as it is an ``np.bool_`` then if that is NumPy's: 0
        for neither, 1 for the result, 2 for the operand.
    may_set : callable, optional
        ``may_set(value, name)`` is called before an attribute is set, and may raise.
    hook : callable, optional
        ``hook(operation, left, right, reverse=False)`` is called before an operator or function
        raises, or goes on where NumPy warns, and may raise another error. `operation` is the name
        of a row of ``ops.h``, with numbers, or of a method such as ``__add__``, with its operands,
        or ``__init__``, with a tuple and a dict.

    Raises
    ------
    ValueError
        If there is no such row.

    Notes
    -----
    For the whole process, and for what is recorded from now on. Without arguments Value is
    micrograd's again.

    Examples
    --------
    >>> from fastgrad import Value, dialect
    >>> dialect.set_dialect(int_grad=False, int_seed=False)
    >>> Value(2)
    Value(data=2, grad=0.0)
    >>> dialect.set_dialect()
    """
    global failure_hook, attribute_hook, numpy_hook
    cdef uint64_t bits = 0
    rows = [row.name.decode() for row in op_rows[:OP_FIRST_POOLED]]
    for name in frozen:
        if name not in rows:
            raise ValueError(f"frozen must name rows of ops.h, got {name!r}")
        bits |= <uint64_t>1 << <int>rows.index(name)
    tape.dialect.fresh = GRAD_INT if int_grad else 0
    tape.dialect.seed = GRAD_INT if int_seed else 0
    tape.dialect.kinds = 0 if floats else 255
    tape.dialect.no_reflected = no_reflected
    tape.dialect.no_comparison = no_comparison
    tape.dialect.no_value_power = no_value_power
    tape.dialect.own_sub = own_sub
    tape.dialect.frozen = bits
    tape.dialect.numpy = numpy is not None
    tape.dialect.no_numpy_int = no_numpy_int
    tape.dialect.relu = relu
    tape.dialect.may_set = NULL if may_set is None else <PyObject *>may_set
    attribute_hook, failure_hook, numpy_hook = may_set, hook, numpy
    if numpy is None:
        tape.numpy = 0


# ---- NumPy's numbers


cdef object float64 = None, int64 = None, bool_ = None, integer = None


cdef bint is_numpys(object number):
    """Is it a number of NumPy's, or an array?  NumPy is not imported for the question."""
    return type(number).__module__ == "numpy"


cdef int read_numpys(object number, double *value, int *kind) except -1:
    """Read an np.float64 or np.int64; returns 0 if it is neither."""
    find_types()
    if type(number) is float64:
        kind[0] = DATA_NUMPY
    elif type(number) is int64:
        kind[0] = DATA_NUMPY | DATA_INT
    else:
        return 0
    if not tape.numpy:
        numpy_hook()
        tape.numpy = DATA_NUMPY | GRAD_NUMPY
    value[0] = number
    if kind[0] & DATA_INT and fabs(value[0]) >= 9007199254740992.0:
        raise OverflowError(
            f"got {number!r}, expected an np.int64 below 2**53: make it a float, or run the script "
            "with --as-written"
        )
    return 1


cdef object make_numpys(double value, bint is_int):
    return int64(<object>int(value)) if is_int else float64(value)


cdef object from_left(object number):
    """What a Value on its right is handed instead of a number of NumPy's: Python's number."""
    find_types()
    return number.item() if hasattr(number, "item") and getattr(number, "ndim", 1) == 0 else number


cdef object from_right(object number, bint is_sum_or_product, bint with_int):
    """A number of NumPy's, as an np.float64 or np.int64 where the result is the same with it."""
    find_types()
    if getattr(number, "ndim", 1) != 0:
        return number
    if type(number) is not float64:
        number = number[()]  # of an array without axes
    # With an int, or an int grad, an int8 gives another.
    if is_sum_or_product and (
        type(number) is bool_
        or (isinstance(number, integer) and not with_int and not tape.dialect.seed)
    ):
        return int64(number)
    return number


cdef int find_types() except -1:
    global float64, int64, bool_, integer
    if float64 is None:
        numpy = sys.modules["numpy"]
        float64, int64 = numpy.float64, numpy.int64
        bool_, integer = numpy.bool_, numpy.integer
    return 0
