"""The threads that programs run on: ``kernels/pool.h``, one pool for all modules.

Threads: any thread may call, with the GIL or without; tasks run without it.
"""

from fastgrad.tape cimport MOST


cdef extern from "kernels/pool.h":
    void c_run "pool_run"(Task task, void *context, int64_t tasks, int threads) noexcept nogil
    void c_wake "pool_wake"(int threads) noexcept nogil
    int pool_processors() noexcept


cdef void run_tasks(Task task, void *context, int64_t tasks, int threads) noexcept nogil:
    """Run task(context, k, seat) for every k in [0, tasks) on up to `threads` threads.

    This one takes part. Each has a seat of its own meanwhile, from 0 on and below `threads`.
    """
    c_run(task, context, tasks, threads)


cdef void wake(int threads) noexcept nogil:
    """Say that tasks for so many threads will come soon."""
    c_wake(threads)


cdef int wanted_threads = pool_processors()


def set_num_threads(n):
    """Set how many threads programs use that were compiled without ``threads=``.

    Parameters
    ----------
    n : int
        At least 1. The numbers do not depend on it, to the last bit.

    Raises
    ------
    ValueError
        If `n` is no whole number of at least 1.

    Examples
    --------
    >>> import fastgrad
    >>> before = fastgrad.get_num_threads()
    >>> fastgrad.set_num_threads(1)
    >>> fastgrad.get_num_threads()
    1
    >>> fastgrad.set_num_threads(before)
    """
    global wanted_threads
    wanted_threads = checked_threads(n)


def get_num_threads():
    """Say how many threads programs use: at first, as many as this process may run at once.

    Returns
    -------
    int

    Examples
    --------
    >>> import fastgrad
    >>> fastgrad.get_num_threads() >= 1
    True
    """
    return wanted_threads


def checked_threads(n):
    """Return `n`, a number of threads, or raise ValueError; more than an int holds are as good."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"the number of threads must be an int of at least 1, got {n!r}")
    return min(n, MOST)
