"""Growing lists of words, and the code streams of ``kernels/program.h`` that are made of them.

Invariant: a list that could not grow is as it was.  Whoever owns a list frees ``at``.
"""

from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, realloc
from libc.string cimport memcpy

from fastgrad.tape cimport MOST, check_count


cdef int extend(Words *words, const int32_t *more, int64_t count) except -1:
    cdef int64_t room = words.room
    cdef int32_t *moved
    if words.size + count > room:
        check_count(words.size + count, "the words of a program")
        room = min(2 * (words.size + count) + 64, <int64_t>MOST)
        moved = <int32_t *>realloc(words.at, room * sizeof(int32_t))
        if moved == NULL:
            raise MemoryError(f"no memory for {room} words of a program")
        words.at, words.room = moved, room
    memcpy(words.at + words.size, more, count * sizeof(int32_t))
    words.size += count
    return 0


cdef void *zeros(int64_t count, size_t size) except NULL:
    cdef void *made = calloc(count + 1, size)
    if made == NULL:
        raise MemoryError(f"no memory for {count} nodes of a program")
    return made


cdef void *resized(void *old, int64_t count, size_t size) except NULL:
    cdef void *made = realloc(old, count * size)
    if made == NULL:
        raise MemoryError(f"no memory for {count} nodes of a program")
    return made


cdef int begin(Stream *stream, int code) except -1:
    """Go on with the last run if it has the same code, else begin one."""
    if stream.words.size and stream.words.at[stream.run] == code:
        stream.words.at[stream.run + 1] += 1
        return 0
    stream.run = stream.words.size
    push(&stream.words, code)
    return push(&stream.words, 1)


cdef int end(Stream *stream, int code) except -1:
    push(&stream.words, code)
    return push(&stream.words, 0)
