from libc.stdint cimport int32_t

from fastgrad.nodes cimport OP_SQUARE, Fused
from fastgrad.tape cimport OP_FIRST_POOLED
from fastgrad.words cimport Words


cdef int order_units(Fused graph, bint gradient, Words *units) except -1
cdef int which_wanted(Fused graph, int32_t node) noexcept
cdef bint picks(Fused graph, int32_t node) noexcept
cdef bint of_inputs(Fused graph, int32_t layer) noexcept


cdef inline bint is_elementary(Fused graph, int32_t node) noexcept:
    return graph.op[node] < OP_FIRST_POOLED or graph.op[node] >= OP_SQUARE


cdef inline const int32_t *layer_x(Fused graph, int32_t layer) noexcept:
    """The nodes of a layer's x."""
    return graph.pool.at + graph.layers[layer].x


cdef inline const int32_t *layer_members(Fused graph, int32_t layer) noexcept:
    """Its neurons, DOTs and RUNs."""
    return graph.members.at + graph.layers[layer].first
