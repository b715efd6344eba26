"""The formulas of ``functional.pyx``: what each function appends of rows of operands.

Each is spelled as its docstring there spells it in Value operators, entry by entry, but that a
constant is appended once a call, and that the products and sums of `dot` are one entry.

Invariant: called by `recorded` or `recorded_row`, which have looked at the rows, made room and
pinned the tape.  What can fail is checked before the first entry is appended.
"""

from libc.math cimport fabs
from libc.stdint cimport int64_t, uint8_t

from fastgrad.record cimport (
    apply, handle, handle_of, number_from, raise_error_of, record_pooled, unusual_sum,
)
from fastgrad.tape cimport (
    DATA_INT, INNER, KEPT, OP_ADD, OP_DETACH, OP_DOT, OP_EXP, OP_LOG, OP_MAXIMUM, OP_MUL,
    OP_POW_CONST, OP_RELU, USED, append, append_leaf, make_room, op_error, op_pool_words, op_value,
    tape,
)


# ---- the largest


cdef int32_t append_max(Row xs, Row _) except -1:
    cdef int64_t k
    xs.place()
    cdef int32_t slot = xs.slots[0]
    for k in range(1, xs.count):
        slot = apply(OP_MAXIMUM, slot, xs.slots[k], NULL)
    return slot


cdef int32_t append_detached_max(Row xs) except -1:
    """Append the largest of a placed row to a trace as a constant: no gradient flows to it."""
    make_room(xs.count)
    out = record_pooled(OP_DETACH, (handle_of(append_max(xs, None)),))
    # Handles may run Python code, which may have used up the room; nothing needs more than this.
    make_room(5 * xs.count + 8)
    return handle(out).slot


cdef double largest(Row xs) noexcept:
    cdef double m = xs.data[0]
    cdef int64_t k
    for k in range(1, xs.count):
        m = op_value(OP_MAXIMUM, m, xs.data[k])
    return m


# ---- sums


cdef int32_t append_sum(Row xs, Row _) except -1:
    xs.place()
    return add_up(xs.slots, xs.count)


cdef int32_t add_up(const int32_t *slots, int64_t count) except -1:
    cdef int32_t slot = apply(OP_ADD, slots[0], append_leaf(0.0, True, NULL),
                              NULL)
    cdef int64_t k
    for k in range(1, count):
        slot = apply(OP_ADD, slot, slots[k], NULL)
    return slot


cdef int32_t append_mean(Row xs, Row _) except -1:
    xs.place()
    return average(xs.slots, xs.count)


cdef int32_t average(const int32_t *slots, int64_t count) except -1:
    cdef int32_t slot = add_up(slots, count)
    return apply(OP_MUL, slot, append_leaf(op_value(OP_POW_CONST, count, -1.0), False, NULL), NULL)


cdef int32_t append_dot(Row xs, Row ys) except -1:
    xs.place()
    ys.place()
    return append_products(xs, ys)


cdef int32_t append_products(Row xs, Row ys) except -1:
    cdef int64_t k
    cdef int32_t slot = append_leaf(0.0, True, NULL)  # Python's sum starts so
    cdef int32_t *words = tape.pool + tape.pool_size
    cdef uint8_t is_int = tape.flags[slot] & DATA_INT, kept = 0
    cdef double z = sum_of_products(xs, ys)
    words[0] = slot
    for k in range(xs.count):
        words[2 * k + 1] = xs.slots[k]
        words[2 * k + 2] = ys.slots[k]
        is_int &= tape.flags[xs.slots[k]] & tape.flags[ys.slots[k]]
        kept |= (tape.flags[xs.slots[k]] | tape.flags[ys.slots[k]]) & KEPT
    if tape.contexts and unusual_sum(tape.pool_size, xs.count, z):
        return append_leaf(z, is_int, NULL)
    for k in range(2 * xs.count + 1):
        tape.flags[words[k]] |= USED
    slot = append(OP_DOT, <int32_t>tape.pool_size, <int32_t>xs.count, z,
                  INNER | tape.dialect.fresh | is_int | kept, NULL)
    tape.pool_size += op_pool_words(OP_DOT, xs.count)
    return slot


cdef double sum_of_products(Row xs, Row ys) noexcept:
    cdef double z = 0.0
    cdef int64_t k
    for k in range(xs.count):
        z += xs.data[k] * ys.data[k]
    return z


# ---- probabilities


cdef int32_t append_exponentials(Row xs, int32_t *m) except -1:
    """Append exp(x - m) for each, and their sum, whose slot is returned.

    `m` becomes the slot of the constant m if that is an entry of a trace, else -1, and then it is
    the data of `largest`.
    """
    cdef int32_t minus_m
    cdef int64_t k
    m[0] = -1
    xs.place()
    if xs.decides_in_trace():
        m[0] = append_detached_max(xs)
        minus_m = apply(OP_MUL, m[0], append_leaf(-1.0, True, NULL), NULL)
    else:
        minus_m = append_leaf(-largest(xs), False, NULL)
    for k in range(xs.count):
        xs.results[k] = apply(OP_EXP, apply(OP_ADD, xs.slots[k], minus_m, NULL), minus_m, NULL)
    return add_up(xs.results, xs.count)


cdef int32_t append_softmax(Row xs, Row _) except -1:
    cdef int32_t m
    cdef int32_t inverse = append_exponentials(xs, &m)
    cdef int64_t k
    inverse = apply(OP_POW_CONST, inverse, append_leaf(-1.0, True, NULL), NULL)
    for k in range(xs.count):
        xs.results[k] = apply(OP_MUL, xs.results[k], inverse, NULL)
    return inverse


cdef int32_t append_log_sum_exp(Row xs, Row _) except -1:
    cdef int32_t m
    cdef int32_t slot = append_exponentials(xs, &m)
    slot = apply(OP_LOG, slot, slot, NULL)
    if m < 0:
        m = append_leaf(largest(xs), False, NULL)
    return apply(OP_ADD, slot, m, NULL)


cdef int32_t append_log_softmax(Row xs, Row _) except -1:
    cdef int32_t slot = append_log_sum_exp(xs, None)
    cdef int64_t k
    slot = apply(OP_MUL, slot, append_leaf(-1.0, True, NULL), NULL)
    for k in range(xs.count):
        xs.results[k] = apply(OP_ADD, xs.slots[k], slot, NULL)
    return slot


cdef int32_t append_cross_entropy(Row xs, Row _) except -1:
    cdef int32_t total = append_log_sum_exp(xs, None)
    cdef int32_t minus_one = append_leaf(-1.0, True, NULL)
    cdef int32_t slot = apply(OP_MUL, xs.slots[<int64_t>xs.parameter], minus_one, NULL)
    return apply(OP_ADD, total, slot, NULL)


# ---- losses and norms


cdef int32_t append_squares(Row ys, Row ts) except -1:
    cdef double d
    cdef int32_t two
    cdef int64_t k
    for k in range(ys.count):
        d = ys.data[k] - ts.data[k]
        if fabs(d) > 1e154:  # then its square may overflow
            check_power(d, 2.0, True)
    ys.place()
    ts.negate()
    two = append_leaf(2.0, True, NULL)
    for k in range(ys.count):
        ys.results[k] = apply(
            OP_POW_CONST, apply(OP_ADD, ys.slots[k], ts.slots[k], NULL), two, NULL
        )
    return mean_of_results(ys)


cdef int32_t append_margins(Row ys, Row ts) except -1:
    cdef int32_t one, slot
    cdef int64_t k
    ys.place()
    ts.negate()
    one = append_leaf(1.0, True, NULL)
    for k in range(ys.count):
        slot = apply(OP_ADD, apply(OP_MUL, ts.slots[k], ys.slots[k], NULL), one, NULL)
        ys.results[k] = apply(OP_RELU, slot, slot, NULL)
    return mean_of_results(ys)


cdef int32_t mean_of_results(Row ys) except -1:
    """Of the terms of a loss; the only one itself if it was asked for as a number."""
    return ys.results[0] if ys.parameter == SINGLE else average(ys.results, ys.count)


cdef int32_t append_rmsnorm(Row xs, Row _) except -1:
    cdef double inverse = op_value(OP_POW_CONST, xs.count, -1.0)
    cdef int32_t slot
    cdef int64_t k
    check_power(sum_of_products(xs, xs) * inverse + xs.parameter, -0.5, False)
    xs.place()
    slot = append_products(xs, xs)
    slot = apply(OP_MUL, slot, append_leaf(inverse, False, NULL), NULL)
    slot = apply(OP_ADD, slot, append_leaf(xs.parameter, False, NULL), NULL)
    slot = apply(OP_POW_CONST, slot, append_leaf(-0.5, False, NULL), NULL)
    for k in range(xs.count):
        xs.results[k] = apply(OP_MUL, xs.slots[k], slot, NULL)
    return slot


cdef int check_power(double x, double y, bint is_int) except -1:
    """Raise what the operator would, but before anything is appended."""
    cdef int error = op_error(OP_POW_CONST, x, y, op_value(OP_POW_CONST, x, y))
    if error:
        raise_error_of(OP_POW_CONST, x, number_from(y, is_int), error, False)
    return 0
