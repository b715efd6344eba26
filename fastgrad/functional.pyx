"""Functions of several values: each is one C call, and may be used in a program.

They append the entries that the formula in their docstring appends when it is written with Value
operators, and so give the same bits; the entries in between get no handles.  A number among the
operands becomes a leaf, as beside an operator.  Methods of Value that a script has replaced are not
called.

Invariant: operands are read and checked before anything is appended.

How they are read is in ``row.pyx``, what is appended in ``formulas.pyx``, and the functions that
choose among operands, which need care while a program is traced, in ``choices.pyx``.
"""

from fastgrad.choices cimport record_take
from fastgrad.formulas cimport (
    SINGLE, append_cross_entropy, append_dot, append_log_softmax, append_log_sum_exp,
    append_margins, append_mean, append_rmsnorm, append_softmax, append_squares, append_sum,
)
from fastgrad.operators cimport MINUS, mixed
from fastgrad.record cimport describe, is_value, read_number
from fastgrad.row cimport (
    Appender, Row, check_lengths, check_operand, is_operand, read_index, read_row, recorded,
    recorded_row,
)
from fastgrad.tape cimport OP_DOT, op_pool_words
from fastgrad.trace cimport is_tracer

from fastgrad.choices import argmax, max, maximum, minimum, take, where

__all__ = [
    "argmax", "cross_entropy", "dot", "hinge", "log_softmax", "logsumexp", "max", "maximum", "mean",
    "minimum", "mse", "rmsnorm", "softmax", "sum", "take", "where",
]


# ---- sums


def sum(values):
    """The sum from the left, as Python's: ``0 + x[0] + x[1] + ...``; gradient 1 to each.

    Parameters
    ----------
    values : sequence of Values and numbers

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.sum([Value(1.0), Value(3.0), 2.0]).data
    6.0
    """
    cdef Row row = read_row(values, "sum", "values")
    return recorded(append_sum, row, None, 2 * row.count + 1)


def mean(values):
    """``sum(x) / len(x)``, which is ``sum(x) * len(x)**-1``; gradient 1 / n to each.

    Parameters
    ----------
    values : sequence of Values and numbers

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.mean([Value(1.0), Value(3.0), 2.0]).data
    2.0
    """
    cdef Row row = read_row(values, "mean", "values")
    return recorded(append_mean, row, None, 2 * row.count + 3)


def dot(xs, ys):
    """``sum(x * y for x, y in zip(xs, ys))`` as one entry; gradient y to each x, x to each y.

    Parameters
    ----------
    xs, ys : sequence of Values and numbers, of the same length

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If one of them is no sequence of Values and numbers.
    ValueError
        If they are empty, or differ in length.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.dot([Value(1.0), Value(3.0)], [2.0, 4.0]).data
    14.0
    """
    cdef Row left = read_row(xs, "dot", "xs")
    cdef Row right = read_row(ys, "dot", "ys")
    check_lengths(left, right, "dot", "xs", "ys")
    return recorded(append_dot, left, right, 2 * left.count + 2, op_pool_words(OP_DOT, left.count))


# ---- probabilities


def softmax(values):
    """Probabilities in proportion to the exponentials: positive numbers whose sum is 1.

    With ``m`` the largest data, taken off so that no exp overflows::

        e = [(x - m).exp() for x in values]
        total = sum(e)
        [p / total for p in e]

    where ``total**-1`` is computed once. No gradient flows through `m`. The gradient of the i-th
    result z by the j-th value is ``z[i] * ((i == j) - z[j])``.

    Parameters
    ----------
    values : sequence of Values and numbers

    Returns
    -------
    list of Value

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> [p.data for p in functional.softmax([Value(1000.0), 1000.0])]
    [0.5, 0.5]
    """
    cdef Row row = read_row(values, "softmax", "values")
    return recorded_row(append_softmax, row, 5 * row.count + 4)


def log_softmax(values):
    """Logarithms of `softmax`: ``[x - logsumexp(values) for x in values]``.

    The gradient of the i-th result by the j-th value is ``(i == j) - softmax(values)[j]``.

    Parameters
    ----------
    values : sequence of Values and numbers

    Returns
    -------
    list of Value

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> [p.data for p in functional.log_softmax([Value(1000.0), 0.0])]
    [0.0, -1000.0]
    """
    cdef Row row = read_row(values, "log_softmax", "values")
    return recorded_row(append_log_softmax, row, 5 * row.count + 8)


def logsumexp(values):
    """A smooth maximum: ``sum((x - m).exp() for x in values).log() + m``, `m` the largest data.

    No gradient flows through `m`; the gradient by the j-th value is ``softmax(values)[j]``.

    Parameters
    ----------
    values : sequence of Values and numbers

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers.
    ValueError
        If it is empty.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.logsumexp([Value(1000.0), 0.0]).data
    1000.0
    """
    cdef Row row = read_row(values, "logsumexp", "values")
    return recorded(append_log_sum_exp, row, None, 4 * row.count + 5)


def cross_entropy(logits, i):
    """How badly logits predict the class `i`: ``logsumexp(logits) - logits[i]``, in nats.

    The gradient by the j-th logit is ``softmax(logits)[j] - (i == j)``.

    Parameters
    ----------
    logits : sequence of Values and numbers
    i : Value or number
        A whole number from 0 to len(logits) - 1; no gradient flows to it.

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If `logits` is no sequence of Values and numbers, or `i` is neither.
    ValueError
        If it is empty.
    IndexError
        If `i` is negative, too large, no whole number, or nan.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.cross_entropy([Value(1000.0), Value(0.0)], 1).data
    1000.0
    """
    cdef Row row = read_row(logits, "cross_entropy", "logits")
    check_operand(i, "cross_entropy", "i")
    if is_value(i) and is_tracer():
        total = recorded(append_log_sum_exp, row, None, 4 * row.count + 5)
        return mixed(MINUS, total, record_take(row, i))
    row.parameter = read_index(i, row.count, "cross_entropy", "logits")
    return recorded(append_cross_entropy, row, None, 4 * row.count + 8)


# ---- losses and norms


def mse(outputs, targets):
    """Mean squared error: ``sum((y - t)**2 for y, t in zip(outputs, targets)) / n``.

    The gradient by each output is ``2 * (y - t) / n``, by its target the negative of that.

    Parameters
    ----------
    outputs, targets : sequence of Values and numbers, of the same length
        Or both a Value or number, for ``(y - t)**2``.

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If one of them is neither, or only one of them is a sequence.
    ValueError
        If they are empty, or differ in length.
    OverflowError
        If a square is too large for a float64.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.mse([Value(1.0), Value(3.0)], [2.0, 3.0]).data
    0.5
    """
    return of_pairs(append_squares, outputs, targets, "mse")


def hinge(outputs, targets):
    """Hinge loss: ``sum((1 + -t * y).relu() for y, t in zip(outputs, targets)) / n``.

    That is the mean of max(0, 1 - t y), for targets of 1 and -1. The gradient by an output whose
    term is positive is ``-t / n``, by its target ``-y / n``; else 0.

    Parameters
    ----------
    outputs, targets : sequence of Values and numbers, of the same length
        Or both a Value or number, for ``(1 + -t * y).relu()``.

    Returns
    -------
    Value

    Raises
    ------
    TypeError
        If one of them is neither, or only one of them is a sequence.
    ValueError
        If they are empty, or differ in length.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> functional.hinge([Value(0.5), Value(3.0)], [1, 1]).data
    0.25
    """
    return of_pairs(append_margins, outputs, targets, "hinge")


cdef object of_pairs(Appender append, object outputs, object targets, str caller):
    cdef bint single = is_operand(outputs)
    cdef Row ys, ts
    if single != is_operand(targets):
        raise TypeError(
            f"{caller}: expected two sequences or two numbers, "
            f"got outputs {describe(outputs)} and targets {describe(targets)}"
        )
    if single:
        outputs, targets = (outputs,), (targets,)
    ys = read_row(outputs, caller, "outputs")
    ts = read_row(targets, caller, "targets")
    check_lengths(ys, ts, caller, "outputs", "targets")
    if single:
        ys.parameter = SINGLE
    return recorded(append, ys, ts, 6 * ys.count + 5)


def rmsnorm(values, eps=1e-5):
    """The row scaled to a root mean square of 1: ``[x * scale for x in values]``.

    With ``scale = (dot(values, values) / n + eps) ** -0.5``, after Zhang and Sennrich (2019).

    Parameters
    ----------
    values : sequence of Values and numbers
    eps : number
        Keeps a row of zeros from a division by zero; no gradient flows to it.

    Returns
    -------
    list of Value

    Raises
    ------
    TypeError
        If `values` is no sequence of Values and numbers, or `eps` no number.
    ValueError
        If `values` is empty, or the mean square plus `eps` is negative.
    ZeroDivisionError
        If it is 0.

    Examples
    --------
    >>> from fastgrad import Value, functional
    >>> [x.data for x in functional.rmsnorm([Value(3.0), 3.0], eps=0)]
    [1.0, 1.0]
    """
    cdef Row row = read_row(values, "rmsnorm", "values")
    cdef int is_int = 0
    if is_value(eps) or not read_number(eps, &row.parameter, &is_int):
        raise TypeError(f"rmsnorm: eps must be a number, got {describe(eps)}")
    return recorded_row(append_rmsnorm, row, 2 * row.count + 8,
                        op_pool_words(OP_DOT, row.count))
