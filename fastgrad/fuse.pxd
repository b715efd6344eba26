from libc.stdint cimport int32_t, int64_t, uint8_t

from fastgrad.recording cimport Recording


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


cdef struct Words:  # a growing list
    int32_t *at
    int64_t size
    int64_t room


cdef int push(Words *words, int32_t word) except -1
cdef int extend(Words *words, const int32_t *more, int64_t count) except -1


cdef class Fused:
    cdef Recording recording
    cdef int32_t size  # nodes
    cdef int32_t parameters, constants, uniforms  # all uniforms, the first two kinds first
    cdef uint8_t *op
    cdef uint8_t *marks
    cdef int32_t *a
    cdef int32_t *b
    cdef int32_t *uses
    cdef int32_t *uniform   # of a uniform node: its place among them
    cdef double *val
    cdef Words pool
    cdef Words outputs
    cdef Words layers       # of each dense layer: first member, members, inputs
    cdef Words members      # DOT nodes, layer by layer
    cdef int32_t *layer     # of a DOT node: its layer, or -1
    cdef int operands(self, int32_t node, const int32_t **words, int32_t *count) noexcept
