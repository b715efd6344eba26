"""Where the entries of a fixed list of Values lie, for those who read or change them all in C.

Invariant: after `find`, and until the next collection, the fields tell where they are.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free, realloc

from fastgrad.record cimport handle
from fastgrad.tape cimport Run, tape


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


cdef void divide(double *to, const double *sums, int64_t count, double samples) noexcept:
    """Sums over samples as means."""
    cdef double share = 1.0 / samples
    cdef int64_t k
    if share * samples == 1.0 and <int64_t>samples & (<int64_t>samples - 1) == 0:
        for k in range(count):  # the same bits, and faster
            to[k] = sums[k] * share
    else:
        for k in range(count):
            to[k] = sums[k] / samples
