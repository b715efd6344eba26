/* A small pool of threads for jobs of microseconds: run task(context, k, seat) for k = 0, 1, ...
 *
 * One word, the gate, holds all that callers and workers must agree on, so every change of it is
 * one atomic step and nothing is ever checked in one place and acted upon in another:
 *
 *           +----------+--------+---------+---------+
 *    gate   |  caller  |  seats |  asleep |  inside |      seats > 0: a job is open
 *           +----------+--------+---------+---------+
 *
 *    caller                                   worker
 *    ------                                   ------
 *    write the job                            watch the gate for POOL_SPIN ns
 *    open:   seats = n  ------------------->  enter:  seats - 1, inside + 1
 *    claim k, run, claim k, run ...           claim k, run, claim k, run ...
 *    close:  seats = 0                        leave:  seats = 0, inside - 1
 *    watch the gate until inside == 0  <----  (none inside: the job is over)
 *    return
 *
 *    call:   asleep - c, calls + c  ------->  sleep:  asleep + 1, wait for a call
 *    sleep:  caller = 1, wait         <-----  leave as the last one: wake the caller
 *
 * Tasks are claimed by seats: a thread begins with the share of its own, then takes what is left of
 * others'.
 *
 * The invariant: a worker reads the job only while it is inside, and the job changes only while
 * the gate has no seats and nobody inside.  A worker that comes late finds no seat and has
 * touched nothing; if it finds a seat of a later job, it works on that one.  So nobody waits for a
 * worker that has not entered, however long the system takes to wake it.
 *
 *   pool_run         runs a job; may be called by any thread, without the GIL
 *   pool_wake        says that one is coming
 *   pool_processors  how many threads are worth having
 *
 * It is no scheduler: it has one job at a time, and a caller that finds the pool taken (by another
 * thread, or because a task calls pool_run) runs its tasks alone.  A task must not fork: the
 * child's copy of the job would miss the tasks of workers that the child has not got.
 */
#ifndef FASTGRAD_POOL_H
#define FASTGRAD_POOL_H

#include <stdint.h>

#ifdef _WIN32 /* no pthreads: one thread */

static int pool_processors(void)
{
    return 1;
}

#else

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

/* To spin about as long as a wake-up costs is at most twice as bad as knowing the future. */
enum { POOL_WORKERS = 255, POOL_SPIN = 50000, POOL_PATIENCE = 1000 };

#define POOL_INSIDE UINT64_C(0x000000000000ffff) /* workers in the job */
#define POOL_ASLEEP UINT64_C(0x00000000ffff0000) /* workers that need a call */
#define POOL_SEATS UINT64_C(0x0000ffff00000000)  /* workers that may still enter */
#define POOL_CALLER UINT64_C(0x0001000000000000) /* the caller sleeps until none is inside */
#define POOL_ONE(field) ((field) & -(field))

/* Watchers of the gate, claimers and the rest keep off each other's cache lines, which some
 * processors fetch in pairs. */
static struct {
    _Alignas(128) _Atomic uint64_t gate;

    _Alignas(128) void (*task)(void *context, int64_t k, int seat);
    void *context;
    int shares;        /* of the job: one a thread */
    _Atomic int spins; /* a processor for every thread of the job? */

    _Alignas(128) atomic_flag taken; /* by a caller; the next three are the taker's */
    int workers;                     /* started; changes under the lock */
    int patience;                    /* jobs to do before another try to start threads */
    int processors;
    int calls; /* to sleeping workers, not yet answered; under the lock */
    pthread_mutex_t lock;
    pthread_cond_t called, over;

    struct {
        _Alignas(128) _Atomic int64_t next; /* the first task that nobody has claimed */
        int64_t end;
    } share[POOL_WORKERS + 1];
} pool = {
    .taken = ATOMIC_FLAG_INIT,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .called = PTHREAD_COND_INITIALIZER,
    .over = PTHREAD_COND_INITIALIZER,
};

/* Threads this process may use now. */
static int pool_processors(void)
{
#ifdef __linux__
    /* Not the C library's wrapper: its macros need _GNU_SOURCE and end at 1024 processors. */
    unsigned long mask[128];
    const long bytes = syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    int count = 0;
    for (long i = 0; i < bytes / (long)sizeof *mask; i++) count += __builtin_popcountl(mask[i]);
    if (count > 0) return count;
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online < 1 ? 1 : (int)online;
}

static inline void pool_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb"); /* `yield` does nothing on most of them */
#endif
}

static inline int64_t pool_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* Spins until `field` of the gate is zero or not, as wanted, but not for long.  By the clock: a
 * pause takes 10 to 140 cycles, and a thread that lost its processor must not start over. */
static void pool_watch(uint64_t field, int wanted)
{
    if (!atomic_load_explicit(&pool.spins, memory_order_relaxed)) return;
    const int64_t end = pool_now() + POOL_SPIN;
    do {
        for (int i = 0; i < 16; i++) {
            const uint64_t gate = atomic_load_explicit(&pool.gate, memory_order_relaxed);
            if (((gate & field) != 0) == wanted) return;
            pool_pause();
        }
    } while (pool_now() < end);
}

/* A share of its own, so that what a thread has in its cache from the last job is mostly what it
 * works on in the next one. */
static void pool_work(int seat)
{
    void (*const task)(void *, int64_t, int) = pool.task;
    void *const context = pool.context;
    const int shares = pool.shares;
    for (int i = 0; i < shares; i++) {
        const int which = (seat + i) % shares;
        const int64_t end = pool.share[which].end;
        int64_t k; /* relaxed: the gate orders the job and its results */
        while ((k = atomic_fetch_add_explicit(&pool.share[which].next, 1, memory_order_relaxed))
               < end)
            task(context, k, seat);
    }
}

/* Returns the seat, counted from 1; 0 if there is none. */
static int pool_enter(void)
{
    uint64_t gate = atomic_load(&pool.gate);
    while (gate & POOL_SEATS)
        if (atomic_compare_exchange_weak(&pool.gate, &gate,
                                         gate - POOL_ONE(POOL_SEATS) + POOL_ONE(POOL_INSIDE)))
            return (int)((gate & POOL_SEATS) / POOL_ONE(POOL_SEATS));
    return 0;
}

static void pool_leave(void)
{
    uint64_t gate = atomic_load(&pool.gate), after;
    do /* all tasks are claimed: whoever entered now would come for nothing */
        after = (gate & ~POOL_SEATS) - POOL_ONE(POOL_INSIDE);
    while (!atomic_compare_exchange_weak(&pool.gate, &gate, after));
    if (!(after & POOL_CALLER) || after & POOL_INSIDE) return;
    pthread_mutex_lock(&pool.lock); /* not before the caller waits */
    pthread_mutex_unlock(&pool.lock);
    pthread_cond_signal(&pool.over);
}

static void pool_sleep(void)
{
    pthread_mutex_lock(&pool.lock);
    uint64_t gate = atomic_load(&pool.gate);
    do
        if (gate & POOL_SEATS) {
            pthread_mutex_unlock(&pool.lock);
            return;
        }
    while (!atomic_compare_exchange_weak(&pool.gate, &gate, gate + POOL_ONE(POOL_ASLEEP)));
    while (!pool.calls) pthread_cond_wait(&pool.called, &pool.lock);
    pool.calls--; /* perhaps another's, who sleeps on in our place: the sum is right */
    pthread_mutex_unlock(&pool.lock);
}

static void *pool_worker(void *unused)
{
    for (;;) {
        pool_watch(POOL_SEATS, 1);
        const int seat = pool_enter();
        if (seat) {
            pool_work(seat);
            pool_leave();
        } else pool_sleep();
    }
    return unused;
}

/* Starts threads until there are `wanted`, or as many as the system grants. */
static void pool_hire(int wanted)
{
    /* A worker inherits this mask: Ctrl-C is the main thread's.  But a fault belongs to the thread
     * that commits it, and blocked it would kill without faulthandler's message. */
    sigset_t blocked, before;
    sigfillset(&blocked);
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGILL);
    pthread_mutex_lock(&pool.lock); /* no fork halfway */
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    pthread_t thread;
    while (pool.workers < wanted && !pthread_create(&thread, NULL, pool_worker, NULL)) {
        pthread_detach(thread);
        pool.workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_unlock(&pool.lock);
    pool.patience = pool.workers < wanted ? POOL_PATIENCE : 0;
    pool.processors = pool_processors();
}

/* Wakes `count` sleepers.  They count as awake from here on, not from when they run, so that a
 * quick succession of jobs pays for one call. */
static void pool_call(int count)
{
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_sub(&pool.gate, (uint64_t)count * POOL_ONE(POOL_ASLEEP));
    pool.calls += count;
    pthread_mutex_unlock(&pool.lock);
    while (count--) pthread_cond_signal(&pool.called);
    pool.processors = pool_processors(); /* it may change; here it costs little in proportion */
}

/* Returns when nobody is inside.  The seats are gone, so their number only falls. */
static void pool_wait(void)
{
    pool_watch(POOL_INSIDE, 0);
    if (!(atomic_load(&pool.gate) & POOL_INSIDE)) return;
    pthread_mutex_lock(&pool.lock);
    atomic_fetch_or(&pool.gate, POOL_CALLER);
    while (atomic_load(&pool.gate) & POOL_INSIDE) pthread_cond_wait(&pool.over, &pool.lock);
    atomic_fetch_and(&pool.gate, ~POOL_CALLER);
    pthread_mutex_unlock(&pool.lock);
}

/* The job of the caller that has taken the pool. */
static void pool_share(void (*task)(void *context, int64_t k, int seat), void *context,
                       int64_t tasks, int threads)
{
    int seats = (tasks < threads ? (int)tasks : threads) - 1;
    if (seats > POOL_WORKERS) seats = POOL_WORKERS;
    if (pool.workers < seats && pool.patience-- <= 0) pool_hire(seats);
    if (seats > pool.workers) seats = pool.workers;

    pool.task = task;
    pool.context = context;
    pool.shares = seats + 1;
    for (int k = 0; k <= seats; k++) {
        atomic_store_explicit(&pool.share[k].next, k * tasks / (seats + 1), memory_order_relaxed);
        pool.share[k].end = (k + 1) * tasks / (seats + 1);
    }
    atomic_store_explicit(&pool.spins, seats < pool.processors, memory_order_relaxed);
    const uint64_t before = atomic_fetch_add(&pool.gate, (uint64_t)seats * POOL_ONE(POOL_SEATS));
    const int asleep = (int)((before & POOL_ASLEEP) / POOL_ONE(POOL_ASLEEP));
    const int missing = seats - (pool.workers - asleep);
    if (missing > 0) pool_call(missing);
    pool_work(0);
    if (atomic_fetch_and(&pool.gate, ~POOL_SEATS) & POOL_INSIDE) pool_wait();
}

static void pool_before_fork(void)
{
    pthread_mutex_lock(&pool.lock);
}

static void pool_after_fork(void)
{
    pthread_mutex_unlock(&pool.lock);
}

/* The child has no workers, and perhaps no longer the caller whose job was running. */
static void pool_in_child(void)
{
    atomic_store(&pool.gate, 0);
    pool.workers = pool.patience = pool.calls = 0;
    pthread_cond_init(&pool.called, NULL); /* they remember waiters that do not exist */
    pthread_cond_init(&pool.over, NULL);
    pthread_mutex_unlock(&pool.lock);
    atomic_flag_clear(&pool.taken);
}

/* At load time: a fork during the first job must find the handlers. */
__attribute__((constructor)) static void pool_watch_forks(void)
{
    pthread_atfork(pool_before_fork, pool_after_fork, pool_in_child);
}

#endif

/* Call workers that sleep: a job for `threads` threads comes as soon as they can be awake. */
static void pool_wake(int threads)
{
#ifndef _WIN32
    if (threads < 2 || atomic_flag_test_and_set_explicit(&pool.taken, memory_order_acquire)) return;
    const int asleep = (int)((atomic_load(&pool.gate) & POOL_ASLEEP) / POOL_ONE(POOL_ASLEEP));
    const int missing = threads - 1 - (pool.workers - asleep);
    if (missing > 0 && asleep > 0) pool_call(missing < asleep ? missing : asleep);
    atomic_flag_clear_explicit(&pool.taken, memory_order_release);
#else
    (void)threads;
#endif
}

/* Run task(context, k, seat) for every k in [0, tasks) on up to `threads` threads, the caller among
 * them; returns when all are done.  Each has a seat of its own meanwhile, from 0 on and below
 * `threads`. */
static void pool_run(void (*task)(void *context, int64_t k, int seat), void *context,
                     int64_t tasks, int threads)
{
#ifndef _WIN32
    if (threads > 1 && tasks > 1
        && !atomic_flag_test_and_set_explicit(&pool.taken, memory_order_acquire)) {
        pool_share(task, context, tasks, threads);
        atomic_flag_clear_explicit(&pool.taken, memory_order_release);
        return;
    }
#endif
    (void)threads;
    for (int64_t k = 0; k < tasks; k++) task(context, k, 0);
}

#endif
