"""Optimising a recording, keeping every bit of its values.

A `Fused` program is made in passes over a recording:

1. number: equal entries become one node, constants are computed, powers by 2, -1, 0.5 and 3 get
   ops of their own;
2. chain: ``((s + w0*x0) + w1*x1) + ...`` becomes one DOT with an explicit start;
3. layer: DOTs of uniform weights with the same x become one dense layer.

A node is uniform if it depends on no input: it is computed once a run, not once a sample.

Invariant: a node's operands have smaller numbers.  Not done: anything that changes a rounding.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

from fastgrad.recording cimport OP_INPUT, OP_PARAMETER, Recording
from fastgrad.tape cimport (
    OP_ADD, OP_ARGMAX, OP_DETACH, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_MUL,
    OP_POW_CONST, op_rows, op_words,
)


cdef enum:
    LEAST_WORK = 8  # weights from which a dense layer pays


cdef int push(Words *words, int32_t word) except -1:
    return extend(words, &word, 1)


cdef int extend(Words *words, const int32_t *more, int64_t count) except -1:
    cdef int32_t *moved
    if words.size + count > words.room:
        words.room = 2 * (words.size + count) + 64
        moved = <int32_t *>realloc(words.at, words.room * sizeof(int32_t))
        if moved == NULL:
            raise MemoryError(f"no memory for {words.room} words of a program")
        words.at = moved
    memcpy(words.at + words.size, more, count * sizeof(int32_t))
    words.size += count
    return 0


cdef void *zeros(int64_t count, size_t size) except NULL:
    cdef void *made = calloc(count + 1, size)
    if made == NULL:
        raise MemoryError(f"no memory for {count} nodes of a program")
    return made


cdef inline uint64_t mix(uint64_t hash, uint64_t word) noexcept:
    # splitmix64's constants; any good mixing would do.
    hash = (hash ^ word) * <uint64_t>0xbf58476d1ce4e5b9
    return hash ^ (hash >> 29)


cdef class Fused:
    """See the head of this file.

    Parameters
    ----------
    recording : Recording
    """

    def __cinit__(self, Recording recording):
        cdef int64_t n = recording.size
        self.recording = recording
        self.op = <uint8_t *>zeros(n, 1)
        self.marks = <uint8_t *>zeros(n, 1)
        self.a = <int32_t *>zeros(n, sizeof(int32_t))
        self.b = <int32_t *>zeros(n, sizeof(int32_t))
        self.uses = <int32_t *>zeros(n, sizeof(int32_t))
        self.uniform = <int32_t *>zeros(n, sizeof(int32_t))
        self.layer = <int32_t *>zeros(n, sizeof(int32_t))
        self.val = <double *>zeros(n, sizeof(double))
        number(self, recording)
        count_uses(self)
        chain(self)
        find_layers(self)
        number_uniforms(self)

    def __dealloc__(self):
        free(self.op)
        free(self.marks)
        free(self.a)
        free(self.b)
        free(self.uses)
        free(self.uniform)
        free(self.layer)
        free(self.val)
        free(self.pool.at)
        free(self.outputs.at)
        free(self.layers.at)
        free(self.members.at)

    cdef int operands(self, int32_t node, const int32_t **words, int32_t *count) noexcept:
        """Where a node's operands are listed; returns how many of them may want an adjoint."""
        cdef int op = self.op[node]
        if op == OP_LEAF or op >= OP_PARAMETER:
            count[0] = 0
            return 0
        if op >= OP_SQUARE:
            words[0] = self.a + node
            count[0] = 1
            return 1
        if op >= OP_FIRST_POOLED:
            words[0] = self.pool.at + self.a[node]
            count[0] = <int32_t>op_words(op, self.b[node])
            return 0 if op == OP_DETACH or op == OP_ARGMAX else count[0]
        words[0] = self.a + node
        count[0] = 1
        return op_rows[op].shown


cdef inline int second(Fused graph, int32_t node) noexcept:
    """Has an elementary node a second operand of its own, in b?"""
    return graph.op[node] < OP_FIRST_POOLED and graph.op[node] != OP_LEAF and (
        op_rows[graph.op[node]].operands == 2
    )


# ---- equal entries become one


cdef int number(Fused graph, Recording recording) except -1:
    cdef int64_t n = recording.size, buckets = 64, k
    cdef int32_t *ids = NULL
    cdef int32_t *table = NULL
    cdef int32_t old, new
    while buckets < 2 * n:
        buckets *= 2
    try:
        ids = <int32_t *>zeros(n, sizeof(int32_t))
        table = <int32_t *>zeros(buckets, sizeof(int32_t))  # of node + 1; 0: empty
        for old in range(n):
            copy_node(graph, recording, old, ids)
            new = find_equal(graph, table, buckets - 1)
            ids[old] = new
            if new == graph.size:
                graph.size += 1
            elif graph.op[graph.size] >= OP_FIRST_POOLED and graph.op[graph.size] < OP_SQUARE:
                graph.pool.size = graph.a[graph.size]  # its words were the last
        for k in range(recording.output_count):
            push(&graph.outputs, ids[recording.outputs[k]])
            graph.marks[ids[recording.outputs[k]]] |= OUTPUT
    finally:
        free(ids)
        free(table)
    return 0


cdef inline int power_op(double exponent) noexcept:
    """The op of a power with this exponent."""
    if exponent == 2.0:
        return OP_SQUARE
    if exponent == -1.0:
        return OP_INVERSE
    if exponent == 0.5:
        return OP_ROOT
    return OP_CUBE if exponent == 3.0 else OP_POW_CONST


cdef int copy_node(Fused graph, Recording recording, int32_t old, const int32_t *ids) except -1:
    """Write an entry as node number `size`, with its operands' new numbers and its marks."""
    cdef int32_t node = graph.size, a = recording.a[old], b = recording.b[old], swap
    cdef int op = recording.op[old]
    cdef int64_t k
    cdef uint8_t marks = 0
    graph.marks[node] = 0
    graph.val[node] = recording.val[old]
    if op == OP_INPUT:
        marks = VARIES
    elif op == OP_PARAMETER:
        marks = ACTIVE
    elif op == OP_LEAF:
        a = b = 0
    elif op < OP_FIRST_POOLED:
        a, b = ids[a], ids[b]
        if op_rows[op].operands == 1:
            b = a
        elif (op == OP_ADD or op == OP_MUL) and a > b:
            swap = a
            a = b
            b = swap
        marks = graph.marks[a] | graph.marks[b] & VARIES
        if op_rows[op].shown == 2:
            marks |= graph.marks[b]
        if op == OP_POW_CONST and graph.op[b] == OP_LEAF:
            op = power_op(graph.val[b])
            if op != OP_POW_CONST:
                b = a
        if not marks & (VARIES | ACTIVE) and (graph.op[a] == OP_LEAF and graph.op[b] == OP_LEAF):
            op = OP_LEAF  # the value was computed when it was recorded
            a = b = 0
    else:
        a = <int32_t>graph.pool.size
        for k in range(op_words(op, b)):
            push(&graph.pool, ids[recording.pool[recording.a[old] + k]])
            marks |= graph.marks[graph.pool.at[a + k]]
        if op == OP_DETACH or op == OP_ARGMAX:
            marks &= ~ACTIVE
        if op != OP_DOT:  # an index may be wrong in a lane only
            marks |= VARIES
    graph.op[node] = op
    graph.marks[node] = marks & (VARIES | ACTIVE)
    graph.a[node], graph.b[node] = a, b
    return 0


cdef int32_t find_equal(Fused graph, int32_t *table, int64_t mask) noexcept:
    """The node that equals node number `size`; that itself, then entered, if there is none."""
    cdef int32_t node = graph.size, other
    cdef uint64_t hash = graph.op[node], bits = 0
    cdef int64_t words = 0, k, at
    cdef bint pooled = OP_FIRST_POOLED <= graph.op[node] < OP_SQUARE
    if graph.op[node] == OP_LEAF:
        memcpy(&bits, &graph.val[node], sizeof(double))
        hash = mix(hash, bits)
    elif pooled:
        words = op_words(graph.op[node], graph.b[node])
        for k in range(words):
            hash = mix(hash, graph.pool.at[graph.a[node] + k])
    else:
        hash = mix(mix(hash, graph.a[node]), graph.b[node])
    at = <int64_t>(hash & <uint64_t>mask)
    while table[at]:
        other = table[at] - 1
        if graph.op[other] == graph.op[node] and graph.b[other] == graph.b[node]:
            if graph.op[node] == OP_LEAF:
                if not memcmp(&graph.val[other], &graph.val[node], sizeof(double)):
                    return other
            elif pooled:
                if not memcmp(graph.pool.at + graph.a[other], graph.pool.at + graph.a[node],
                              words * sizeof(int32_t)):
                    return other
            elif graph.a[other] == graph.a[node]:
                return other
        at = (at + 1) & mask
    table[at] = node + 1
    return node


cdef int count_uses(Fused graph) except -1:
    cdef const int32_t *words = NULL
    cdef int32_t node, k, count = 0
    for node in range(graph.size):
        graph.operands(node, &words, &count)
        for k in range(count):
            graph.uses[words[k]] += 1
        if second(graph, node):
            graph.uses[graph.b[node]] += 1
    for k in range(graph.outputs.size):
        graph.uses[graph.outputs.at[k]] += 1
    return 0


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


cdef int find_layers(Fused graph) except -1:
    """Group the DOTs of uniform weights by their x; put the weight of each term first."""
    cdef int32_t node, other, k, count
    cdef int32_t *seen = NULL
    cdef int64_t buckets = 64, at
    cdef int32_t *table = NULL
    cdef int32_t *following = NULL  # the next DOT with the same x, + 1
    cdef int32_t *last = NULL
    cdef int32_t *members = NULL
    cdef uint64_t hash
    while buckets < 2 * graph.size:
        buckets *= 2
    try:
        table = <int32_t *>zeros(buckets, sizeof(int32_t))
        following = <int32_t *>zeros(graph.size, sizeof(int32_t))
        last = <int32_t *>zeros(graph.size, sizeof(int32_t))
        members = <int32_t *>zeros(graph.size, sizeof(int32_t))
        seen = <int32_t *>zeros(graph.size, sizeof(int32_t))
        for node in range(graph.size):
            graph.layer[node] = -1
            if graph.op[node] != OP_DOT or graph.marks[node] & GONE or (
                not may_join(graph, node, seen)
            ):
                continue
            hash = graph.b[node]
            for k in range(graph.b[node]):
                hash = mix(hash, graph.pool.at[graph.a[node] + 2 * k + 2])
            at = <int64_t>(hash & <uint64_t>(buckets - 1))
            while table[at] and not same_x(graph, table[at] - 1, node):
                at = (at + 1) & (buckets - 1)
            if not table[at]:
                table[at] = node + 1
                other = node
            else:
                other = table[at] - 1
                following[last[other]] = node + 1
            last[other] = node
            members[other] += 1
        for node in range(graph.size):
            count = members[node]
            if count * graph.b[node] < LEAST_WORK:
                continue
            push(&graph.layers, <int32_t>graph.members.size)
            push(&graph.layers, count)
            push(&graph.layers, graph.b[node])
            other = node
            while True:
                graph.layer[other] = <int32_t>(graph.layers.size // 3 - 1)
                push(&graph.members, other)
                if not following[other]:
                    break
                other = following[other] - 1
    finally:
        free(table)
        free(following)
        free(last)
        free(members)
        free(seen)
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
    cdef const int32_t *x = graph.pool.at + graph.a[left] + 2
    cdef const int32_t *y = graph.pool.at + graph.a[right] + 2
    cdef int32_t k
    if graph.b[left] != graph.b[right]:
        return False
    for k in range(graph.b[left]):
        if x[2 * k] != y[2 * k]:
            return False
    return True


cdef int number_uniforms(Fused graph) except -1:
    """Parameters first, as recorded, then constants, then what is computed from them."""
    cdef int32_t node, place = 0
    graph.parameters = <int32_t>graph.recording.parameters
    for node in range(graph.parameters):
        graph.uniform[node] = node
    place = graph.parameters
    for node in range(graph.size):
        if graph.op[node] == OP_LEAF:
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
