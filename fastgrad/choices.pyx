"""What operands decide: a choice by a condition, by size, by an index.

Eagerly most of these append little or nothing: data decide here and now.  While a program is traced
they are recorded as entries, because the example's data must not decide for every sample.  That
holds for every Value that decides, not only for inputs: parameters too are read afresh by each run.

The names are public in ``functional.pyx``.
"""

from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from fastgrad.formulas cimport append_max
from fastgrad.record cimport handle, is_value, read_number, record, record_pooled
from fastgrad.row cimport (
    check_operand, check_same_length, example_index, is_operand, items_of, read_columns,
    read_index, read_nested, read_row, recorded, value_of, values_of_nested,
)
from fastgrad.tape cimport (
    OP_ARGMAX, OP_MAXIMUM, OP_MINIMUM, OP_TAKE, OP_WHERE, make_room, tape,
)
from fastgrad.trace cimport is_tracer


def where(c, a, b):
    """`a` where the condition is not 0, else `b`.

    ``a if c.data != 0 else b``; nan is not 0. Gradient flows to the one taken alone.

    Parameters
    ----------
    c, a, b : Value or number

    Returns
    -------
    Value
        `a` or `b` itself, if it is a Value.

    Raises
    ------
    TypeError
        If one of them is neither.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.where(Value(0.0), Value(1.0), 2.0).data
    2.0
    """
    cdef double condition = 0.0
    cdef int is_int = 0
    check_operand(c, "where", "c")
    check_operand(a, "where", "a")
    check_operand(b, "where", "b")
    if not is_value(c):
        read_number(c, &condition, &is_int)
        return value_of(a if condition != 0 else b)
    if not is_tracer():
        return value_of(a if tape.val[handle(c).slot] != 0 else b)
    a, b = value_of(a), value_of(b)
    out = record_pooled(OP_WHERE, (c, a, b))
    taken = a if tape.val[handle(c).slot] != 0 else b
    tape.val[handle(out).slot] = tape.val[handle(taken).slot]
    return out


def maximum(a, b):
    """The larger of two: ``a.maximum(b)``.

    Gradient flows to the one taken; a tie takes `a`, nan is taken.

    Parameters
    ----------
    a, b : Value or number

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If one of them is neither.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.maximum(2.0, Value(3.0)).data
    3.0
    """
    return of_two(OP_MAXIMUM, a, b, "maximum")


def minimum(a, b):
    """The smaller of two: ``a.minimum(b)``.

    Gradient flows to the one taken; a tie takes `a`, nan is taken.

    Parameters
    ----------
    a, b : Value or number

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If one of them is neither.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.minimum(2.0, Value(3.0)).data
    2.0
    """
    return of_two(OP_MINIMUM, a, b, "minimum")


cdef object of_two(int op, object a, object b, str caller):
    check_operand(a, caller, "a")
    check_operand(b, caller, "b")
    a, b = value_of(a), value_of(b)
    return record(op, <PyObject *>a, <PyObject *>b)


def max(values):
    """The largest: ``x[0].maximum(x[1]).maximum(x[2])...``.

    Gradient flows to the one taken, the first of equal ones; nan is taken.

    Parameters
    ----------
    values : sequence of Values and numbers

    Returns
    -------
    Value
        The only one itself, if there is but one and it is a Value.

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.max([Value(1.0), Value(3.0), 2.0]).data
    3.0
    """
    cdef Row row = read_row(values, "max", "values")
    if row.count == 1:
        return value_of(row.items[0])
    return recorded(append_max, row, None, 2 * row.count)


def argmax(values):
    """Index of the largest, the first of equal ones; nan is the largest. No gradient flows.

    Parameters
    ----------
    values : sequence of Values and numbers

    Returns
    -------
    int
        While a program is traced, and there is a Value among them: a Value.

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.argmax([Value(1.0), Value(3.0), 2.0])
    1
    """
    cdef Row row = read_row(values, "argmax", "values")
    cdef int64_t k, best = 0
    row.look()
    for k in range(1, row.count):
        if row.data[k] > row.data[best] or (row.data[k] != row.data[k]
                                            and row.data[best] == row.data[best]):
            best = k
    if not row.decides_in_trace():
        return best
    make_room(row.count)  # a trace pins the tape: the slots stay
    row.place()
    out = record_pooled(OP_ARGMAX, tuple(row.handles()))
    tape.val[handle(out).slot] = best
    return out


def take(values, i):
    """``values[i]``; gradient flows to the one taken.

    Parameters
    ----------
    values : sequence of Values and numbers, shape (n,) or (n, ...)
        Its elements may be sequences themselves, as the rows of a table of embeddings are.
    i : Value or number
        A whole number from 0 to n - 1.

    Returns
    -------
    Value or list
        The element itself, if it is a Value; of rows a list, nested as they are.

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers, or of such; or `i` is no number.
    ValueError
        If it is empty, or its rows differ in length.
    IndexError
        If `i` is negative, too large, no whole number, or nan.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.take([Value(1.0), Value(3.0)], 1).data
    3.0
    >>> functional.take([[1.0, 2.0], [3.0, 4.0]], Value(0))
    [Value(data=1.0, grad=0), Value(data=2.0, grad=0)]
    """
    cdef tuple items = items_of(values, "take", "values")
    check_operand(i, "take", "i")
    if is_value(i) and is_tracer():
        return record_takes(read_columns(items, "take", "values", 0), i)
    cdef int64_t index = read_index(i, len(items), "take", "values")
    if is_operand(items[0]):
        for k, item in enumerate(items):
            if not is_operand(item):
                check_operand(item, "take", f"values[{k}]")
        return value_of(items[index])
    items = tuple([items_of(row, "take", f"values[{k}]") for k, row in enumerate(items)])
    check_same_length(items, "take", "values")
    return values_of_nested(read_nested(items[index], "take", f"values[{index}]", 1))


cdef object record_takes(object columns, object i):
    if not isinstance(columns, Row):
        return [record_takes(column, i) for column in columns]
    make_room((<Row>columns).count)
    (<Row>columns).look()
    (<Row>columns).place()
    return record_take(columns, i)


cdef object record_take(Row row, object i):
    """Append the element of a placed row that a traced index picks."""
    out = record_pooled(OP_TAKE, (i, *row.handles()))
    # The example's index may be out of range: a program says so of the data that it runs on.
    tape.val[handle(out).slot] = row.data[example_index(i, row.count)]
    return out
