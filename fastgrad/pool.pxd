from libc.stdint cimport int64_t

ctypedef void (*Task)(void *context, int64_t k, int seat) noexcept nogil

cdef void run_tasks(Task task, void *context, int64_t tasks, int threads) noexcept nogil
cdef void wake(int threads) noexcept nogil
cdef int wanted_threads  # of programs that were compiled without threads=
