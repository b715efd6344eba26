/* The interpreter of code streams for blocks of LANES lanes; replay.h includes it once a size.
 *
 * Loops over lanes are plain C over a constant number of lanes, so that the compiler turns the rows
 * of ops.h into vectors; powers and dense layers say their vectors themselves.  Numbers of one
 * place are read before any is written: a slot may be used again for the result.
 */

#define AT(slot) (workspace + (int64_t)(slot) * LANES)
#if LANES < 16
#define EACH_LANE NO_DEPENDENCE for (int l = 0; l < LANES; l++)
#else
#define EACH_LANE MANY_LANES for (int l = 0; l < LANES; l++)
#endif
#define PANEL (LANES < 8 ? LANES : 8)
#define VECTOR (LANES < 4 ? 1 : 4)
#define SMALLER(x, y) ((x) < (y) ? (x) : (y))
#define COPY_VECTOR(to, from)                                                                     \
    (VECTOR == 1 ? (void)(*(to) = *(from)) : (void)STORE(to, LOAD(from)))

/* ---- forward */

#define FORWARD(NAME, label, operands, shown, value, ...)                                         \
    case OP_##NAME:                                                                               \
        for (; n; n--, code += 3) {                                                               \
            double *const to = AT(code[0]);                                                       \
            const double *const xs = AT(code[1]), *const ys = AT(code[2]);                        \
            EACH_LANE {                                                                           \
                const double x = xs[l], y = ys[l];                                                \
                (void)y;                                                                          \
                to[l] = value;                                                                    \
            }                                                                                     \
        }                                                                                         \
        break;

static void LANED(power_run)(int op, int32_t n, const int32_t *code, double *workspace)
{
    for (; n; n--, code += 3) {
        double *const to = AT(code[0]);
        const double *const from = AT(code[1]);
#if defined(__FMA__) && LANES > 1
        if (powers_fast) {
            for (int l = 0; l < LANES; l += 4) {
                switch (op) {
                case OP_SQUARE: power_vector(OP_SQUARE, to + l, from + l); break;
                case OP_INVERSE: power_vector(OP_INVERSE, to + l, from + l); break;
                case OP_ROOT: power_vector(OP_ROOT, to + l, from + l); break;
                case OP_CUBE: power_vector(OP_CUBE, to + l, from + l); break;
                }
            }
            continue;
        }
#endif
        for (int l = 0; l < LANES; l++) to[l] = pow(from[l], power_exponent(op));
    }
}

/* z = bias + w0*x0 + w1*x1 + ..., every lane in this order. */
static const int32_t *LANED(dot_run)(int32_t n, const int32_t *code, double *workspace)
{
    for (; n; n--) {
        const int32_t count = code[2], *terms = code + 3;
#if LANES == 1
        double sum = *AT(code[1]);
        for (int32_t k = 0; k < count; k++) sum += *AT(terms[2 * k]) * *AT(terms[2 * k + 1]);
        *AT(code[0]) = sum;
#else
        enum { VECTORS = LANES < 16 ? LANES / 4 : 4 };
        for (int at = 0; at < LANES; at += 4 * VECTORS) {
            Vector sums[VECTORS];
            for (int v = 0; v < VECTORS; v++) sums[v] = LOAD(AT(code[1]) + at + 4 * v);
            for (int32_t k = 0; k < count; k++) {
                const double *const w = AT(terms[2 * k]) + at, *const x = AT(terms[2 * k + 1]) + at;
                for (int v = 0; v < VECTORS; v++) sums[v] += LOAD(w + 4 * v) * LOAD(x + 4 * v);
            }
            for (int v = 0; v < VECTORS; v++) STORE(AT(code[0]) + at + 4 * v, sums[v]);
        }
#endif
        code = terms + 2 * count;
    }
    return code;
}

/* The place that an index names, or -1: nan, a fraction, out of range. */
static inline int32_t LANED(place)(double index, int32_t count)
{
    return index >= 0 && index < count && index == (int32_t)index ? (int32_t)index : -1;
}

static const int32_t *LANED(pick_run)(int op, int32_t n, const int32_t *code, double *workspace,
                                      Run *run, int64_t first)
{
    for (; n; n--) {
        const int32_t count = code[2], *options = code + 3;
        double *const to = AT(code[0]);
        const double *const index = AT(code[1]);
        for (int l = 0; l < LANES; l++) {
            const int32_t k = LANED(place)(index[l], count);
            if (k < 0) note_bad(run, first + l, code);
            const int32_t option = options[k < 0 ? 0 : k];
            to[l] = op == OP_PICK ? run->uniform[option] : AT(option)[l];
        }
        code = options + count;
    }
    return code;
}

static const int32_t *LANED(argmax_run)(int32_t n, const int32_t *code, double *workspace)
{
    for (; n; n--) {
        const int32_t count = code[1], *terms = code + 2;
        for (int l = 0; l < LANES; l++) {
            int32_t best = 0;
            double most = AT(terms[0])[l];
            for (int32_t k = 1; k < count; k++) {
                const double x = AT(terms[k])[l];
                if (!(most >= x || most != most)) best = k, most = x; /* the first nan wins */
            }
            AT(code[0])[l] = best;
        }
        code = terms + count;
    }
    return code;
}

static void LANED(input)(const Run *run, int32_t column, double *to, int64_t first,
                         int64_t samples)
{
    const int64_t stride = run->strides[column];
    const double *const from = run->columns[column] + first * stride;
    for (int l = 0; l < LANES; l++) to[l] = from[(l < samples ? l : samples - 1) * stride];
}

/* Slots as panels. */
static ALWAYS_INLINE void LANED(pack_slots)(const double *workspace, const int32_t *slots,
                                            int32_t count, double *panels)
{
    const int64_t apart = PANELS_APART(count, PANEL);
    for (int32_t k = 0; k < count; k++, panels += PANEL) {
        const double *const from = AT(slots[k]);
        for (int l = 0; l < LANES; l += VECTOR)
            COPY_VECTOR(panels + l / PANEL * apart + l % PANEL, from + l);
    }
}

/* x in panels, which it returns: from the slots into the stash, for the weights' adjoints; but
 * inputs, which stay where they are, to where the next layer of inputs puts its own. */
static double *LANED(pack)(const Run *run, const Dense *dense, double *workspace, double *stash,
                           int64_t first, int64_t samples)
{
    const int64_t apart = PANELS_APART(dense->inputs, PANEL);
    double *const x = dense->columns ? AT(run->plan->slots) : stash + dense->x_at * LANES;
    if (!dense->columns) {
        LANED(pack_slots)(workspace, dense->x, dense->inputs, x);
        return x;
    }
    for (int32_t k = 0; k < dense->inputs;) {
        const int32_t *const columns = dense->columns + k;
#if LANES > 1
        const int32_t some = side_by_side(run, columns, dense->inputs - k) / 4 * 4;
        if (samples == LANES && some) {
            const int64_t stride = run->strides[columns[0]];
            const double *from = run->columns[columns[0]] + first * stride;
            for (int p = 0; p < LANES / PANEL; p++, from += PANEL * stride)
                for (int32_t i = 0; i < some; i += 4)
                    for (int l = 0; l < PANEL; l += 4)
                        transpose_four(from + l * stride + i, stride,
                                       x + p * apart + (int64_t)(k + i) * PANEL + l, PANEL);
            k += some;
            continue;
        }
#endif
        double lanes[LANES];
        LANED(input)(run, columns[0], lanes, first, samples);
        double *const to = x + (int64_t)k * PANEL;
        for (int l = 0; l < LANES; l++) to[l / PANEL * apart + l % PANEL] = lanes[l];
        k++;
    }
    return x;
}

static void LANED(dense_forward)(const Run *run, const Dense *dense, double *workspace,
                                 double *stash, int64_t first, int64_t samples)
{
    const double *const weights = run->weights[dense->space] + dense->first;
    const double *const x = LANED(pack)(run, dense, workspace, stash, first, samples);
#if LANES == 1
    int32_t j = 0;
    for (; j + 4 <= dense->neurons; j += 4) {
        const double *const w = weights + j * dense->row;
        Vector sums;
        for (int i = 0; i < 4; i++) sums[i] = run->uniform[dense->bias[j + i]];
        dense_four(&sums, w, dense->row, x, dense->inputs);
        for (int i = 0; i < 4; i++) *AT(dense->z[j + i]) = sums[i];
    }
    for (; j < dense->neurons; j++) {
        const double *const w = weights + j * dense->row;
        double sum = run->uniform[dense->bias[j]];
        for (int32_t k = 0; k < dense->inputs; k++) sum += w[k] * x[k];
        *AT(dense->z[j]) = sum;
    }
#else
    const int64_t apart = PANELS_APART(dense->inputs, PANEL);
    /* The stash, which this block will fill and other threads have read. */
    const int claims = dense->columns && run->gradient && run->threads > 1;
    const int64_t stashed = claims ? run->plan->stash * LANES : 0;
    const int64_t tiles = parts_of(dense->neurons, TILE_ROWS)
                          * parts_of(dense->inputs, TERMS_AT_ONCE);
    int64_t done = 0;
    for (int32_t from = 0; from < dense->inputs; from += TERMS_AT_ONCE) {
        Tile tile = {.from_numbers = from == 0, .row = dense->row, .step = 1};
        tile.terms = SMALLER(dense->inputs - from, TERMS_AT_ONCE);
        for (int32_t j = 0; j < dense->neurons; j += TILE_ROWS) {
            const int rows = SMALLER(dense->neurons - j, TILE_ROWS);
            claim_part(stash, stashed, done++, tiles);
            tile.factors = weights + j * dense->row + from;
            for (int i = 0; i < rows; i++) {
                tile.start[i] = run->uniform[dense->bias[j + i]];
                tile.from[i] = tile.to[i] = AT(dense->z[j + i]);
            }
            dense_tile(rows, LANES, 0, &tile, x + (int64_t)from * PANEL, apart);
        }
    }
#endif
}

/* Returns 0 if a custom operation has raised an error. */
static int LANED(forward)(Run *run, const int32_t *code, double *workspace, double *stash,
                          const double *ahead, int64_t first, int64_t samples)
{
    for (;;) {
        const int op = code[0];
        int32_t n = code[1];
        code += 2;
        switch (op) {
            FASTGRAD_OPS(FORWARD)
        case OP_SQUARE: case OP_INVERSE: case OP_ROOT: case OP_CUBE:
            LANED(power_run)(op, n, code, workspace);
            code += 3 * n;
            break;
        case OP_DOT: code = LANED(dot_run)(n, code, workspace); break;
        case OP_DENSE:
            for (; n; n--) {
                const Dense *const dense = &run->plan->dense[*code++];
                if (ahead && dense->z_at >= 0) take_ahead(dense, ahead, workspace, LANES);
                else LANED(dense_forward)(run, dense, workspace, stash, first, samples);
            }
            break;
        case OP_TAKE: case OP_PICK:
            code = LANED(pick_run)(op, n, code, workspace, run, first);
            break;
        case OP_ARGMAX: code = LANED(argmax_run)(n, code, workspace); break;
        case OP_WHERE:
            for (; n; n--, code += 4) {
                const double *const c = AT(code[1]), *const x = AT(code[2]), *const y = AT(code[3]);
                double *const to = AT(code[0]);
                EACH_LANE to[l] = c[l] != 0 ? x[l] : y[l];
            }
            break;
        case OP_CUSTOM:
            code = run->custom(run->customs, 0, n, code, workspace, LANES, samples);
            if (!code) return 0;
            break;
        default: return 1; /* OP_END */
        }
    }
}

/* ---- reverse */

#define PLACES                                                                                    \
    const double *const zs = AT(code[0]), *const xs = AT(code[1]), *const ys = AT(code[2]);       \
    const double *const gs = AT(code[3]);                                                         \
    const double *const from_x = AT(code[4]), *const from_y = AT(code[6]);                        \
    double *const to_x = AT(code[5]), *const to_y = AT(code[7]);                                  \
    (void)zs, (void)xs, (void)ys, (void)from_x, (void)from_y, (void)to_x, (void)to_y
#define NUMBERS                                                                                   \
    const double x = xs[l], y = ys[l], z = zs[l], g = gs[l];                                      \
    (void)x, (void)y, (void)z
#define REVERSE(NAME, label, operands, shown, value, dx, dy, ...)                                 \
    case 4 * OP_##NAME + FIRST:                                                                   \
        for (; n; n--, code += 8) {                                                               \
            PLACES;                                                                               \
            EACH_LANE {                                                                           \
                NUMBERS;                                                                          \
                to_x[l] = from_x[l] + (dx) * g;                                                   \
            }                                                                                     \
        }                                                                                         \
        break;                                                                                    \
    REVERSE_##shown(NAME, dx, dy)
#define REVERSE_1(NAME, dx, dy)
#define REVERSE_2(NAME, dx, dy)                                                                   \
    case 4 * OP_##NAME + SECOND:                                                                  \
        for (; n; n--, code += 8) {                                                               \
            PLACES;                                                                               \
            EACH_LANE {                                                                           \
                NUMBERS;                                                                          \
                to_y[l] = from_y[l] + (dy) * g;                                                   \
            }                                                                                     \
        }                                                                                         \
        break;                                                                                    \
    case 4 * OP_##NAME + BOTH:                                                                    \
        for (; n; n--, code += 8) {                                                               \
            PLACES;                                                                               \
            EACH_LANE {                                                                           \
                NUMBERS;                                                                          \
                const double sum_x = from_x[l] + (dx) * g, sum_y = from_y[l] + (dy) * g;          \
                to_x[l] = sum_x;                                                                  \
                to_y[l] = sum_y;                                                                  \
            }                                                                                     \
        }                                                                                         \
        break;                                                                                    \
    case 4 * OP_##NAME + BOTH_SAME:                                                               \
        for (; n; n--, code += 8) {                                                               \
            PLACES;                                                                               \
            EACH_LANE {                                                                           \
                NUMBERS;                                                                          \
                to_x[l] = from_x[l] + ((dx) * g + (dy) * g);                                      \
            }                                                                                     \
        }                                                                                         \
        break;
#define REVERSE_POWER(OP)                                                                         \
    case 4 * OP + FIRST:                                                                          \
        for (; n; n--, code += 8) {                                                               \
            PLACES;                                                                               \
            EACH_LANE {                                                                           \
                NUMBERS;                                                                          \
                to_x[l] = from_x[l] + power_dx(OP, x, z) * g;                                     \
            }                                                                                     \
        }                                                                                         \
        break

static const int32_t *LANED(dot_reverse)(int32_t n, const int32_t *code, double *workspace)
{
    for (; n; n--) {
        const double *const gs = AT(code[0]);
        const int32_t count = code[1], *term = code + 4;
        double g[LANES];
        EACH_LANE g[l] = gs[l];
        {
            const double *const from = AT(code[2]);
            double *const to = AT(code[3]);
            EACH_LANE to[l] = from[l] + g[l];
        }
        for (int32_t k = 0; k < count; k++, term += 6) {
            const double *const w = AT(term[0]), *const x = AT(term[1]);
            const double *const from_w = AT(term[2]), *const from_x = AT(term[4]);
            double *const to_w = AT(term[3]), *const to_x = AT(term[5]);
            EACH_LANE {
                const double sum = from_w[l] + x[l] * g[l];
                to_w[l] = sum;
            }
            EACH_LANE {
                const double sum = from_x[l] + w[l] * g[l];
                to_x[l] = sum;
            }
        }
        code = term;
    }
    return code;
}

static const int32_t *LANED(pick_reverse)(int op, int32_t n, const int32_t *code,
                                          double *workspace, int64_t samples, double *sums)
{
    for (; n; n--) {
        const double *const index = AT(code[0]), *const g = AT(code[1]);
        const int32_t count = code[2], *options = code + 3;
        if (op == OP_PICK) {
            for (int l = 0; l < samples; l++) {
                const int32_t k = LANED(place)(index[l], count);
                if (k >= 0 && options[k] >= 0) sums[options[k]] += g[l];
            }
            code = options + count;
            continue;
        }
        for (int32_t k = 0; k < count; k++) {
            const double *const from = AT(options[2 * k]);
            double *const to = AT(options[2 * k + 1]);
            EACH_LANE to[l] = from[l] + (index[l] == k ? g[l] : 0.0);
        }
        code = options + 2 * count;
    }
    return code;
}

static inline double LANED(add_lanes)(const double *from, int64_t samples)
{
#if LANES > 1
    if (samples == LANES) {
        Vector sums = LOAD(from);
        for (int l = 4; l < LANES; l += 4) sums += LOAD(from + l);
        return (sums[0] + sums[1]) + (sums[2] + sums[3]);
    }
#endif
    double sum = from[0];
    for (int l = 1; l < samples; l++) sum += from[l];
    return sum;
}

static void LANED(dense_reverse)(const Run *run, const Dense *dense, double *workspace,
                                 double *stash, int64_t samples, double *sums)
{
    const double *const weights = run->weights[dense->space] + dense->first;
    for (int32_t j = 0; j < dense->neurons; j++)
        if (dense->bias_sums[j] >= 0)
            sums[dense->bias_sums[j]] += LANED(add_lanes)(AT(dense->gz[j]), samples);
#if LANES == 1
    double *const g = stash + dense->g_at, *x = stash + dense->x_at;
    for (int32_t j = 0; j < dense->neurons; j++) g[j] = *AT(dense->gz[j]);
    if (dense->wants_weights) {
        if (dense->columns) x = LANED(pack)(run, dense, workspace, stash, 0, 1); /* all there are */
        double *const grads = run->weights_adj[dense->space] + dense->first;
        for (int32_t j = 0; j < dense->neurons; j++)
            add_rows(1, grads + j * dense->row, g + j, x, 0, dense->inputs);
    }
    if (dense->gx) { /* x is not needed any more: its adjoints in its place */
        for (int32_t k = 0; k < dense->inputs; k++) x[k] = *AT(dense->gx[2 * k]);
        int32_t j = 0;
        for (; j + 4 <= dense->neurons; j += 4)
            add_rows(4, x, g + j, weights + j * dense->row, dense->row, dense->inputs);
        for (; j < dense->neurons; j++)
            add_rows(1, x, g + j, weights + j * dense->row, 0, dense->inputs);
        for (int32_t k = 0; k < dense->inputs; k++) *AT(dense->gx[2 * k + 1]) = x[k];
    }
#else
    const int64_t apart = PANELS_APART(dense->neurons, PANEL);
    double *const g = stash + dense->g_at * LANES;
    LANED(pack_slots)(workspace, dense->gz, dense->neurons, g);
    if (samples < LANES) { /* the other lanes are left out of the weights' adjoints */
        clear_lanes(g, dense->neurons, PANEL, LANES / PANEL, samples);
        if (!dense->columns)
            clear_lanes(stash + dense->x_at * LANES, dense->inputs, PANEL, LANES / PANEL, samples);
    }
    if (!dense->gx) return;
    double turned[TURNED_AT_ONCE * TURNED_TERMS];
    const int turns = (int64_t)dense->inputs * dense->neurons >= TURN_FROM;
    for (int32_t from = 0; from < dense->neurons; from += TURNED_TERMS) {
        const int64_t terms = SMALLER(dense->neurons - from, TURNED_TERMS);
        Tile tile = {.row = 1, .step = turns ? TILE_ROWS : dense->row, .terms = terms};
        for (int32_t k = 0; k < dense->inputs; k += TILE_ROWS) {
            const int rows = SMALLER(dense->inputs - k, TILE_ROWS);
            tile.factors = weights + from * dense->row + k;
            if (turns && k % TURNED_AT_ONCE == 0)
                turn_columns(tile.factors, dense->row, terms,
                             SMALLER(dense->inputs - k, TURNED_AT_ONCE), turned);
            if (turns) tile.factors = turned + k % TURNED_AT_ONCE * terms;
            for (int i = 0; i < rows; i++) {
                tile.to[i] = AT(dense->gx[2 * (k + i) + 1]);
                tile.from[i] = from ? tile.to[i] : AT(dense->gx[2 * (k + i)]);
            }
            dense_tile(rows, LANES, 1, &tile, g + (int64_t)from * PANEL, apart);
        }
    }
#endif
}

static void LANED(reverse)(const Run *run, const int32_t *code, double *workspace, double *stash,
                           int64_t samples, double *sums)
{
    for (;;) {
        const int op = code[0];
        int32_t n = code[1];
        code += 2;
        switch (op) {
            FASTGRAD_OPS(REVERSE)
            REVERSE_POWER(OP_SQUARE);
            REVERSE_POWER(OP_INVERSE);
            REVERSE_POWER(OP_ROOT);
            REVERSE_POWER(OP_CUBE);
        case 4 * OP_DOT: code = LANED(dot_reverse)(n, code, workspace); break;
        case 4 * OP_DENSE:
            for (; n; n--)
                LANED(dense_reverse)(run, &run->plan->dense[*code++], workspace, stash, samples,
                                     sums);
            break;
        case 4 * OP_TAKE: case 4 * OP_PICK:
            code = LANED(pick_reverse)(op / 4, n, code, workspace, samples, sums);
            break;
        case 4 * OP_WHERE:
            for (; n; n--, code += 6) {
                const double *const c = AT(code[0]), *const g = AT(code[1]);
                const double *const from_x = AT(code[2]), *const from_y = AT(code[4]);
                double *const to_x = AT(code[3]), *const to_y = AT(code[5]);
                /* One after the other: x and y may be one operand. */
                EACH_LANE to_x[l] = from_x[l] + (c[l] != 0 ? g[l] : 0.0);
                EACH_LANE to_y[l] = from_y[l] + (c[l] != 0 ? 0.0 : g[l]);
            }
            break;
        case 4 * OP_SUM:
            for (; n; n--, code += 2) sums[code[0]] += LANED(add_lanes)(AT(code[1]), samples);
            break;
        case 4 * OP_CUSTOM:
            code = run->custom(run->customs, 1, n, code, workspace, LANES, samples);
            if (!code) return;
            break;
        default: return;
        }
    }
}

/* ---- a block of samples */

static void LANED(splat)(const Run *run, double *workspace)
{
    const Plan *const plan = run->plan;
    EACH_LANE AT(SLOT_ZERO)[l] = 0.0;
    for (int32_t k = 0; k < plan->splat_count; k++) {
        double *const to = AT(plan->splats[2 * k]);
        const double number = run->uniform[plan->splats[2 * k + 1]];
        EACH_LANE to[l] = number;
    }
}

/* Forward, and reverse if the run wants gradients, for the samples from `first` on; lanes beyond
 * `samples` repeat the last one, and are left out where lanes are added up. */
static void LANED(block)(Run *run, double *workspace, int64_t first, int64_t samples,
                         int64_t strand, double *stash, const double *ahead)
{
    const Plan *const plan = run->plan;
    for (int32_t k = 0; k < plan->input_count; k++)
        LANED(input)(run, plan->inputs[2 * k + 1], AT(plan->inputs[2 * k]), first, samples);
    if (!LANED(forward)(run, plan->forward, workspace, stash, ahead, first, samples)) return;
    for (int32_t k = 0; k < plan->output_count; k++)
        for (int l = 0; l < samples; l++)
            run->outputs[(first + l) * plan->output_count + k] = AT(plan->outputs[k])[l];
    if (!run->gradient) return;
    for (int l = 0; l < LANES; l++) AT(plan->seed)[l] = 1.0;
    LANED(reverse)(run, plan->reverse, workspace, stash, samples,
                   run->sums + strand * plan->sums);
}

#undef AT
#undef EACH_LANE
#undef PANEL
#undef VECTOR
#undef SMALLER
#undef COPY_VECTOR
#undef FORWARD
#undef PLACES
#undef NUMBERS
#undef REVERSE
#undef REVERSE_1
#undef REVERSE_2
#undef REVERSE_POWER
