"""Optimising a recording, keeping every bit of its values.

A `Fused` program is made in passes:

1. ``number.pyx``: equal entries become one node;
2. chain: ``((s + w0*x0) + w1*x1) + ...`` becomes one DOT with an explicit start;
3. layer: DOTs and RUNs of uniform weights with the same x become one dense layer.

Invariant: a node's operands have smaller numbers.  Not done: anything that changes a rounding.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free

from fastgrad.nodes cimport (
    ACTIVE, GONE, OP_PARAMETER, VARIES, Fused, Layer, x_of,
)
from fastgrad.number cimport mix, number
from fastgrad.recording cimport Recording
from fastgrad.tape cimport OP_ADD, OP_DOT, OP_LEAF, OP_MUL, OP_RUN
from fastgrad.words cimport Words, push, zeros


cdef enum:
    LEAST_WORK = 8  # weights from which a dense layer pays


cdef Fused fuse(Recording recording):
    """Make a recording ready to be planned."""
    cdef Fused graph = Fused(recording.parameters)
    number(graph, recording)
    graph.uniform = <int32_t *>zeros(graph.size, sizeof(int32_t))
    graph.layer = <int32_t *>zeros(graph.size, sizeof(int32_t))
    chain(graph)
    find_layers(graph)
    number_uniforms(graph)
    return graph


# ---- chains become dot products


cdef inline bint is_term(Fused graph, int32_t node, int32_t user) noexcept:
    """Can a product be taken into the sum that uses it?  If both are uniform, or both vary."""
    return graph.op[node] == OP_MUL and graph.uses[node] == 1 and (
        not (graph.marks[node] ^ graph.marks[user]) & VARIES
    )


cdef int chain(Fused graph) except -1:
    """Turn sums of products, each but the last used once, into DOTs of two terms at least."""
    cdef int32_t *before = <int32_t *>zeros(graph.size, sizeof(int32_t))  # the sum so far, + 1
    cdef int32_t *term = NULL
    cdef int32_t *length = NULL
    cdef int32_t node, start, product
    try:
        term = <int32_t *>zeros(graph.size, sizeof(int32_t))
        length = <int32_t *>zeros(graph.size, sizeof(int32_t))
        for node in range(graph.size):
            if graph.op[node] != OP_ADD or graph.a[node] == graph.b[node]:
                continue
            start, product = graph.a[node], graph.b[node]
            if not is_term(graph, product, node):
                start, product = product, start
            if not is_term(graph, product, node):
                continue
            term[node] = product
            length[node] = 1
            if length[start] and graph.uses[start] == 1 and (
                not (graph.marks[start] ^ graph.marks[node]) & VARIES
            ):
                before[node] = start + 1
                length[node] = length[start] + 1
            else:
                before[node] = -start - 1
        for node in range(graph.size - 1, -1, -1):
            if length[node] and not graph.marks[node] & GONE:
                write_dot(graph, node, before, term, length)
    finally:
        free(before)
        free(term)
        free(length)
    return 0


cdef int write_dot(
    Fused graph, int32_t node, const int32_t *before, const int32_t *term, const int32_t *length
) except -1:
    """Make the end of a chain a DOT, if it has terms enough."""
    cdef int32_t at = node, count = length[node], k = 2 * count - 1, product
    cdef int32_t first = <int32_t>graph.pool.size
    if count < 2:
        return 0
    for _ in range(2 * count + 1):
        push(&graph.pool, 0)
    while True:
        product = term[at]
        graph.pool.at[first + k] = graph.a[product]
        graph.pool.at[first + k + 1] = graph.b[product]
        k -= 2
        graph.marks[product] |= GONE
        if at != node:
            graph.marks[at] |= GONE
        if before[at] < 0:
            break
        at = before[at] - 1
    graph.pool.at[first] = -before[at] - 1
    graph.op[node] = OP_DOT
    graph.a[node], graph.b[node] = first, count
    return 0


# ---- dot products become layers


cdef struct Candidate:  # a DOT or RUN that may join a layer
    int32_t node
    int32_t members          # of the first with its x: how many have them; of the others 0
    int32_t last, following  # of the first: the last with its x; the next one, + 1


cdef int find_layers(Fused graph) except -1:
    """Group DOTs and RUNs of uniform weights by their x; put the weight of each term first."""
    cdef int32_t node, k, i, first
    cdef Words nodes = Words(NULL, 0, 0)
    cdef int64_t buckets = 64, at
    cdef int32_t *seen = NULL
    cdef int32_t *table = NULL
    cdef Candidate *candidates = NULL
    cdef uint64_t hash
    for node in range(graph.size):
        graph.layer[node] = -1
    try:
        seen = <int32_t *>zeros(graph.size, sizeof(int32_t))
        for node in range(graph.size):
            if graph.op[node] == OP_RUN or (
                graph.op[node] == OP_DOT and not graph.marks[node] & GONE
                and may_join(graph, node, seen)
            ):
                push(&nodes, node)
        while buckets < 2 * nodes.size:
            buckets *= 2
        table = <int32_t *>zeros(buckets, sizeof(int32_t))
        candidates = <Candidate *>zeros(nodes.size, sizeof(Candidate))
        for i in range(nodes.size):
            node = candidates[i].node = nodes.at[i]
            hash = graph.b[node]
            for k in range(graph.b[node]):
                hash = mix(hash, x_of(graph, node, k))
            at = <int64_t>(hash & <uint64_t>(buckets - 1))
            while table[at] and not same_x(graph, nodes.at[table[at] - 1], node):
                at = (at + 1) & (buckets - 1)
            if not table[at]:
                table[at] = i + 1
                first = i
            else:
                first = table[at] - 1
                candidates[candidates[first].last].following = i + 1
            candidates[first].last = i
            candidates[first].members += 1
        for i in range(nodes.size):
            if <int64_t>candidates[i].members * graph.b[nodes.at[i]] < LEAST_WORK:
                candidates[i].members = 0
            graph.layer_count += candidates[i].members != 0
        graph.layers = <Layer *>zeros(graph.layer_count, sizeof(Layer))
        graph.layer_count = 0
        for i in range(nodes.size):
            if candidates[i].members:
                add_layer(graph, candidates, i)
    finally:
        free(nodes.at)
        free(seen)
        free(table)
        free(candidates)
    return 0


cdef int add_layer(Fused graph, const Candidate *candidates, int32_t first) except -1:
    """Note a layer, with the x that its members share."""
    cdef Layer *layer = graph.layers + graph.layer_count
    cdef const Candidate *member = candidates + first
    cdef int32_t node = member.node, k
    layer.first, layer.members = <int32_t>graph.members.size, member.members
    layer.inputs = graph.b[node]
    layer.x = <int32_t>graph.pool.size
    if graph.op[node] == OP_RUN:
        layer.x = graph.pool.at[graph.a[node] + 2]
    else:
        for k in range(layer.inputs):
            push(&graph.pool, x_of(graph, node, k))
    while True:
        graph.layer[member.node] = graph.layer_count
        push(&graph.members, member.node)
        if not member.following:
            break
        member = candidates + member.following - 1
    graph.layer_count += 1
    return 0


cdef bint may_join(Fused graph, int32_t node, int32_t *seen) noexcept:
    """Are start and weights uniform, and does every x vary?  Then every weight is put first.

    An x that wants an adjoint must come once: the kernels add to all of them at a time.
    `seen` has for each x the last DOT that was looked at with it, + 1.
    """
    cdef int32_t *words = graph.pool.at + graph.a[node]
    cdef int32_t k, w, x
    if graph.marks[words[0]] & VARIES or not graph.marks[node] & VARIES:
        return False
    for k in range(graph.b[node]):
        w, x = words[2 * k + 1], words[2 * k + 2]
        if not (graph.marks[w] ^ graph.marks[x]) & VARIES:
            return False
    for k in range(graph.b[node]):
        w, x = words[2 * k + 1], words[2 * k + 2]
        if graph.marks[w] & VARIES:
            words[2 * k + 1], words[2 * k + 2] = x, w
    for k in range(graph.b[node]):
        x = words[2 * k + 2]
        if seen[x] == node + 1 and graph.marks[x] & ACTIVE:
            return False
        seen[x] = node + 1
    return True


cdef bint same_x(Fused graph, int32_t left, int32_t right) noexcept:
    cdef int32_t k
    if graph.b[left] != graph.b[right]:
        return False
    for k in range(graph.b[left]):
        if x_of(graph, left, k) != x_of(graph, right, k):
            return False
    return True


cdef int number_uniforms(Fused graph) except -1:
    """Parameters first, as recorded, then constants, then what is computed from them."""
    cdef int32_t node, place = graph.parameters
    for node in range(graph.size):
        if graph.op[node] == OP_PARAMETER:
            graph.uniform[node] = graph.a[node]
        elif graph.op[node] == OP_LEAF:
            graph.uniform[node] = place
            place += 1
            graph.constants += 1
    for node in range(graph.size):
        if graph.op[node] != OP_LEAF and graph.op[node] < OP_PARAMETER and not (
            graph.marks[node] & (VARIES | GONE)
        ):
            graph.uniform[node] = place
            place += 1
    graph.uniforms = place
    return 0
