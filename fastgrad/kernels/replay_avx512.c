/* For machines with AVX-512; which one runs is decided at import. */
#if defined(__x86_64__) && defined(__GNUC__)
#include <math.h>
#include <stdint.h>
#if defined(__clang__)
#pragma clang attribute push(                                                                     \
    __attribute__((target("avx2,fma,prfchw,avx512f,avx512dq,avx512vl"))), apply_to = function)
#define __AVX2__ 1
#define __FMA__ 1
#define __AVX512F__ 1
#else
#pragma GCC target("avx2,fma,prfchw,avx512f,avx512dq,avx512vl,prefer-vector-width=512")
#endif
#define KERNELS fastgrad_kernels_avx512
#define NAME "avx512"
#include "replay.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
