/* Dense layers on lanes: many sums bias + w0*x0 + w1*x1 + ... over the same x, with weights that
 * are the same for every lane.
 *
 * Lanes lie in panels of PANEL (8, or 4 where a block has no more): [panel][entry][lane].  A tile
 * keeps ROWS x PANEL accumulators in registers and adds term by term, so that every lane sums in
 * micrograd's order.
 *
 *   dense_tile       rows of `to` = `from` + sum over k of factor[row][k] * panel[k]: with the
 *                    weights as factors the forward sum, with the weights transposed the adjoints
 *                    of x
 *   dense_gradient   the weights' adjoints: sums of products of adjoints and x over all lanes
 *
 * Included by lanes.h, once a machine variant.
 */

typedef double Vector __attribute__((vector_size(32), aligned(8), may_alias));

#ifdef __FMA__
#include <immintrin.h>

/* a * b + c with one rounding: for adjoints, whose order of accumulation is ours anyway, and for
 * the residuals of powers.h; never for values, which must round as micrograd's do. */
static ALWAYS_INLINE Vector fused(Vector a, Vector b, Vector c)
{
    /* As an intrinsic, gcc 12 takes other registers for the sums and spills them in every loop. */
    __asm__("vfmadd231pd %2, %1, %0" : "+x"(c) : "x"(a), "xm"(b));
    return c;
}
#else
#define fused(a, b, c) ((a) * (b) + (c))
#endif

#define SPLAT(number) ((Vector){(number), (number), (number), (number)})
#define LOAD(from) (*(const Vector *)(from))
#define STORE(to, vector) (*(Vector *)(to) = (vector))

enum {
    TILE_ROWS = 6,
    TERMS_AT_ONCE = 256,
    COLUMNS = 8,
    PANELS_AT_ONCE = 16,
    TURNED_X = 2 * PANELS_AT_ONCE * 8 * COLUMNS, /* half of the first-level cache */
    TURN_FROM = 1 << 14,          /* weights of a layer from which turned columns pay */
    TURNED_AT_ONCE = 8 * TILE_ROWS /* with TERMS_AT_ONCE terms: in the second-level cache */
};

typedef struct Tile {
    double *to[TILE_ROWS];          /* of the first panel's lanes, as `from` */
    const double *from[TILE_ROWS];  /* where the sums start; if `from_numbers`, they start at: */
    double start[TILE_ROWS];
    int from_numbers;
    const double *factors;          /* row i's of term k is factors[i * row + k * step] */
    int64_t row, step, terms;
} Tile;

/* to[i][at..) = from[i][at..) + sum over k < terms of factors[i*row + k*step] * panel[k], for the
 * lanes of a panel. */
static ALWAYS_INLINE void dense_rows(int rows, int vectors, int adjoints, const Tile *tile,
                                     int64_t at, const double *panel)
{
    const double *factors = tile->factors;
    const int64_t row = tile->row, step = tile->step, terms = tile->terms;
    Vector sums[TILE_ROWS][2];
    if (tile->from_numbers)
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++) sums[i][v] = SPLAT(tile->start[i]);
    else
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++) sums[i][v] = LOAD(tile->from[i] + at + 4 * v);
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
        for (int v = 0; v < vectors; v++) STORE(tile->to[i] + at + 4 * v, sums[i][v]);
}

#define TILE(rows, vectors, adjoints)                                                             \
    for (int p = 0; p < panels; p++, panel += apart)                                              \
        dense_rows(rows, vectors, adjoints, tile, 4 * vectors * p, panel)
#define ROWS_CASE(rows)                                                                           \
    case 8 * rows + 2: TILE(rows, 1, 0); break;                                                   \
    case 8 * rows + 4: TILE(rows, 2, 0); break;                                                   \
    case 8 * rows + 3: TILE(rows, 1, 1); break;                                                   \
    case 8 * rows + 5: TILE(rows, 2, 1); break

/* The same for all panels, which lie `apart`. */
static void dense_tile(int rows, int vectors, int adjoints, const Tile *tile, const double *panel,
                       int64_t apart, int panels)
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

/* Four by four numbers, their rows made columns ... */
static ALWAYS_INLINE void transposed(Vector *rows)
{
#ifdef __AVX2__
    const __m256d a = (__m256d)rows[0], b = (__m256d)rows[1];
    const __m256d c = (__m256d)rows[2], d = (__m256d)rows[3];
    const __m256d even_low = _mm256_unpacklo_pd(a, b), odd_low = _mm256_unpackhi_pd(a, b);
    const __m256d even_high = _mm256_unpacklo_pd(c, d), odd_high = _mm256_unpackhi_pd(c, d);
    rows[0] = (Vector)_mm256_permute2f128_pd(even_low, even_high, 0x20);
    rows[1] = (Vector)_mm256_permute2f128_pd(odd_low, odd_high, 0x20);
    rows[2] = (Vector)_mm256_permute2f128_pd(even_low, even_high, 0x31);
    rows[3] = (Vector)_mm256_permute2f128_pd(odd_low, odd_high, 0x31);
#else
    const Vector a = rows[0], b = rows[1], c = rows[2], d = rows[3];
    for (int i = 0; i < 4; i++) rows[i] = (Vector){a[i], b[i], c[i], d[i]};
#endif
}

/* ... and in memory, where rows are so far apart. */
static ALWAYS_INLINE void transpose_four(const double *from, int64_t from_apart, double *to,
                                         int64_t to_apart)
{
    Vector rows[4];
    for (int i = 0; i < 4; i++) rows[i] = LOAD(from + i * from_apart);
    transposed(rows);
    for (int i = 0; i < 4; i++) STORE(to + i * to_apart, rows[i]);
}

/* The x of COLUMNS inputs in a panel, as rows of COLUMNS numbers, one a lane; inputs that are not
 * there are 0. */
static void turn_panel(const double *panel, int lanes, int columns, double *rows)
{
    double padded[COLUMNS * 8];
    if (columns < COLUMNS) {
        for (int k = 0; k < columns * lanes; k += 4) STORE(padded + k, LOAD(panel + k));
        for (int k = columns * lanes; k < COLUMNS * lanes; k += 4) STORE(padded + k, SPLAT(0.0));
        panel = padded;
    }
    for (int l = 0; l < lanes; l += 4)
        for (int k = 0; k < COLUMNS; k += 4)
            transpose_four(panel + k * lanes + l, lanes, rows + l * COLUMNS + k, COLUMNS);
}

/* grads[i*row + k] (0 if they are fresh) += sum over the lanes of g[i] * x[k] for `rows` neurons and COLUMNS inputs;
 * x as turn_panel gives it, g in panels that begin at the places of `panels`. */
static ALWAYS_INLINE void gradient_rows(
    int rows, double *grads, int64_t row, const double *const *panels, int64_t g_at, int lanes,
    int64_t count, const double *x, int fresh)
{
    Vector sums[TILE_ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < 2; v++)
            sums[i][v] = fresh ? SPLAT(0.0) : LOAD(grads + i * row + 4 * v);
    for (int64_t p = 0; p < count; p++) {
        const double *g = panels[p] + g_at * lanes;
        for (int l = 0; l < lanes; l++, g++, x += COLUMNS) {
            const Vector low = LOAD(x), high = LOAD(x + 4);
            for (int i = 0; i < rows; i++) {
                const Vector factor = SPLAT(g[i * lanes]);
                sums[i][0] = fused(factor, low, sums[i][0]);
                sums[i][1] = fused(factor, high, sums[i][1]);
            }
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < 2; v++) STORE(grads + i * row + 4 * v, sums[i][v]);
}

#define GRADIENT_CASE(rows)                                                                       \
    case rows:                                                                                    \
        if (lanes == 8) gradient_rows(rows, grads, row, panels, g_at, 8, count, x, fresh);              \
        else gradient_rows(rows, grads, row, panels, g_at, 4, count, x, fresh);                         \
        break

static void gradient_tile(
    int rows, double *grads, int64_t row, const double *const *panels, int64_t g_at, int lanes,
    int64_t count, const double *x, int fresh)
{
    switch (rows) {
        GRADIENT_CASE(1);
        GRADIENT_CASE(2);
        GRADIENT_CASE(3);
        GRADIENT_CASE(4);
        GRADIENT_CASE(5);
        GRADIENT_CASE(6);
    }
}

/* The same for all neurons and inputs [from, to): `count` panels of x and of g.  Some columns of x
 * are turned at once, so that a tile's g, which lie far apart, are fetched once for all of them. */
static void dense_gradient(
    double *grads, int64_t row, int64_t neurons, int64_t from, int64_t to,
    const double *const *x_panels, const double *const *g_panels, int lanes, int64_t count,
    int fresh)
{
    double turned[TURNED_X], edge[TILE_ROWS * COLUMNS];
    const int64_t each = count * lanes * COLUMNS, some = TURNED_X / each * COLUMNS;
    for (int64_t start = from; start < to; start += some) {
        const int64_t end = to - start < some ? to : start + some;
        double *x = turned;
        for (int64_t k = start; k < end; k += COLUMNS)
            for (int64_t p = 0; p < count; p++, x += lanes * COLUMNS)
                turn_panel(x_panels[p] + k * lanes, lanes,
                           end - k < COLUMNS ? (int)(end - k) : COLUMNS, x);
        for (int64_t j = 0; j < neurons; j += TILE_ROWS) {
            const int rows = neurons - j < TILE_ROWS ? (int)(neurons - j) : TILE_ROWS;
            x = turned;
            for (int64_t k = start; k < end; k += COLUMNS, x += each) {
                double *const at = grads + j * row + k;
                if (end - k >= COLUMNS) {
                    gradient_tile(rows, at, row, g_panels, j, lanes, count, x, fresh);
                    continue;
                }
                gradient_tile(rows, edge, COLUMNS, g_panels, j, lanes, count, x, 1);
                for (int i = 0; i < rows; i++)
                    for (int c = 0; c < end - k; c++)
                        at[i * row + c] = (fresh ? 0.0 : at[i * row + c]) + edge[i * COLUMNS + c];
            }
        }
    }
}

/* How far apart panels of `entries` entries lie: an odd number of cache lines, so that the same
 * entry of several panels does not fall into the same few sets of the cache. */
#define PANELS_APART(entries, panel) ((int64_t)((entries) | 1) * (panel))

/* The columns of `terms` rows of weights, TILE_ROWS by TILE_ROWS, so that a tile of the adjoints of x
 * reads its factors in order: in a large layer each row of them lies in another page. */
static void turn_columns(const double *weights, int64_t row, int64_t terms, int32_t columns,
                         double *turned)
{
    for (int64_t j = 0; j < terms; j++, weights += row)
        for (int32_t k = 0; k < columns; k += TILE_ROWS) {
            double *const to = turned + k * terms + j * TILE_ROWS;
            if (k + TILE_ROWS <= columns) {
                STORE(to, LOAD(weights + k));
                to[4] = weights[k + 4], to[5] = weights[k + 5];
            } else
                for (int i = 0; k + i < columns; i++) to[i] = weights[k + i];
        }
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
        Vector columns[4];
        for (int i = 0; i < 4; i++) columns[i] = LOAD(w + i * row + k);
        transposed(columns);
        for (int i = 0; i < 4; i++) sum += columns[i] * SPLAT(x[k + i]);
    }
    for (; k < terms; k++)
        sum += (Vector){w[k], w[row + k], w[2 * row + k], w[3 * row + k]} * SPLAT(x[k]);
    *sums = sum;
}
