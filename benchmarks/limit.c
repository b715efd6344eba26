/* The limit: a net's training step as one writes it in C for one net on one processor.
 *
 * peers/c_hand.py builds this with -O3 -march=native -ffast-math and the net in macros. So the
 * compiler may reorder sums and fuse multiply-adds, which fastgrad may not. An array has a row for
 * each input or neuron with the samples side by side in it, filled up with zeros to whole vectors;
 * ROW is a row's length. Products are blocked for registers: some rows by some vectors of samples
 * stay there while a loop runs.
 */
#include <math.h>

#ifdef __AVX512F__
#define WIDTH 8
#define TILE 4 /* vectors: with 4 rows, 16 of the 32 registers hold sums */
#else
#define WIDTH 4
#define TILE 2
#endif
#define ROWS 4
#define EACH(n, end) _Pragma("GCC unroll 8") for (int n = 0; n < end; n++) /* in registers */
#define INLINE static inline __attribute__((always_inline))
typedef double vector __attribute__((vector_size(8 * WIDTH), aligned(8), may_alias));

static const int sizes[] = SIZES;
enum { LAYERS = sizeof sizes / sizeof *sizes - 1 };

/* out[j] = start[j] + sum over i of w[j * by_j + i * by_i] * x[i], for some rows and vectors. */
INLINE void tile(int rows, int vectors, const double *w, int by_j, int by_i, int inputs,
                 const double *start, const double *x, double *out)
{
    vector sum[ROWS][TILE];
    EACH(r, rows)
        EACH(v, vectors)
            sum[r][v] = (vector){0} + (start ? start[r * by_j] : 0.0);
    for (int i = 0; i < inputs; i++)
        EACH(r, rows) {
            double weight = w[r * by_j + i * by_i];
            EACH(v, vectors)
                sum[r][v] += weight * *(const vector *)(x + i * ROW + v * WIDTH);
        }
    EACH(r, rows)
        EACH(v, vectors)
            *(vector *)(out + r * ROW + v * WIDTH) = sum[r][v];
}

INLINE void product(int outputs, const double *w, int by_j, int by_i, int inputs,
                    const double *start, const double *x, double *out)
{
    for (int b = 0; b < SAMPLES; b += TILE * WIDTH) {
        int vectors = (SAMPLES - b) / WIDTH;
        for (int j = 0; j < outputs; j += ROWS) {
            const double *wj = w + j * by_j, *s = start ? start + j * by_j : 0;
            double *o = out + j * ROW + b;
            if (vectors >= TILE && outputs - j >= ROWS)
                tile(ROWS, TILE, wj, by_j, by_i, inputs, s, x + b, o);
            else
                for (int v = 0; v < vectors && v < TILE; v++)
                    for (int r = 0; r < outputs - j && r < ROWS; r++)
                        tile(1, 1, wj + r * by_j, by_j, by_i, inputs, s ? s + r * by_j : 0,
                             x + b + v * WIDTH, o + r * ROW + v * WIDTH);
        }
    }
}

INLINE double total(vector v)
{
    double sum = 0;
    for (int k = 0; k < WIDTH; k++)
        sum += v[k];
    return sum;
}

/* grad[j * by_j + i] = sum over samples of delta[j] * x[i]: rows of both in registers. */
INLINE void outer_tile(int rows, int columns, const double *delta, const double *x, double *grad,
                       int by_j)
{
    vector sum[ROWS][TILE];
    EACH(r, rows)
        EACH(c, columns)
            sum[r][c] = (vector){0};
    for (int b = 0; b < SAMPLES; b += WIDTH)
        EACH(r, rows)
            EACH(c, columns)
                sum[r][c] += *(const vector *)(delta + r * ROW + b) *
                             *(const vector *)(x + c * ROW + b);
    EACH(r, rows)
        EACH(c, columns)
            grad[r * by_j + c] = total(sum[r][c]);
}

INLINE void outer(int outputs, int inputs, const double *delta, const double *x, double *grad)
{
    for (int i = 0; i < inputs; i += TILE)
        for (int j = 0; j < outputs; j += ROWS) {
            const double *d = delta + j * ROW, *xi = x + i * ROW;
            double *g = grad + j * (inputs + 1) + i;
            if (outputs - j >= ROWS && inputs - i >= TILE)
                outer_tile(ROWS, TILE, d, xi, g, inputs + 1);
            else
                for (int r = 0; r < outputs - j && r < ROWS; r++)
                    for (int c = 0; c < inputs - i && c < TILE; c++)
                        outer_tile(1, 1, d + r * ROW, xi + c * ROW, g + r * (inputs + 1) + c,
                                   inputs + 1);
        }
    for (int j = 0; j < outputs; j++) {
        vector sum = {0};
        for (int b = 0; b < SAMPLES; b += WIDTH)
            sum += *(const vector *)(delta + j * ROW + b);
        grad[j * (inputs + 1) + inputs] = total(sum);
    }
}

/* The loss, and its gradient by the scores in their place. */
static double hinge(double *scores, const double *labels)
{
    double sum = 0;
    for (int b = 0; b < BATCH; b++) {
        double margin = 1 - labels[b] * scores[b];
        sum += margin > 0 ? margin : 0;
        scores[b] = margin > 0 ? -labels[b] / BATCH : 0;
    }
    return sum / BATCH;
}

static double cross_entropy(double *scores, const double *labels, int classes)
{
    static double highest[ROW], sum[ROW];
    double loss = 0;
    for (int b = 0; b < BATCH; b++)
        highest[b] = scores[b], sum[b] = 0;
    for (int j = 1; j < classes; j++)
        for (int b = 0; b < BATCH; b++)
            highest[b] = scores[j * ROW + b] > highest[b] ? scores[j * ROW + b] : highest[b];
    for (int b = 0; b < BATCH; b++)
        loss += highest[b] - scores[(int)labels[b] * ROW + b];
    for (int j = 0; j < classes; j++)
        for (int b = 0; b < BATCH; b++)
            sum[b] += scores[j * ROW + b] = exp(scores[j * ROW + b] - highest[b]);
    for (int b = 0; b < BATCH; b++)
        loss += log(sum[b]), sum[b] = 1 / (sum[b] * BATCH);
    for (int j = 0; j < classes; j++)
        for (int b = 0; b < BATCH; b++)
            scores[j * ROW + b] *= sum[b];
    for (int b = 0; b < BATCH; b++)
        scores[(int)labels[b] * ROW + b] -= 1.0 / BATCH;
    return loss / BATCH;
}

/* The loss, and the gradient; then a step of gradient descent. A neuron's bias follows its weights. */
double step(double *parameters, double *grads, const double *x, const double *labels, double rate)
{
    static double values[VALUES * ROW] __attribute__((aligned(64)));
    static double deltas[2][VALUES * ROW] __attribute__((aligned(64)));
    const double *inputs[LAYERS];
    double *w[LAYERS], *grad[LAYERS], *out = values, loss = 0;

    for (int k = 0, at = 0; k < LAYERS; at += (sizes[k] + 1) * sizes[k + 1], k++) {
        w[k] = parameters + at, grad[k] = grads + at;
        inputs[k] = k ? out - sizes[k] * ROW : x;
        product(sizes[k + 1], w[k], sizes[k] + 1, 1, sizes[k], w[k] + sizes[k], inputs[k], out);
        if (k < LAYERS - 1)
            for (int n = 0; n < sizes[k + 1] * ROW; n++)
                out[n] = out[n] > 0 ? out[n] : 0;
        out += sizes[k + 1] * ROW;
    }
    double *delta = out - sizes[LAYERS] * ROW;
    loss = sizes[LAYERS] == 1 ? hinge(delta, labels) : cross_entropy(delta, labels, sizes[LAYERS]);
    for (int j = 0; j < sizes[LAYERS]; j++) /* what fills up the batch takes no part */
        for (int b = BATCH; b < SAMPLES; b++)
            delta[j * ROW + b] = 0;
    for (int k = LAYERS - 1; k >= 0; k--) {
        outer(sizes[k + 1], sizes[k], delta, inputs[k], grad[k]);
        if (!k)
            break;
        double *below = deltas[k % 2];
        product(sizes[k], w[k], 1, sizes[k] + 1, sizes[k + 1], 0, delta, below);
        for (int n = 0; n < sizes[k] * ROW; n++)
            below[n] = inputs[k][n] > 0 ? below[n] : 0;
        delta = below;
    }
    double squares = 0;
    for (int n = 0; n < PARAMETERS; n++) {
        squares += parameters[n] * parameters[n];
        grads[n] += 2 * DECAY * parameters[n];
        parameters[n] -= rate * grads[n];
    }
    return loss + DECAY * squares;
}
