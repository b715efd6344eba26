"""Fused programs as data: what ``fuse.pyx`` makes of a recording, and ``plan.pyx`` plans.

A program is a list of nodes, an op and its operands each.  n-ary nodes keep (first, count) of the
pool: a RUN its bias, the number of its first weight, where in the pool its x begin.  A parameter
becomes a node where it is used by itself; the weights of RUNs do not.  A node is uniform if it
depends on no input: it is computed once a run, not once a sample.

Invariant: a node's operands have smaller numbers.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free

from fastgrad.words cimport resized


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

    cdef int make_room(self, int64_t room) except -1:
        """Have room for so many nodes."""
        self.op = <uint8_t *>resized(self.op, room, 1)
        self.marks = <uint8_t *>resized(self.marks, room, 1)
        self.a = <int32_t *>resized(self.a, room, sizeof(int32_t))
        self.b = <int32_t *>resized(self.b, room, sizeof(int32_t))
        self.val = <double *>resized(self.val, room, sizeof(double))
        self.row = <int32_t *>resized(self.row, room, sizeof(int32_t))
        self.uses = <int32_t *>resized(self.uses, room, sizeof(int32_t))
        self.room = room
        return 0
