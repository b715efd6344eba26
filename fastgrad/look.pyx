"""A look at the tape from Python: which entries a root reaches, and where they lie.

Invariant: looking changes nothing.  The handles made here die with the list that holds them, and
leave behind the attributes that they found.
"""

from libc.stdint cimport int32_t

from fastgrad.record cimport describe, handle, handle_of, is_value, operand_slots
from fastgrad.tape cimport tape


def reached(root):
    """List the Values that a root is computed from, operands before users, itself last.

    Parameters
    ----------
    root : Value

    Returns
    -------
    list of Value

    Raises
    ------
    TypeError
        If `root` is no Value.

    Examples
    --------
    >>> from fastgrad import Value
    >>> x = Value(2.0)
    >>> [value.data for value in reached(x * x + 1)]
    [2.0, 4.0, 1, 5.0]
    """
    cdef int32_t slot
    if not is_value(root):
        raise TypeError(f"expected a Value, the root of a graph, got {describe(root)}")
    tape.pins += 1
    try:
        slot = handle(root).slot
        seen, waiting = {slot}, [slot]
        while waiting:
            for operand in operand_slots(waiting.pop()):
                if operand not in seen:
                    seen.add(operand)
                    waiting.append(operand)
        return [handle_of(slot) for slot in sorted(seen)]
    finally:
        tape.pins -= 1


def slots_of(list values):
    """List the slots of some Values, as they are until the next collection.

    Parameters
    ----------
    values : list of Value

    Returns
    -------
    list of int

    Examples
    --------
    >>> from fastgrad import Value
    >>> x = Value(2.0)
    >>> below, above = slots_of([x, x * x])
    >>> above > below
    True
    """
    return [handle(value).slot for value in values]
