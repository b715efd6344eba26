from libc.stdint cimport int32_t, int64_t


cdef struct Words:  # a growing list
    int32_t *at
    int64_t size
    int64_t room


cdef struct Stream:  # a code stream that is being written
    Words words
    int64_t run     # where the header of the last run is


cdef int push(Words *words, int32_t word) except -1
cdef int extend(Words *words, const int32_t *more, int64_t count) except -1
cdef void *zeros(int64_t count, size_t size) except NULL
cdef void *grown(void *old, int64_t count, int64_t more, size_t size) except NULL
cdef int begin(Stream *stream, int code) except -1
cdef int end(Stream *stream, int code) except -1
