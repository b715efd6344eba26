/* The kernels of one machine variant: replay_base.c, replay_avx2.c, replay_avx512.c include it. */

#include <math.h>
#include <string.h>
#include "lines.h"
#include "program.h"
#include "dense.h"
#include "groups.h"
#include "powers.h"
#include "edges.h"

#if defined(__clang__)
#define NO_DEPENDENCE _Pragma("clang loop vectorize(assume_safety)")
#define MANY_LANES NO_DEPENDENCE
#else /* gcc unrolls loops over few lanes before it looks for vectors, unless told not to */
#define NO_DEPENDENCE _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#ifdef __AVX512F__ /* of more lanes, some vectors at a time */
#define MANY_LANES _Pragma("GCC ivdep") _Pragma("GCC unroll 2")
#else
#define MANY_LANES _Pragma("GCC ivdep") _Pragma("GCC unroll 4")
#endif
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
    forward_1(run, code, workspace, NULL, NULL, 0, 1);
}

static void reverse_one(Run *run, const int32_t *code, double *workspace)
{
    reverse_1(run, code, workspace, NULL, 1, NULL);
}

static void weights(const Run *run, const Dense *dense, const Share *share)
{
    const int64_t end = share->first + share->samples, lanes = share->lanes;
    const double *stash = share->stash;
    Terms terms = {.panel = lanes < 8 ? 4 : 8, .first = share->first, .fresh = share->fresh};
    const int64_t x_apart = PANELS_APART(dense->inputs, terms.panel);
    const int64_t g_apart = PANELS_APART(dense->neurons, terms.panel);
    const int64_t passes = parts_of(share->samples, PANELS_AT_ONCE * terms.panel);
    for (int64_t pass = 0; terms.first < end; pass++) {
        if (share->parts) {
            const int64_t part = share->part * passes + pass, parts = share->parts * passes;
            const int64_t from = run->moved * part / parts;
            terms.moved = run->weights[IN_PARAMETERS] + from;
            terms.moved_count = run->moved * (part + 1) / parts - from;
        }
        int64_t left = end - terms.first;
        for (terms.count = 0; left > 0 && terms.count < PANELS_AT_ONCE; left -= lanes) {
            for (int64_t p = 0; p < lanes / terms.panel; p++) {
                terms.x[terms.count] = stash + dense->x_at * lanes + p * x_apart;
                terms.g[terms.count++] = stash + dense->g_at * lanes + p * g_apart;
            }
            stash += run->plan->stash * lanes;
        }
        terms.samples = end - terms.first - (left > 0 ? left : 0);
        dense_gradient(run, dense, share->from, share->to, &terms);
        terms.first += terms.samples;
        terms.fresh = 0;
    }
}

const Kernels KERNELS = {
    NAME,
    {block_1, block_4, block_8, block_16, block_32, block_64},
    {splat_1, splat_4, splat_8, splat_16, splat_32, splat_64},
    forward_one,
    reverse_one,
    ahead,
    weights,
    group_weights,
    powers_check,
    {{1, tangent_1, adjoint_1, second_1},
     {4, tangent_4, adjoint_4, second_4},
     {16, tangent_16, adjoint_16, second_16}},
};
