from libc.stdint cimport int32_t, int64_t

from fastgrad.nodes cimport Fused
from fastgrad.plan cimport Dense
from fastgrad.words cimport Stream, Words


cdef int plan_uniforms(
    Fused graph, bint gradient, Stream *forward, Stream *reverse
) except -1
cdef int find_copied(
    Fused graph, const Dense *layers, const Words *packed, Words *copied
) except -1
cdef int divide_weights(
    const Dense *layers, int32_t count, int64_t uniforms, Words *tasks, Words *group_tasks,
    Words *task_layers, Words *cleared
) except -1
