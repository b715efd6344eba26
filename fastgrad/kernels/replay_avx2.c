/* For machines with AVX2 and FMA; which one runs is decided at import. */
#if defined(__x86_64__) && defined(__GNUC__)
#include <math.h>
#include <stdint.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,prfchw"))), apply_to = function)
#define __AVX2__ 1
#define __FMA__ 1
#else
#pragma GCC target("avx2,fma,prfchw")
#endif
#define KERNELS fastgrad_kernels_avx2
#define NAME "avx2"
#include "replay.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
