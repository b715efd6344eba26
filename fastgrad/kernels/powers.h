/* Powers with the constant exponents 2, -1, 0.5 and 3, to the bit what libm's pow gives, mostly
 * without calling it.
 *
 * libm's pow rounds a number that is close to the true power: e_pow.c of glibc and musl states an
 * error of 0.009 ulp for its exp, and for its log 0.031 ulp at |y*log(x)| = 710, less in proportion
 * below: 0.012 ulp for x from 2^-32 to 2^32 and these exponents.  So where the true power is 0.02
 * ulp away from a tie between two doubles, pow gives the double nearest to it.  Multiplication,
 * division and square root give that double too, and a fused multiply-add what is missing to the
 * true power (`rest`); nearer a tie, or beyond that range of x, pow itself is called: for 4% of
 * random numbers.  `powers_check` compares both on some thousand numbers at import; a libm that
 * differs is then always called.  tests/test_programs.py pins the bits.
 */
#ifndef POWERS_H
#define POWERS_H

static double power_exponent(int op)
{
    return op == OP_SQUARE ? 2.0 : op == OP_INVERSE ? -1.0 : op == OP_ROOT ? 0.5 : 3.0;
}

/* d/dx from x and z = pow(x, exponent). */
static ALWAYS_INLINE double power_dx(int op, double x, double z)
{
    return op == OP_SQUARE ? 2.0 * x : op == OP_INVERSE ? -z * z : op == OP_ROOT ? 0.5 / z
                                                                                 : 3.0 * x * x;
}

#ifdef __FMA__
typedef long long Bits __attribute__((vector_size(32), aligned(8), may_alias));

static int powers_fast = 0; /* does this libm's pow agree? */

static ALWAYS_INLINE Bits is_moderate(Vector x)
{
    const Vector size = (Vector)((Bits)x & 0x7fffffffffffffffLL);
    return (size > 0x1p-32) & (size < 0x1p32);
}

static ALWAYS_INLINE void power_vector(int op, double *to, const double *from)
{
    const Vector x = LOAD(from);
    Vector z, rest;
    if (op == OP_SQUARE) {
        z = x * x;
        rest = fused(x, x, -z);
    } else if (op == OP_INVERSE) {
        z = 1.0 / x;
        rest = fused(-z, x, SPLAT(1.0)) * z;
    } else if (op == OP_ROOT) {
        z = (Vector)_mm256_sqrt_pd((__m256d)x);
        rest = fused(-z, z, x) * (0.5 / z);
    } else {
        const Vector square = x * x, product = square * x;
        const Vector missing = fused(square, x, -product) + fused(x, x, -square) * x;
        z = product + missing;
        rest = missing - (z - product);
    }
    const Vector ulp = (Vector)((Bits)z & 0x7ff0000000000000LL) * 0x1p-52;
    const Vector size = (Vector)((Bits)rest & 0x7fffffffffffffffLL);
    /* Below a power of two doubles lie closer, so there only an exact result is taken. */
    const Bits sure = ((size < 0.48 * ulp) & (((Bits)z & 0xfffffffffffffLL) != 0)) | (rest == 0.0);
    const int all = _mm256_movemask_pd((__m256d)(sure & is_moderate(x)));
    STORE(to, z);
    if (all != 15)
        for (int l = 0; l < 4; l++)
            if (!(all >> l & 1)) to[l] = pow(x[l], power_exponent(op));
}

static void powers_check(void)
{
    uint64_t state = 88172645463325252u; /* Marsaglia's xorshift */
    powers_fast = 1;
    for (int k = 0; k < 500; k++) {
        double x[4], z[4];
        for (int l = 0; l < 4; l++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            x[l] = (double)(state >> 11) * 0x1p-53 * (k & 1 ? 8.0 : 1e3) + 1e-3;
        }
        for (int op = OP_SQUARE; op <= OP_CUBE; op++) {
            power_vector(op, z, x);
            for (int l = 0; l < 4; l++)
                if (z[l] != pow(x[l], power_exponent(op))) powers_fast = 0;
        }
    }
}
#else
static void powers_check(void) {}
#endif

#endif
