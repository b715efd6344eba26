"""What functions of several values are given, read and checked before they record anything.

A `Row` reads a sequence of Values and numbers.  That may run Python code, so the slots come later:

    row = read_row(values, ...)    iterates, converts, raises
    recorded(append, row, ...)     makes handles and room: entries have moved for the last time
        row.look()                 finds the Values' slots and data: what remains can be checked
        append(row, ...)           the function's own
            row.place()            the numbers become leaves: every operand has a slot

Invariant: until `place` nothing is on the tape, so an error leaves it as it was.
"""

cimport cython
from libc.math cimport floor
from libc.stdlib cimport free, malloc

from fastgrad.record cimport (
    adopt, apply, describe, handle, handle_of, is_value, read_number,
)
from fastgrad.tape cimport OP_MUL, append_leaf, check_room, handle_alloc, make_room, tape
from fastgrad.trace cimport is_tracer


cdef enum:  # in place of a number's slot
    FLOAT = -1
    INT = -2

cdef enum:
    DEEPEST = 64  # a list that contains itself must not end in a stack overflow


@cython.final
@cython.freelist(8)
@cython.no_gc  # nothing that it holds can come to hold it
cdef class Row:
    """Values and numbers; where they are on the tape is known from `look` and `place` on."""

    def __dealloc__(self):
        free(self.data)

    cdef void look(self) noexcept:
        """Find the slots and data of the Values; the room has been made."""
        cdef int64_t k
        for k in range(self.count):
            if self.slots[k] >= 0:
                self.slots[k] = handle(self.items[k]).slot
                self.data[k] = tape.val[self.slots[k]]

    cdef void place(self) noexcept:
        """Append a leaf for each number."""
        cdef int64_t k
        for k in range(self.count):
            if self.slots[k] < 0:
                self.slots[k] = append_leaf(self.data[k], self.slots[k] == INT, NULL)

    cdef int negate(self) except -1:
        """Append -x for each, as operators do: ``x * -1``; of a number it is taken at once."""
        cdef int32_t minus_one = -1
        cdef int64_t k
        for k in range(self.count):
            if self.slots[k] == FLOAT:
                self.slots[k] = append_leaf(-self.data[k], False, NULL)
            elif self.slots[k] == INT:  # an int 0 has no sign
                self.slots[k] = append_leaf(0.0 - self.data[k], True, NULL)
            else:
                if minus_one < 0:
                    minus_one = append_leaf(-1.0, True, NULL)
                self.slots[k] = apply(OP_MUL, self.slots[k], minus_one, NULL)
        return 0

    cdef bint decides_in_trace(self) noexcept:
        """Must what these decide be recorded, because a program will run on other data?

        Not only inputs are other at each run: parameters are read afresh too.
        """
        return self.has_values and is_tracer()

    cdef list handles(self):
        """All as Values, for `record_pooled`.  Call in a trace, which pins the tape."""
        return [handle_of(self.slots[k]) for k in range(self.count)]


# ---- recording


cdef object recorded(Appender append, Row xs, Row ys, int64_t entries, int64_t words=0):
    """The handle of what a function of one or two rows appends; no others are made."""
    cdef object out = handle_alloc(&tape)
    make_room(entries, words)
    tape.pins += 1
    try:
        xs.look()
        if ys is not None:
            ys.look()
        adopt(out, append(xs, ys))
    finally:
        tape.pins -= 1
    return out


cdef list recorded_row(Appender append, Row xs, int64_t entries, int64_t words=0):
    """The same for a function that gives as many values as it is given."""
    cdef list outputs = [handle_alloc(&tape) for _ in range(xs.count)]
    cdef int64_t k
    make_room(entries, words)
    tape.pins += 1
    try:
        xs.look()
        append(xs, None)
        for k in range(xs.count):
            adopt(outputs[k], xs.results[k])
    finally:
        tape.pins -= 1
    return outputs


# ---- reading


cdef bint is_operand(object thing) except -1:
    cdef double number = 0.0
    cdef int is_int = 0
    return is_value(thing) or read_number(thing, &number, &is_int)


cdef int check_operand(object thing, str caller, str name) except -1:
    if not is_operand(thing):
        raise TypeError(f"{caller}: {name} must be a number or a Value, got {describe(thing)}")
    return 0


cdef object value_of(object operand):
    """The Value itself; of a number, which has been checked, a leaf."""
    cdef double number = 0.0
    cdef int is_int = 0
    if is_value(operand):
        return operand
    read_number(operand, &number, &is_int)
    cdef object out = handle_alloc(&tape)
    check_room()
    append_leaf(number, is_int, handle(out))
    return out


cdef tuple items_of(object values, str caller, str name):
    cdef tuple items
    if type(values) is list or type(values) is tuple:  # four times faster than by an iterator
        items = tuple(values)
    else:
        items = tuple(iterator_of(values, caller, name))
    if not items:
        raise ValueError(
            f"{caller}: {name} is empty, {describe(values)}: expected at least one number or Value"
        )
    return items


cdef object iterator_of(object values, str caller, str name):
    if not isinstance(values, str):
        try:
            return iter(values)
        except TypeError:
            pass
    raise TypeError(
        f"{caller}: {name} must be a sequence of numbers and Values, got {describe(values)}"
    )


cdef Row read_row(object values, str caller, str name):
    """Read a sequence of Values and numbers."""
    cdef Row row = Row.__new__(Row)
    cdef int64_t k, count
    cdef int is_int = 0
    row.items = items_of(values, caller, name)
    count = len(row.items)
    row.data = <double *>malloc(count * (sizeof(double) + 2 * sizeof(int32_t)))
    if row.data == NULL:
        raise MemoryError(f"no memory for {count} operands")
    row.slots = <int32_t *>(row.data + count)
    row.results = row.slots + count
    row.count = count
    for k in range(count):
        if is_value(row.items[k]):
            row.slots[k] = 0
            row.has_values = True
        elif read_number(row.items[k], &row.data[k], &is_int):
            row.slots[k] = INT if is_int else FLOAT
        else:
            check_operand(row.items[k], caller, f"{name}[{k}]")
    return row


cdef int check_lengths(Row xs, Row ys, str caller, str first, str second) except -1:
    if xs.count != ys.count:
        raise ValueError(
            f"{caller}: {first} has length {xs.count}, {second} has length {ys.count}: "
            "expected the same length"
        )
    return 0


# ---- indices


cdef int64_t read_index(object i, int64_t count, str caller, str name) except -1:
    """The index, which is a checked operand, as an int from 0 to count - 1."""
    cdef double index = 0.0
    cdef int is_int = 0
    if is_value(i):
        index = tape.val[handle(i).slot]
    else:
        read_number(i, &index, &is_int)
    if not is_index(index, count):
        raise IndexError(
            f"{caller}: index {describe(i)} of {count} {name}: "
            f"expected a whole number from 0 to {count - 1}"
        )
    return <int64_t>index


cdef int64_t example_index(object i, int64_t count) noexcept:
    """The index that a traced Value has in the example; 0 if it is out of range there."""
    cdef double index = tape.val[handle(i).slot]
    return <int64_t>index if is_index(index, count) else 0


cdef bint is_index(double index, int64_t count) noexcept:
    return 0 <= index < count and index == floor(index)


# ---- nested sequences


cdef int check_depth(str caller, int depth) except -1:
    if depth > DEEPEST:
        raise ValueError(f"{caller}: values are nested more than {DEEPEST} deep")
    return 0


cdef object read_columns(tuple rows, str caller, str name, int depth):
    """Element by element over the rows: a Row of what they have there, nested as they are."""
    check_depth(caller, depth)
    if is_operand(rows[0]):
        return read_row(rows, caller, name)
    rows = tuple([items_of(row, caller, f"{name}[{k}]") for k, row in enumerate(rows)])
    check_same_length(rows, caller, name)
    return [
        read_columns(tuple([row[j] for row in rows]), caller, f"(column {j} of {name})", depth + 1)
        for j in range(len(rows[0]))
    ]


cdef int check_same_length(tuple rows, str caller, str name) except -1:
    for k, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(
                f"{caller}: {name}[0] has length {len(rows[0])}, {name}[{k}] has length "
                f"{len(row)}: expected rows of the same length"
            )
    return 0


cdef object read_nested(object thing, str caller, str name, int depth):
    """A number or Value, or tuples of them nested as `thing` is."""
    check_depth(caller, depth)
    if is_operand(thing):
        return thing
    items = items_of(thing, caller, name)
    return tuple([
        read_nested(item, caller, f"{name}[{k}]", depth + 1) for k, item in enumerate(items)
    ])


cdef object values_of_nested(object nested):
    if type(nested) is tuple:
        return [values_of_nested(item) for item in nested]
    return value_of(nested)
