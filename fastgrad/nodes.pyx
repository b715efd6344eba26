"""Fused programs as data: what ``fuse.pyx`` makes of a recording, and ``plan.pyx`` plans.

A program is a list of nodes, an op and its operands each.  n-ary nodes keep (first, count) of the
pool: a RUN its bias, the number of its first weight, where in the pool its x begin.  A parameter
becomes a node where it is used by itself; the weights of RUNs do not.  A node is uniform if it
depends on no input: it is computed once a run, not once a sample.

Invariant: a node's operands have smaller numbers.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free

from fastgrad.tape cimport OP_ARGMAX, OP_DETACH, OP_FIRST_POOLED, OP_LEAF, OP_RUN, op_rows, op_words
from fastgrad.words cimport grown


cdef class Fused:
    """See the head of this file; ``fuse.pyx`` fills it.

    Parameters
    ----------
    parameters : int
        How many there are.
    """

    def __cinit__(self, int32_t parameters):
        self.parameters = parameters

    def __dealloc__(self):
        free(self.op)
        free(self.marks)
        free(self.a)
        free(self.b)
        free(self.uses)
        free(self.uniform)
        free(self.layer)
        free(self.val)
        free(self.row)
        free(self.pool.at)
        free(self.outputs.at)
        free(self.layers)
        free(self.members.at)

    cdef int make_room(self) except -1:
        """Have room for a node after the last."""
        cdef int64_t more
        if self.size < self.room:
            return 0
        more = self.room + 64
        self.op = <uint8_t *>grown(self.op, self.room, more, 1)
        self.marks = <uint8_t *>grown(self.marks, self.room, more, 1)
        self.a = <int32_t *>grown(self.a, self.room, more, sizeof(int32_t))
        self.b = <int32_t *>grown(self.b, self.room, more, sizeof(int32_t))
        self.val = <double *>grown(self.val, self.room, more, sizeof(double))
        self.row = <int32_t *>grown(self.row, self.room, more, sizeof(int32_t))
        self.room += more
        return 0

    cdef int operands(self, int32_t node, const int32_t **words, int32_t *count) noexcept:
        """Where a node's operands are listed; returns how many of them may want an adjoint.

        Of an elementary node the first, of a RUN the bias: for the others see `second` and `row`.
        """
        cdef int op = self.op[node]
        if op == OP_LEAF or op >= OP_PARAMETER:
            count[0] = 0
            return 0
        if op >= OP_SQUARE:
            words[0] = self.a + node
            count[0] = 1
            return 1
        if op == OP_RUN:
            words[0] = self.pool.at + self.a[node]
            count[0] = 1
            return 1
        if op >= OP_FIRST_POOLED:
            words[0] = self.pool.at + self.a[node]
            count[0] = <int32_t>op_words(op, self.b[node])
            return 0 if op == OP_DETACH or op == OP_ARGMAX else count[0]
        words[0] = self.a + node
        count[0] = 1
        return op_rows[op].shown
