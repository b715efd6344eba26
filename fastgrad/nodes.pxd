from libc.stdint cimport int32_t, int64_t, uint8_t

from fastgrad.tape cimport (
    OP_ARGMAX, OP_CUSTOM, OP_DETACH, OP_FIRST_POOLED, OP_LEAF, OP_RUN, op_rows, op_words,
)
from fastgrad.words cimport Words


cdef extern from "kernels/program.h":
    enum:
        BOTH_SAME
        FIRST
        SECOND
        BOTH
        SLOT_ZERO
        SLOT_TRASH
        SLOTS_FIXED
        OP_SQUARE
        OP_INVERSE
        OP_ROOT
        OP_CUBE
        OP_DENSE
        OP_PICK
        OP_SUM
        OP_END


cdef enum:  # marks of a node
    VARIES = 1   # depends on inputs: one number a lane; else uniform
    ACTIVE = 2   # depends on parameters: wants an adjoint
    OUTPUT = 4
    GONE = 8     # has become part of another node


cdef enum:
    OP_PARAMETER = 250  # a node's op, beside those of a recording; a: which one


cdef struct Layer:  # rows of weights on the same x
    int32_t first, members  # place of the first in Fused.members, how many there are
    int32_t inputs, x       # how many x, and where they begin in the pool


cdef class Fused:
    cdef int32_t size       # nodes
    cdef int64_t room
    cdef int32_t parameters, constants, uniforms  # all uniforms, the first two kinds first
    cdef uint8_t *op
    cdef uint8_t *marks
    cdef int32_t *a
    cdef int32_t *b
    cdef int32_t *uses
    cdef int32_t *uniform   # of a uniform node: its place among them
    cdef double *val
    cdef int32_t *row       # while nodes are numbered, the last row of x that a node was met in
    cdef Words pool
    cdef Words outputs
    cdef Layer *layers
    cdef int32_t layer_count
    cdef Words members      # DOTs and RUNs, layer by layer
    cdef int32_t *layer     # of a node: the layer it has joined, or -1
    cdef int make_room(self, int64_t room) except -1


cdef inline int operands(
    Fused graph, int32_t node, const int32_t **words, int32_t *count
) noexcept:
    """Where a node's operands are listed; returns how many of them may want an adjoint.

    Of an elementary node the first, of a RUN the bias: for the others see `second` and `row`.
    """
    cdef int op = graph.op[node]
    if op == OP_LEAF or op >= OP_PARAMETER:
        count[0] = 0
        return 0
    if op >= OP_SQUARE:
        words[0] = graph.a + node
        count[0] = 1
        return 1
    if op == OP_RUN:
        words[0] = graph.pool.at + graph.a[node]
        count[0] = 1
        return 1
    if op == OP_CUSTOM:  # its first word says which one
        words[0] = graph.pool.at + graph.a[node] + 1
        count[0] = graph.b[node] - 1
        return count[0]
    if op >= OP_FIRST_POOLED:
        words[0] = graph.pool.at + graph.a[node]
        count[0] = <int32_t>op_words(op, graph.b[node])
        return 0 if op == OP_DETACH or op == OP_ARGMAX else count[0]
    words[0] = graph.a + node
    count[0] = 1
    return op_rows[op].shown


cdef inline bint second(Fused graph, int32_t node) noexcept:
    """Has an elementary node a second operand of its own, in b?"""
    return graph.op[node] < OP_FIRST_POOLED and graph.op[node] != OP_LEAF and (
        op_rows[graph.op[node]].operands == 2
    )


cdef inline const int32_t *row(Fused graph, int32_t node) noexcept:
    """The x of a RUN."""
    return graph.pool.at + graph.pool.at[graph.a[node] + 2]


cdef inline int32_t x_of(Fused graph, int32_t node, int32_t k) noexcept:
    """The x of term k of a DOT that may join, or of a RUN."""
    if graph.op[node] == OP_RUN:
        return row(graph, node)[k]
    return graph.pool.at[graph.a[node] + 2 * k + 2]
