/* The kernels of one machine variant: replay_base.c, replay_avx2.c, replay_avx512.c include it. */

#include <math.h>
#include <string.h>
#include "program.h"
#include "dense.h"
#include "powers.h"
#include "edges.h"

#if defined(__clang__)
#define NO_DEPENDENCE _Pragma("clang loop vectorize(assume_safety)")
#else /* gcc unrolls loops over few lanes before it looks for vectors, unless told not to */
#define NO_DEPENDENCE _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#endif

/* The first sample that has a bad index, and which is its first: whatever threads do, the same.
 * Lanes that a batch has not got repeat its last sample. */
static void note_bad(Run *run, int64_t sample, const int32_t *code)
{
    if (sample >= run->samples) sample = run->samples - 1;
#if defined(__GNUC__)
    while (__atomic_exchange_n(&run->bad_lock, 1, __ATOMIC_ACQUIRE)) {}
#endif
    if (run->bad_sample < 0 || sample < run->bad_sample) {
        run->bad_sample = sample;
        run->bad_place = (int32_t)(code - run->plan->forward);
    }
#if defined(__GNUC__)
    __atomic_store_n(&run->bad_lock, 0, __ATOMIC_RELEASE);
#endif
}

/* How many of these input columns lie side by side, the first one included. */
static int32_t side_by_side(const Run *run, const int32_t *columns, int32_t count)
{
    int32_t some = 1;
    while (some < count && run->columns[columns[some]] == run->columns[columns[0]] + some) some++;
    return some;
}

#define LANES 1
#define LANED(name) name##_1
#include "lanes.h"
#undef LANES
#undef LANED
#define LANES 4
#define LANED(name) name##_4
#include "lanes.h"
#undef LANES
#undef LANED
#define LANES 8
#define LANED(name) name##_8
#include "lanes.h"
#undef LANES
#undef LANED
#define LANES 16
#define LANED(name) name##_16
#include "lanes.h"
#undef LANES
#undef LANED
#define LANES 32
#define LANED(name) name##_32
#include "lanes.h"
#undef LANES
#undef LANED
#define LANES 64
#define LANED(name) name##_64
#include "lanes.h"
#undef LANES
#undef LANED

static void forward_one(Run *run, const int32_t *code, double *workspace)
{
    forward_1(run, code, workspace, NULL, 0, 1);
}

static void reverse_one(Run *run, const int32_t *code, double *workspace)
{
    reverse_1(run, code, workspace, NULL, 1, NULL);
}

/* Adjoints of the weights of the inputs [from, to), added up over the stashes of `blocks`. */
static void weights(const Run *run, const Dense *dense, int64_t from, int64_t to, int64_t lanes,
                    const double *stash, int64_t blocks, int fresh)
{
    const int panel = lanes < 8 ? 4 : 8;
    const int64_t x_apart = PANELS_APART(dense->inputs, panel);
    const int64_t g_apart = PANELS_APART(dense->neurons, panel);
    double *const grads = run->weights_adj[dense->space] + dense->first;
    const double *x[PANELS_AT_ONCE], *g[PANELS_AT_ONCE];
    int64_t count = 0;
    for (int64_t block = 0; block < blocks; block++, stash += run->plan->stash * lanes)
        for (int64_t p = 0; p < lanes / panel; p++) {
            x[count] = stash + dense->x_at * lanes + p * x_apart;
            g[count++] = stash + dense->g_at * lanes + p * g_apart;
            if (count == PANELS_AT_ONCE || (block == blocks - 1 && p == lanes / panel - 1)) {
                dense_gradient(grads, dense->row, dense->neurons, from, to, x, g, panel, count,
                               fresh);
                count = fresh = 0;
            }
        }
}

const Kernels KERNELS = {
    NAME,
    {block_1, block_4, block_8, block_16, block_32, block_64},
    {splat_1, splat_4, splat_8, splat_16, splat_32, splat_64},
    forward_one,
    reverse_one,
    weights,
    powers_check,
    {{1, tangent_1, adjoint_1, second_1},
     {4, tangent_4, adjoint_4, second_4},
     {16, tangent_16, adjoint_16, second_16}},
};
