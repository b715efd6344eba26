"""Linearising: a recording at one sample, as edges with partials and bends with second partials.

Only what the inputs of interest reach and the outputs depend on becomes a node: number 1, 2, 3, ...
in the order of recording.  Its edges and bends are placed once; their numbers are computed at each
sample, from the rows of ``kernels/ops.h``.  The sweeps of ``kernels/edges.h`` then know of no
operation, and take as many directions at a time as they have lanes.

Invariant: edges stand in the order in which an eager sweep adds to adjoints, so gradients are those
of ``backward()``, to the last bit; but for a layer that has one of its own weights as an input.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastgrad.batch cimport Batch
from fastgrad.custom cimport CustomOp
from fastgrad.examine cimport pooled_value
from fastgrad.recording cimport OP_INPUT, Recording
from fastgrad.replay cimport Edges, Sweeps, sweeps_for
from fastgrad.tape cimport (
    OP_ARGMAX, OP_CUSTOM, OP_DETACH, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_RUN, OP_TAKE, OP_WHERE,
    Partials,
    op_linearised, op_partials, op_rows, op_value, op_words,
)
from fastgrad.words cimport zeros


cdef extern from "kernels/program.h":
    enum:
        BENDS_XX
        BENDS_XY
        BENDS_YY
    int op_bends(int op) noexcept nogil
    int LOWEST(uint64_t bits) noexcept nogil


cdef enum:
    MOST_LANES = 16
    SPARSE = 4  # graphs of which a block of directions reaches less than this part


cdef struct Places:  # which numbers of a list a node stands for
    uint64_t *nodes  # the set of those that stand for one
    int64_t *first   # by node, and behind the last
    int32_t *place


cdef class Linear:
    """See the head of this file.

    Parameters
    ----------
    recording : Recording
    xs : ndarray of int64, shape (n,)
        Numbers in the recording of what derivatives are taken by; -1 for what is not in it.
    """

    cdef readonly Recording recording
    cdef readonly int64_t xs_count, ys_count
    cdef Edges c
    cdef int32_t nodes       # with number 0, which is nowhere
    cdef int64_t numbers     # of the recording: parameters and entries
    cdef int32_t *node       # by number: which node it is, or 0
    cdef int32_t *number     # by node
    cdef int32_t *xs         # nodes
    cdef int32_t *ys
    cdef Places x_places
    cdef Places y_places
    cdef int64_t *edge
    cdef int64_t *bend
    cdef int64_t *use
    cdef int32_t *operand
    cdef int32_t *left
    cdef int32_t *right
    cdef int32_t *user
    cdef double *partial
    cdef double *second
    cdef uint64_t *every     # sets of nodes: all, ...
    cdef uint64_t *bent      # ... those whose tangents a bend needs, ...
    cdef uint64_t *due
    cdef uint64_t *has_tan
    cdef uint64_t *has_bar
    cdef double *val         # by number
    cdef list customs        # nodes of operations of the user's, ...
    cdef object error        # ... and what one of these has raised
    cdef double *adj         # by node; the others lanes of each node
    cdef double *tan
    cdef double *bar

    def __cinit__(self, Recording recording, const int64_t[::1] xs):
        cdef int64_t k
        self.recording = recording
        self.numbers = recording.parameters + recording.size
        self.xs_count, self.ys_count = len(xs), recording.output_count
        self.customs = []
        self.xs = <int32_t *>zeros(self.xs_count, sizeof(int32_t))
        self.ys = <int32_t *>zeros(self.ys_count, sizeof(int32_t))
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
        self.tan = <double *>zeros(self.nodes * MOST_LANES, sizeof(double))
        self.bar = <double *>zeros(self.nodes * MOST_LANES, sizeof(double))
        self.c.edge, self.c.operand, self.c.partial = self.edge, self.operand, self.partial
        self.c.bend, self.c.left, self.c.right = self.bend, self.left, self.right
        self.c.second, self.c.use, self.c.user = self.second, self.use, self.user

    def __dealloc__(self):
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

    # ---- where

    def set_parameters(self, const double[::1] theta):
        """Give the parameters their values."""
        cdef int64_t k
        for k in range(self.recording.parameters):
            self.val[k] = theta[k]

    def set_recorded(self):
        """Stay at the values that the entries were copied with."""
        fill(self)
        self.raise_error()

    def set_sample(self, Batch batch, int64_t sample):
        """Compute a sample's values; false if one of its indices names nothing."""
        cdef bint fine
        with nogil:
            fine = forward(self, batch.starts, batch.strides, sample)
        self.raise_error()
        return fine

    cdef int raise_error(self) except -1:
        error, self.error = self.error, None
        if error is not None:
            raise error
        return 0

    def set_point(self, const int64_t[::1] numbers, const double[::1] x):
        """Give parameters and inputs other values, and compute what follows from them."""
        cdef int64_t k
        for k in range(len(numbers)):
            if numbers[k] >= 0:
                self.val[numbers[k]] = x[k]
        with nogil:
            for k in range(self.recording.size):
                if self.recording.op[k] != OP_INPUT:
                    compute(self, k)
            fill(self)
        self.raise_error()

    def outputs(self, double[::1] out):
        """Write the values of the outputs, shape (m,)."""
        cdef int64_t k
        for k in range(self.ys_count):
            out[k] = self.val[self.recording.outputs[k]]

    # ---- derivatives

    def tangents(self, v, double[:, ::1] out):
        """Add the outputs' tangents along directions.

        Parameters
        ----------
        v : ndarray, shape (K, n), or None
            None for the n unit vectors.
        out : ndarray, shape (K, m)
        """
        run(self, TANGENTS, v, &out[0, 0], len(out), self.ys_count, 1)

    def adjoints(self, u, double[:, ::1] out):
        """Add the adjoints of the xs, for cotangents of the outputs.

        Parameters
        ----------
        u : ndarray, shape (K, m), or None
            None for the m unit vectors.
        out : ndarray, shape (K, n)
        """
        run(self, ADJOINTS, u, &out[0, 0], len(out), self.xs_count, 1)

    def bend_by(self, v, double[:, ::1] out):
        """Add the second derivatives of the one output along directions, reverse over tangent.

        Parameters
        ----------
        v : ndarray, shape (K, n), or None
            None for the n unit vectors.
        out : ndarray, shape (n, K)
        """
        fill_custom_bends(self)
        sweep_all(self, 1.0)
        run(self, SECOND, v, &out[0, 0], out.shape[1], 1, out.shape[1])

    # ---- one entry by itself, for checks

    def entries(self):
        """list of int: the entries that depend on the xs, and are no xs themselves."""
        cdef int32_t node
        return [
            entry_of(self, node) for node in range(1, self.nodes)
            if entry_of(self, node) >= 0 and self.edge[node] < self.edge[node + 1]
        ]

    def label(self, entry):
        """str: its operation."""
        if self.recording.op[entry] == OP_CUSTOM:
            return custom_of(self, entry).name
        return op_rows[self.recording.op[entry]].label.decode()

    def operands(self, entry):
        """list of int: the numbers of what its derivatives can be taken by."""
        cdef int64_t count = list_operands(self.recording, entry, NULL)
        cdef int32_t *found = <int32_t *>zeros(count, sizeof(int32_t))
        try:
            list_operands(self.recording, entry, found)
            return [found[k] for k in range(count)]
        finally:
            free(found)

    def value(self, number):
        """float: the value that has a number of the recording."""
        return self.val[number]

    def local(self, entry, operand=None, x=None):
        """An entry's value, and its partial by each operand, where one operand may be `x`."""
        cdef int64_t number = self.recording.parameters + <int64_t>entry, k
        cdef int64_t changed = number if operand is None else operand
        cdef int32_t node = self.node[number]
        cdef double before = self.val[changed], value = self.val[number]
        if operand is not None:
            self.val[changed] = x
        compute(self, entry)
        fill_node(self, node)
        found, partials = self.val[number], {}
        for k in range(self.edge[node], self.edge[node + 1]):
            number_of = self.number[self.operand[k]]
            partials[number_of] = partials.get(number_of, 0.0) + self.partial[k]
        self.val[changed], self.val[number] = before, value
        fill_node(self, node)
        self.raise_error()
        return found, partials

    def seconds(self, entry):
        """dict: an entry's second partial by each pair of operands (m, n), m <= n."""
        cdef int64_t k
        cdef int32_t node = self.node[self.recording.parameters + <int64_t>entry]
        fill_custom_bends(self)
        found = {}
        for k in range(self.bend[node], self.bend[node + 1]):
            left, right = self.number[self.left[k]], self.number[self.right[k]]
            pair = (min(left, right), max(left, right))
            found[pair] = found.get(pair, 0.0) + self.second[k]
        return found


cdef enum:  # what a run adds
    TANGENTS
    ADJOINTS
    SECOND


cdef int run(
    Linear g, int what, const double[:, ::1] given, double *out, int64_t count, int64_t apart,
    int64_t results_apart
) except -1:
    """Add results along `count` directions; `apart` are those of one direction and the next."""
    cdef const Sweeps *sweeps = sweeps_for(count)
    cdef int64_t first = 0, some, one
    cdef bint done
    if what == ADJOINTS and count == 1 and g.ys_count == 1:
        sweep_all(g, 1.0 if given is None else given[0, 0])
        for one in range(g.xs_count):
            out[one] += g.adj[g.xs[one]]
        return 0
    while first < count:
        some = min(<int64_t>sweeps.lanes, count - first)
        with nogil:
            done = block(g, what, given, first, some, sweeps, out + first * apart, apart,
                         results_apart)
            if not done:  # 0 * inf in a lane whose direction does not come there
                for one in range(first, first + some):
                    block(g, what, given, one, 1, sweeps_for(1), out + one * apart, apart,
                          results_apart)
        if first == 0 and SPARSE * reached(g, what) < g.nodes:
            sweeps = sweeps_for(2)  # each goes its own way: more lanes would carry zeros
        first += some
        PyErr_CheckSignals()
    return 0


cdef bint block(
    Linear g, int what, const double[:, ::1] given, int64_t first, int64_t some,
    const Sweeps *sweeps, double *out, int64_t apart, int64_t results_apart
) noexcept nogil:
    """One direction a lane; with several lanes, false and nothing done if a result is nan."""
    cdef const Places *places = &g.y_places if what == TANGENTS else &g.x_places
    cdef double *numbers = g.tan if what == TANGENTS else g.bar
    cdef const uint64_t *has_numbers = g.has_tan if what == TANGENTS else g.has_bar
    if what == ADJOINTS:
        seed(g, g.ys, g.ys_count, given, first, some, sweeps.lanes, g.bar, g.has_bar)
        sweeps.adjoint(&g.c, g.due, g.has_bar, g.bar)
    else:
        seed(g, g.xs, g.xs_count, given, first, some, sweeps.lanes, g.tan, g.has_tan)
        sweeps.tangent(&g.c, g.every if what == TANGENTS else g.bent, g.due, g.has_tan, g.tan)
    if what == SECOND:
        begin_second(g)
        sweeps.second(&g.c, g.adj, g.has_tan, g.tan, g.due, g.has_bar, g.bar)
    if sweeps.lanes > 1 and not add_results(g, places, has_numbers, numbers, some, sweeps.lanes,
                                            NULL, 0, 0):
        return False
    add_results(g, places, has_numbers, numbers, some, sweeps.lanes, out, apart, results_apart)
    return True


cdef bint add_results(
    Linear g, const Places *places, const uint64_t *has_numbers, const double *numbers,
    int64_t some, int lanes, double *out, int64_t apart, int64_t results_apart
) noexcept nogil:
    """Add the lanes of the nodes at these places; without `out`, say whether none is nan."""
    cdef int32_t word, node
    cdef int64_t lane, k
    cdef uint64_t bits
    cdef double *to
    cdef const double *number
    for word in range(g.c.words):
        bits = has_numbers[word] & places.nodes[word]
        while bits:
            node = 64 * word + LOWEST(bits)
            bits &= bits - 1
            number = numbers + <int64_t>node * lanes
            if out == NULL:
                for lane in range(some):
                    if isnan(number[lane]):
                        return False
                continue
            for k in range(places.first[node], places.first[node + 1]):
                to = out + places.place[k] * results_apart
                for lane in range(some):
                    to[lane * apart] += number[lane]
    return True


# ---- sets of nodes


cdef inline bint has(const uint64_t *nodes, int32_t node) noexcept nogil:
    return nodes[node >> 6] >> (node & 63) & 1


cdef inline void put(uint64_t *nodes, int32_t node) noexcept nogil:
    nodes[node >> 6] |= <uint64_t>1 << (node & 63)


cdef int64_t reached(Linear g, int what) noexcept nogil:
    """How many nodes the last block of directions has come to."""
    cdef const uint64_t *nodes = g.has_bar if what == ADJOINTS else g.has_tan
    cdef int32_t node
    cdef int64_t count = 0
    for node in range(g.nodes):
        count += has(nodes, node)
    return count


cdef void empty(Linear g, uint64_t *nodes) noexcept nogil:
    memset(nodes, 0, g.c.words * sizeof(uint64_t))


# ---- nodes, edges and bends


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


cdef inline bint chooses(Recording recording, int64_t entry) noexcept nogil:
    return recording.op[entry] == OP_TAKE or recording.op[entry] == OP_WHERE


cdef int find_nodes(Linear g, const int64_t[::1] xs) except -1:
    """Mark what depends on the xs, then what of it the outputs depend on."""
    cdef Recording recording = g.recording
    cdef uint8_t *depends = NULL
    cdef uint8_t *reached = NULL
    cdef int32_t *operands = NULL
    cdef int64_t k, i, count, most = 0, parameters = recording.parameters
    for k in range(recording.size):
        most = max(most, list_operands(recording, k, NULL))
    try:
        operands = <int32_t *>zeros(most, sizeof(int32_t))
        depends = <uint8_t *>zeros(g.numbers, 1)
        reached = <uint8_t *>zeros(g.numbers, 1)
        for k in range(g.xs_count):
            if xs[k] >= 0:
                depends[xs[k]] = True
        for k in range(recording.size):
            count = list_operands(recording, k, operands)
            for i in range(count):
                depends[parameters + k] |= depends[operands[i]]
        for k in range(g.ys_count):
            reached[recording.outputs[k]] = depends[recording.outputs[k]]
        for k in range(recording.size - 1, -1, -1):
            if reached[parameters + k]:
                count = list_operands(recording, k, operands)
                for i in range(count):
                    reached[operands[i]] |= depends[operands[i]]
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
        free(operands)
    g.c.words = (g.nodes + 63) // 64
    return 0


cdef inline int64_t entry_of(Linear g, int32_t node) noexcept nogil:
    """The entry that a node is; negative of a parameter."""
    return g.number[node] - g.recording.parameters


cdef int64_t count_bends(Linear g, int64_t entry) noexcept nogil:
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


cdef inline int32_t weight(Linear g, int64_t entry, int64_t k) noexcept nogil:
    """The number of the first factor of a sum's term k ..."""
    cdef const int32_t *words = g.recording.pool + g.recording.a[entry]
    return words[1] + <int32_t>k if g.recording.op[entry] == OP_RUN else words[2 * k + 1]


cdef inline int32_t factor(Linear g, int64_t entry, int64_t k) noexcept nogil:
    """... and of the second."""
    cdef const int32_t *words = g.recording.pool + g.recording.a[entry]
    return words[2] + <int32_t>k if g.recording.op[entry] == OP_RUN else words[2 * k + 2]


cdef int place_edges(Linear g) except -1:
    """Where edges and bends begin, and between which nodes they are."""
    cdef Recording recording = g.recording
    cdef int32_t *operands = NULL
    cdef int32_t node
    cdef int64_t i, k, count, entry, at, most = 0
    g.edge = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
    g.bend = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
    for k in range(recording.size):
        most = max(most, list_operands(recording, k, NULL))
    try:
        operands = <int32_t *>zeros(most, sizeof(int32_t))
        for node in range(1, g.nodes):
            entry = entry_of(g, node)
            g.edge[node + 1], g.bend[node + 1] = g.edge[node], g.bend[node]
            if entry < 0:
                continue
            g.bend[node + 1] += count_bends(g, entry)
            if chooses(recording, entry):
                g.edge[node + 1] += 1
                continue
            count = list_operands(recording, entry, operands)
            for i in range(count):
                g.edge[node + 1] += g.node[operands[i]] != 0
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
            count = list_operands(recording, entry, operands)
            for i in range(count):
                if g.node[operands[i]]:
                    g.operand[at] = g.node[operands[i]]
                    at += 1
            place_bends(g, node, entry)
            if recording.op[entry] == OP_CUSTOM:
                g.customs.append(node)
    finally:
        free(operands)
    return 0


cdef void place_bends(Linear g, int32_t node, int64_t entry) noexcept nogil:
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


cdef inline int64_t place_bend(Linear g, int64_t at, int32_t x, int32_t y) noexcept nogil:
    g.left[at], g.right[at] = x, y
    return at + 1


cdef int place_uses(Linear g) except -1:
    """Who uses a node, and whose tangents a bend needs."""
    cdef Recording recording = g.recording
    cdef int32_t node, user
    cdef int32_t *operands = NULL
    cdef int64_t k, count, entry, most = 0
    cdef int64_t *at = NULL
    g.every = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.bent = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.due = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.has_tan = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.has_bar = <uint64_t *>zeros(g.c.words, sizeof(uint64_t))
    g.use = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
    for k in range(recording.size):
        most = max(most, list_operands(recording, k, NULL))
    try:
        operands = <int32_t *>zeros(most, sizeof(int32_t))
        at = <int64_t *>zeros(g.nodes + 1, sizeof(int64_t))
        for node in range(1, g.nodes):
            put(g.every, node)
            entry = entry_of(g, node)
            count = list_operands(recording, entry, operands) if entry >= 0 else 0
            for k in range(count):
                g.use[g.node[operands[k]] + 1] += 1
        g.use[1] = 0  # nobody needs to know who uses what is nowhere
        for node in range(1, g.nodes):
            g.use[node + 1] += g.use[node]
            at[node] = g.use[node]
        g.user = <int32_t *>zeros(g.use[g.nodes], sizeof(int32_t))
        for node in range(1, g.nodes):
            entry = entry_of(g, node)
            count = list_operands(recording, entry, operands) if entry >= 0 else 0
            for k in range(count):
                user = g.node[operands[k]]
                if user:
                    g.user[at[user]] = node
                    at[user] += 1
        for node in range(g.nodes - 1, 0, -1):
            for k in range(g.use[node], g.use[node + 1]):
                user = g.user[k]
                if has(g.bent, user) or g.bend[user] < g.bend[user + 1]:
                    put(g.bent, node)
    finally:
        free(operands)
        free(at)
    return 0


cdef int list_places(Linear g, Places *places, const int32_t *nodes, int64_t count) except -1:
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


# ---- numbers


cdef bint forward(
    Linear g, const double *const *inputs, const int64_t *strides, int64_t sample
) noexcept nogil:
    """Compute values, and partials, at a sample; false if an index names nothing."""
    cdef const uint8_t *ops = g.recording.op
    cdef const int32_t *left = g.recording.a
    cdef const int32_t *right = g.recording.b
    cdef const int32_t *node = g.node + g.recording.parameters
    cdef double *val = g.val
    cdef double *at = val + g.recording.parameters
    cdef Partials partials
    cdef int64_t k
    cdef int32_t a, b
    cdef int op
    for k in range(g.recording.size):
        op, a, b = ops[k], left[k], right[k]
        if op == OP_LEAF:
            continue
        if op == OP_INPUT:
            at[k] = inputs[a][sample * strides[a]]
        elif op >= OP_FIRST_POOLED:
            if not compute(g, k):
                return False
            if node[k]:
                fill_node(g, node[k])
        elif node[k]:
            at[k] = op_linearised(op, val[a], val[b], &partials)
            put_partials(g, node[k], op, a, b, &partials)
        else:
            at[k] = op_value(op, val[a], val[b])
    return True


cdef inline bint compute(Linear g, int64_t entry) noexcept nogil:
    """Compute an entry's value, if it is no leaf; false if its index names nothing."""
    cdef int op = g.recording.op[entry]
    cdef int32_t a = g.recording.a[entry], b = g.recording.b[entry]
    cdef double *z = g.val + g.recording.parameters + entry
    if op == OP_LEAF:
        return True
    if op < OP_FIRST_POOLED:
        z[0] = op_value(op, g.val[a], g.val[b])
        return True
    if op == OP_CUSTOM:
        return compute_custom(g, entry)
    return pooled_value(op, g.val, g.recording.pool + a, b, z)


cdef void fill(Linear g) noexcept nogil:
    """Compute the partials of edges and bends from the values."""
    cdef int32_t node
    for node in range(1, g.nodes):
        if entry_of(g, node) >= 0:
            fill_node(g, node)


cdef void fill_node(Linear g, int32_t node) noexcept nogil:
    cdef int64_t entry = entry_of(g, node)
    cdef int op = g.recording.op[entry]
    cdef int32_t a = g.recording.a[entry], b = g.recording.b[entry]
    cdef Partials partials
    if g.edge[node] == g.edge[node + 1]:  # one of the xs
        return
    if op < OP_FIRST_POOLED:
        partials = op_partials(op, g.val[a], g.val[b], g.val[g.number[node]])
        put_partials(g, node, op, a, b, &partials)
    elif op == OP_CUSTOM:
        fill_custom(g, node, entry)
    elif chooses(g.recording, entry):
        fill_choice(g, node, entry)
    else:
        fill_dot(g, node, entry)


cdef inline void put_partials(
    Linear g, int32_t node, int op, int32_t a, int32_t b, const Partials *partials
) noexcept nogil:
    """Of an elementary entry."""
    cdef int64_t edge = g.edge[node], bend = g.bend[node]
    cdef bint x, y
    cdef int bends
    if edge == g.edge[node + 1]:
        return
    x, y = g.node[a] != 0, op_rows[op].shown == 2 and g.node[b] != 0
    if x:
        g.partial[edge] = partials.x
        edge += 1
    if y:
        g.partial[edge] = partials.y
    if bend == g.bend[node + 1]:
        return
    bends = op_bends(op)
    if bends & BENDS_XX and x:
        g.second[bend] = partials.xx
        bend += 1
    if bends & BENDS_XY and x and y:  # twice, if both are one node
        g.second[bend] = 2.0 * partials.xy if a == b else partials.xy
        bend += 1
    if bends & BENDS_YY and y:
        g.second[bend] = partials.yy


cdef void fill_choice(Linear g, int32_t node, int64_t entry) noexcept nogil:
    cdef const int32_t *words = g.recording.pool + g.recording.a[entry]
    cdef double index = g.val[words[0]]
    cdef int64_t chosen = 1 if index != 0 else 2
    if g.recording.op[entry] == OP_TAKE:
        chosen = 1 + <int64_t>index
    g.operand[g.edge[node]] = g.node[words[chosen]]
    g.partial[g.edge[node]] = 1.0


cdef CustomOp custom_of(Linear g, int64_t entry):
    return g.recording.customs[g.recording.pool[g.recording.a[entry]]]


cdef list custom_operands(Linear g, int64_t entry):
    """The numbers of a custom operation's operands."""
    cdef int64_t k, first = g.recording.a[entry]
    return [g.recording.pool[first + k] for k in range(1, g.recording.b[entry])]


cdef bint compute_custom(Linear g, int64_t entry) noexcept with gil:
    """Compute its value; false if that raises."""
    cdef int64_t number
    try:
        xs = [g.val[number] for number in custom_operands(g, entry)]
        g.val[g.recording.parameters + entry] = custom_of(g, entry).value(xs)
    except BaseException as error:
        g.error = error
    return g.error is None


cdef void fill_custom(Linear g, int32_t node, int64_t entry) noexcept with gil:
    cdef int64_t number, edge = g.edge[node]
    try:
        numbers = custom_operands(g, entry)
        partials = custom_of(g, entry).partials_at([g.val[number] for number in numbers])
        for number, partial in zip(numbers, partials):
            if g.node[number]:
                g.partial[edge] = partial
                edge += 1
    except BaseException as error:
        g.error = error


cdef int fill_custom_bends(Linear g) except -1:
    """Ask custom operations for their second partials, which first derivatives do without."""
    cdef int32_t node
    cdef int64_t entry, number, bend, k, j
    for node in g.customs:
        bend, entry = g.bend[node], entry_of(g, node)
        numbers = custom_operands(g, entry)
        rows = custom_of(g, entry).second_at([g.val[number] for number in numbers])
        for k in range(len(numbers)):
            for j in range(k, len(numbers)):
                if g.node[<int64_t>numbers[k]] and g.node[<int64_t>numbers[j]]:
                    # Twice, if two operands are one node.
                    g.second[bend] = rows[k][j] * (1 + (k != j and numbers[k] == numbers[j]))
                    bend += 1
    return 0


cdef void fill_dot(Linear g, int32_t node, int64_t entry) noexcept nogil:
    cdef int64_t edge = g.edge[node], k
    cdef int32_t w, x
    for k in range(g.recording.b[entry] - 1, -1, -1):
        w, x = weight(g, entry, k), factor(g, entry, k)
        if k == 0:
            edge = fill_bias(g, entry, edge)
        if g.node[w]:
            g.partial[edge] = g.val[x]
            edge += 1
        if g.node[x]:
            g.partial[edge] = g.val[w]
            edge += 1
    if g.recording.b[entry] == 0:
        fill_bias(g, entry, edge)


cdef inline int64_t fill_bias(Linear g, int64_t entry, int64_t edge) noexcept nogil:
    if g.node[g.recording.pool[g.recording.a[entry]]]:
        g.partial[edge] = 1.0
        edge += 1
    return edge


# ---- sweeps


cdef void seed(
    Linear g, const int32_t *nodes, int64_t count, const double[:, ::1] given, int64_t first,
    int64_t some, int lanes, double *numbers, uint64_t *has_numbers
) noexcept nogil:
    """Begin with directions first, ..., first + some - 1: unit vectors if none are given."""
    cdef int64_t k, lane
    cdef int32_t node
    empty(g, has_numbers)
    empty(g, g.due)
    if given is None:
        nodes += first
        count = some
    for k in range(count):
        node = nodes[k]
        if node == 0:
            continue
        if not has(has_numbers, node):
            memset(numbers + node * lanes, 0, lanes * sizeof(double))
        put(has_numbers, node)
        put(g.due, node)
        if given is None:
            numbers[node * lanes + k] += 1.0
        else:
            for lane in range(some):
                numbers[node * lanes + lane] += given[first + lane, k]


cdef void sweep_all(Linear g, double u) noexcept nogil:
    """The adjoints of all nodes where there is one output: it depends on every node."""
    cdef int32_t node
    cdef int64_t k
    cdef double adjoint
    memset(g.adj, 0, g.nodes * sizeof(double))
    g.adj[g.ys[0]] = u
    for node in range(g.nodes - 1, 0, -1):
        adjoint = g.adj[node]
        for k in range(g.edge[node], g.edge[node + 1]):
            g.adj[g.operand[k]] += g.partial[k] * adjoint
    g.adj[0] = 0.0


cdef void begin_second(Linear g) noexcept nogil:
    """Nothing has a second adjoint yet; bends give them where tangents come to."""
    cdef int32_t word, node
    cdef uint64_t bits
    cdef int64_t k
    empty(g, g.has_bar)
    for word in range(g.c.words):
        bits = g.has_tan[word]
        while bits:
            node = 64 * word + LOWEST(bits)
            bits &= bits - 1
            for k in range(g.use[node], g.use[node + 1]):
                if g.bend[g.user[k]] < g.bend[g.user[k] + 1]:
                    put(g.due, g.user[k])
