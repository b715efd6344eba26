"""Where the entries of a fixed list of Values lie, for those who read or change them all in C.

Invariant: after `find`, and until the next collection, the fields tell where they are.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastgrad.pool cimport run_tasks
from fastgrad.record cimport handle
from fastgrad.tape cimport GRAD_INT, Run, tape


cdef enum:
    CHUNK = 512      # adjoints that are divided at a time
    PIECE = 1 << 13  # data that a task copies


cdef class Slots:
    """The slots of some Values.

    Parameters
    ----------
    values : list of Value
        Never changed afterwards.
    """

    def __init__(self, list values):
        self.values = values
        self.collections = tape.collections - 1  # not looked for yet

    def __dealloc__(self):
        free(self.runs)

    cdef int find(self) except -1:
        """Where are they now?  Entries move in collections only."""
        cdef int64_t k, count = len(self.values), runs = 0, room = 0
        cdef int32_t slot
        cdef Run *found = NULL
        cdef Run *moved
        if self.collections == tape.collections or not count:
            return 0
        for k in range(count):
            slot = handle(self.values[k]).slot
            if runs and slot == found[runs - 1].first + found[runs - 1].count:
                found[runs - 1].count += 1
                continue
            if runs == room:
                room = 2 * room + 1
                moved = <Run *>realloc(found, room * sizeof(Run))
                if moved == NULL:
                    free(found)
                    raise MemoryError(f"no memory for the slots of {count} Values")
                found = moved
            found[runs] = Run(slot, 1)
            runs += 1
        free(self.runs)
        self.runs, self.run_count = found, runs
        self.first = found[0].first if runs == 1 else -1
        self.collections = tape.collections
        return 0

    cdef bint are_together(self) except -1:
        """Do they lie in consecutive slots, from `first` on?"""
        self.find()
        return self.run_count == 1

    def copy_data(self, double[::1] to):
        """Copy the data of all, which are one at least."""
        self.read(&to[0], to.shape[0], NULL, 1)

    def add_grads(self, const double[::1] numbers):
        """Add a number to the grad of each; they are one at least."""
        self.add(&numbers[0], numbers.shape[0], NULL, 1.0)

    cdef int read(
        self, double *to, int64_t count, const int64_t *places, int threads
    ) except -1:
        """Copy the data of those at the places, or of the first `count`."""
        cdef int64_t k, some
        self.find()
        if places != NULL:
            for k in range(count):
                to[k] = tape.val[self.slot(places[k])]
            return 0
        for k in range(self.run_count):
            some = min(<int64_t>self.runs[k].count, count)
            copy_numbers(to, tape.val + self.runs[k].first, some, threads)
            to += some
            count -= some
        return 0

    cdef int add(
        self, const double *sums, int64_t count, const int64_t *places, double samples
    ) except -1:
        """Add the sums, divided by the number of samples, to the grads."""
        cdef int64_t k, some
        cdef int32_t slot
        self.find()
        if places != NULL:
            for k in range(count):
                slot = self.slot(places[k])
                tape.adj[slot] += sums[k] / samples
                tape.flags[slot] &= ~GRAD_INT
            return 0
        for k in range(self.run_count):
            some = min(<int64_t>self.runs[k].count, count)
            add_means(tape.adj + self.runs[k].first, tape.flags + self.runs[k].first, sums, some,
                      samples)
            sums += some
            count -= some
        return 0


cdef struct Copy:
    double *to
    const double *numbers
    int64_t count


cdef void copy_numbers(
    double *to, const double *numbers, int64_t count, int threads
) noexcept nogil:
    cdef Copy copy = Copy(to, numbers, count)
    run_tasks(copy_piece, &copy, (count + PIECE - 1) // PIECE, threads)


cdef void copy_piece(void *context, int64_t k, int seat) noexcept nogil:
    cdef const Copy *copy = <const Copy *>context
    cdef int64_t start = k * PIECE
    memcpy(copy.to + start, copy.numbers + start,
           min(PIECE, copy.count - start) * sizeof(double))


cdef void add_means(
    double *adj, uint8_t *flags, const double *sums, int64_t count, double samples
) noexcept:
    cdef double[CHUNK] means
    cdef int64_t start, some, k
    for start in range(0, count, CHUNK):
        some = min(CHUNK, count - start)
        divide(means, sums + start, some, samples)
        for k in range(some):
            adj[start + k] += means[k]
            flags[start + k] &= ~GRAD_INT


cdef void divide(double *to, const double *sums, int64_t count, double samples) noexcept nogil:
    """Sums over samples as means."""
    cdef double share = 1.0 / samples
    cdef int64_t k
    if share * samples == 1.0 and <int64_t>samples & (<int64_t>samples - 1) == 0:
        for k in range(count):  # the same bits, and faster
            to[k] = sums[k] * share
    else:
        for k in range(count):
            to[k] = sums[k] / samples
