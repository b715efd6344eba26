/* Dense layers on lanes: many sums bias + w0*x0 + w1*x1 + ... over the same x, with weights that
 * are the same for every lane.
 *
 * Lanes lie in panels of PANEL (8, or 4 where a block has no more): [panel][entry][lane].  A tile
 * keeps ROWS x PANEL accumulators in registers and adds term by term, so that every lane sums in
 * micrograd's order.
 *
 *   dense_tile       rows of `to` = `from` + sum over k of factor[row][k] * panel[k]: with the weights as
 *                    factors the forward sum, with the weights transposed the adjoints of x
 *   dense_gradient   the weights' adjoints of a tile of rows and columns, over all panels
 *
 * Included by lanes.h, once a machine variant.
 */

typedef double Vector __attribute__((vector_size(32), aligned(8), may_alias));
typedef double Half __attribute__((vector_size(16)));

#ifdef __FMA__
#include <immintrin.h>

/* a * b + c with one rounding: for adjoints, whose order of accumulation is ours anyway, and for
 * the residuals of powers.h; never for values, which must round as micrograd's do. */
static ALWAYS_INLINE Vector fused(Vector a, Vector b, Vector c)
{
    return (Vector)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#else
#define fused(a, b, c) ((a) * (b) + (c))
#endif

#define SPLAT(number) ((Vector){(number), (number), (number), (number)})
#define LOAD(from) (*(const Vector *)(from))
#define STORE(to, vector) (*(Vector *)(to) = (vector))

enum { TILE_ROWS = 6, TERMS_AT_ONCE = 256, GRADIENT_ROWS = 3, GRADIENT_COLUMNS = 4,
       GRADIENT_BLOCK = 12 };

/* to[i][0..PANEL) = from[i][0..PANEL) + sum over k < terms of factors[i*row + k*step] * panel[k]. */
static ALWAYS_INLINE void dense_rows(
    int rows, int vectors, int adjoints, double *const *to, const double *const *from,
    const double *factors, int64_t row, int64_t step, const double *panel, int64_t terms)
{
    Vector sums[TILE_ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) sums[i][v] = LOAD(from[i] + 4 * v);
    for (int64_t k = 0; k < terms; k++) {
        Vector x[2];
        for (int v = 0; v < vectors; v++) x[v] = LOAD(panel + 4 * v);
        for (int i = 0; i < rows; i++) {
            const Vector factor = SPLAT(factors[i * row]);
            for (int v = 0; v < vectors; v++)
                if (adjoints) sums[i][v] = fused(factor, x[v], sums[i][v]);
                else sums[i][v] += factor * x[v];
        }
        factors += step;
        panel += 4 * vectors;
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) STORE(to[i] + 4 * v, sums[i][v]);
}

#define ROWS_CASE(rows)                                                                           \
    case 8 * rows + 2: dense_rows(rows, 1, 0, to, from, factors, row, step, panel, terms); break; \
    case 8 * rows + 4: dense_rows(rows, 2, 0, to, from, factors, row, step, panel, terms); break; \
    case 8 * rows + 3: dense_rows(rows, 1, 1, to, from, factors, row, step, panel, terms); break; \
    case 8 * rows + 5: dense_rows(rows, 2, 1, to, from, factors, row, step, panel, terms); break

static void dense_tile(
    int rows, int vectors, int adjoints, double *const *to, const double *const *from,
    const double *factors, int64_t row, int64_t step, const double *panel, int64_t terms)
{
    switch (8 * rows + 2 * vectors + adjoints) {
        ROWS_CASE(1);
        ROWS_CASE(2);
        ROWS_CASE(3);
        ROWS_CASE(4);
        ROWS_CASE(5);
        ROWS_CASE(6);
    }
}

/* grads[i*row + j] += sum over all lanes of g[i] * x[j], whose panels lie so far apart in the
 * stashes of the blocks. */
static ALWAYS_INLINE void gradient_rows(
    int rows, int columns, int vectors, double *grads, int64_t row, const double *g_first,
    int64_t g_apart, const double *x_first, int64_t x_apart, int64_t panels, int64_t stash,
    int64_t blocks)
{
    const int panel = 4 * vectors;
    Vector sums[GRADIENT_ROWS][GRADIENT_COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) sums[i][j] = SPLAT(0.0);
    for (int64_t block = 0; block < blocks; block++) {
        const double *g = g_first + block * stash, *x = x_first + block * stash;
        for (int64_t p = 0; p < panels; p++, g += g_apart, x += x_apart) {
            for (int v = 0; v < vectors; v++) {
                Vector factors[GRADIENT_ROWS];
                for (int i = 0; i < rows; i++) factors[i] = LOAD(g + i * panel + 4 * v);
                for (int j = 0; j < columns; j++) {
                    const Vector term = LOAD(x + j * panel + 4 * v);
                    for (int i = 0; i < rows; i++) sums[i][j] = fused(factors[i], term, sums[i][j]);
                }
            }
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            const Vector s = sums[i][j];
            const Half half = (Half){s[0], s[1]} + (Half){s[2], s[3]};
            grads[i * row + j] += half[0] + half[1];
        }
}

#define GRADIENT_CASE(rows, columns)                                                              \
    case 8 * rows + columns:                                                                      \
        if (vectors == 2)                                                                         \
            gradient_rows(rows, columns, 2, grads, row, g, g_apart, x, x_apart, panels, stash, blocks);         \
        else gradient_rows(rows, columns, 1, grads, row, g, g_apart, x, x_apart, panels, stash, blocks);        \
        break
#define GRADIENT_CASES(rows)                                                                      \
    GRADIENT_CASE(rows, 1);                                                                       \
    GRADIENT_CASE(rows, 2);                                                                       \
    GRADIENT_CASE(rows, 3);                                                                       \
    GRADIENT_CASE(rows, 4)

static void dense_gradient(
    int rows, int columns, int vectors, double *grads, int64_t row, const double *g,
    int64_t g_apart, const double *x, int64_t x_apart, int64_t panels, int64_t stash,
    int64_t blocks)
{
    switch (8 * rows + columns) {
        GRADIENT_CASES(1);
        GRADIENT_CASES(2);
        GRADIENT_CASES(3);
    }
}

/* How far apart panels of `entries` entries lie: an odd number of cache lines, so that the same
 * entry of several panels does not fall into the same few sets of the cache. */
#define PANELS_APART(entries, panel) ((int64_t)((entries) | 1) * (panel))

/* Copy the weights so that the tiles of the adjoints of x read them in order: from a large layer's
 * rows each factor would come from another page. */
static void turn_weights(const double *weights, int64_t row, int32_t neurons, int32_t inputs,
                         double *turned)
{
    for (int32_t k = 0; k < inputs; k += TILE_ROWS)
        for (int32_t j = 0; j < neurons; j++, turned += TILE_ROWS)
            for (int i = 0; i < TILE_ROWS && k + i < inputs; i++)
                turned[i] = weights[j * row + k + i];
}

/* Zero the lanes from `samples` on, in all panels. */
static void clear_lanes(double *panels, int32_t entries, int panel, int count, int64_t samples)
{
    for (int p = 0; p < count; p++)
        for (int32_t k = 0; k < entries; k++)
            for (int l = 0; l < panel; l++)
                if (p * panel + l >= samples)
                    panels[p * PANELS_APART(entries, panel) + k * panel + l] = 0.0;
}

/* For one lane: sums[i] += sum over k of w[i*row + k] * x[k], each in this order, by transposing
 * four by four weights in registers. */
static ALWAYS_INLINE void dense_four(Vector *sums, const double *w, int64_t row, const double *x,
                                     int64_t terms)
{
    Vector sum = *sums;
    int64_t k = 0;
    for (; k + 4 <= terms; k += 4) {
        const Vector a = LOAD(w + k), b = LOAD(w + row + k);
        const Vector c = LOAD(w + 2 * row + k), d = LOAD(w + 3 * row + k);
        sum += (Vector){a[0], b[0], c[0], d[0]} * SPLAT(x[k]);
        sum += (Vector){a[1], b[1], c[1], d[1]} * SPLAT(x[k + 1]);
        sum += (Vector){a[2], b[2], c[2], d[2]} * SPLAT(x[k + 2]);
        sum += (Vector){a[3], b[3], c[3], d[3]} * SPLAT(x[k + 3]);
    }
    for (; k < terms; k++)
        sum += (Vector){w[k], w[row + k], w[2 * row + k], w[3 * row + k]} * SPLAT(x[k]);
    *sums = sum;
}
