"""The examination: a program run entry by entry until a value or an adjoint is nan or inf.

The plain run of a program is fused, shares entries and keeps no lines; this one takes the recording
as it was made, one sample after the other: forward in order, then in reverse.  It looks at every
entry, so what a later one hides is found too (1 / inf is 0).

Invariant: values are those of the plain run, to the last bit; adjoints are those of one sample.

Leaves are not looked at: nan or inf in the data is found in the first entry that passes it on.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport floor, isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastgrad.batch cimport Batch
from fastgrad.custom cimport CustomOp
from fastgrad.recording cimport OP_INPUT, Recording
from fastgrad.tape cimport (
    OP_ARGMAX, OP_CUSTOM, OP_DETACH, OP_DOT, OP_FIRST_POOLED, OP_LEAF, OP_MAXIMUM, OP_RUN, OP_TAKE,
    OP_WHERE, op_push, op_rows, op_value, op_words,
)

from fastgrad.anomaly import adjoint_text, sum_text, value_text


cdef enum:
    NOTHING = -1    # is wrong with the sample
    BAD_INDEX = -2  # which the plain run reports
    RAISED = -3     # by a custom operation


@cython.auto_pickle(False)
cdef class _Examination:
    """What one run works in: numbers by the recording's numbers, the parameters' first."""

    cdef Recording recording
    cdef int32_t parameters, size
    cdef double *val
    cdef double *adj
    cdef uint8_t *flags
    cdef int32_t place  # of the operand whose adjoint is wrong
    cdef object error   # that a custom operation has raised

    def __cinit__(self, Recording recording, const double[::1] theta):
        cdef int64_t k, size = recording.parameters + recording.size
        self.recording = recording
        self.parameters, self.size = <int32_t>recording.parameters, <int32_t>size
        self.val = <double *>calloc(size, sizeof(double))
        self.adj = <double *>calloc(size, sizeof(double))
        self.flags = <uint8_t *>calloc(size, 1)  # no entry is an int
        if self.val == NULL or self.adj == NULL or self.flags == NULL:
            raise MemoryError(f"no memory to examine a program of {size} entries")
        for k in range(recording.parameters):
            self.val[k] = theta[k]
        for k in range(recording.size):
            self.val[recording.parameters + k] = recording.val[k]

    def __dealloc__(self):
        free(self.val)
        free(self.adj)
        free(self.flags)

    cdef inline int op(self, int32_t i) noexcept nogil:
        return self.recording.op[i - self.parameters]

    cdef inline int32_t a(self, int32_t i) noexcept nogil:
        return self.recording.a[i - self.parameters]

    cdef inline int32_t b(self, int32_t i) noexcept nogil:
        return self.recording.b[i - self.parameters]

    cdef int32_t forward(
        self, const double *const *inputs, const int64_t *strides, int64_t sample
    ) noexcept nogil:
        """Compute a sample's values; returns the first entry that is not finite, or NOTHING."""
        cdef double *val = self.val
        cdef int32_t i, a, b
        cdef int op
        for i in range(self.parameters, self.size):
            op, a, b = self.op(i), self.a(i), self.b(i)
            if op == OP_LEAF:
                continue
            if op == OP_INPUT:
                val[i] = inputs[a][sample * strides[a]]
                continue
            if op < OP_FIRST_POOLED:
                val[i] = op_value(op, val[a], val[b])
            elif op == OP_CUSTOM:
                if not self.custom_value(i):
                    return RAISED
            elif not pooled_value(op, val, self.recording.pool + a, b, &val[i]):
                return BAD_INDEX
            if not isfinite(val[i]):
                return i
        return NOTHING

    cdef int32_t reverse(self) noexcept nogil:
        """Compute its adjoints; returns the first entry whose rule gives one that is not finite."""
        cdef double *adj = self.adj
        cdef int32_t i, a, b
        cdef int op
        memset(adj, 0, self.size * sizeof(double))
        adj[self.recording.outputs[0]] = 1.0
        for i in range(self.size - 1, self.parameters - 1, -1):
            op, a, b = self.op(i), self.a(i), self.b(i)
            if op == OP_LEAF or op == OP_INPUT:
                continue
            if op == OP_CUSTOM:
                if not self.push_custom(i):
                    return RAISED
                if self.place >= 0:
                    return i
                continue
            if op >= OP_FIRST_POOLED:
                self.place = push_pooled(op, self.val, adj, self.recording.pool + a, b,
                                         adj[i])
                if self.place >= 0:
                    return i
                continue
            # Where Python would raise, this gives nan or inf.
            op_push(op, self.val, adj, self.flags, a, b, i, True)
            self.place = 0 if not isfinite(adj[a]) else 1
            if not isfinite(adj[a]) or (op_rows[op].shown == 2 and not isfinite(adj[b])):
                return i
        return NOTHING

    cdef CustomOp custom(self, int32_t i):
        return self.recording.customs[self.recording.pool[self.a(i)]]

    cdef bint custom_value(self, int32_t i) noexcept with gil:
        """Compute the value of a custom entry; false if that raises."""
        try:
            xs = [self.val[<int32_t>operand] for operand in self.operands(i)]
            self.val[i] = self.custom(i).value(xs)
        except BaseException as error:
            self.error = error
            return False
        return True

    cdef bint push_custom(self, int32_t i) noexcept with gil:
        """Run its rule, and find the first operand whose adjoint is not finite; false as above."""
        cdef int32_t operand
        cdef double partial
        self.place = -1
        try:
            operands = self.operands(i)
            xs = [self.val[<int32_t>operand] for operand in operands]
            for operand, partial in zip(operands, self.custom(i).partials_at(xs)):
                self.adj[operand] += partial * self.adj[i]
            for place, operand in enumerate(operands):
                if self.place < 0 and not isfinite(self.adj[operand]):
                    self.place = place
        except BaseException as error:
            self.error = error
            return False
        return True

    cdef list operands(self, int32_t i):
        """Of an entry, hidden constants too."""
        cdef int32_t *words = self.recording.pool + self.a(i)
        cdef int op = self.op(i)
        cdef int64_t k
        if op < OP_FIRST_POOLED:
            return [self.a(i), self.b(i)][:op_rows[op].operands]
        if op == OP_TAKE:
            return [words[0], words[1 + <int64_t>self.val[words[0]]]]
        if op == OP_RUN:
            return [words[0]] + [words[1 + k % 2] + k // 2 for k in range(2 * self.b(i))]
        return [words[k] for k in range(op == OP_CUSTOM, op_words(op, self.b(i)))]

    cdef str label(self, int32_t i):
        if self.op(i) == OP_CUSTOM:
            return self.custom(i).name
        return op_rows[self.op(i)].label.decode()

    cdef str text_of_value(self, int32_t i):
        cdef int32_t slot
        origin = ""
        places = self.operands(i)
        for slot in places:
            if not isfinite(self.val[slot]):
                if slot < self.parameters:
                    origin = "a parameter"
                else:
                    origin = "an input" if self.op(slot) == OP_INPUT else "a constant"
                break
        numbers = [self.val[slot] for slot in places]
        if self.op(i) == OP_DOT or self.op(i) == OP_RUN:
            return sum_text(numbers, self.val[i], origin)
        return value_text(self.label(i), numbers, self.val[i], origin)

    cdef str text_of_adjoint(self, int32_t i):
        cdef int32_t slot
        places = self.operands(i)
        return adjoint_text(
            self.label(i), [self.val[slot] for slot in places],
            self.place, self.adj[<int32_t>places[self.place]], 0.0, self.adj[i]
        )


cdef inline int32_t weight(int op, const int32_t *words, int64_t k) noexcept nogil:
    """The first factor of a sum's term k ..."""
    return words[1] + <int32_t>k if op == OP_RUN else words[2 * k + 1]


cdef inline int32_t factor(int op, const int32_t *words, int64_t k) noexcept nogil:
    """... and the second."""
    return words[2] + <int32_t>k if op == OP_RUN else words[2 * k + 2]


cdef bint pooled_value(
    int op, const double *val, const int32_t *words, int64_t count, double *z
) noexcept nogil:
    """The value of an n-ary entry; false if its index names nothing."""
    cdef double index
    cdef int64_t k
    if op == OP_DOT or op == OP_RUN:
        z[0] = val[words[0]]
        for k in range(count):
            z[0] += val[weight(op, words, k)] * val[factor(op, words, k)]
    elif op == OP_DETACH:
        z[0] = val[words[0]]
    elif op == OP_WHERE:
        z[0] = val[words[1] if val[words[0]] != 0 else words[2]]
    elif op == OP_ARGMAX:
        index = val[words[0]]
        z[0] = 0
        for k in range(1, count):
            if op_value(OP_MAXIMUM, index, val[words[k]]) != index and index == index:
                index = val[words[k]]
                z[0] = k
    else:  # OP_TAKE
        index = val[words[0]]
        if not 0 <= index < count - 1 or index != floor(index):
            return False
        z[0] = val[words[1 + <int64_t>index]]
    return True


cdef int32_t push_pooled(
    int op, const double *val, double *adj, const int32_t *words, int64_t count, double g
) noexcept nogil:
    """The rule of an n-ary entry; returns the first operand whose adjoint is not finite, or -1."""
    cdef int64_t k, taken
    cdef int32_t w, x
    if op == OP_DOT or op == OP_RUN:
        for k in range(count - 1, -1, -1):
            w, x = weight(op, words, k), factor(op, words, k)
            if k == 0:
                adj[words[0]] += g
            adj[w] += val[x] * g
            adj[x] += val[w] * g
        if not isfinite(adj[words[0]]):
            return 0
        for k in range(count):
            if not isfinite(adj[weight(op, words, k)]):
                return <int32_t>(2 * k + 1)
            if not isfinite(adj[factor(op, words, k)]):
                return <int32_t>(2 * k + 2)
    elif op == OP_TAKE or op == OP_WHERE:
        if op == OP_TAKE:
            taken = 1 + <int64_t>val[words[0]]
        else:
            taken = 1 if val[words[0]] != 0 else 2
        adj[words[taken]] += g
        if not isfinite(adj[words[taken]]):
            return 1 if op == OP_TAKE else <int32_t>taken  # as `operands` lists them
    return -1


def examine(recording, Batch batch, theta, gradient):
    """Run a recording entry by entry, until one is not finite.

    Parameters
    ----------
    recording : Recording
    batch : Batch
    theta : ndarray, shape (parameters,)
    gradient : bool
        Whether to run in reverse too.

    Returns
    -------
    None or (int, int, str)
        The sample, the entry, and what was found there.

    Raises
    ------
    Exception
        What a custom operation has raised.
    """
    cdef _Examination run = _Examination(recording, theta)
    cdef int64_t sample
    cdef int32_t entry
    cdef bint backwards = gradient, in_reverse
    for sample in range(batch.samples):
        PyErr_CheckSignals()
        with nogil:
            entry = run.forward(batch.starts, batch.strides, sample)
            in_reverse = entry == NOTHING and backwards
            if in_reverse:
                entry = run.reverse()
        if entry == RAISED:
            raise run.error
        if entry == BAD_INDEX:
            return None
        if entry >= 0:
            text = run.text_of_adjoint(entry) if in_reverse else run.text_of_value(entry)
            return sample, entry - run.parameters, text
    return None
