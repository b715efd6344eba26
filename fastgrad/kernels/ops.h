/* The table of elementary operations: one row an op, every sweep is a switch expanded from it.
 *
 *   OP(NAME, label, operands, shown,
 *      value, d/dx, d/dy,
 *      d2/dx2, d2/dxdy, d2/dy2,
 *      int value?, int d/dx?, int d/dy?,
 *      NumPy's value?, NumPy's d/dx?, NumPy's d/dy?,
 *      forward error, reverse error,
 *      domain of x, domain of y)
 *
 * In the expressions x and y are the operands' values and z is the entry's own; ix and iy are
 * nonzero where an operand is an int, nx and ny DATA_NUMPY where it is NumPy's.  A row with one
 * operand leaves y alone.  `shown` counts the operands that `_prev` lists: the others are hidden
 * constants (an exponent, a slope) that receive no adjoint, so partials by them are written 0.  The
 * int columns follow Python's rules for micrograd's closures, so that ints stay ints.  NumPy's
 * columns, for scripts with a Value of their own, follow theirs: arithmetic with an np.float64
 * gives one, a function of `math` does not; nr stands for what relu's derivative compares with 0
 * (Dialect.relu).  The error columns say when Python's own float or math function would raise (the
 * reverse one may use px, the value of d/dx): eager calls honour them, replays follow IEEE.  A
 * domain is an open interval on which tests compare the partials with differences.
 *
 * Limitations: values are float64, so an int is exact below 2**53 only.
 */
#ifndef FASTGRAD_OPS_H
#define FASTGRAD_OPS_H

#include <math.h>
#include <stdint.h>

#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

/* Flags of an entry: its value, its adjoint reads as an int; as NumPy's, np.int64 if both. */
enum { DATA_INT = 1, GRAD_INT = 2, DATA_NUMPY = 64, GRAD_NUMPY = 128 };

/* What a script's derivative of relu compares with 0, for its kind: a number, or x or z. */
enum { RELU_OF_NONE, RELU_OF_Z, RELU_OF_X };

enum { ERROR_NONE, ERROR_ZERO_DIVISION, ERROR_OVERFLOW, ERROR_DOMAIN };

/* clang-format off */

/* Reverse rules of plain arithmetic that cannot fail: the sweep's inner loop calls no function. */
#define FASTGRAD_LIGHT_OPS(OP)                                                                    \
  OP(ADD,        "+",          2, 2, x + y,               1.0,              1.0,                  \
     0.0, 0.0, 0.0,                                                                               \
     ix && iy,            1,                    1,           nx | ny,  0,  0,                     \
                                                             0, 0, IN(-3, 3),    IN(-3, 3))       \
  OP(MUL,        "*",          2, 2, x * y,               y,                x,                    \
     0.0, 1.0, 0.0,                                                                               \
     ix && iy,            iy,                   ix,          nx | ny,  ny, nx,                    \
                                                             0, 0, IN(-3, 3),    IN(-3, 3))       \
  OP(RELU,       "ReLU",       1, 1, x < 0 ? 0.0 : x,     z > 0,            0.0,                  \
     0.0, 0.0, 0.0,                                                                               \
     ix || x < 0,         1,                    0,           x < 0 ? 0 : nx,  nr,  0,             \
                                                             0, 0, IN(0.1, 3),   IN(0, 0))        \
  OP(LEAKY_RELU, "leaky_relu", 2, 1, x < 0 ? y * x : x,   x > 0 ? 1.0 : y,  0.0,                  \
     0.0, 0.0, 0.0,                                                                               \
     0,                   0,                    0,           x < 0 ? nx | ny : nx,  0,  0,        \
                                                             0, 0, IN(-3, -0.1), IN(0, 1))        \
  OP(ABS,        "abs",        1, 1, fabs(x),             (x > 0) - (x < 0), 0.0,                 \
     0.0, 0.0, 0.0,                                                                               \
     ix,                  1,                    0,           nx,  0,  0,                          \
                                                             0, 0, IN(-3, -0.1), IN(0, 0))        \
  OP(MAXIMUM,    "maximum",    2, 2, x >= y || x != x ? x : y,                                    \
     x >= y || x != x,    !(x >= y || x != x),                                                    \
     0.0, 0.0, 0.0,                                                                               \
     x >= y || x != x ? ix : iy,  1,            1,           x >= y || x != x ? nx : ny,  0,  0,  \
                                                             0, 0, IN(-3, 0),    IN(0.1, 3))      \
  OP(MINIMUM,    "minimum",    2, 2, x <= y || x != x ? x : y,                                    \
     x <= y || x != x,    !(x <= y || x != x),                                                    \
     0.0, 0.0, 0.0,                                                                               \
     x <= y || x != x ? ix : iy,  1,            1,           x <= y || x != x ? nx : ny,  0,  0,  \
                                                             0, 0, IN(-3, 0),    IN(0.1, 3))      \
  OP(EXP,        "exp",        1, 1, exp(x),              z,                0.0,                  \
     z, 0.0, 0.0,                                                                                 \
     0, 0, 0,   0, 0, 0,   isinf(z) && !isinf(x) ? ERROR_OVERFLOW : 0,  0,                        \
                                                                   IN(-3, 3),    IN(0, 0))        \
  OP(TANH,       "tanh",       1, 1, tanh(x),             1.0 - z * z,      0.0,                  \
     -2.0 * z * (1.0 - z * z), 0.0, 0.0,                                                          \
     0, 0, 0,   0, 0, 0,   0, 0,                                   IN(-3, 3),    IN(0, 0))

/* Reverse rules that call libm or can fail. */
#define FASTGRAD_LIBM_OPS(OP)                                                                     \
  /* a - b of scripts where that is one operation; their rule cannot fail, but is rare. */        \
  OP(SUB,        "-",          2, 2, x - y,               1.0,              -1.0,                 \
     0.0, 0.0, 0.0,                                                                               \
     ix && iy,            1,                    1,           nx | ny,  0,  0,                     \
                                                             0, 0, IN(-3, 3),    IN(-3, 3))       \
  OP(POW_CONST,  "**",         2, 1, pow(x, y),           pow_dx(x, y),     0.0,                  \
     pow_dxx(x, y), 0.0, 0.0,                                                                     \
     ix && iy && y >= 0,  ix && iy && y >= 1,   0,           nx | ny,  nx | ny,  0,               \
     pow_error(x, y, z),  pow_dx_error(x, y, px),            IN(0.2, 3),   IN(-2, 3))             \
  OP(POW,        "**",         2, 2, pow(x, y),           pow_dx(x, y),     pow_dy(x, y, z),      \
     pow_dxx(x, y), pow_dxy(x, y), pow_dyy(x, y, z),                                              \
     ix && iy && y >= 0,  ix && iy && y >= 1,   0,           nx | ny,  nx | ny,  nx | ny,         \
     pow_error(x, y, z),  pow_dx_error(x, y, px),            IN(0.2, 3),   IN(-2, 3))             \
  OP(LOG,        "log",        1, 1, log(x),              1.0 / x,          0.0,                  \
     -1.0 / (x * x), 0.0, 0.0,                                                                    \
     0, 0, 0,   0, nx, 0,  x <= 0 ? ERROR_DOMAIN : 0,                                             \
                           x == 0 ? ERROR_ZERO_DIVISION : 0,       IN(0.2, 3),   IN(0, 0))        \
  OP(SQRT,       "sqrt",       1, 1, sqrt(x),             0.5 / z,          0.0,                  \
     -0.25 / (x * z), 0.0, 0.0,                                                                   \
     0, 0, 0,   0, 0, 0,   x < 0 ? ERROR_DOMAIN : 0,                                              \
                           z == 0 ? ERROR_ZERO_DIVISION : 0,       IN(0.2, 3),   IN(0, 0))        \
  OP(SIN,        "sin",        1, 1, sin(x),              cos(x),           0.0,                  \
     -z, 0.0, 0.0,                                                                                \
     0, 0, 0,   0, 0, 0,   isinf(x) ? ERROR_DOMAIN : 0,      0,    IN(-3, 3),    IN(0, 0))        \
  OP(COS,        "cos",        1, 1, cos(x),              -sin(x),          0.0,                  \
     -z, 0.0, 0.0,                                                                                \
     0, 0, 0,   0, 0, 0,   isinf(x) ? ERROR_DOMAIN : 0,      0,    IN(-3, 3),    IN(0, 0))        \
  OP(SIGMOID,    "sigmoid",    1, 1, sigmoid(x),          sigmoid_dx(x),    0.0,                  \
     sigmoid_dxx(x), 0.0, 0.0,                                                                    \
     0, 0, 0,   0, 0, 0,   0, 0,                                   IN(-3, 3),    IN(0, 0))        \
  OP(SOFTPLUS,   "softplus",   1, 1, softplus(x),         sigmoid(x),       0.0,                  \
     sigmoid_dx(x), 0.0, 0.0,                                                                     \
     0, 0, 0,   0, 0, 0,   0, 0,                                   IN(-3, 3),    IN(0, 0))        \
  OP(GELU,       "gelu",       1, 1, gelu(x),             gelu_dx(x),       0.0,                  \
     gelu_dxx(x), 0.0, 0.0,                                                                       \
     0, 0, 0,   0, 0, 0,   0, 0,                                   IN(-3, 3),    IN(0, 0))        \
  /* As scripts write it: max(0, x); the same with a float as its partial; max(0.0, x). */        \
  OP(RELU_MAX,   "ReLU",       1, 1, x > 0 ? x : 0.0,     z > 0,            0.0,                  \
     0.0, 0.0, 0.0,                                                                               \
     ix || !(x > 0),      1,                    0,           x > 0 ? nx : 0,  nr,  0,             \
                                                             0, 0, IN(0.1, 3),   IN(0, 0))        \
  OP(RELU_LOCAL, "ReLU",       1, 1, x > 0 ? x : 0.0,     z > 0,            0.0,                  \
     0.0, 0.0, 0.0,                                                                               \
     ix || !(x > 0),      0,                    0,           x > 0 ? nx : 0,  nr,  0,             \
                                                             0, 0, IN(0.1, 3),   IN(0, 0))        \
  OP(RELU_FLOAT, "ReLU",       1, 1, x > 0 ? x : 0.0,     z > 0,            0.0,                  \
     0.0, 0.0, 0.0,                                                                               \
     ix && x > 0,         1,                    0,           x > 0 ? nx : 0,  nr,  0,             \
                                                             0, 0, IN(0.1, 3),   IN(0, 0))        \
  /* As scripts write it: (exp(2x) - 1) / (exp(2x) + 1), 1 / (1 + exp(-x)); both overflow. */     \
  OP(TANH_EXP,   "tanh",       1, 1, (exp(2 * x) - 1) / (exp(2 * x) + 1),  1.0 - z * z,  0.0,     \
     -2.0 * z * (1.0 - z * z), 0.0, 0.0,                                                          \
     0, 0, 0,   0, 0, 0,   isinf(exp(2 * x)) && !isinf(x) ? ERROR_OVERFLOW : 0,  0,               \
                                                                   IN(-3, 3),    IN(0, 0))        \
  OP(SIGMOID_EXP, "sigmoid",   1, 1, 1 / (1 + exp(-x)),   z * (1 - z),      0.0,                  \
     z * (1 - z) * (1 - 2 * z), 0.0, 0.0,                                                         \
     0, 0, 0,   0, 0, 0,   isinf(exp(-x)) && !isinf(x) ? ERROR_OVERFLOW : 0,  0,                  \
                                                                   IN(-3, 3),    IN(0, 0))

#define FASTGRAD_OPS(OP) FASTGRAD_LIGHT_OPS(OP) FASTGRAD_LIBM_OPS(OP)

/* clang-format on */

/* pow where it often has nothing to do: it is exact there, so no bit differs. */
static inline double power(double x, double y) { return y == 1 ? x : y == 0 ? 1.0 : pow(x, y); }

/* x**0 is constant, also at 0, inf and nan, where y * x**(y - 1) is not defined. */
static inline double pow_dx(double x, double y) { return y == 0 ? 0.0 : y * power(x, y - 1); }

/* x**y * log(x); 0 at x = 0 for y >= 0, its limit from the right (and PyTorch's choice). */
static inline double pow_dy(double x, double y, double z)
{
    return x == 0 && y >= 0 ? 0.0 : z * log(x);
}

/* x**0 and x**1 bend nowhere. */
static inline double pow_dxx(double x, double y)
{
    return y == 0 || y == 1 ? 0.0 : y * (y - 1) * power(x, y - 2);
}

/* x**(y - 1) * (1 + y * log(x)); at x = 0 its limit from the right, 0 for y > 1. */
static inline double pow_dxy(double x, double y)
{
    return x == 0 && y > 1 ? 0.0 : pow(x, y - 1) * (1.0 + y * log(x));
}

static inline double pow_dyy(double x, double y, double z)
{
    return x == 0 && y >= 0 ? 0.0 : z * log(x) * log(x);
}

/* Where Python's float power raises, or leaves the real numbers. */
static inline int pow_error(double x, double y, double z)
{
    if (isfinite(z) || !isfinite(x) || !isfinite(y)) return ERROR_NONE;
    return isnan(z) ? ERROR_DOMAIN : x == 0 ? ERROR_ZERO_DIVISION : ERROR_OVERFLOW;
}

static inline int pow_dx_error(double x, double y, double px)
{
    return isfinite(px) ? ERROR_NONE : pow_error(x, y - 1, pow(x, y - 1));
}

/* log(1 + exp(x)); this and sigmoid are written with exp(-|x|), which cannot overflow. */
static inline double softplus(double x) { return fmax(x, 0.0) + log1p(exp(-fabs(x))); }

static inline double sigmoid(double x)
{
    const double e = exp(-fabs(x));
    return (x < 0 ? e : 1.0) / (1.0 + e);
}

/* Not z * (1 - z), which loses every digit where z rounds to 1. */
static inline double sigmoid_dx(double x)
{
    const double e = exp(-fabs(x));
    return e / ((1.0 + e) * (1.0 + e));
}

/* sigmoid_dx(x) * (1 - 2 * sigmoid(x)), without the difference */
static inline double sigmoid_dxx(double x) { return -sigmoid_dx(x) * tanh(0.5 * x); }

/* x * Phi(x) by erfc, which keeps its digits in the left tail; 0, its limit, at -inf. */
static inline double gelu(double x)
{
    return x == -INFINITY ? 0.0 : 0.5 * x * erfc(-x * 0.70710678118654752440);
}

/* Phi(x) + x * phi(x) */
static inline double gelu_dx(double x)
{
    const double density = exp(-0.5 * x * x) * 0.39894228040143267794;
    return 0.5 * erfc(-x * 0.70710678118654752440) + (isinf(x) ? 0.0 : x * density);
}

/* phi(x) * (2 - x**2) */
static inline double gelu_dxx(double x)
{
    const double density = exp(-0.5 * x * x) * 0.39894228040143267794;
    return isinf(x * x) ? 0.0 : density * (2.0 - x * x);
}

/* OP_LEAF has no operands.  The ops after the elementary ones keep (first, count) of the operand
 * pool in (a, b); op_words says how many operand slots an entry of `count` terms has there:
 *   OP_MADE   user-made: child...
 *   OP_LOCAL  microgpt's form: (child, hidden constant with its local gradient)...
 *   OP_DETACH, OP_ARGMAX, OP_TAKE, OP_WHERE   of a traced program: x; x...; index, x...; c, x, y
 *   OP_CUSTOM of a recording only: which one, x...
 *   OP_DOT    bias + sum of w * x: bias, (w, x)...
 *   OP_RUN    the same where the w and the x each lie in consecutive slots: bias, first w, first x
 */
enum {
    OP_LEAF,
#define OP(NAME, ...) OP_##NAME,
    FASTGRAD_LIGHT_OPS(OP)
    OP_FIRST_LIBM,
    OP_LAST_LIGHT = OP_FIRST_LIBM - 1, /* a boundary, not an op */
    FASTGRAD_LIBM_OPS(OP)
#undef OP
    OP_MADE, OP_LOCAL,
    OP_DETACH, OP_ARGMAX, OP_TAKE, OP_WHERE, /* recorded only where a trace's inputs decide */
    OP_CUSTOM, /* on the tape an OP_MADE whose rule is a custom operation */
    OP_DOT, OP_RUN
};
#define OP_FIRST_POOLED OP_MADE

static inline int64_t op_words(int op, int64_t count)
{
    return op == OP_LOCAL ? 2 * count : op < OP_DOT ? count : op == OP_DOT ? 2 * count + 1 : 3;
}

/* Behind them a fused entry has room for a double: the adjoint that its first sweep passed on. */
static inline int64_t op_pool_words(int op, int64_t count)
{
    return op_words(op, count) + (op >= OP_DOT ? sizeof(double) / sizeof(int32_t) : 0);
}

/* What Python shows of the table. */
typedef struct {
    const char *name, *label;
    int operands, shown;
    double domain[4];
} OpRow;

#define IN(lo, hi) lo, hi
#define EXPAND(...) __VA_ARGS__
static const OpRow op_rows[] = {
    {"LEAF", "", 0, 0, {0, 0, 0, 0}},
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, i, idx, idy, n, ndx, ndy,   \
           error, rerror, domx, domy)                                                                            \
    {#NAME, label, operands, shown, {EXPAND(domx), EXPAND(domy)}},
    FASTGRAD_OPS(OP)
#undef OP
    {"MADE", "", 0, 0, {0, 0, 0, 0}},
    {"LOCAL", "", 0, 0, {0, 0, 0, 0}},
    {"DETACH", "detach", 0, 0, {0, 0, 0, 0}},
    {"ARGMAX", "argmax", 0, 0, {0, 0, 0, 0}},
    {"TAKE", "take", 0, 0, {0, 0, 0, 0}},
    {"WHERE", "where", 0, 0, {0, 0, 0, 0}},
    {"CUSTOM", "custom", 0, 0, {0, 0, 0, 0}},
    {"DOT", "dot", 0, 0, {0, 0, 0, 0}},
    {"RUN", "dot", 0, 0, {0, 0, 0, 0}},
};

static inline double op_value(int op, double x, double y)
{
    switch (op) {
#define OP(NAME, label, operands, shown, value, ...) case OP_##NAME: return value;
    FASTGRAD_OPS(OP)
#undef OP
    }
    return 0.0;
}

static inline int op_is_int(int op, int ix, int iy, double x, double y)
{
    switch (op) {
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, is_int, ...)               \
    case OP_##NAME: return is_int;
    FASTGRAD_OPS(OP)
#undef OP
    }
    return 0;
}

/* DATA_NUMPY if the value is NumPy's, else 0; so are `nx` and `ny`. */
static inline int op_is_numpy(int op, int nx, int ny, double x, double y)
{
    switch (op) {
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, i, idx, idy, is_numpy,     \
           ...)                                                                                   \
    case OP_##NAME: return is_numpy;
    FASTGRAD_OPS(OP)
#undef OP
    }
    return 0;
}

static inline int op_error(int op, double x, double y, double z)
{
    switch (op) {
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, i, idx, idy, n, ndx, ndy,  \
           error, ...)                                                                            \
    case OP_##NAME: return error;
    FASTGRAD_OPS(OP)
#undef OP
    }
    return ERROR_NONE;
}

/* An entry's first partials (d/dx, d/dy) and second ones (d2/dx2, d2/dxdy, d2/dy2), also where
 * op_push would return an error; by a hidden operand they are 0. */
typedef struct { double x, y, xx, xy, yy; } Partials;

static inline Partials op_partials(int op, double x, double y, double z)
{
    (void)x, (void)y, (void)z;
    switch (op) {
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, ...)                       \
    case OP_##NAME: return (Partials){dx, shown == 2 ? dy : 0.0, dxx, dxy, dyy};
    FASTGRAD_OPS(OP)
#undef OP
    }
    return (Partials){0};
}

/* An entry's value, and its partials. */
static inline double op_linearised(int op, double x, double y, Partials *partials)
{
    switch (op) {
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, ...)                       \
    case OP_##NAME: {                                                                             \
        const double z = value;                                                                   \
        *partials = (Partials){dx, shown == 2 ? dy : 0.0, dxx, dxy, dyy};                         \
        return z;                                                                                 \
    }
    FASTGRAD_OPS(OP)
#undef OP
    }
    return 0.0;
}

/* One step of the reverse sweep: adds (partial * adj[i]) to the operands' adjoints, in micrograd's
 * order.  A sum stays an int while every contribution is one.  Zero adjoints are not skipped,
 * because 0 * inf is nan in micrograd too. */
#define PUSH(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, i_, idx, idy, n_, ndx,   \
             ndy, e_, error, ...)                                                                 \
    case OP_##NAME: {                                                                             \
        const double px = dx, py = dy;                                                            \
        const int failed = error;                                                                 \
        if (failed && !anyway) return failed;                                                     \
        flags[a] &= (idx) ? keep : ~GRAD_INT;                                                     \
        adj[a] += px * g;                                                                         \
        if (shown == 2) {                                                                         \
            flags[b] &= (idy) ? keep : ~GRAD_INT;                                                 \
            adj[b] += py * g;                                                                     \
        }                                                                                         \
        (void)py;                                                                                 \
        return failed;                                                                            \
    }
#define PUSH_OPERANDS                                                                             \
    const double x = val[a], y = val[b], z = val[i], g = adj[i];                                  \
    const int ix = flags[a] & DATA_INT, iy = flags[b] & DATA_INT;                                 \
    const int keep = flags[i] | ~GRAD_INT; /* clears GRAD_INT unless adj[i] is an int */          \
    (void)ix, (void)iy, (void)x, (void)y, (void)z

/* Any elementary op; returns an ERROR_ code, and then has done nothing unless `anyway`. */
static inline int op_push(int op, const double *val, double *adj, uint8_t *flags,
                          int32_t a, int32_t b, int32_t i, int anyway)
{
    PUSH_OPERANDS;
    switch (op) { FASTGRAD_OPS(PUSH) }
    return ERROR_NONE;
}

/* The same for the light ops only, to be inlined into a loop. */
static ALWAYS_INLINE int op_push_light(int op, const double *val, double *adj, uint8_t *flags,
                                       int32_t a, int32_t b, int32_t i)
{
    enum { anyway = 0 };
    PUSH_OPERANDS;
    switch (op) { FASTGRAD_LIGHT_OPS(PUSH) }
    return ERROR_NONE;
}

/* Makes NumPy's the adjoints to which a step of the sweep adds NumPy's numbers. */
static inline void op_push_numpy(int op, uint8_t *flags, int32_t a, int32_t b, int32_t i,
                                 int relu)
{
    const int nx = flags[a] & DATA_NUMPY, ny = flags[b] & DATA_NUMPY, nz = flags[i] & DATA_NUMPY;
    const int nr = relu == RELU_OF_X ? nx : relu == RELU_OF_Z ? nz : 0, g = flags[i] & GRAD_NUMPY;
    switch (op) {
#define OP(NAME, label, operands, shown, value, dx, dy, dxx, dxy, dyy, i_, idx, idy, n_, ndx,     \
           ndy, ...)                                                                              \
    case OP_##NAME:                                                                               \
        flags[a] |= (ndx) << 1 | g;                                                               \
        if (shown == 2) flags[b] |= (ndy) << 1 | g;                                               \
        break;
    FASTGRAD_OPS(OP)
#undef OP
    }
    (void)nx, (void)ny, (void)nr;
}

#endif
