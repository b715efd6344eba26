"""Clipping of gradients, between backward() and a step: `clip_grad_norm_`, `clip_grad_value_`.

Names, defaults and formulas are those of torch.nn.utils; each is one C call over all parameters.

Invariant: a call that raises has changed nothing.  A grad that needs no clipping stays what it is.
"""

from libc.math cimport INFINITY, fabs, isfinite, sqrt
from libc.stdint cimport int32_t, int64_t

from fastgrad.optimizer cimport all_parameters, checked
from fastgrad.slots cimport Slots
from fastgrad.tape cimport Run, entry_set_grad, tape
from fastgrad.trace cimport refuse_effect

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False):
    """Scale all grads by one factor, so that their norm is at most `max_norm`.

    torch.nn.utils.clip_grad_norm_: the factor is min(1, max_norm / (norm + 1e-6)).

    Parameters
    ----------
    parameters : iterable of Value
    max_norm : number
        At least 0; inf only takes the norm.
    norm_type : 2 or inf
        The root of the sum of the squares, or the largest magnitude.
    error_if_nonfinite : bool
        Whether to raise if the norm is inf or nan; otherwise the grads become 0 or nan.

    Returns
    -------
    float
        The norm that the grads had.

    Raises
    ------
    TypeError
        If a parameter is no Value, or `max_norm` no number.
    ValueError
        If there are no parameters, one is there twice or is no leaf; or another argument is out of
        range.
    RuntimeError
        If the norm is inf or nan and shall not be.
    TraceError
        If a program is being recorded.

    Examples
    --------
    >>> from fastgrad import Value, optim
    >>> v, w = Value(1.0), Value(2.0)
    >>> v.grad, w.grad = 3.0, -4.0
    >>> optim.clip_grad_norm_([v, w], max_norm=1.0)
    5.0
    >>> round(v.grad, 6), round(w.grad, 6)
    (0.6, -0.8)
    """
    cdef double most, total, factor
    cdef Slots slots
    cdef Run run
    cdef int64_t k
    cdef int32_t slot
    refuse_effect("clip_grad_norm_()")
    most = INFINITY if max_norm == INFINITY else checked(max_norm, "max_norm", "max_norm")
    if norm_type not in (2, INFINITY, "inf"):
        raise ValueError(f"norm_type must be 2 or inf, got {norm_type!r}")
    slots = Slots(all_parameters(parameters, "clip_grad_norm_()"))
    slots.find()
    total = euclidean_norm(slots) if norm_type == 2 else largest_magnitude(slots)
    if error_if_nonfinite and not isfinite(total):
        raise RuntimeError(
            f"the norm of the gradients is {total}, expected a finite one: nothing was clipped; "
            "fastgrad.detect_anomaly() finds where it comes from"
        )
    factor = most / (total + 1e-6)
    if not factor >= 1:  # nan makes all grads nan
        for run in slots.runs[:slots.run_count]:
            for k in range(run.count):
                slot = run.first + <int32_t>k
                entry_set_grad(&tape, slot, factor * tape.adj[slot], 0)
    return total


def clip_grad_value_(parameters, clip_value):
    """Move each grad into [-clip_value, clip_value]; nan stays nan.

    torch.nn.utils.clip_grad_value_.

    Parameters
    ----------
    parameters : iterable of Value
    clip_value : number
        At least 0.

    Raises
    ------
    TypeError
        If a parameter is no Value, or `clip_value` no number.
    ValueError
        If there are no parameters, one is there twice or is no leaf; or `clip_value` is out of
        range.
    TraceError
        If a program is being recorded.

    Examples
    --------
    >>> from fastgrad import Value, optim
    >>> v, w = Value(1.0), Value(2.0)
    >>> v.grad, w.grad = 0.25, -4.0
    >>> optim.clip_grad_value_([v, w], 1)
    >>> v.grad, w.grad
    (0.25, -1.0)
    """
    cdef double most
    cdef Slots slots
    cdef Run run
    cdef int64_t k
    cdef int32_t slot
    refuse_effect("clip_grad_value_()")
    most = checked(clip_value, "clip_value", "clip_value")
    slots = Slots(all_parameters(parameters, "clip_grad_value_()"))
    slots.find()
    for run in slots.runs[:slots.run_count]:
        for k in range(run.count):
            slot = run.first + <int32_t>k
            if fabs(tape.adj[slot]) > most:
                entry_set_grad(&tape, slot, most if tape.adj[slot] > 0 else -most, 0)


cdef double euclidean_norm(Slots slots) noexcept:
    cdef double total = 0.0
    cdef Run run
    cdef int64_t k
    for run in slots.runs[:slots.run_count]:
        for k in range(run.count):
            total += tape.adj[run.first + k] * tape.adj[run.first + k]
    return sqrt(total)


cdef double largest_magnitude(Slots slots) noexcept:
    cdef double most = 0.0, size
    cdef Run run
    cdef int64_t k
    for run in slots.runs[:slots.run_count]:
        for k in range(run.count):
            size = fabs(tape.adj[run.first + k])
            if size > most or size != size:  # once nan, always nan
                most = size
    return most
