/* The tape's struct of arrays, and the handle that Python holds of an entry.
 *
 *   slot      0       1       2       3       4
 *   op        LEAF    LEAF    MUL     LEAF    ADD
 *   a, b      -  -    -  -    0  1    -  -    2  3      operand slots; pool: (first, count)
 *   val       2.0     3.0     6.0     1.0     7.0       primal
 *   adj       0       0       0       0       0         adjoint (public name: grad)
 *   owner     o       o       -       -       o         borrowed: the live handle, or NULL
 *   mark      .       .       .       .       .         set while a sweep waits for the entry
 *   flags     .       .       .       .       .         see the enum below
 *
 * Entries are appended in execution order, so slot order is a topological order: operands lie
 * below the entries that use them, a reverse sweep walks down.  35 bytes an entry.
 */
#ifndef FASTGRAD_TAPE_H
#define FASTGRAD_TAPE_H

#include <Python.h>
#include "ops.h"

/* Flags of an entry, after DATA_INT and GRAD_INT.  The last two share their bits with DATA_NUMPY and
 * GRAD_NUMPY: a program with fused entries has no Value of its own, and Tape.numpy is 0. */
enum {
    INNER = 4, /* has operands */
    USED = 8,  /* is an operand: never missing, exact after a collection */
    KEPT = 16, /* is or descends from a user-made rule: its users' handles hold its handle */
    RULE = 32, /* backward calls the rule in its handle's links */
    SWEPT = 64, /* a fused entry that a sweep has visited: its pool words end with the adjoint */
    ECHOES = 128, /* ... and more than one: the tape's echoes have them all */
};

/* A handle holds a slot and nothing of the graph; its life is in handle.h. */
typedef struct Handle {
    PyObject_HEAD
    int32_t slot;
    int32_t tracked;      /* 1 once the cyclic collector knows this handle */
    PyObject *attributes; /* dict of what the user hung on it (label, ...), or NULL */
    PyObject *weakrefs;
    PyObject *links;      /* tuple (rule or None, handles that this one keeps...), or NULL */
} Handle;

#define HANDLES_AT_REST 512

/* In what a script's own Value differs from micrograd's (adopt.py); micrograd's own otherwise. */
typedef struct Dialect {
    uint8_t fresh;            /* GRAD_INT if a new grad is the int 0, 0 if it is 0.0 */
    uint8_t seed;             /* GRAD_INT if backward() starts from 1, 0 if from 1.0 */
    uint8_t kinds;            /* mask: 0 if the constructor makes all data floats, else 255 */
    uint8_t no_reflected;     /* a bit for each operator that takes no number on its left */
    uint8_t no_comparison;    /* a bit for each of Py_LT, ... */
    uint8_t no_value_power;   /* an exponent must be a number */
    uint8_t own_sub;          /* a - b is one operation, not a + b * -1 */
    uint8_t numpy;            /* np.float64 and np.int64 stay what they are */
    uint8_t no_numpy_int;     /* a bit for each operator, and the constructor, that takes no np.int64 */
    uint8_t relu;             /* RELU_OF_ what, for the kind of number that its derivative is */
    uint64_t frozen;          /* a bit for each op whose partials are those of its recording */
    PyObject *may_set;        /* may_set(handle, name) raises unless there is such a slot; or NULL */
} Dialect;

typedef struct Tape {
    double *val, *adj;
    int32_t *a, *b;
    uint8_t *op, *flags, *mark;
    Handle **owner;
    int32_t *pool;           /* operands of n-ary entries, in the order of their entries */
    int32_t size, capacity;  /* entries */
    int32_t limit;           /* an operator that finds more than this asks for room first */
    int32_t survivors;       /* entries after the last collection */
    int64_t pool_size, pool_capacity; /* words */
    int64_t credit;          /* entries that a collection out of turn may visit; earned by ... */
    int64_t deaths;          /* ... handles that died and ... */
    int32_t counted;         /* ... entries above this, not yet counted */
    uint64_t collections;    /* so that cached slots know when they are old */
    int readers;             /* runs of programs that read `val`: copy it before a change */
    int pins;                /* somebody holds slots (a sweep, say): entries must not move */
    int sweeps;              /* pins of sweeps, which hold no slots above their roots */
    int contexts;            /* no_grad, detect_anomaly, ... open in any thread (contexts.pyx) */
    int tracing;             /* 1: a program is being traced (trace.pyx), 2: with its lines */
    PyTypeObject *type;      /* Value */
    void (*collect)(void);           /* reclaim.pyx sets these two, tables.pyx the others */
    void (*root_died)(void);
    void (*store_attributes)(int32_t slot, Handle *);
    void (*note_edit)(int32_t slot); /* call before the data of an entry in a graph changes */
    int32_t stale_below;     /* entries below may have operands whose data has changed; else 0 */
    Dialect dialect;
    uint8_t numpy;           /* DATA_NUMPY | GRAD_NUMPY once there are such numbers, else 0 */
    Handle *at_rest[HANDLES_AT_REST];
    int resting;
} Tape;

/* Assign an adjoint of the kind that data with the flags `kind` would have; to the one who sets it to 0 a fused entry's hidden partial sums are 0 too. */
static inline void entry_set_grad(Tape *tape, int32_t slot, double grad, int kind)
{
    const int fused = tape->numpy ? GRAD_NUMPY : grad == 0 ? SWEPT | ECHOES : 0;
    tape->adj[slot] = grad;
    tape->flags[slot] &= ~(GRAD_INT | fused);
    tape->flags[slot] |= kind << 1;
}

/* A new handle without an entry (slot -1).  May run Python: the cyclic collector's finalizers. */
static inline PyObject *handle_alloc(Tape *tape)
{
    Handle *self;
    if (tape->resting) {
        self = tape->at_rest[--tape->resting];
        _Py_NewReference((PyObject *)self);
    } else {
        self = PyObject_GC_New(Handle, tape->type);
        if (!self) return NULL;
        self->tracked = 0;
        self->attributes = self->weakrefs = self->links = NULL;
    }
    self->slot = -1;
    return (PyObject *)self;
}

/* Make the handle known to the cyclic collector. */
static inline void handle_track(PyObject *object)
{
    Handle *self = (Handle *)object;
    if (!self->tracked) {
        self->tracked = 1;
        if (!PyObject_GC_IsTracked(object)) PyObject_GC_Track(object);
    }
}

#endif
