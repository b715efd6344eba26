/* Large layers of inputs, computed ahead of the blocks when there are several threads.
 *
 * Blocks divide the samples among threads, so each thread reads all weights.  A step divides the
 * weights, and what it writes must pass to the other threads again.  Sums that are computed ahead
 * are divided by neurons, as the steps are: the weights of such a layer, often almost all there
 * are, stay with a thread, and only its sums pass.
 *
 * A tile is the other way round than in a block: its rows are samples and its lanes neurons, so
 * that inputs are read where they are, and each thread turns its own weights.  The terms of a sum
 * and their order are the same, and so are the bits.
 *
 *   ahead        the sums of a group of neurons for a block: [lane][neuron]
 *   take_ahead   brings a layer's sums into the slots of a block
 *
 * Included by replay.h, once a machine variant.
 */

/* Rows of weights in panels of 8: [panel][input][row]. */
static void turn_rows(const double *weights, int64_t row, int rows, int32_t inputs,
                      double *turned)
{
    for (int j = 0; j < rows; j += 4, weights += 4 * row) {
        double *const to = turned + j / 8 * PANELS_APART(inputs, 8) + j % 8;
        int32_t k = 0;
        if (j + 4 <= rows)
            for (; k + 4 <= inputs; k += 4) transpose_four(weights + k, row, to + k * 8, 8);
        for (; k < inputs; k++)
            for (int i = 0; i < 4 && j + i < rows; i++) to[k * 8 + i] = weights[i * row + k];
    }
}

/* Neurons of a layer from `from` on, up to a group. */
static inline int group_from(const Dense *dense, int32_t from)
{
    const int32_t left = dense->neurons - from;
    return left < NEURONS_AHEAD ? left : NEURONS_AHEAD;
}

static void ahead(const Run *run, const Dense *dense, const Ahead *task)
{
    const int neurons = group_from(dense, task->from), inputs = dense->inputs;
    const int all = neurons <= 8 ? 8 : neurons <= 16 ? 16 : NEURONS_AHEAD; /* of a tile's lanes */
    const int64_t stride = run->strides[dense->columns[0]];
    const int64_t tiles = parts_of(task->samples, TILE_ROWS);
    const double *x = run->columns[dense->columns[0]] + task->first * stride;
    double *const z = task->sums + (dense->z_at + task->from) * task->lanes;
    double bias[NEURONS_AHEAD] = {0};
    for (int j = 0; j < neurons; j++) bias[j] = run->uniform[dense->bias[task->from + j]];
    if (task->turns)
        turn_rows(run->weights[dense->space] + dense->first + task->from * dense->row, dense->row,
                  neurons, inputs, task->turned);
    for (int64_t t = 0; t < tiles; t++, x += TILE_ROWS * stride) {
        const int64_t first = t * TILE_ROWS, left = task->samples - first;
        const int rows = left < TILE_ROWS ? (int)left : TILE_ROWS;
        claim_part(task->claimed, task->claimed_count, t, tiles);
        for (int from = 0; from < inputs; from += TERMS_AT_ONCE) {
            Tile tile = {.factors = x + from, .row = stride, .step = 1};
            tile.terms = inputs - from < TERMS_AT_ONCE ? inputs - from : TERMS_AT_ONCE;
            for (int i = 0; i < rows; i++) {
                tile.to[i] = z + (first + i) * NEURONS_AHEAD;
                tile.from[i] = from ? tile.to[i] : bias;
            }
            dense_tile(rows, all, 0, &tile, task->turned + from * 8, PANELS_APART(inputs, 8));
        }
    }
    for (int64_t l = task->samples; l < task->lanes; l++) /* they repeat the last sample */
        memcpy(z + l * NEURONS_AHEAD, z + (task->samples - 1) * NEURONS_AHEAD, all * sizeof *z);
}

static void take_ahead(const Dense *dense, const double *sums, double *workspace, int64_t lanes)
{
    for (int32_t from = 0; from < dense->neurons; from += NEURONS_AHEAD) {
        const int neurons = group_from(dense, from);
        const double *const z = sums + (dense->z_at + from) * lanes;
        const int32_t *const slots = dense->z + from;
        claim_lines(z, lanes * NEURONS_AHEAD);
        for (int64_t l = 0; l < lanes; l += 4) {
            const double *const rows = z + l * NEURONS_AHEAD;
            int j = 0;
            for (; j + 4 <= neurons; j += 4) {
                Vector columns[4];
                load_columns(columns, rows + j, NEURONS_AHEAD);
                for (int i = 0; i < 4; i++) STORE(workspace + slots[j + i] * lanes + l, columns[i]);
            }
            for (; j < neurons; j++)
                for (int i = 0; i < 4; i++)
                    workspace[slots[j] * lanes + l + i] = rows[i * NEURONS_AHEAD + j];
        }
    }
}
