/* Large layers of inputs, divided by neurons when there are several threads.
 *
 * Blocks divide the samples among threads, so each thread reads all weights, and a step divides the
 * weights, so what it writes passes to the other threads again.  But such a layer often has almost
 * all weights there are.  Its neurons are divided into groups as the steps divide the weights: the
 * sums of a group are computed ahead of the blocks, and its weights' adjoints added up after them.
 * So the weights and their adjoints stay with a thread, and only the sums pass, and what the
 * adjoints are made of.
 *
 * A tile is the other way round than in a block: its lanes are neurons, and its rows samples, or
 * inputs for the adjoints.  So inputs are read where they are, and each thread turns what is its
 * own: weights, or adjoints of the sums.  The terms of a sum and their order are the same as
 * without groups, and so are the bits.
 *
 *   ahead          the sums of a group for a block: [lane][neuron]
 *   take_ahead     brings a layer's sums into the slots of a block
 *   group_weights  the adjoints of some columns of a group's weights, over all blocks
 *
 * Included by replay.h, once a machine variant.
 */

/* The neurons of a group: those of the layer from `from` on, but not more than GROUP ... */
static inline int group_size(const Dense *dense, int32_t from)
{
    const int32_t left = dense->neurons - from;
    return left < GROUP ? left : GROUP;
}

/* ... and the lanes of a tile that has them. */
static inline int group_lanes(int neurons)
{
    return neurons <= 8 ? 8 : neurons <= 16 ? 16 : GROUP;
}

/* to[k * to_apart + j] = from[j * from_apart + k] for j < rows, k < columns. */
static inline void transpose(const double *from, int64_t from_apart, int rows, int columns,
                             double *to, int64_t to_apart)
{
    for (int j = 0; j < rows; j += 4, from += 4 * from_apart, to += 4) {
        int k = 0;
        if (j + 4 <= rows)
            for (; k + 4 <= columns; k += 4)
                transpose_four(from + k, from_apart, to + k * to_apart, to_apart);
        for (; k < columns; k++)
            for (int i = 0; i < 4 && j + i < rows; i++)
                to[k * to_apart + i] = from[i * from_apart + k];
    }
}

/* Rows of `terms` numbers, one a neuron, in panels of 8 neurons: [panel][term][neuron]. */
static void turn_rows(const double *rows, int64_t apart, int neurons, int terms, double *turned,
                      int64_t panels_apart)
{
    for (int j = 0; j < neurons; j += 8, rows += 8 * apart, turned += panels_apart)
        transpose(rows, apart, neurons - j < 8 ? neurons - j : 8, terms, turned, 8);
}

static void ahead(const Run *run, const Dense *dense, const Ahead *task)
{
    const int neurons = group_size(dense, task->group.from), all = group_lanes(neurons);
    const int inputs = dense->inputs;
    const int64_t stride = run->strides[dense->columns[0]], apart = PANELS_APART(inputs, 8);
    const double *x = run->columns[dense->columns[0]] + task->first * stride;
    double *const z = task->sums + (dense->z_at + task->group.from) * task->lanes;
    double bias[GROUP] = {0};
    for (int j = 0; j < neurons; j++) bias[j] = run->uniform[dense->bias[task->group.from + j]];
    if (task->group.turns)
        turn_rows(run->weights[dense->space] + dense->first + task->group.from * dense->row,
                  dense->row, neurons, inputs, task->group.turned, apart);
    for (int64_t first = 0; first < task->samples; first += TILE_ROWS, x += TILE_ROWS * stride) {
        const int64_t left = task->samples - first;
        const int rows = left < TILE_ROWS ? (int)left : TILE_ROWS;
        for (int from = 0; from < inputs; from += TERMS_AT_ONCE) {
            Tile tile = {.factors = x + from, .row = stride, .step = 1};
            tile.terms = inputs - from < TERMS_AT_ONCE ? inputs - from : TERMS_AT_ONCE;
            for (int i = 0; i < rows; i++) {
                tile.to[i] = z + (first + i) * GROUP;
                tile.from[i] = from ? tile.to[i] : bias;
            }
            dense_tile(rows, all, 0, &tile, task->group.turned + from * 8, apart);
        }
    }
    for (int64_t l = task->samples; l < task->lanes; l++) /* they repeat the last sample */
        memcpy(z + l * GROUP, z + (task->samples - 1) * GROUP, all * sizeof *z);
}

static void take_ahead(const Dense *dense, const double *sums, double *workspace, int64_t lanes)
{
    for (int32_t from = 0; from < dense->neurons; from += GROUP) {
        const int neurons = group_size(dense, from);
        const double *const z = sums + (dense->z_at + from) * lanes;
        const int32_t *const slots = dense->z + from;
        claim_lines(z, lanes * GROUP);
        for (int64_t l = 0; l < lanes; l += 4) {
            const double *const rows = z + l * GROUP;
            int j = 0;
            for (; j + 4 <= neurons; j += 4) {
                Vector columns[4];
                load_columns(columns, rows + j, GROUP);
                for (int i = 0; i < 4; i++) STORE(workspace + slots[j + i] * lanes + l, columns[i]);
            }
            for (; j < neurons; j++)
                for (int i = 0; i < 4; i++)
                    workspace[slots[j] * lanes + l + i] = rows[i * GROUP + j];
        }
    }
}

/* The adjoints of a group's sums over all lanes of the blocks, in panels of 8 neurons. */
static void turn_adjoints(const Run *run, const Dense *dense, const Share *share,
                          int64_t panels_apart)
{
    const int32_t from = share->group.from;
    const int neurons = group_size(dense, from), panel = share->lanes < 8 ? 4 : 8;
    const int64_t apart = PANELS_APART(dense->neurons, panel);
    double *turned = share->group.turned;
    for (int64_t block = 0; block < share->samples; block += share->lanes) {
        const double *const stash = share->stash + block * run->plan->stash;
        const double *g = stash + dense->g_at * share->lanes + from * panel;
        for (int64_t l = 0; l < share->lanes; l += panel, g += apart, turned += panel * 8) {
            claim_lines(g, neurons * panel);
            turn_rows(g, panel, neurons, panel, turned, panels_apart);
        }
    }
}

static void group_weights(const Run *run, const Dense *dense, const Share *share)
{
    const int32_t from = share->group.from;
    const int neurons = group_size(dense, from), all = group_lanes(neurons);
    const int64_t stride = run->strides[dense->columns[0]], row = dense->row;
    const int64_t blocks = parts_of(share->samples, share->lanes);
    const int64_t apart = PANELS_APART(blocks * share->lanes, 8);
    const double *const x = run->columns[dense->columns[0]] + share->first * stride;
    double *const grads = run->weights_adj[dense->space] + dense->first + from * row;
    double sums[TILE_ROWS * GROUP];
    if (share->group.turns) turn_adjoints(run, dense, share, apart);
    for (int64_t k = share->from; k < share->to; k += TILE_ROWS) {
        const int rows = share->to - k < TILE_ROWS ? (int)(share->to - k) : TILE_ROWS;
        Tile tile = {.factors = x + k, .row = 1, .step = stride, .terms = share->samples};
        for (int j = 0; j < neurons; j++) /* they come while the sums are made */
            __builtin_prefetch(grads + j * row + k + rows - 1, 1);
        if (share->fresh) memset(sums, 0, sizeof sums);
        else transpose(grads + k, row, neurons, rows, sums, GROUP);
        for (int i = 0; i < rows; i++) tile.from[i] = tile.to[i] = sums + i * GROUP;
        dense_tile(rows, all, 1, &tile, share->group.turned, apart);
        if (share->samples < blocks * share->lanes) /* as the lanes without a sample would */
            for (int i = 0; i < rows * GROUP; i++) sums[i] += 0.0; /* -0.0 becomes 0.0 */
        transpose(sums, GROUP, rows, neurons, grads + k, row);
    }
}
