/* What a program is to the kernels: code streams, dense layers and where their numbers lie.
 *
 * A program runs on blocks of lanes, a lane a sample.  Slot s of a block's workspace is `lanes`
 * doubles from s * lanes on.  A code stream is a list of runs, each one operation on n places:
 *
 *   forward    op, n, then n times   z, x, y                              slots
 *   reverse    4*op + which, n, then n times   z, x, y, g, (from, to) of x, (from, to) of y
 *
 * `which` says whose adjoints are wanted.  An adjoint is (what is in `from`) + partial * g, put
 * into `to`: `from` is SLOT_ZERO at the first contribution, so that nothing need be cleared.
 *
 * Uniform numbers are the same for every lane: parameters, constants, and what is computed from
 * these alone.  They are computed once a run, by the same kernels on one lane.
 */
#ifndef FASTGRAD_PROGRAM_H
#define FASTGRAD_PROGRAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "ops.h"

enum { BOTH_SAME, FIRST, SECOND, BOTH }; /* which: x and y are one operand, x, y, x and y */

enum { SLOT_ZERO, SLOT_TRASH, SLOTS_FIXED };

/* Ops of programs alone, after those of the tape: powers with constant exponents (powers.h), ...
 *   OP_DENSE   forward: index of the layer
 *              reverse: the same
 *   OP_TAKE    z, index, count, x...                  reverse: index, g, count, (from, to)...
 *   OP_PICK    z, index, count, uniform...            reverse: index, g, count, sum...
 *   OP_WHERE   z, c, x, y                             reverse: c, g, (from, to), (from, to)
 *   OP_ARGMAX  z, count, x...
 *   OP_CUSTOM  z, which, count, x...                  reverse: which, g, count, x...,
 *                                                     then (from, to)...
 *   OP_DOT     z, bias, count, (w, x)...              reverse: g, count, bias (from, to),
 *                                                     then (w, x, (from, to), (from, to))...
 *   OP_SUM     reverse only: sum, slot: adds the lanes of a uniform's adjoint to a strand's sum
 */
enum {
    OP_SQUARE = OP_RUN + 1, OP_INVERSE, OP_ROOT, OP_CUBE, OP_DENSE, OP_PICK, OP_SUM, OP_END
};

/* Weights are parameters, read where these are; or computed uniforms; or copied together. */
enum { IN_PARAMETERS, IN_UNIFORM, IN_PACKED, SPACES };

typedef struct Dense {
    int32_t inputs, neurons;
    const int32_t *x, *z;      /* slots */
    const int32_t *columns;    /* of the inputs, if x are nothing but inputs; then without slots */
    const int32_t *bias;       /* uniforms */
    const int32_t *gz;         /* slots of adjoints */
    const int32_t *gx;         /* (from, to) an input; NULL if none is wanted */
    const int32_t *bias_sums;  /* places in a strand's sums, -1 where not wanted */
    int32_t wants_weights;
    int32_t space;             /* where the weights lie */
    int64_t first, row;        /* the first weight there, and how far apart the rows are */
    /* Where a block's stash has the panels of x, if x are not inputs, and of the adjoints. */
    int64_t x_at, g_at;
    int64_t z_at;              /* where a block has sums that are computed ahead; -1 if none may be */
} Dense;

typedef struct Plan {
    const int32_t *forward, *reverse;
    const Dense *dense;
    const int32_t *inputs;   /* (slot, column), `input_count` of them */
    const int32_t *splats;   /* (slot, uniform) */
    const int32_t *outputs;  /* slots */
    int32_t input_count, splat_count, output_count, dense_count;
    int32_t slots, sums;
    int64_t stash, scratch;  /* doubles a block, for one lane; scratch is after the slots */
    int64_t ahead;           /* as many for sums that are computed ahead */
    int32_t seed;            /* slot of the adjoint of the output */
} Plan;

typedef struct Run {
    const Plan *plan;
    const double *uniform;
    const double *weights[SPACES];
    double *weights_adj[SPACES];
    double *sums;                   /* plan->sums a strand */
    const double *const *columns;   /* where each input column of sample 0 lies ... */
    const int64_t *strides;         /* ... and how far apart samples are, in doubles */
    int64_t samples;
    double *outputs;                /* plan->output_count a sample */
    int gradient;
    int64_t bad_sample;             /* the first with an index that is none; else -1 */
    int32_t bad_place;              /* where in the forward code it is used */
    int bad_lock;
    /* Runs n places of OP_CUSTOM, for the first `samples` of the lanes; returns where the code goes
     * on, or NULL after an error, of which `customs` knows.  Takes the GIL. */
    const int32_t *(*custom)(void *customs, int back, int32_t n, const int32_t *code,
                             double *workspace, int64_t lanes, int64_t samples);
    void *customs;
    int threads;                    /* at most */
    /* How many of weights[IN_PARAMETERS] a step writes afterwards: phase two claims them for it. */
    int64_t moved;
} Run;

/* How many of these input columns lie side by side in all samples, the first one included. */
static inline int32_t side_by_side(const Run *run, const int32_t *columns, int32_t count)
{
    const double *const start = run->columns[columns[0]];
    const int64_t stride = run->strides[columns[0]];
    int32_t some = 1;
    while (some < count && run->columns[columns[some]] == start + some
           && run->strides[columns[some]] == stride)
        some++;
    return some;
}

enum { GROUP = 32 };

/* Neurons of a layer of inputs that one thread works on: groups.h. */
typedef struct Group {
    int32_t from;                   /* the first of up to GROUP */
    double *turned;                 /* a scratch for their weights, or adjoints ... */
    int turns;                      /* ... if these are not there yet */
} Group;

/* A task before phase one: the sums of a group for a block. */
typedef struct Ahead {
    Group group;
    int64_t first, samples, lanes;  /* of the block */
    double *sums;                   /* of the block, for all layers */
} Ahead;

/* A task of phase two: the adjoints of some columns of a layer's weights, added up over blocks; for
 * all neurons or for a group. */
typedef struct Share {
    int64_t from, to;               /* columns */
    Group group;
    int64_t first, samples, lanes;  /* of the blocks, which are full but for the last one */
    const double *stash;            /* of the first block */
    int fresh;                      /* there are no sums yet */
    int64_t part, parts;            /* which of what is moved; no parts if that is still read */
} Share;

/* Places of the lowest and the highest bit that is set, if one is. */
#if defined(__GNUC__)
#define LOWEST(bits) __builtin_ctzll(bits)
#define HIGHEST(bits) (63 - __builtin_clzll(bits))
#else
static inline int LOWEST(uint64_t bits)
{
    int at = 0;
    while (!(bits >> at & 1)) at++;
    return at;
}
static inline int HIGHEST(uint64_t bits)
{
    int at = 63;
    while (!(bits >> at & 1)) at--;
    return at;
}
#endif

typedef struct Edges {          /* a recording linearised at one sample: edges.h */
    int32_t words;              /* of a set of its nodes */
    const int64_t *edge;        /* where a node's edges begin, and after the last where they end */
    const int32_t *operand;
    const double *partial;
    const int64_t *bend;        /* the same of bends */
    const int32_t *left, *right;
    const double *second;
    const int64_t *use;         /* and of those that use a node */
    const int32_t *user;
} Edges;

typedef struct Sweeps {
    int lanes;
    void (*tangent)(const Edges *, const uint64_t *wanted, uint64_t *due, uint64_t *has,
                    double *tan);
    void (*adjoint)(const Edges *, uint64_t *due, uint64_t *has, double *bar);
    void (*second)(const Edges *, const double *adj, const uint64_t *has_tan, const double *tan,
                   uint64_t *due, uint64_t *has, double *bar);
} Sweeps;

typedef struct Kernels {
    const char *name;
    /* By lanes: 1, 4, 8, 16, 32, 64; `ahead` are the block's sums computed so, or NULL. */
    void (*block[6])(Run *, double *workspace, int64_t first, int64_t samples, int64_t strand,
                     double *stash, const double *ahead);
    void (*splat[6])(const Run *, double *workspace);
    void (*forward_one)(Run *, const int32_t *code, double *workspace);
    void (*reverse_one)(Run *, const int32_t *code, double *workspace);
    void (*ahead)(const Run *, const Dense *, const Ahead *);
    void (*weights)(const Run *, const Dense *, const Share *);
    void (*group_weights)(const Run *, const Dense *, const Share *);
    void (*check_powers)(void);
    Sweeps sweeps[3];
} Kernels;

extern const Kernels fastgrad_kernels_base, fastgrad_kernels_avx2, fastgrad_kernels_avx512;

/* Which numbers the partials of an elementary op are computed from, read off their text. */
enum { READS_X = 1, READS_Y = 2, READS_Z = 4 };

static inline int names_in(const char *text)
{
    int found = 0;
    for (const char *at = text; *at; at++) {
        const int inside = at > text && (at[-1] == '_' || (at[-1] >= 'a' && at[-1] <= 'z'));
        const int goes_on = at[1] == '_' || (at[1] >= 'a' && at[1] <= 'z');
        if (!inside && !goes_on && *at >= 'x' && *at <= 'z') found |= READS_X << (*at - 'x');
    }
    return found;
}

static inline int op_reads(int op, int which)
{
    static const char *const partials[][2] = {
        {"", ""},
#define OP(NAME, label, operands, shown, value, dx, dy, ...) {#dx, #dy},
        FASTGRAD_LIGHT_OPS(OP) FASTGRAD_LIBM_OPS(OP)
#undef OP
    };
    if (op == OP_SQUARE || op == OP_CUBE) return READS_X;
    if (op == OP_INVERSE || op == OP_ROOT) return READS_Z;
    if (op >= OP_FIRST_POOLED) return 0;
    return (which == SECOND ? 0 : names_in(partials[op][0]))
           | (which == FIRST ? 0 : names_in(partials[op][1]));
}

/* Which second partials of an elementary op are not 0 everywhere: by x and x, x and y, y and y. */
enum { BENDS_XX = 1, BENDS_XY = 2, BENDS_YY = 4 };

static inline int op_bends(int op)
{
#define BENDS(partial) (strcmp(partial, "0.0") != 0) /* known when this is compiled */
    switch (op) {
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, ...)                       \
    case OP_##NAME:                                                                               \
        return BENDS(#dxx) * BENDS_XX | BENDS(#dxy) * BENDS_XY | BENDS(#dyy) * BENDS_YY;
        FASTGRAD_LIGHT_OPS(OP) FASTGRAD_LIBM_OPS(OP)
#undef OP
    }
    return 0;
}

#endif
