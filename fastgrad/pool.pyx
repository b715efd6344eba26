"""The threads that programs run on: ``kernels/pool.h``, one pool for all modules.

Threads: any thread may call, with the GIL or without; tasks run without it.
"""


cdef extern from "kernels/pool.h":
    void c_run "pool_run"(Task task, void *context, int64_t tasks, int threads) noexcept nogil
    void c_wake "pool_wake"(int threads) noexcept nogil
    int pool_processors() noexcept


cdef void run_tasks(Task task, void *context, int64_t tasks, int threads) noexcept nogil:
    """Run task(context, k) for every k in [0, tasks) on up to `threads` threads, this one too."""
    c_run(task, context, tasks, threads)


cdef void wake(int threads) noexcept nogil:
    """Say that tasks for so many threads will come soon."""
    c_wake(threads)


def processors():
    """How many threads of this process can run at once."""
    return pool_processors()
