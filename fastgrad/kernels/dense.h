/* Dense layers on lanes: many sums bias + w0*x0 + w1*x1 + ... over the same x, with weights that
 * are the same for every lane.
 *
 * Lanes lie in panels of PANEL (8, or 4 where a block has no more): [panel][entry][lane].  A tile
 * keeps TILE_ROWS x LANES_AT_ONCE sums in registers and adds term by term, so that every lane sums
 * in micrograd's order, and no sum depends on the width of the machine's vectors.
 *
 *   dense_tile       rows of `to` = `from` + sum over k of factor[row][k] * panel[k]: with the
 *                    weights as factors the forward sum, with the weights transposed the adjoints
 *                    of x
 *   dense_gradient   the weights' adjoints: sums of products of adjoints and x over all lanes
 *
 * Included by lanes.h, once a machine variant.
 */

typedef double Vector __attribute__((vector_size(32), aligned(8), may_alias));
#ifdef __AVX512F__
typedef double Wide __attribute__((vector_size(64), aligned(8), may_alias));
#define WIDTH 8          /* lanes of a Wide */
#define LANES_AT_ONCE 16 /* of a tile, at most */
#define TILE_ROWS 8
#elif defined(__AVX2__)
typedef Vector Wide;
#define WIDTH 4
#define LANES_AT_ONCE 8
#define TILE_ROWS 6
#else /* vectors wider than the machine's would lie in memory */
typedef double Wide __attribute__((vector_size(16), aligned(8), may_alias));
#define WIDTH 2
#define LANES_AT_ONCE 8
#ifdef __aarch64__ /* 32 registers instead of 16 */
#define TILE_ROWS 6
#else
#define TILE_ROWS 2
#endif
#endif

/* a * b + c with one rounding: for adjoints, whose order of accumulation is ours anyway, and for
 * the residuals of powers.h; never for values, which must round as micrograd's do. */
#ifdef __FMA__
#include <immintrin.h>
#ifdef __AVX512F__
#define REGISTER "v"
#else
#define REGISTER "x"
#endif
/* As an intrinsic, gcc 12 takes other registers for the sums and spills them in every loop. */
#define FUSED(Type, name)                                                                         \
    static ALWAYS_INLINE Type name(Type a, Type b, Type c)                                        \
    {                                                                                             \
        __asm__("vfmadd231pd %2, %1, %0" : "+" REGISTER(c) : REGISTER(a), REGISTER "m"(b));       \
        return c;                                                                                 \
    }
FUSED(Vector, fused)
FUSED(Wide, fused_wide)
#else
#define fused(a, b, c) ((a) * (b) + (c))
#define fused_wide fused
#endif

#define SPLAT(number) ((Vector){(number), (number), (number), (number)})
#define LOAD(from) (*(const Vector *)(from))
#define STORE(to, vector) (*(Vector *)(to) = (vector))

enum {
    TERMS_AT_ONCE = 1024, /* of a sum: their x is in the second-level cache */
    NARROW = WIDTH < 4 ? 4 : WIDTH, /* columns of a gradient's tile */
    COLUMNS = 2 * NARROW,           /* or so many */
    PANELS_AT_ONCE = 16,
    TURNED_X = PANELS_AT_ONCE * 8 * 16, /* half of the first-level cache */
    TURN_FROM = 1 << 14, /* weights of a layer from which turned columns pay */
    TURNED_AT_ONCE = 48, /* whole tiles; with TURNED_TERMS terms in the second-level cache */
    TURNED_TERMS = 256
};

static inline int64_t parts_of(int64_t count, int64_t each)
{
    return (count + each - 1) / each;
}

/* Claim one of so many parts of some doubles. */
static ALWAYS_INLINE void claim_part(const double *from, int64_t count, int64_t part,
                                     int64_t parts)
{
    const int64_t start = part * count / parts;
    claim_lines(from + start, (part + 1) * count / parts - start);
}

/* Some samples of a superblock, for the adjoints of weights. */
typedef struct Terms {
    const double *x[PANELS_AT_ONCE], *g[PANELS_AT_ONCE]; /* panels; x only if they are no inputs */
    int panel;                                           /* lanes of one */
    int64_t count;                                       /* of panels */
    int64_t first, samples; /* of the batch; lanes beyond them do not count */
    int fresh;              /* there are no sums yet */
    const double *moved;    /* to be claimed meanwhile */
    int64_t moved_count;
} Terms;

typedef struct Tile {
    double *to[TILE_ROWS];          /* of the first panel's lanes, as `from` */
    const double *from[TILE_ROWS];  /* where the sums start; if `from_numbers`, they start at: */
    double start[TILE_ROWS];
    int from_numbers;
    const double *factors;          /* row i's of term k is factors[i * row + k * step] */
    int64_t row, step, terms;
} Tile;

/* A panel of fewer lanes than a Wide leaves the rest of it empty. */
#ifdef __AVX512F__
#define splat_wide(number) ((Wide)_mm512_set1_pd(number))

/* factor * x, spread over the lanes by the multiplication as it loads: a spread of its own occupies
 * Zen 4 as long as a sum.  With the intrinsic, gcc spreads once for several products. */
static ALWAYS_INLINE Wide spread_times(const double *factor, Wide x)
{
    Wide product;
    __asm__("vmulpd %2%{1to8%}, %1, %0" : "=v"(product) : "v"(x), "m"(*factor));
    return product;
}

static ALWAYS_INLINE Wide load_wide(const double *from, int lanes)
{
    if (lanes < WIDTH) return (Wide)_mm512_zextpd256_pd512((__m256d)LOAD(from));
    return *(const Wide *)from;
}

static ALWAYS_INLINE void store_wide(double *to, Wide wide, int lanes)
{
    if (lanes < WIDTH) STORE(to, (Vector)_mm512_castpd512_pd256((__m512d)wide));
    else *(Wide *)to = wide;
}
#else
#ifdef __AVX2__
#define splat_wide(number) SPLAT(number)
#else
#define splat_wide(number) ((Wide){(number), (number)})
#endif
#define spread_times(factor, x) (splat_wide(*(factor)) * (x))
#define load_wide(from, lanes) (*(const Wide *)(from))
#define store_wide(to, wide, lanes) (*(Wide *)(to) = (wide))
#endif

/* to[i][at..) = from[i][at..) + sum over k < terms of factors[i*row + k*step] * panel[k], for
 * `lanes` lanes: a panel of 4, or panels of 8 that lie `apart`. */
static ALWAYS_INLINE void dense_rows(int rows, int lanes, int adjoints, const Tile *tile,
                                     int64_t at, const double *panel, int64_t apart)
{
    const int each = lanes < WIDTH ? lanes : WIDTH, count = lanes / each;
    const double *factors = tile->factors;
    const int64_t row = tile->row, step = tile->step, terms = tile->terms;
    Wide sums[TILE_ROWS][LANES_AT_ONCE / WIDTH];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < count; v++)
            sums[i][v] = tile->from_numbers ? splat_wide(tile->start[i])
                                            : load_wide(tile->from[i] + at + each * v, lanes);
    for (int64_t k = 0; k < terms; k++) {
        Wide x[LANES_AT_ONCE / WIDTH];
        for (int v = 0; v < count; v++)
            x[v] = load_wide(panel + each * v / 8 * apart + each * v % 8, lanes);
        for (int i = 0; i < rows; i++) {
            const double *const factor = factors + i * row;
            for (int v = 0; v < count; v++)
                if (adjoints) sums[i][v] = fused_wide(splat_wide(*factor), x[v], sums[i][v]);
                else sums[i][v] += spread_times(factor, x[v]);
        }
        factors += step;
        panel += lanes < 8 ? lanes : 8;
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < count; v++) store_wide(tile->to[i] + at + each * v, sums[i][v], lanes);
}

#define TILE_KEY(rows, lanes, adjoints) (2 * ((rows) * 2 * LANES_AT_ONCE + (lanes)) + (adjoints))
#define TILE_CASE(rows, lanes, adjoints)                                                          \
    case TILE_KEY(rows, lanes, adjoints):                                                         \
        for (int64_t at = 0; at < all; at += lanes, panel += lanes / 8 * apart)                   \
            dense_rows(rows, lanes, adjoints, tile, at, panel, apart);                            \
        break
#define LANES_CASE(rows, lanes)                                                                   \
    TILE_CASE(rows, lanes, 0);                                                                    \
    TILE_CASE(rows, lanes, 1)
#if LANES_AT_ONCE == 16
#define ROWS_CASE(rows)                                                                           \
    LANES_CASE(rows, 4);                                                                          \
    LANES_CASE(rows, 8);                                                                          \
    LANES_CASE(rows, 16)
#else
#define ROWS_CASE(rows)                                                                           \
    LANES_CASE(rows, 4);                                                                          \
    LANES_CASE(rows, 8)
#endif

/* The same for all `all` lanes. */
static void dense_tile(int rows, int all, int adjoints, const Tile *tile, const double *panel,
                       int64_t apart)
{
    switch (TILE_KEY(rows, all < LANES_AT_ONCE ? all : LANES_AT_ONCE, adjoints)) {
        ROWS_CASE(1);
        ROWS_CASE(2);
#if TILE_ROWS > 2
        ROWS_CASE(3);
        ROWS_CASE(4);
        ROWS_CASE(5);
        ROWS_CASE(6);
#endif
#if TILE_ROWS > 6
        ROWS_CASE(7);
        ROWS_CASE(8);
#endif
    }
}

/* The columns of four by four numbers, whose rows lie `apart` ... */
static ALWAYS_INLINE void load_columns(Vector *columns, const double *from, int64_t apart)
{
#ifdef __AVX2__ /* halves are put together by loads, which cost no shuffle */
#define HALVES(i, k)                                                                              \
    _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(from + (i) * apart + (k))),          \
                         _mm_loadu_pd(from + ((i) + 2) * apart + (k)), 1)
    const __m256d even_low = HALVES(0, 0), odd_low = HALVES(1, 0);
    const __m256d even_high = HALVES(0, 2), odd_high = HALVES(1, 2);
#undef HALVES
    columns[0] = (Vector)_mm256_unpacklo_pd(even_low, odd_low);
    columns[1] = (Vector)_mm256_unpackhi_pd(even_low, odd_low);
    columns[2] = (Vector)_mm256_unpacklo_pd(even_high, odd_high);
    columns[3] = (Vector)_mm256_unpackhi_pd(even_high, odd_high);
#else
    for (int k = 0; k < 4; k++)
        columns[k] = (Vector){from[k], from[apart + k], from[2 * apart + k], from[3 * apart + k]};
#endif
}

/* ... and in memory, where they become rows so far apart. */
static ALWAYS_INLINE void transpose_four(const double *from, int64_t from_apart, double *to,
                                         int64_t to_apart)
{
    Vector columns[4];
    load_columns(columns, from, from_apart);
    for (int k = 0; k < 4; k++) STORE(to + k * to_apart, columns[k]);
}

/* The x of `columns` of a panel's entries, as rows of `width` numbers, one a lane; the rest is 0. */
static void turn_panel(const double *panel, int lanes, int columns, int width, double *rows)
{
    double padded[COLUMNS * 8];
    if (columns < width) {
        for (int k = 0; k < columns * lanes; k += 4) STORE(padded + k, LOAD(panel + k));
        for (int k = columns * lanes; k < width * lanes; k += 4) STORE(padded + k, SPLAT(0.0));
        panel = padded;
    }
    for (int l = 0; l < lanes; l += 4)
        for (int k = 0; k < width; k += 4)
            transpose_four(panel + k * lanes + l, lanes, rows + l * width + k, width);
}

/* grads[i*row + k] (0 if they are fresh) += sum over the lanes of g[i] * x[k] for `rows` neurons
 * and `columns` inputs; x as turn_panel gives it, g in panels that begin at the places of
 * `panels`. */
static ALWAYS_INLINE void gradient_rows(
    int rows, int columns, double *grads, int64_t row, const double *const *panels, int64_t g_at,
    int lanes, int64_t count, const double *x, int fresh)
{
    enum { VECTORS = COLUMNS / WIDTH };
    const int vectors = columns / WIDTH;
    Wide sums[TILE_ROWS][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sums[i][v] = fresh ? splat_wide(0.0) : load_wide(grads + i * row + WIDTH * v, WIDTH);
    if (fresh) /* they come while the sums are made */
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++) __builtin_prefetch(grads + i * row + WIDTH * v, 1);
    for (int64_t p = 0; p < count; p++) {
        const double *g = panels[p] + g_at * lanes;
        for (int l = 0; l < lanes; l++, g++, x += columns) {
            Wide xs[VECTORS];
            for (int v = 0; v < vectors; v++) xs[v] = load_wide(x + WIDTH * v, WIDTH);
            for (int i = 0; i < rows; i++) {
                const Wide factor = splat_wide(g[i * lanes]);
                for (int v = 0; v < vectors; v++)
                    sums[i][v] = fused_wide(factor, xs[v], sums[i][v]);
            }
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            store_wide(grads + i * row + WIDTH * v, sums[i][v], WIDTH);
}

#define GRADIENT_KEY(rows, columns, lanes) (4 * (rows) + 2 * ((columns) / COLUMNS) + (lanes) / 8)
#define GRADIENT_CASE(rows, columns, lanes)                                                       \
    case GRADIENT_KEY(rows, columns, lanes):                                                      \
        gradient_rows(rows, columns, grads, row, panels, g_at, lanes, count, x, fresh);           \
        break
#define GRADIENT_CASES(rows)                                                                      \
    GRADIENT_CASE(rows, NARROW, 4);                                                               \
    GRADIENT_CASE(rows, NARROW, 8);                                                               \
    GRADIENT_CASE(rows, COLUMNS, 4);                                                              \
    GRADIENT_CASE(rows, COLUMNS, 8)

static void gradient_tile(
    int rows, int columns, double *grads, int64_t row, const double *const *panels, int64_t g_at,
    int lanes, int64_t count, const double *x, int fresh)
{
    switch (GRADIENT_KEY(rows, columns, lanes)) {
        GRADIENT_CASES(1);
        GRADIENT_CASES(2);
#if TILE_ROWS > 2
        GRADIENT_CASES(3);
        GRADIENT_CASES(4);
        GRADIENT_CASES(5);
        GRADIENT_CASES(6);
#endif
#if TILE_ROWS > 6
        GRADIENT_CASES(7);
        GRADIENT_CASES(8);
#endif
    }
}

/* The x of all panels in that form, if they are inputs, from where these are. */
static void copy_inputs(const Run *run, const int32_t *columns, const Terms *terms, int count,
                        int width, double *rows)
{
    const int64_t samples = terms->samples, lanes = terms->count * terms->panel;
    if (count == width && side_by_side(run, columns, count) == count) {
        const int64_t stride = run->strides[columns[0]];
        const double *from = run->columns[columns[0]] + terms->first * stride;
        for (int64_t l = 0; l < samples; l++, from += stride)
            for (int k = 0; k < width; k += 4) STORE(rows + l * width + k, LOAD(from + k));
        memset(rows + samples * width, 0, (lanes - samples) * width * sizeof(double));
        return;
    }
    memset(rows, 0, lanes * width * sizeof(double));
    for (int k = 0; k < count; k++) {
        const int64_t stride = run->strides[columns[k]];
        const double *const from = run->columns[columns[k]] + terms->first * stride;
        for (int64_t l = 0; l < samples; l++) rows[l * width + k] = from[l * stride];
    }
}

/* The same for all neurons and inputs [from, to).  Some columns of x are turned at once, so that a
 * tile's g, which lie far apart, are fetched once for all of them. */
static void dense_gradient(const Run *run, const Dense *dense, int64_t from, int64_t to,
                           const Terms *terms)
{
    double turned[TURNED_X], edge[TILE_ROWS * COLUMNS] = {0};
    double *const grads = run->weights_adj[dense->space] + dense->first;
    const int lanes = terms->panel, fresh = terms->fresh;
    const int64_t row = dense->row, neurons = dense->neurons, count = terms->count;
    const int64_t each = count * lanes * COLUMNS, some = TURNED_X / each * COLUMNS;
    const int64_t tiles = parts_of(neurons, TILE_ROWS) * parts_of(to - from, some);
    int64_t done = 0;
    for (int64_t start = from; start < to; start += some) {
        const int64_t end = to - start < some ? to : start + some;
        double *x = turned;
        for (int64_t k = start; k < end; k += COLUMNS) {
            const int columns = end - k < COLUMNS ? (int)(end - k) : COLUMNS;
            const int width = columns > NARROW ? COLUMNS : NARROW;
            if (dense->columns) copy_inputs(run, dense->columns + k, terms, columns, width, x);
            else
                for (int64_t p = 0; p < count; p++)
                    turn_panel(terms->x[p] + k * lanes, lanes, columns, width,
                               x + p * lanes * width);
            x += count * lanes * width;
        }
        for (int64_t j = 0; j < neurons; j += TILE_ROWS, done++) {
            const int rows = neurons - j < TILE_ROWS ? (int)(neurons - j) : TILE_ROWS;
            x = turned;
            claim_part(terms->moved, terms->moved_count, done, tiles);
            for (int64_t k = start; k < end; k += COLUMNS, x += each) {
                double *const at = grads + j * row + k;
                const int64_t columns = end - k;
                const int width = columns > NARROW ? COLUMNS : NARROW;
                if (columns >= width) {
                    gradient_tile(rows, width, at, row, terms->g, j, lanes, count, x, fresh);
                    continue;
                }
                for (int i = 0; i < rows; i++)
                    for (int c = 0; c < columns; c++)
                        edge[i * COLUMNS + c] = fresh ? 0.0 : at[i * row + c];
                gradient_tile(rows, width, edge, COLUMNS, terms->g, j, lanes, count, x, 0);
                for (int i = 0; i < rows; i++)
                    for (int c = 0; c < columns; c++) at[i * row + c] = edge[i * COLUMNS + c];
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
                memcpy(to, weights + k, TILE_ROWS * sizeof(double));
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
                    panels[p * PANELS_APART(entries, panel) + (int64_t)k * panel + l] = 0.0;
}

/* For one lane: x[k] += sum over four rows at most of g[i] * w[i*row + k], each in this order; at
 * once, as a sum that goes through memory waits for it. */
static ALWAYS_INLINE void add_rows(int rows, double *x, const double *g, const double *w,
                                   int64_t row, int64_t count)
{
    double factors[4];
    for (int i = 0; i < rows; i++) factors[i] = g[i];
    int64_t k = 0;
    for (; k + 4 <= count; k += 4) {
        Vector sum = LOAD(x + k);
        for (int i = 0; i < rows; i++) sum += SPLAT(factors[i]) * LOAD(w + i * row + k);
        STORE(x + k, sum);
    }
    for (; k < count; k++)
        for (int i = 0; i < rows; i++) x[k] += factors[i] * w[i * row + k];
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
        load_columns(columns, w + k, row);
        for (int i = 0; i < 4; i++) sum += columns[i] * SPLAT(x[k + i]);
    }
    for (; k < terms; k++)
        sum += (Vector){w[k], w[row + k], w[2 * row + k], w[3 * row + k]} * SPLAT(x[k]);
    *sums = sum;
}
