from libc.stdint cimport int32_t


cdef enum:  # what `modes` says, bits
    PAUSED = 1   # inside of no_grad: operations give leaves
    CHECKED = 2  # inside of detect_anomaly: nan and inf raise
    NOTED = 4    # entries remember the line that recorded them

cdef int modes() noexcept
cpdef bint is_detecting() noexcept
cdef object resume()
cdef int pause_again(object token) except -1
cdef int note_lines(int32_t first, int32_t end) except -1


cdef inline int note_line(int32_t slot) except -1:
    return note_lines(slot, slot + 1)
