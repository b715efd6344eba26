from libc.stdint cimport int32_t, int64_t, uint64_t

from fastgrad.batch cimport Batch
from fastgrad.optimizer cimport Optimizer
from fastgrad.plan cimport Plan
from fastgrad.recording cimport Recording
from fastgrad.slots cimport Slots


cdef extern from "kernels/program.h":
    ctypedef struct Edges:
        int32_t words
        const int64_t *edge
        const int32_t *operand
        const double *partial
        const int64_t *bend
        const int32_t *left
        const int32_t *right
        const double *second
        const int64_t *use
        const int32_t *user
    ctypedef struct Sweeps:
        int lanes
        void (*tangent)(const Edges *, const uint64_t *wanted, uint64_t *due, uint64_t *has,
                        double *tan) noexcept nogil
        void (*adjoint)(const Edges *, uint64_t *due, uint64_t *has, double *bar) noexcept nogil
        void (*second)(const Edges *, const double *adj, const uint64_t *has_tan,
                       const double *tan, uint64_t *due, uint64_t *has,
                       double *bar) noexcept nogil


cdef const Sweeps *sweeps_for(int64_t directions) noexcept nogil


cdef class Replay:
    cdef readonly Recording recording
    cdef Plan forward_plan, gradient_plan
    cdef list forward_idle, gradient_idle  # Memory of earlier runs
    cdef Plan plan(self, bint gradient)
    cdef tuple run(
        self, Batch batch, Slots parameters, places, theta, str mode, int threads,
        Optimizer optimizer, order
    )
    cdef double cost(self, bint gradient) except -1.0
