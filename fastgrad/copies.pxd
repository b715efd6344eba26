from libc.stdint cimport int32_t, uint8_t

from fastgrad.tape cimport GRAD_INT, tape


cdef class Copies:
    cdef list originals, copies
    cdef dict copy_of      # by the id of the original
    cdef dict original_of  # by the id of the copy
    cdef object argument(self, object thing)
    cdef void take_adjoints(self) noexcept
    cdef void give_adjoints(self) noexcept
    cdef int close(self, int32_t start) except -1


cdef list operands_below(list values, int32_t start)


cdef inline void set_adjoint(int32_t slot, double adjoint, uint8_t kind) noexcept:
    tape.adj[slot] = adjoint
    tape.flags[slot] = (tape.flags[slot] & ~GRAD_INT) | (kind & GRAD_INT)
