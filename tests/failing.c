/* Preloaded into a process, this makes its memory run out when and where a test says: allocations
 * asked for by fastgrad's extension modules, or all from some size on.  See failing.py.
 *
 * glibc only, whose own allocator is reached by its second names. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

static long left;    /* allocations until the one that fails; 0: none does */
static size_t large; /* bytes from which an allocation counts, whoever asks; 0: fastgrad's do */
static int no_threads;

void fail_at(long n, size_t bytes)
{
    large = bytes;
    left = n;
}

/* Stops; returns whether the allocation has come that was to fail. */
int failed(void)
{
    const int has_come = left == 0;
    left = 0;
    return has_come;
}

void fail_threads(int all)
{
    no_threads = all;
}

static int counts(size_t bytes, const void *caller)
{
    Dl_info info;
    if (large) return bytes >= large;
    return dladdr(caller, &info) && info.dli_fname && strstr(info.dli_fname, "/fastgrad/");
}

static int fails(size_t bytes, const void *caller)
{
    if (!left || !counts(bytes, caller) || --left) return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t bytes)
{
    return fails(bytes, __builtin_return_address(0)) ? NULL : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t size)
{
    return fails(count * size, __builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t bytes)
{
    return fails(bytes, __builtin_return_address(0)) ? NULL : __libc_realloc(old, bytes);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument)
{
    int (*const create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        dlsym(RTLD_NEXT, "pthread_create");
    return no_threads ? EAGAIN : create(thread, attributes, run, argument);
}
