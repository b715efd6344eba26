from fastgrad.nodes cimport Fused
from fastgrad.recording cimport Recording


cdef Fused fuse(Recording recording)
