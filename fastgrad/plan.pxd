from libc.stdint cimport int32_t, int64_t, uint8_t

from fastgrad.nodes cimport Fused
from fastgrad.words cimport Stream, Words


cdef extern from "kernels/program.h":
    ctypedef struct Dense:
        int32_t inputs
        int32_t neurons
        const int32_t *x
        const int32_t *z
        const int32_t *columns
        const int32_t *bias
        const int32_t *gz
        const int32_t *gx
        const int32_t *bias_sums
        int32_t wants_weights
        int32_t space
        int64_t first
        int64_t row
        int64_t x_at
        int64_t g_at
        int64_t z_at
    enum:
        IN_PARAMETERS
        IN_UNIFORM
        IN_PACKED
        SPACES
        GROUP
    ctypedef struct CPlan "Plan":
        const int32_t *forward
        const int32_t *reverse
        const Dense *dense
        const int32_t *inputs
        const int32_t *splats
        const int32_t *outputs
        int32_t input_count
        int32_t splat_count
        int32_t output_count
        int32_t dense_count
        int32_t slots
        int32_t sums
        int64_t stash
        int64_t scratch
        int64_t ahead
        int32_t seed
    enum:
        READS_X
        READS_Y
        READS_Z
    int op_reads(int op, int which) noexcept


cdef class Plan:
    cdef Fused graph         # until the plan is made, as are the arrays by node
    cdef int32_t parameters, constant_count, uniforms
    cdef double *constants   # they follow the parameters among the uniforms
    cdef bint gradient
    cdef CPlan c
    cdef readonly int32_t places, time  # units, and the time that is being planned
    cdef Stream forward
    cdef Stream reverse
    cdef Stream uniform_forward
    cdef Stream uniform_reverse
    cdef Words inputs
    cdef Words splats
    cdef Words outputs
    cdef Words chosen        # of inputs that are indices: where the code of the choice is, column
    cdef Words dense_words
    cdef Words packed        # uniforms of the weights that are copied together
    cdef Words copied        # parameters that are read as uniforms: (first, count)
    cdef Words sum_uniforms  # the uniform of each place in a strand's sums
    cdef Words free_slots
    cdef Words groups        # of neurons whose sums may be computed ahead: layer, first neuron
    cdef Words units         # nodes in the order of their runs; a layer is -1 - its number
    # Of the weights' adjoints: (from, to) of task_layers, (from, to) of columns, whether the first
    # of the layers finds no sums yet, and of which group the neurons are, or -1.
    cdef Words tasks
    cdef Words group_tasks   # the same work where there are groups
    cdef Words task_layers   # layers whose weights' adjoints lie together, family by family
    cdef Dense *dense
    cdef int32_t *slot       # by node: of its values, its adjoints; 0 where there is none
    cdef int32_t *adjoint
    cdef int32_t *last       # by node: the time when its value is last read
    cdef uint8_t *seen       # by node: is an input read from its slot?
    cdef Words cleared       # uniforms whose adjoints phase two does not begin: (first, count)
    cdef int32_t *sum_place  # by node: the place of a uniform's adjoint in the sums, + 1
    cdef int64_t products(self) noexcept nogil
