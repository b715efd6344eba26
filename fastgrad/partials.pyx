"""The numbers on a recording's edges and bends at a sample: values, partials, second partials.

Those of an elementary operation are its row of ``kernels/ops.h``; those of the user's operations
come from the user's functions, second ones when they are asked for.

Invariant: values are those of the plain run, to the last bit.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t

from fastgrad.custom cimport CustomOp
from fastgrad.edges cimport (
    BENDS_XX, BENDS_XY, BENDS_YY, Linearised, chooses, entry_of, factor, op_bends, weight,
)
from fastgrad.examine cimport pooled_value
from fastgrad.recording cimport OP_INPUT
from fastgrad.tape cimport (
    OP_CUSTOM, OP_FIRST_POOLED, OP_LEAF, OP_TAKE, Partials, op_linearised, op_partials, op_rows,
    op_value,
)


cdef bint forward(
    Linearised g, const double *const *inputs, const int64_t *strides, int64_t sample
) noexcept nogil:
    """Compute values, and partials, at a sample; false if an index names nothing."""
    cdef const uint8_t *ops = g.recording.op
    cdef const int32_t *left = g.recording.a
    cdef const int32_t *right = g.recording.b
    cdef const int32_t *node = g.node + g.recording.parameters
    cdef double *val = g.val
    cdef double *at = val + g.recording.parameters
    cdef Partials partials
    cdef int64_t k
    cdef int32_t a, b
    cdef int op
    for k in range(g.recording.size):
        op, a, b = ops[k], left[k], right[k]
        if op == OP_LEAF:
            continue
        if op == OP_INPUT:
            at[k] = inputs[a][sample * strides[a]]
        elif op >= OP_FIRST_POOLED:
            if not compute(g, k):
                return False
            if node[k]:
                fill_node(g, node[k])
        elif node[k]:
            at[k] = op_linearised(op, val[a], val[b], &partials)
            put_partials(g, node[k], op, a, b, &partials)
        else:
            at[k] = op_value(op, val[a], val[b])
    return True


cdef bint compute(Linearised g, int64_t entry) noexcept nogil:
    """Compute an entry's value, if it is no leaf; false if its index names nothing."""
    cdef int op = g.recording.op[entry]
    cdef int32_t a = g.recording.a[entry], b = g.recording.b[entry]
    cdef double *z = g.val + g.recording.parameters + entry
    if op == OP_LEAF:
        return True
    if op < OP_FIRST_POOLED:
        z[0] = op_value(op, g.val[a], g.val[b])
        return True
    if op == OP_CUSTOM:
        return compute_custom(g, entry)
    return pooled_value(op, g.val, g.recording.pool + a, b, z)


cdef void fill(Linearised g) noexcept nogil:
    """Compute the partials of edges and bends from the values."""
    cdef int32_t node
    for node in range(1, g.nodes):
        if entry_of(g, node) >= 0:
            fill_node(g, node)


cdef void fill_node(Linearised g, int32_t node) noexcept nogil:
    cdef int64_t entry = entry_of(g, node)
    cdef int op = g.recording.op[entry]
    cdef int32_t a = g.recording.a[entry], b = g.recording.b[entry]
    cdef Partials partials
    if g.edge[node] == g.edge[node + 1]:  # one of the xs
        return
    if op < OP_FIRST_POOLED:
        partials = op_partials(op, g.val[a], g.val[b], g.val[g.number[node]])
        put_partials(g, node, op, a, b, &partials)
    elif op == OP_CUSTOM:
        fill_custom(g, node, entry)
    elif chooses(g.recording, entry):
        fill_choice(g, node, entry)
    else:
        fill_dot(g, node, entry)


cdef inline void put_partials(
    Linearised g, int32_t node, int op, int32_t a, int32_t b, const Partials *partials
) noexcept nogil:
    """Of an elementary entry."""
    cdef int64_t edge = g.edge[node], bend = g.bend[node]
    cdef bint x, y
    cdef int bends
    if edge == g.edge[node + 1]:
        return
    x, y = g.node[a] != 0, op_rows[op].shown == 2 and g.node[b] != 0
    if x:
        g.partial[edge] = partials.x
        edge += 1
    if y:
        g.partial[edge] = partials.y
    if bend == g.bend[node + 1]:
        return
    bends = op_bends(op)
    if bends & BENDS_XX and x:
        g.second[bend] = partials.xx
        bend += 1
    if bends & BENDS_XY and x and y:  # twice, if both are one node
        g.second[bend] = 2.0 * partials.xy if a == b else partials.xy
        bend += 1
    if bends & BENDS_YY and y:
        g.second[bend] = partials.yy


cdef void fill_choice(Linearised g, int32_t node, int64_t entry) noexcept nogil:
    cdef const int32_t *words = g.recording.pool + g.recording.a[entry]
    cdef double index = g.val[words[0]]
    cdef int64_t chosen = 1 if index != 0 else 2
    if g.recording.op[entry] == OP_TAKE:
        chosen = 1 + <int64_t>index
    g.operand[g.edge[node]] = g.node[words[chosen]]
    g.partial[g.edge[node]] = 1.0


cdef CustomOp custom_of(Linearised g, int64_t entry):
    return g.recording.customs[g.recording.pool[g.recording.a[entry]]]


cdef list custom_operands(Linearised g, int64_t entry):
    """The numbers of a custom operation's operands."""
    cdef int64_t k, first = g.recording.a[entry]
    return [g.recording.pool[first + k] for k in range(1, g.recording.b[entry])]


cdef bint compute_custom(Linearised g, int64_t entry) noexcept with gil:
    """Compute its value; false if that raises."""
    cdef int64_t number
    try:
        xs = [g.val[number] for number in custom_operands(g, entry)]
        g.val[g.recording.parameters + entry] = custom_of(g, entry).value(xs)
    except BaseException as error:
        g.error = error
    return g.error is None


cdef void fill_custom(Linearised g, int32_t node, int64_t entry) noexcept with gil:
    cdef int64_t number, edge = g.edge[node]
    try:
        numbers = custom_operands(g, entry)
        partials = custom_of(g, entry).partials_at([g.val[number] for number in numbers])
        for number, partial in zip(numbers, partials):
            if g.node[number]:
                g.partial[edge] = partial
                edge += 1
    except BaseException as error:
        g.error = error


cdef int fill_custom_bends(Linearised g) except -1:
    """Ask custom operations for their second partials, which first derivatives do without."""
    cdef int32_t node
    cdef int64_t entry, number, bend, k, j
    for node in g.customs:
        bend, entry = g.bend[node], entry_of(g, node)
        numbers = custom_operands(g, entry)
        rows = custom_of(g, entry).second_at([g.val[number] for number in numbers])
        for k in range(len(numbers)):
            for j in range(k, len(numbers)):
                if g.node[<int64_t>numbers[k]] and g.node[<int64_t>numbers[j]]:
                    # Twice, if two operands are one node.
                    g.second[bend] = rows[k][j] * (1 + (k != j and numbers[k] == numbers[j]))
                    bend += 1
    return 0


cdef void fill_dot(Linearised g, int32_t node, int64_t entry) noexcept nogil:
    cdef int64_t edge = g.edge[node], k
    cdef int32_t w, x
    for k in range(g.recording.b[entry] - 1, -1, -1):
        w, x = weight(g, entry, k), factor(g, entry, k)
        if k == 0:
            edge = fill_bias(g, entry, edge)
        if g.node[w]:
            g.partial[edge] = g.val[x]
            edge += 1
        if g.node[x]:
            g.partial[edge] = g.val[w]
            edge += 1
    if g.recording.b[entry] == 0:
        fill_bias(g, entry, edge)


cdef inline int64_t fill_bias(Linearised g, int64_t entry, int64_t edge) noexcept nogil:
    if g.node[g.recording.pool[g.recording.a[entry]]]:
        g.partial[edge] = 1.0
        edge += 1
    return edge
