"""Numbering: a recording's entries become nodes, equal ones the same node.

The uses of each node are counted, constants are computed, powers by 2, -1, 0.5 and 3 get ops of
their own, sums and products their operands in the order of their numbers.

Invariant: every bit of every value is kept; nothing that changes a rounding is done.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy

from fastgrad.nodes cimport (
    ACTIVE, OP_CUBE, OP_INVERSE, OP_PARAMETER, OP_ROOT, OP_SQUARE, OUTPUT, VARIES, Fused, operands,
    row, second,
)
from fastgrad.recording cimport OP_INPUT, Recording
from fastgrad.tape cimport (
    OP_ADD, OP_ARGMAX, OP_CUSTOM, OP_DETACH, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_MUL,
    OP_POW_CONST, OP_RUN, op_rows, op_words,
)
from fastgrad.words cimport push, zeros


cdef enum:
    LONG = 32  # weights from which a neuron's weights need no nodes


cdef struct Names:  # while entries become nodes
    int32_t *ids    # by the recording's numbers: the node, + 1; 0 if there is none yet
    int32_t *table  # of node + 1, by hash; 0: empty
    uint64_t mask
    int32_t first, count, at, rows  # the last row of x: its numbers, its place in the pool or -1


cdef int number(Fused graph, Recording recording) except -1:
    """Give `graph` the nodes, and the outputs."""
    cdef int64_t n = recording.size, k
    cdef Names names = Names(NULL, NULL, 63, -1, 0, -1, 0)
    cdef int32_t new
    while names.mask < <uint64_t>(2 * n):
        names.mask = 2 * names.mask + 1
    graph.make_room(n + min(n, recording.parameters) + 1)
    try:
        names.ids = <int32_t *>zeros(recording.parameters + n, sizeof(int32_t))
        names.table = <int32_t *>zeros(names.mask, sizeof(int32_t))
        for k in range(n):
            copy_node(graph, recording, k, &names)
            new = find_equal(graph, &names)
            names.ids[recording.parameters + k] = new + 1
            if new == graph.size:
                graph.size += 1
                count_uses(graph, new)
            elif graph.op[graph.size] >= OP_FIRST_POOLED and graph.op[graph.size] < OP_SQUARE:
                graph.pool.size = graph.a[graph.size]  # its words were the last
        for k in range(recording.output_count):
            new = node_of(graph, &names, recording.outputs[k])
            push(&graph.outputs, new)
            graph.marks[new] |= OUTPUT
            graph.uses[new] += 1
    finally:
        free(names.ids)
        free(names.table)
    return 0


cdef inline int32_t node_of(Fused graph, Names *names, int32_t number) except -1:
    """The node of what has this number in the recording; a parameter gets one here."""
    if names.ids[number]:
        return names.ids[number] - 1
    new_node(graph, OP_PARAMETER, ACTIVE, number, number, 0.0)
    graph.size += 1
    names.ids[number] = graph.size
    return graph.size - 1


cdef inline int new_node(
    Fused graph, int op, int marks, int32_t a, int32_t b, double val
) except -1:
    """Write node number `size`."""
    cdef int32_t node = graph.size
    if node == graph.room:
        graph.make_room(2 * graph.room + 64)
    graph.op[node], graph.marks[node] = op, marks
    graph.a[node], graph.b[node] = a, b
    graph.val[node], graph.row[node], graph.uses[node] = val, 0, 0
    return 0


cdef inline void count_uses(Fused graph, int32_t node) noexcept:
    cdef const int32_t *words = NULL
    cdef int32_t k, count = 0
    operands(graph, node, &words, &count)
    for k in range(count):
        graph.uses[words[k]] += 1
    if graph.op[node] == OP_RUN:
        words = row(graph, node)
        for k in range(graph.b[node]):
            graph.uses[words[k]] += 1
    if second(graph, node):
        graph.uses[graph.b[node]] += 1


cdef int32_t place_row(Fused graph, Names *names, int32_t first, int32_t count) except -2:
    """Where in the pool the nodes of a RUN's x are; -1 if it must become a DOT.

    All must vary; and one that wants an adjoint must come once: the kernels add to all at a time.
    """
    cdef int32_t x, k
    if names.first == first and names.count == count:
        return names.at
    names.first, names.count, names.at = first, count, -1
    names.rows += 1
    for k in range(count):
        x = node_of(graph, names, first + k)
        if not graph.marks[x] & VARIES or (
            graph.marks[x] & ACTIVE and graph.row[x] == names.rows
        ):
            return -1
        graph.row[x] = names.rows
    names.at = <int32_t>graph.pool.size
    for k in range(count):
        push(&graph.pool, node_of(graph, names, first + k))
    return names.at


cdef inline int power_op(double exponent) noexcept:
    """The op of a power with this exponent."""
    if exponent == 2.0:
        return OP_SQUARE
    if exponent == -1.0:
        return OP_INVERSE
    if exponent == 0.5:
        return OP_ROOT
    return OP_CUBE if exponent == 3.0 else OP_POW_CONST


cdef int copy_node(Fused graph, Recording recording, int64_t entry, Names *names) except -1:
    """Write an entry as node number `size`, with its operands' new numbers and its marks."""
    cdef int32_t a = recording.a[entry], b = recording.b[entry], place = -1
    cdef bint swaps
    cdef const int32_t *words = recording.pool + a
    cdef int op = recording.op[entry]
    cdef int32_t k
    cdef uint8_t marks = 0
    if op == OP_INPUT:
        marks = VARIES
    elif op == OP_LEAF:
        a = b = 0
    elif op < OP_FIRST_POOLED:
        a, b = node_of(graph, names, a), node_of(graph, names, b)  # the same for one operand
        # Conditional expressions, as a processor could not foretell these branches.
        swaps = (op == OP_ADD or op == OP_MUL) & (a > b)
        a, b = (b if swaps else a), (a if swaps else b)
        marks = graph.marks[a] | graph.marks[b] & (
            VARIES | ACTIVE if op_rows[op].shown == 2 else VARIES
        )
        if op == OP_POW_CONST and graph.op[b] == OP_LEAF:
            op = power_op(graph.val[b])
            if op != OP_POW_CONST:
                b = a
        if not marks & (VARIES | ACTIVE) and (graph.op[a] == OP_LEAF and graph.op[b] == OP_LEAF):
            op = OP_LEAF  # the value was computed when it was recorded
            a = b = 0
    elif op == OP_RUN:
        if b >= LONG and not graph.marks[node_of(graph, names, words[0])] & VARIES:
            place = place_row(graph, names, words[2], b)
        a = <int32_t>graph.pool.size
        push(&graph.pool, node_of(graph, names, words[0]))
        if place >= 0:
            push(&graph.pool, words[1])
            push(&graph.pool, place)
            marks = VARIES | ACTIVE
        else:
            op = OP_DOT
            for k in range(b):
                push(&graph.pool, node_of(graph, names, words[1] + k))
                push(&graph.pool, node_of(graph, names, words[2] + k))
            for k in range(2 * b + 1):
                marks |= graph.marks[graph.pool.at[a + k]]
    else:
        a = <int32_t>graph.pool.size
        if op == OP_CUSTOM:
            push(&graph.pool, words[0])
        for k in range(op == OP_CUSTOM, op_words(op, b)):
            push(&graph.pool, node_of(graph, names, words[k]))
            marks |= graph.marks[graph.pool.at[a + k]]
        if op == OP_DETACH or op == OP_ARGMAX:
            marks &= ~ACTIVE
        if op != OP_DOT and op != OP_CUSTOM:  # an index may be wrong in a lane only
            marks |= VARIES
    return new_node(graph, op, marks & (VARIES | ACTIVE), a, b, recording.val[entry])


cdef int32_t find_equal(Fused graph, Names *names) noexcept:
    """The node that equals node number `size`; that itself, then entered, if there is none."""
    cdef int32_t node = graph.size, other
    cdef uint64_t hash = graph.op[node], bits = 0, at
    cdef int64_t words = 0, k
    cdef bint pooled = OP_FIRST_POOLED <= graph.op[node] < OP_SQUARE
    if graph.op[node] == OP_LEAF:
        memcpy(&bits, &graph.val[node], sizeof(double))
        at = hash = mix(hash, bits)
    elif pooled:
        words = op_words(graph.op[node], graph.b[node])
        for k in range(words):
            hash = mix(hash, graph.pool.at[graph.a[node] + k])
        at = hash
    else:
        # First beside what was made of its newest operand's neighbours: that is in the cache.
        hash = mix(mix(hash, graph.a[node]), graph.b[node])
        at = 2 * max(graph.a[node], graph.b[node]) + (hash >> 63)
    at &= names.mask
    while names.table[at]:
        other = names.table[at] - 1
        if graph.op[other] == graph.op[node] and graph.b[other] == graph.b[node]:
            if graph.op[node] == OP_LEAF:
                if not memcmp(&graph.val[other], &graph.val[node], sizeof(double)):
                    return other
            elif pooled:
                if not memcmp(graph.pool.at + graph.a[other], graph.pool.at + graph.a[node],
                              words * sizeof(int32_t)):
                    return other
            elif graph.a[other] == graph.a[node]:
                return other
        at = (at + (hash >> 7 | 1)) & names.mask  # an odd step comes by every place
    names.table[at] = node + 1
    return node
