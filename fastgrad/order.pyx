"""The order in which a fused program runs, and what its nodes want.

Nodes that vary run in the order of their depth, and within a depth by operation, so that the
kernels meet long runs of one op.

Invariant: a unit, a node or a layer, comes after all that it reads.
"""

from libc.stdint cimport int32_t, uint16_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastgrad.nodes cimport (
    ACTIVE, BOTH, BOTH_SAME, FIRST, GONE, OP_DENSE, OP_SQUARE, SECOND, VARIES, Fused, operands,
    row,
)
from fastgrad.recording cimport OP_INPUT
from fastgrad.tape cimport OP_FIRST_POOLED, OP_RUN, OP_TAKE, op_rows
from fastgrad.words cimport Words, zeros


cdef enum:
    OPS = 4 * 64  # more than there are codes


cdef int which_wanted(Fused graph, int32_t node) noexcept:
    """Of an elementary node's operands, whose adjoints are wanted?  -1 if none is."""
    cdef bint x, y
    if not graph.marks[node] & ACTIVE:
        return -1
    if graph.op[node] >= OP_SQUARE or op_rows[graph.op[node]].shown == 1:
        return FIRST
    x, y = graph.marks[graph.a[node]] & ACTIVE, graph.marks[graph.b[node]] & ACTIVE
    if graph.a[node] == graph.b[node]:
        return BOTH_SAME
    return BOTH if x and y else FIRST if x else SECOND


cdef struct Unit:
    int32_t unit, depth


cdef int order_units(Fused graph, bint gradient, Words *units) except -1:
    """Sort what varies by depth, then by code, of the reverse sweep if there is one."""
    cdef int32_t *depth = <int32_t *>zeros(graph.size, sizeof(int32_t))
    cdef uint16_t *codes = NULL  # of a unit, + 1; of all else 0
    cdef int32_t[OPS + 1] by_code  # how many units have it, then where the next of them goes
    cdef int32_t *by_depth = NULL
    cdef Unit *sorted = NULL
    cdef const int32_t *words = NULL
    cdef int32_t node, k, count = 0, deepest = 0, level, total = 0, at
    memset(by_code, 0, sizeof(by_code))
    try:
        codes = <uint16_t *>zeros(graph.size, sizeof(uint16_t))
        for node in range(graph.size):
            if not is_unit(graph, node):
                if graph.layer[node] >= 0:  # as deep as the member that stands for the layer
                    depth[node] = depth[first_member(graph, graph.layer[node])]
                continue
            codes[node] = code_of(graph, node, gradient) + 1
            by_code[codes[node]] += 1
            level = 0
            operands(graph, node, &words, &count)
            for k in range(count):
                level = max(level, depth[words[k]])
            if graph.op[node] == OP_RUN:
                words = row(graph, node)
                for k in range(graph.b[node]):
                    level = max(level, depth[words[k]])
            elif graph.op[node] < OP_FIRST_POOLED:
                level = max(level, depth[graph.b[node]])
            depth[node] = level + 1
            deepest = max(deepest, level + 1)
        for k in range(1, OPS + 1):
            total += by_code[k]
            by_code[k] = total - by_code[k]
        sorted = <Unit *>zeros(total, sizeof(Unit))
        by_depth = <int32_t *>zeros(deepest + 2, sizeof(int32_t))
        # Two counting sorts: the second keeps the order of the first.
        for node in range(graph.size):
            if codes[node]:
                k = graph.layer[node]
                sorted[by_code[codes[node]]] = Unit(-1 - k if k >= 0 else node, depth[node])
                by_code[codes[node]] += 1
                by_depth[depth[node] + 1] += 1
        for k in range(1, deepest + 1):
            by_depth[k] += by_depth[k - 1]
        units.at = <int32_t *>zeros(total, sizeof(int32_t))
        units.size = units.room = total
        for at in range(total):
            k = sorted[at].depth
            units.at[by_depth[k]] = sorted[at].unit
            by_depth[k] += 1
    finally:
        free(depth)
        free(codes)
        free(by_depth)
        free(sorted)
    return 0


cdef inline int32_t first_member(Fused graph, int32_t layer) noexcept:
    return graph.members.at[graph.layers[layer].first]


cdef inline bint is_unit(Fused graph, int32_t node) noexcept:
    """Does the node run once a block?  A layer is represented by its first member."""
    if not graph.marks[node] & VARIES or graph.marks[node] & GONE or graph.op[node] == OP_INPUT:
        return False
    return graph.layer[node] < 0 or first_member(graph, graph.layer[node]) == node


cdef inline int code_of(Fused graph, int32_t node, bint gradient) noexcept:
    if graph.layer[node] >= 0:
        return 4 * OP_DENSE
    if not gradient or not is_elementary(graph, node):
        return 4 * graph.op[node]
    return 4 * graph.op[node] + max(0, which_wanted(graph, node))


cdef bint picks(Fused graph, int32_t node) noexcept:
    """Does a TAKE choose among uniform numbers?"""
    cdef const int32_t *words = graph.pool.at + graph.a[node]
    cdef int32_t k
    if graph.op[node] != OP_TAKE or not graph.marks[words[0]] & VARIES:
        return False
    for k in range(1, graph.b[node]):
        if graph.marks[words[k]] & VARIES:
            return False
    return True


cdef bint of_inputs(Fused graph, int32_t layer) noexcept:
    """Are a layer's x all inputs, which its kernel can read without a slot?"""
    cdef const int32_t *x = layer_x(graph, layer)
    cdef int32_t k
    for k in range(graph.layers[layer].inputs):
        if graph.op[x[k]] != OP_INPUT:
            return False
    return True
