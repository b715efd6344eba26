from libc.stdint cimport int32_t, int64_t, uint64_t

from fastgrad.batch cimport Batch
from fastgrad.optimizer cimport Optimizer
from fastgrad.plan cimport SPACES, CPlan, Dense, Plan
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
    ctypedef struct Run:
        const CPlan *plan
        const double *uniform
        const double *weights[SPACES]
        double *weights_adj[SPACES]
        double *sums
        const double *const *columns
        const int64_t *strides
        int64_t samples
        double *outputs
        int gradient
        int64_t bad_sample
        int32_t bad_place
        const int32_t *(*custom)(
            void *customs, int back, int32_t n, const int32_t *code, double *workspace,
            int64_t lanes, int64_t samples
        ) noexcept nogil
        void *customs
        int threads
        int64_t moved
    ctypedef struct Group:
        int32_t first_neuron "from"
        double *turned
        int turns
    ctypedef struct Ahead:
        Group group
        int64_t first
        int64_t samples
        int64_t lanes
        double *sums
    ctypedef struct Share:
        int64_t first_column "from"
        int64_t to
        Group group
        int64_t first
        int64_t samples
        int64_t lanes
        const double *stash
        int fresh
        int64_t part
        int64_t parts
    int32_t side_by_side(const Run *, const int32_t *columns, int32_t count) noexcept nogil
    ctypedef struct Kernels:
        const char *name
        void (*block[6])(Run *, double *workspace, int64_t first, int64_t samples, int64_t strand,
                         double *stash, const double *ahead) noexcept nogil
        void (*splat[6])(const Run *, double *workspace) noexcept nogil
        void (*forward_one)(Run *, const int32_t *code, double *workspace) noexcept nogil
        void (*reverse_one)(Run *, const int32_t *code, double *workspace) noexcept nogil
        void (*ahead)(const Run *, const Dense *, const Ahead *) noexcept nogil
        void (*weights)(const Run *, const Dense *, const Share *) noexcept nogil
        void (*group_weights)(const Run *, const Dense *, const Share *) noexcept nogil
        void (*check_powers)() noexcept
        Sweeps sweeps[3]


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
