"""Derivatives of a recording at a sample: sweeps with many directions at a time.

What the sweeps of ``kernels/edges.h`` run over are edges and bends (``edges.pyx``) with numbers on
them (``partials.pyx``): they know of no operation, and take a direction a lane.

Where a unit vector reaches a small part of the graph, several share a lane: those that reach no
result in common, by a colouring that is found once (Curtis, Powell and Reid, On the estimation of
sparse Jacobian matrices, 1974).

Invariant: gradients are those of ``backward()``, to the last bit.

Threads: a `Linear` is one thread's at a time.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memset

import numpy as np

from fastgrad.batch cimport Batch
from fastgrad.edges cimport Linearised, Places, chooses, entry_of, has, list_operands, put
from fastgrad.partials cimport (
    compute, custom_of, fill, fill_custom_bends, fill_node, forward,
)
from fastgrad.recording cimport OP_INPUT
from fastgrad.replay cimport Sweeps, sweeps_for
from fastgrad.tape cimport OP_CUSTOM, op_rows


cdef extern from "kernels/program.h":
    int LOWEST(uint64_t bits) noexcept nogil


cdef enum:
    SPARSE = 4    # graphs of which a block of directions reaches less than this part
    SHARING = 4   # directions a colour, at least, and ...
    PAIRS = 1000  # ... pairs with a result in common, at most, a direction


cdef enum:  # what a run adds
    TANGENTS
    ADJOINTS
    SECOND


cdef class Colours:
    """Unit vectors of one colour share a lane: no result depends on two of them."""

    cdef int64_t count           # of colours; 0 if so few could share that it does not pay
    cdef int32_t[::1] colour     # by direction
    cdef int64_t[::1] first      # by result, and behind the last: where in `direction` ...
    cdef int32_t[::1] direction  # ... those begin which it depends on


cdef class Linear(Linearised):
    """See the head of this file; the parameters are those of `Linearised`."""

    cdef bint[3] is_sparse  # by what a run adds: do unit vectors reach little of the graph?
    cdef list colours       # then those of the unit vectors, once they are known

    def __cinit__(self, recording, xs):
        self.colours = [None] * 3

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
        cdef int64_t k, count = list_operands(self.recording, entry, self.listed)
        return [self.listed[k] for k in range(count)]

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


cdef int run(
    Linear g, int what, const double[:, ::1] given, double *out, int64_t count, int64_t apart,
    int64_t results_apart
) except -1:
    """Add results along `count` directions; `apart` are those of one direction and the next."""
    cdef const Sweeps *sweeps = sweeps_for(count)
    cdef int64_t first = 0, some, one
    cdef Colours colours
    cdef bint done
    if what == ADJOINTS and count == 1 and g.ys_count == 1:
        sweep_all(g, 1.0 if given is None else given[0, 0])
        for one in range(g.xs_count):
            out[one] += g.adj[g.xs[one]]
        return 0
    if given is None and g.is_sparse[what]:
        if g.colours[what] is None:
            g.colours[what] = coloured(g, what, count)
        colours = g.colours[what]
        if colours.count:
            return run_coloured(g, what, colours, out, apart, results_apart)
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
            g.is_sparse[what] = given is None and not has_choices(g)
        first += some
        PyErr_CheckSignals()
    return 0


cdef bint block(
    Linear g, int what, const double[:, ::1] given, int64_t first, int64_t some,
    const Sweeps *sweeps, double *out, int64_t apart, int64_t results_apart
) noexcept nogil:
    """One direction a lane; with several lanes, false and nothing done if a result is nan."""
    sweep_lanes(g, what, given, None, first, some, sweeps)
    if sweeps.lanes > 1 and has_nan(g, what, some, sweeps.lanes):
        return False
    add_results(g, what, None, first, some, sweeps.lanes, out, apart, results_apart)
    return True


cdef void sweep_lanes(
    Linear g, int what, const double[:, ::1] given, Colours colours, int64_t first,
    int64_t some, const Sweeps *sweeps
) noexcept nogil:
    if what == ADJOINTS:
        seed(g, g.ys, g.ys_count, given, colours, first, some, sweeps.lanes, g.bar, g.has_bar)
        sweeps.adjoint(&g.c, g.due, g.has_bar, g.bar)
    else:
        seed(g, g.xs, g.xs_count, given, colours, first, some, sweeps.lanes, g.tan, g.has_tan)
        sweeps.tangent(&g.c, g.every if what == TANGENTS else g.bent, g.due, g.has_tan, g.tan)
    if what == SECOND:
        begin_second(g)
        sweeps.second(&g.c, g.adj, g.has_tan, g.tan, g.due, g.has_bar, g.bar)


cdef inline const Places *places_of(Linear g, int what) noexcept nogil:
    """Where the results belong, ..."""
    return &g.y_places if what == TANGENTS else &g.x_places


cdef inline const double *lanes_of(Linear g, int what) noexcept nogil:
    """... the lanes of each node after a sweep, ..."""
    return g.tan if what == TANGENTS else g.bar


cdef inline uint64_t results_in(Linear g, int what, int32_t word) noexcept nogil:
    """... and which of 64 nodes are results, and have been reached."""
    return places_of(g, what).nodes[word] & (g.has_tan if what == TANGENTS else g.has_bar)[word]


cdef bint has_nan(Linear g, int what, int64_t some, int lanes) noexcept nogil:
    cdef int32_t word
    cdef int64_t lane
    cdef uint64_t bits
    cdef const double *number
    for word in range(g.c.words):
        bits = results_in(g, what, word)
        while bits:
            number = lanes_of(g, what) + (64 * <int64_t>word + LOWEST(bits)) * lanes
            bits &= bits - 1
            for lane in range(some):
                if isnan(number[lane]):
                    return True
    return False


cdef void add_results(
    Linear g, int what, Colours colours, int64_t first, int64_t some, int lanes, double *out,
    int64_t apart, int64_t results_apart
) noexcept nogil:
    """Add lanes to results: of directions, or of colours, those that a result depends on."""
    cdef const Places *places = places_of(g, what)
    cdef int32_t word, node
    cdef int64_t lane, k, i, place
    cdef uint64_t bits
    cdef double *to
    cdef const double *number
    for word in range(g.c.words):
        bits = results_in(g, what, word)
        while bits:
            node = 64 * word + LOWEST(bits)
            bits &= bits - 1
            number = lanes_of(g, what) + <int64_t>node * lanes
            for k in range(places.first[node], places.first[node + 1]):
                place = places.place[k]
                to = out + place * results_apart
                if colours is None:
                    for lane in range(some):
                        to[lane * apart] += number[lane]
                    continue
                for i in range(colours.first[place], colours.first[place + 1]):
                    lane = colours.colour[colours.direction[i]] - first
                    if 0 <= lane < some:
                        to[colours.direction[i] * apart] += number[lane]


cdef int64_t reached(Linear g, int what) noexcept nogil:
    """How many nodes the last block of directions has come to."""
    cdef const uint64_t *nodes = g.has_bar if what == ADJOINTS else g.has_tan
    cdef int32_t node
    cdef int64_t count = 0
    for node in range(g.nodes):
        count += has(nodes, node)
    return count


# ---- several directions a lane


cdef bint has_choices(Linear g) noexcept nogil:
    """Do edges lead elsewhere at another sample?"""
    cdef int32_t node
    for node in range(1, g.nodes):
        if entry_of(g, node) >= 0 and chooses(g.recording, entry_of(g, node)):
            return True
    return False


cdef Colours coloured(Linear g, int what, int64_t count):
    """Give each of `count` unit vectors the first colour that none with a result in common has."""
    cdef const int32_t *nodes = g.ys if what == TANGENTS else g.xs
    cdef const uint64_t *has_numbers = g.has_tan if what == TANGENTS else g.has_bar
    cdef int64_t place, places = g.ys_count if what == TANGENTS else g.xs_count
    cdef Colours found = Colours()
    results = [[] for _ in range(count)]  # by direction
    directions = [[] for _ in range(places)]  # by result
    for one in range(count):
        sweep_lanes(g, what, None, None, one, 1, sweeps_for(1))
        for place in range(places):
            if nodes[place] and has(has_numbers, nodes[place]):
                results[one].append(place)
                directions[place].append(one)
        PyErr_CheckSignals()
    if (SHARING * max(map(len, directions)) > count
            or sum([len(some) ** 2 for some in directions]) > PAIRS * count):
        return found
    colours = np.zeros(count, dtype=np.int32)
    for one in range(count):
        taken = {colours[other] for k in results[one] for other in directions[k] if other < one}
        colours[one] = next(colour for colour in range(count) if colour not in taken)
        PyErr_CheckSignals()
    found.count, found.colour = colours.max() + 1, colours
    found.first = np.cumsum([0, *map(len, directions)], dtype=np.int64)
    found.direction = np.array([one for some in directions for one in some], dtype=np.int32)
    return found


cdef int run_coloured(
    Linear g, int what, Colours colours, double *out, int64_t apart, int64_t results_apart
) except -1:
    """`run` along all unit vectors, a colour a lane."""
    cdef int64_t first = 0, some, one
    cdef const Sweeps *sweeps = sweeps_for(colours.count)
    while first < colours.count:
        some = min(<int64_t>sweeps.lanes, colours.count - first)
        with nogil:
            sweep_lanes(g, what, None, colours, first, some, sweeps)
            if not has_nan(g, what, some, sweeps.lanes):
                add_results(g, what, colours, first, some, sweeps.lanes, out, apart, results_apart)
            else:
                for one in range(len(colours.colour)):
                    if first <= colours.colour[one] < first + some:
                        block(g, what, None, one, 1, sweeps_for(1), out + one * apart, apart,
                              results_apart)
        first += some
        PyErr_CheckSignals()
    return 0


# ---- sweeps


cdef void empty(Linear g, uint64_t *nodes) noexcept nogil:
    memset(nodes, 0, g.c.words * sizeof(uint64_t))


cdef void seed(
    Linear g, const int32_t *nodes, int64_t count, const double[:, ::1] given, Colours colours,
    int64_t first, int64_t some, int lanes, double *numbers, uint64_t *has_numbers
) noexcept nogil:
    """Begin with directions first, ..., first + some - 1, unit vectors if none are given.

    Or with as many colours, each of which is the sum of its unit vectors.
    """
    cdef int64_t k, lane
    cdef int32_t node
    empty(g, has_numbers)
    empty(g, g.due)
    if given is None and colours is None:
        nodes += first
        count = some
    for k in range(count):
        node = nodes[k]
        if node == 0 or colours is not None and not first <= colours.colour[k] < first + some:
            continue
        if not has(has_numbers, node):
            memset(numbers + <int64_t>node * lanes, 0, lanes * sizeof(double))
        put(has_numbers, node)
        put(g.due, node)
        if colours is not None:
            numbers[<int64_t>node * lanes + colours.colour[k] - first] += 1.0
        elif given is None:
            numbers[<int64_t>node * lanes + k] += 1.0
        else:
            for lane in range(some):
                numbers[<int64_t>node * lanes + lane] += given[first + lane, k]


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
