from libc.stdint cimport int32_t, int64_t


cdef class Row:
    cdef tuple items  # Values and numbers
    cdef int64_t count
    cdef double *data          # of each; of Values since `look`
    cdef int32_t *slots        # of each since `place`; before that FLOAT or INT for a number
    cdef int32_t *results      # as many more, for what a function appends for each
    cdef double parameter      # of the function: an index, an eps
    cdef bint has_values

    cdef void look(self) noexcept
    cdef void place(self) noexcept
    cdef int negate(self) except -1
    cdef bint decides_in_trace(self) noexcept
    cdef list handles(self)


# Appends what a function records of one or two rows, which have been looked at; returns the slot of
# the result, or fills `results` of the first.
ctypedef int32_t (*Appender)(Row xs, Row ys) except -1

cdef object recorded(Appender append, Row xs, Row ys, int64_t entries, int64_t words=*)
cdef list recorded_row(Appender append, Row xs, int64_t entries, int64_t words=*)
cdef bint is_operand(object thing) except -1
cdef int check_operand(object thing, str caller, str name) except -1
cdef object value_of(object operand)
cdef tuple items_of(object values, str caller, str name)
cdef Row read_row(object values, str caller, str name)
cdef int check_lengths(Row xs, Row ys, str caller, str first, str second) except -1
cdef int64_t read_index(object i, int64_t count, str caller, str name) except -1
cdef int64_t example_index(object i, int64_t count) noexcept
cdef object read_columns(tuple rows, str caller, str name, int depth)
cdef int check_same_length(tuple rows, str caller, str name) except -1
cdef object read_nested(object thing, str caller, str name, int depth)
cdef object values_of_nested(object nested)
