"""A recording as nodes, edges and bends, for derivatives by some of its numbers.

Only what these numbers, the xs, reach and the outputs depend on becomes a node: 1, 2, 3, ... in the
order of recording.  An edge leads from an operand to the node that uses it, a bend is a pair of
operands by which a node's second partial is not 0 everywhere.  Which there are is found once; the
numbers on them are those of a sample (``partials.pyx``).

Invariant: edges stand in the order in which an eager sweep adds to adjoints.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free

from fastgrad.recording cimport OP_INPUT, Recording
from fastgrad.tape cimport (
    OP_ARGMAX, OP_CUSTOM, OP_DETACH, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_RUN, OP_TAKE, OP_WHERE,
    op_rows, op_words,
)
from fastgrad.words cimport zeros


cdef class Linearised:
    """See the head of this file; ``partials.pyx`` fills it.

    Parameters
    ----------
    recording : Recording
    xs : ndarray of int64, shape (n,)
        Numbers in the recording of what derivatives are taken by; -1 for what is not in it.
    """

    def __cinit__(self, Recording recording, const int64_t[::1] xs):
        cdef int64_t k, most = 0
        self.recording = recording
        self.numbers = recording.parameters + recording.size
        self.xs_count, self.ys_count = len(xs), recording.output_count
        self.customs = []
        self.xs = <int32_t *>zeros(self.xs_count, sizeof(int32_t))
        self.ys = <int32_t *>zeros(self.ys_count, sizeof(int32_t))
        for k in range(recording.size):
            most = max(most, list_operands(recording, k, NULL))
        self.listed = <int32_t *>zeros(most, sizeof(int32_t))
        self.node = <int32_t *>zeros(self.numbers, sizeof(int32_t))
        self.val = <double *>zeros(self.numbers, sizeof(double))
        for k in range(recording.size):
            self.val[recording.parameters + k] = recording.val[k]
        find_nodes(self, xs)
        place_edges(self)
        place_uses(self)
        list_places(self, &self.x_places, self.xs, self.xs_count)
        list_places(self, &self.y_places, self.ys, self.ys_count)
        self.adj = <double *>zeros(self.nodes, sizeof(double))
        self.tan = <double *>zeros(<int64_t>self.nodes * MOST_LANES, sizeof(double))
        self.bar = <double *>zeros(<int64_t>self.nodes * MOST_LANES, sizeof(double))
        self.c.edge, self.c.operand, self.c.partial = self.edge, self.operand, self.partial
        self.c.bend, self.c.left, self.c.right = self.bend, self.left, self.right
        self.c.second, self.c.use, self.c.user = self.second, self.use, self.user

    def __dealloc__(self):
        free(self.listed)
        free(self.xs)
        free(self.ys)
        free(self.x_places.nodes)
        free(self.x_places.first)
        free(self.x_places.place)
        free(self.y_places.nodes)
        free(self.y_places.first)
        free(self.y_places.place)
        free(self.node)
        free(self.number)
        free(self.edge)
        free(self.bend)
        free(self.use)
        free(self.operand)
        free(self.left)
        free(self.right)
        free(self.user)
        free(self.partial)
        free(self.second)
        free(self.every)
        free(self.bent)
        free(self.due)
        free(self.has_tan)
        free(self.has_bar)
        free(self.val)
        free(self.adj)
        free(self.tan)
        free(self.bar)


cdef int64_t list_operands(Recording recording, int64_t entry, int32_t *found) noexcept:
    """The operands that want an adjoint of an entry, in the order of an eager sweep.

    `found` may be NULL, to count them.  Of TAKE and WHERE all that may be chosen.
    """
    cdef int op = recording.op[entry]
    cdef int32_t a = recording.a[entry], b = recording.b[entry]
    cdef const int32_t *words = recording.pool + a
    cdef int64_t k, at = 0
    if op == OP_LEAF or op == OP_INPUT or op == OP_DETACH or op == OP_ARGMAX:
        return 0
    if op < OP_FIRST_POOLED:
        if found != NULL:
            found[0] = a
            found[1] = b
        return op_rows[op].shown
    if op == OP_TAKE or op == OP_WHERE or op == OP_CUSTOM:
        if found != NULL:
            for k in range(1, op_words(op, b)):
                found[k - 1] = words[k]
        return op_words(op, b) - 1
    if found != NULL:
        for k in range(b - 1, -1, -1):
            if k == 0:
                found[at] = words[0]
                at += 1
            found[at] = words[1] + <int32_t>k if op == OP_RUN else words[2 * k + 1]
            found[at + 1] = words[2] + <int32_t>k if op == OP_RUN else words[2 * k + 2]
            at += 2
        if b == 0:
            found[0] = words[0]
    return 2 * <int64_t>b + 1


cdef int find_nodes(Linearised g, const int64_t[::1] xs) except -1:
    """Mark what depends on the xs, then what of it the outputs depend on."""
    cdef Recording recording = g.recording
    cdef uint8_t *depends = NULL
    cdef uint8_t *reached = NULL
    cdef int64_t k, i, count, parameters = recording.parameters
    try:
        depends = <uint8_t *>zeros(g.numbers, 1)
        reached = <uint8_t *>zeros(g.numbers, 1)
        for k in range(g.xs_count):
            if xs[k] >= 0:
                depends[xs[k]] = True
        for k in range(recording.size):
            count = list_operands(recording, k, g.listed)
            for i in range(count):
                depends[parameters + k] |= depends[g.listed[i]]
        for k in range(g.ys_count):
            reached[recording.outputs[k]] = depends[recording.outputs[k]]
        for k in range(recording.size - 1, -1, -1):
            if reached[parameters + k]:
                count = list_operands(recording, k, g.listed)
                for i in range(count):
                    reached[g.listed[i]] |= depends[g.listed[i]]
        g.nodes = 1
        for k in range(g.numbers):
            g.node[k] = g.nodes if reached[k] else 0
            g.nodes += reached[k]
        g.number = <int32_t *>zeros(g.nodes, sizeof(int32_t))
        for k in range(g.numbers):
            g.number[g.node[k]] = <int32_t>k
        for k in range(g.xs_count):
            g.xs[k] = g.node[xs[k]] if xs[k] >= 0 else 0
        for k in range(g.ys_count):
            g.ys[k] = g.node[recording.outputs[k]]
    finally:
        free(depends)
        free(reached)
    g.c.words = (g.nodes + 63) // 64
    return 0


cdef int64_t count_bends(Linearised g, int64_t entry) noexcept nogil:
    cdef int op = g.recording.op[entry], bends
    cdef int32_t a = g.recording.a[entry], b = g.recording.b[entry]
    cdef int64_t k, count = 0
    if op == OP_LEAF or op == OP_INPUT:
        return 0
    if op < OP_FIRST_POOLED:
        bends = op_bends(op)
        if g.node[a]:
            count += bends & BENDS_XX != 0
        if op_rows[op].shown == 2 and g.node[b]:
            count += bends & BENDS_YY != 0
            if g.node[a]:
                count += bends & BENDS_XY != 0
    elif op == OP_CUSTOM:
        for k in range(1, b):
            count += g.node[g.recording.pool[a + k]] != 0
        return count * (count + 1) // 2  # a pair of operands each
    elif op == OP_DOT or op == OP_RUN:
        for k in range(b):
            if g.node[weight(g, entry, k)] and g.node[factor(g, entry, k)]:
                count += 1
    return count


cdef int place_edges(Linearised g) except -1:
    """Where edges and bends begin, and between which nodes they are."""
    cdef Recording recording = g.recording
    cdef int32_t node
    cdef int64_t i, count, entry, at
    g.edge = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
    g.bend = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
    for node in range(1, g.nodes):
        entry = entry_of(g, node)
        g.edge[node + 1], g.bend[node + 1] = g.edge[node], g.bend[node]
        if entry < 0:
            continue
        g.bend[node + 1] += count_bends(g, entry)
        if chooses(recording, entry):
            g.edge[node + 1] += 1
            continue
        count = list_operands(recording, entry, g.listed)
        for i in range(count):
            g.edge[node + 1] += g.node[g.listed[i]] != 0
    count = g.edge[g.nodes]
    g.operand = <int32_t *>zeros(count, sizeof(int32_t))
    g.partial = <double *>zeros(count, sizeof(double))
    count = g.bend[g.nodes]
    g.left = <int32_t *>zeros(count, sizeof(int32_t))
    g.right = <int32_t *>zeros(count, sizeof(int32_t))
    g.second = <double *>zeros(count, sizeof(double))
    for node in range(1, g.nodes):
        entry = entry_of(g, node)
        if entry < 0 or chooses(recording, entry):
            continue
        at = g.edge[node]
        count = list_operands(recording, entry, g.listed)
        for i in range(count):
            if g.node[g.listed[i]]:
                g.operand[at] = g.node[g.listed[i]]
                at += 1
        place_bends(g, node, entry)
        if recording.op[entry] == OP_CUSTOM:
            g.customs.append(node)
    return 0


cdef void place_bends(Linearised g, int32_t node, int64_t entry) noexcept nogil:
    cdef int op = g.recording.op[entry], bends
    cdef int32_t x, y
    cdef int64_t k, j, first, at = g.bend[node]
    if at == g.bend[node + 1]:
        return
    if op == OP_CUSTOM:
        first = g.recording.a[entry]
        for k in range(1, g.recording.b[entry]):
            for j in range(k, g.recording.b[entry]):
                x, y = g.node[g.recording.pool[first + k]], g.node[g.recording.pool[first + j]]
                if x and y:
                    at = place_bend(g, at, x, y)
        return
    if op < OP_FIRST_POOLED:
        bends = op_bends(op)
        x = g.node[g.recording.a[entry]]
        y = g.node[g.recording.b[entry]] if op_rows[op].shown == 2 else 0
        if bends & BENDS_XX and x:
            at = place_bend(g, at, x, x)
        if bends & BENDS_XY and x and y:
            at = place_bend(g, at, x, y)
        if bends & BENDS_YY and y:
            at = place_bend(g, at, y, y)
        return
    for k in range(g.recording.b[entry]):
        x, y = g.node[weight(g, entry, k)], g.node[factor(g, entry, k)]
        if x and y:
            g.second[at] = 2.0 if x == y else 1.0  # once and for all
            at = place_bend(g, at, x, y)


cdef inline int64_t place_bend(Linearised g, int64_t at, int32_t x, int32_t y) noexcept nogil:
    g.left[at], g.right[at] = x, y
    return at + 1


cdef int place_uses(Linearised g) except -1:
    """Who uses a node, and whose tangents a bend needs."""
    cdef Recording recording = g.recording
    cdef int32_t node, user
    cdef int64_t k, count, entry
    cdef int64_t *at = NULL
    g.every = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.bent = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.due = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.has_tan = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.has_bar = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.use = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
    try:
        at = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
        for node in range(1, g.nodes):
            put(g.every, node)
            entry = entry_of(g, node)
            count = list_operands(recording, entry, g.listed) if entry >= 0 else 0
            for k in range(count):
                g.use[g.node[g.listed[k]] + 1] += 1
        g.use[1] = 0  # nobody needs to know who uses what is nowhere
        for node in range(1, g.nodes):
            g.use[node + 1] += g.use[node]
            at[node] = g.use[node]
        g.user = <int32_t *>zeros(g.use[g.nodes], sizeof(int32_t))
        for node in range(1, g.nodes):
            entry = entry_of(g, node)
            count = list_operands(recording, entry, g.listed) if entry >= 0 else 0
            for k in range(count):
                user = g.node[g.listed[k]]
                if user:
                    g.user[at[user]] = node
                    at[user] += 1
        for node in range(g.nodes - 1, 0, -1):
            for k in range(g.use[node], g.use[node + 1]):
                user = g.user[k]
                if has(g.bent, user) or g.bend[user] < g.bend[user + 1]:
                    put(g.bent, node)
    finally:
        free(at)
    return 0


cdef int list_places(Linearised g, Places *places, const int32_t *nodes, int64_t count) except -1:
    """Find the places in a list of nodes by node."""
    cdef int64_t k
    cdef int32_t node
    places.nodes = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    places.first = <int64_t *>zeros(g.nodes + 2, sizeof(int64_t))
    places.place = <int32_t *>zeros(count, sizeof(int32_t))
    for k in range(count):
        if nodes[k]:
            put(places.nodes, nodes[k])
            places.first[nodes[k] + 2] += 1
    for node in range(g.nodes):
        places.first[node + 2] += places.first[node + 1]
    for k in range(count):
        if nodes[k]:
            places.place[places.first[nodes[k] + 1]] = <int32_t>k
            places.first[nodes[k] + 1] += 1
    return 0
