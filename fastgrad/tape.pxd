from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t


cdef extern from "kernels/ops.h":
    enum:
        DATA_INT
        GRAD_INT
        DATA_NUMPY
        GRAD_NUMPY
        ERROR_NONE
        ERROR_ZERO_DIVISION
        ERROR_OVERFLOW
        ERROR_DOMAIN
        OP_LEAF
        OP_LAST_LIGHT
        OP_ADD
        OP_MUL
        OP_SUB
        OP_POW_CONST
        OP_POW
        OP_RELU
        OP_LEAKY_RELU
        OP_ABS
        OP_MAXIMUM
        OP_MINIMUM
        OP_EXP
        OP_LOG
        OP_SQRT
        OP_SIN
        OP_COS
        OP_TANH
        OP_RELU_MAX
        OP_RELU_LOCAL
        OP_RELU_FLOAT
        OP_SIGMOID
        OP_SOFTPLUS
        OP_GELU
        OP_TANH_EXP
        OP_SIGMOID_EXP
        OP_FIRST_POOLED
        OP_MADE
        OP_LOCAL
        OP_DETACH
        OP_ARGMAX
        OP_TAKE
        OP_WHERE
        OP_CUSTOM
        OP_DOT
        OP_RUN
    ctypedef struct OpRow:
        const char *name
        const char *label
        int operands
        int shown
        double domain[4]
    const OpRow op_rows[]
    int64_t op_words(int op, int64_t count) noexcept nogil
    int64_t op_pool_words(int op, int64_t count) noexcept nogil
    double op_value(int op, double x, double y) noexcept nogil
    bint op_is_int(int op, bint ix, bint iy, double x, double y) noexcept nogil
    int op_is_numpy(int op, int nx, int ny, double x, double y) noexcept nogil
    int op_error(int op, double x, double y, double z) noexcept nogil
    ctypedef struct Partials:
        double x
        double y
        double xx
        double xy
        double yy
    Partials op_partials(int op, double x, double y, double z) noexcept nogil
    double op_linearised(int op, double x, double y, Partials *partials) noexcept nogil
    int op_push_light(int op, const double *val, double *adj, uint8_t *flags,
                      int32_t a, int32_t b, int32_t i) noexcept nogil
    int op_push(int op, const double *val, double *adj, uint8_t *flags,
                int32_t a, int32_t b, int32_t i, bint anyway) noexcept nogil
    void op_push_numpy(int op, uint8_t *flags, int32_t a, int32_t b, int32_t i,
                       int relu) noexcept nogil


cdef extern from "kernels/tape.h":
    enum:
        INNER
        USED
        KEPT
        RULE
        SWEPT
        ECHOES
        HANDLES_AT_REST
    ctypedef struct Handle:
        int32_t slot
        PyObject *attributes
        PyObject *links
    ctypedef struct Dialect:
        uint8_t fresh
        uint8_t seed
        uint8_t kinds
        uint8_t no_reflected
        uint8_t no_comparison
        uint8_t no_value_power
        uint8_t own_sub
        uint8_t numpy
        uint8_t no_numpy_int
        uint8_t relu
        uint64_t frozen
        PyObject *may_set
    ctypedef struct Tape:
        double *val
        double *adj
        int32_t *a
        int32_t *b
        uint8_t *op
        uint8_t *flags
        uint8_t *mark
        Handle **owner
        int32_t *pool
        int32_t size
        int32_t capacity
        int32_t limit
        int32_t survivors
        int64_t pool_size
        int64_t pool_capacity
        int64_t credit
        int64_t deaths
        int32_t counted
        uint64_t collections
        int readers
        int pins
        int sweeps
        int contexts
        int tracing
        Dialect dialect
        uint8_t numpy
        PyTypeObject *type
        void (*collect)() noexcept
        void (*root_died)() noexcept
        void (*store_attributes)(int32_t slot, Handle *) noexcept
        void (*note_edit)(int32_t slot) noexcept
        int32_t stale_below
    void entry_set_grad(Tape *tape, int32_t slot, double grad, int kind) noexcept
    object handle_alloc(Tape *tape)
    void handle_track(object handle) noexcept


cdef struct Run:  # consecutive entries
    int32_t first
    int32_t count


cdef Tape tape

cpdef int check_count(int64_t count, str what, int64_t most=*) except -1
cdef int make_room(int64_t entries, int64_t words=*) except -1
cdef void set_limit() noexcept
cdef void shrink() noexcept
cdef const double *begin_reading() except NULL
cdef void end_reading(const double *val) noexcept
cdef int detach_values() except -1
cdef bint detached() noexcept


cdef enum:
    LARGE = 1 << 18  # entries from which giving memory back is worth it: 9 MB


# An operator that has found `tape.size <= tape.limit` may append this many entries.
cdef enum:
    ROOM = 8
    MOST = 0x7FFFFFFF - 2 * ROOM  # of anything that an int32 numbers


cdef inline int own_values() except -1:
    """Call before the data of entries changes that were there before."""
    if tape.readers:
        return detach_values()
    return 0


cdef inline int check_room() except -1:
    """Call at the entry of an operator, before any slot is read: entries may move."""
    if tape.size > tape.limit:
        return make_room(ROOM)
    return 0


cdef inline int32_t append(
    uint8_t op, int32_t a, int32_t b, double value, uint8_t flags, Handle *owner
) noexcept:
    """Write one entry; the room for it has been checked."""
    cdef int32_t slot = tape.size
    tape.op[slot] = op
    tape.flags[slot] = flags
    tape.a[slot] = a
    tape.b[slot] = b
    tape.val[slot] = value
    tape.adj[slot] = 0.0
    tape.mark[slot] = 0  # also brings it into the cache, for the sweep
    tape.owner[slot] = owner
    tape.size = slot + 1
    if owner != NULL:
        owner.slot = slot
    return slot


cdef inline int32_t append_leaf(double value, int kind, Handle *owner) noexcept:
    """A leaf whose number is of that kind: DATA_INT or 0, and more in a dialect with NumPy."""
    return append(OP_LEAF, 0, 0, value, tape.dialect.fresh | kind, owner)


cdef inline uint8_t use_run(int32_t first, int64_t count) noexcept:
    """Flag consecutive entries as used; returns their flags or-ed together."""
    cdef uint8_t *flags = tape.flags + first
    cdef uint8_t seen = 0
    cdef int64_t k
    for k in range(count):
        seen |= flags[k]
        flags[k] |= USED
    return seen
