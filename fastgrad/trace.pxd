from libc.stdint cimport int32_t

from fastgrad.tape cimport tape


cdef bint depends(int32_t slot) except -1
cdef int refuse(int32_t slot, str what) except -1
cdef int refuse_effect(str what) except -1
cdef int refuse_edit(int32_t slot, str what) except -1
cdef bint is_tracer() noexcept


cdef inline int guard(int32_t slot, str what) except -1:
    """Raise TraceError if a program is being traced and the entry depends on its inputs."""
    if tape.tracing:
        return refuse(slot, what)
    return 0
