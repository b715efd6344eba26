from fastgrad.batch cimport Batch
from fastgrad.optimizer cimport Optimizer
from fastgrad.replay cimport Replay


cdef class Traced:
    cdef Replay replay
    cdef object captured
    cdef public object recording    # with lines if they have been asked for
    cdef readonly object places     # ndarray of int64, or None for 0, 1, 2, ...
    cdef readonly tuple static, output
    cdef readonly list hidden
    cdef dict linears
    cdef tuple steered              # the parameters of the optimizer that has stepped last, ...
    cdef object steered_order       # ... and their `order`
    cdef tuple run(
        self, str mode, Batch batch, list names, int threads, theta, Optimizer optimizer, order
    )
    cdef object order(self, tuple steered, name)
    cdef object new_order(self, tuple steered, name)


cdef class Calls:
    cdef int own_threads            # at most so many; 0 for as many as all programs
    cdef public bint check_finite
    cdef public object _call        # Arguments
    cdef public object _captured    # Captured
    cdef public dict _traced        # Traced by shapes and static arguments
    cdef tuple prepare(self, tuple args, dict kwargs, bint gradient)
    cdef tuple run(
        self, str mode, Traced traced, Batch batch, list names, theta, Optimizer optimizer, order
    )
