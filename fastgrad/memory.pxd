from libc.stdint cimport int64_t

from fastgrad.plan cimport Plan


cdef enum:
    LARGE = 1 << 18  # parameters of a program


cdef class Memory:
    cdef char *raw
    cdef int size            # of its blocks: see `lanes_of`
    cdef int64_t blocks      # of a superblock
    cdef int workspaces
    cdef double *uniform     # SLOTS_FIXED, the uniforms, their adjoints
    cdef double *packed
    cdef double *packed_adj
    cdef double *sums
    cdef double *stash
    cdef double *ahead       # of several threads; else NULL
    cdef double *workspace
    cdef int64_t workspace_doubles, bytes
    cdef double *outputs
    cdef int64_t outputs_room
    cdef double *room_for(self, int64_t samples) except NULL


cdef inline int lanes_of(int size) noexcept nogil:
    """Of blocks of size 0, 1, ..., 5: 1, 4, 8, 16, 32, 64."""
    return 2 << size if size else 1


cdef int size_for(int64_t samples) noexcept nogil
cdef int size_of_blocks(Plan plan, int64_t samples) noexcept
cdef Memory find_memory(Plan plan, list idle, int64_t samples, int threads)
