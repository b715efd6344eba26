from libc.stdint cimport int32_t, int64_t, uint64_t

from fastgrad.recording cimport Recording
from fastgrad.replay cimport Edges
from fastgrad.tape cimport OP_RUN, OP_TAKE, OP_WHERE


cdef extern from "kernels/program.h":
    enum:
        BENDS_XX
        BENDS_XY
        BENDS_YY
    int op_bends(int op) noexcept nogil


cdef enum:
    MOST_LANES = 16


cdef struct Places:  # which numbers of a list a node stands for
    uint64_t *nodes  # the set of those that stand for one
    int64_t *first   # by node, and behind the last
    int32_t *place


cdef class Linearised:
    cdef readonly Recording recording
    cdef int32_t *listed     # operands of an entry, for whoever asks
    cdef readonly int64_t xs_count, ys_count
    cdef Edges c
    cdef int32_t nodes       # with number 0, which is nowhere
    cdef int64_t numbers     # of the recording: parameters and entries
    cdef int32_t *node       # by number: which node it is, or 0
    cdef int32_t *number     # by node
    cdef int32_t *xs         # nodes
    cdef int32_t *ys
    cdef Places x_places
    cdef Places y_places
    cdef int64_t *edge
    cdef int64_t *bend
    cdef int64_t *use
    cdef int32_t *operand
    cdef int32_t *left
    cdef int32_t *right
    cdef int32_t *user
    cdef double *partial
    cdef double *second
    cdef uint64_t *every     # sets of nodes: all, ...
    cdef uint64_t *bent      # ... those whose tangents a bend needs, ...
    cdef uint64_t *due
    cdef uint64_t *has_tan
    cdef uint64_t *has_bar
    cdef double *val         # by number
    cdef list customs        # nodes of operations of the user's, ...
    cdef object error        # ... and what one of these has raised
    cdef double *adj         # by node; the others lanes of each node
    cdef double *tan
    cdef double *bar


cdef int64_t list_operands(Recording recording, int64_t entry, int32_t *found) noexcept


cdef inline bint has(const uint64_t *nodes, int32_t node) noexcept nogil:
    return nodes[node >> 6] >> (node & 63) & 1


cdef inline void put(uint64_t *nodes, int32_t node) noexcept nogil:
    nodes[node >> 6] |= <uint64_t>1 << (node & 63)


cdef inline bint chooses(Recording recording, int64_t entry) noexcept nogil:
    return recording.op[entry] == OP_TAKE or recording.op[entry] == OP_WHERE


cdef inline int64_t entry_of(Linearised g, int32_t node) noexcept nogil:
    """The entry that a node is; negative of a parameter."""
    return g.number[node] - g.recording.parameters


cdef inline int32_t weight(Linearised g, int64_t entry, int64_t k) noexcept nogil:
    """The number of the first factor of a sum's term k ..."""
    cdef const int32_t *words = g.recording.pool + g.recording.a[entry]
    return words[1] + <int32_t>k if g.recording.op[entry] == OP_RUN else words[2 * k + 1]


cdef inline int32_t factor(Linearised g, int64_t entry, int64_t k) noexcept nogil:
    """... and of the second."""
    cdef const int32_t *words = g.recording.pool + g.recording.a[entry]
    return words[2] + <int32_t>k if g.recording.op[entry] == OP_RUN else words[2 * k + 2]
