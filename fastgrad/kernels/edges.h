/* Sweeps of a linearised program, with many directions at a time: one direction a lane.
 *
 * At one sample a program is a graph of nodes; an edge carries a partial from an operand to the
 * node that uses it, a bend a second partial of a node by two of its operands.  Both are numbers
 * by now: ops.h was asked once, whatever the number of directions.
 *
 *   tangent    up:    tan[z] += partial * tan[x]
 *   adjoint    down:  adj[x] += partial * adj[z]
 *   second     down:  the tangents of the adjoints, reverse over tangent:
 *                     bar[x] += partial * bar[z] + second * tan[y] * adj[z]
 *
 * Only nodes that a direction reaches are visited: `due` has a bit for each that is still to come,
 * `has` for each whose lanes have been written.  So what no seed reaches needs no clearing, and the
 * cost follows the part of the graph that these lanes' directions reach.
 *
 * Node 0 is nowhere: the operand of a choice that chose a constant.  Included by replay.h, once a
 * machine variant.
 */

#define HAS(set, node) ((set)[(node) >> 6] >> ((node)&63) & 1)
#define SET(set, node) ((set)[(node) >> 6] |= (uint64_t)1 << ((node)&63))

/* Where a node's lanes begin. */
#define LANES_OF(node) ((int64_t)(node)*lanes)

/* to = before + factor * from, on all lanes; `before` is 0 where `to` has no numbers yet. */
static ALWAYS_INLINE void add_to_node(double *numbers, uint64_t *has, int32_t node, double factor,
                                      const double *from, const int lanes)
{
    double *const to = numbers + LANES_OF(node);
    const int is_first = !HAS(has, node);
    if (lanes == 1) {
        *to = (is_first ? 0.0 : *to) + factor * *from;
    } else if (is_first) {
        for (int l = 0; l < lanes; l += 4)
            STORE(to + l, SPLAT(0.0) + SPLAT(factor) * LOAD(from + l));
    } else {
        for (int l = 0; l < lanes; l += 4)
            STORE(to + l, LOAD(to + l) + SPLAT(factor) * LOAD(from + l));
    }
    SET(has, node);
}

/* `due` has a node more; of the word at work a copy is in a register. */
#define SET_DUE(node)                                                                              \
    do {                                                                                           \
        const uint64_t its_bit = (uint64_t)1 << ((node)&63);                                       \
        if ((node) >> 6 == word) waiting |= its_bit;                                               \
        else due[(node) >> 6] |= its_bit;                                                          \
    } while (0)

/* Up from the nodes in `due`, whose seeds are in tan; nodes not in `wanted` are left out. */
static ALWAYS_INLINE void tangent_sweep(const Edges *edges, const uint64_t *wanted, uint64_t *due,
                                        uint64_t *has, double *tan, const int lanes)
{
    for (int32_t word = 0; word < edges->words; word++) {
        uint64_t waiting = due[word];
        due[word] = 0;
        while (waiting) {
            const int32_t node = 64 * word + LOWEST(waiting);
            waiting &= waiting - 1;
            for (int64_t k = edges->edge[node]; k < edges->edge[node + 1]; k++)
                if (HAS(has, edges->operand[k]))
                    add_to_node(tan, has, node, edges->partial[k],
                                tan + LANES_OF(edges->operand[k]), lanes);
            if (!HAS(has, node)) continue;
            for (int64_t k = edges->use[node]; k < edges->use[node + 1]; k++)
                if (HAS(wanted, edges->user[k])) SET_DUE(edges->user[k]);
        }
    }
}

/* Down from the nodes in `due`; with `tan`, through bends too. */
static ALWAYS_INLINE void down_sweep(const Edges *edges, const double *adj, const uint64_t *has_tan,
                                     const double *tan, uint64_t *due, uint64_t *has, double *bar,
                                     const int lanes)
{
    for (int32_t word = edges->words - 1; word >= 0; word--) {
        uint64_t waiting = due[word];
        due[word] = 0;
        while (waiting) {
            const int bit = HIGHEST(waiting);
            const int32_t node = 64 * word + bit;
            const double *const from = bar + LANES_OF(node);
            waiting &= ~((uint64_t)1 << bit);
            if (HAS(has, node))
                for (int64_t k = edges->edge[node]; k < edges->edge[node + 1]; k++) {
                    add_to_node(bar, has, edges->operand[k], edges->partial[k], from, lanes);
                    SET_DUE(edges->operand[k]);
                }
            if (!tan) continue;
            for (int64_t k = edges->bend[node]; k < edges->bend[node + 1]; k++) {
                const int32_t x = edges->left[k], y = edges->right[k];
                const double factor = edges->second[k] * adj[node];
                if (HAS(has_tan, y)) {
                    add_to_node(bar, has, x, factor, tan + LANES_OF(y), lanes);
                    SET_DUE(x);
                }
                if (x != y && HAS(has_tan, x)) {
                    add_to_node(bar, has, y, factor, tan + LANES_OF(x), lanes);
                    SET_DUE(y);
                }
            }
        }
    }
}

#define SWEEPS_ON(lanes)                                                                           \
    static void tangent_##lanes(const Edges *edges, const uint64_t *wanted, uint64_t *due,         \
                                uint64_t *has, double *tan)                                        \
    {                                                                                              \
        tangent_sweep(edges, wanted, due, has, tan, lanes);                                        \
    }                                                                                              \
    static void adjoint_##lanes(const Edges *edges, uint64_t *due, uint64_t *has, double *bar)     \
    {                                                                                              \
        down_sweep(edges, NULL, NULL, NULL, due, has, bar, lanes);                                 \
    }                                                                                              \
    static void second_##lanes(const Edges *edges, const double *adj, const uint64_t *has_tan,     \
                               const double *tan, uint64_t *due, uint64_t *has, double *bar)       \
    {                                                                                              \
        down_sweep(edges, adj, has_tan, tan, due, has, bar, lanes);                                \
    }
SWEEPS_ON(1)
SWEEPS_ON(4)
SWEEPS_ON(16)
