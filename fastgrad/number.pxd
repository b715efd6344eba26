from libc.stdint cimport uint64_t

from fastgrad.nodes cimport Fused
from fastgrad.recording cimport Recording


cdef int number(Fused graph, Recording recording) except -1


cdef inline uint64_t mix(uint64_t hash, uint64_t word) noexcept:
    # splitmix64's constants; any good mixing would do.
    hash = (hash ^ word) * <uint64_t>0xbf58476d1ce4e5b9
    return hash ^ (hash >> 29)
