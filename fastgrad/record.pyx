"""Recording: between Python's numbers and handles, and the tape's entries.

Here live the conversion of numbers, the errors of operations, the handles made for entries that
have none, and the references that keep user-made rules alive.

Invariant: a function that holds slots while Python code may run (anything that allocates, calls or
frees Python objects) pins the tape, so that entries do not move under it.  Arrays and the pool may
still grow, so what points into them is read afresh after anything that allocates.

Threads: a rule that blocks pins the tape for all threads, whose graphs are not reclaimed meanwhile.

User-made rules outlive their handles.  The handle of such an entry holds the rule; the handle of
every entry that descends from it (flag KEPT) holds the handles of those operands.  So that part
of the graph is an ordinary Python graph, kept and collected as micrograd's is.
"""

from cpython.float cimport PyFloat_Check
from cpython.long cimport PyLong_Check
from cpython.number cimport PyIndex_Check, PyNumber_Float, PyNumber_Index
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.sequence cimport PySequence_Check
from libc.math cimport fabs, isfinite
from libc.stdint cimport int64_t

from fastgrad.contexts cimport CHECKED, PAUSED, modes, note_line
from fastgrad.dialect cimport data_kind, failure_hook, is_numpys, make_numpys, read_numpys
from fastgrad.tables cimport attributes_left_at, line_at
from fastgrad.tape cimport (
    DATA_NUMPY, ERROR_DOMAIN, ERROR_OVERFLOW, ERROR_ZERO_DIVISION, GRAD_INT, OP_FIRST_POOLED,
    OP_LEAF, OP_LOCAL, OP_LOG, OP_MADE, OP_POW, OP_POW_CONST, OP_RUN, OP_SQRT, RULE,
    handle_track, make_room, op_is_numpy, op_rows, op_words,
)
from fastgrad.trace cimport guard, is_tracer

from fastgrad.anomaly import located, sum_text, value_text
from fastgrad.trace import user_line


# ---- numbers


cdef object number_of(int32_t slot):
    return number_from(tape.val[slot], data_kind(slot))


cdef object other_number(double value, int kind):
    if kind & DATA_NUMPY:
        return make_numpys(value, kind & DATA_INT)
    return int(value) if fabs(value) < 9007199254740992.0 else value


cdef int read_other_number(object number, double *value, int *kind) except -1:
    kind[0] = 0
    if tape.dialect.numpy and not PyLong_CheckExact(number) and is_numpys(number):
        return read_numpys(number, value, kind)
    if PyFloat_Check(number):  # np.float64 among them
        value[0] = PyFloat_AS_DOUBLE(number)
        return 1
    if not PyLong_Check(number):
        # A script's own Value keeps a Fraction or a tensor as it is, which cannot be done here.
        if is_value(number) or isinstance(number, complex) or tape.dialect.numpy:
            return 0
        if PySequence_Check(number):  # a string, a list; of arrays those without axes are numbers
            if getattr(number, "ndim", 1) != 0:
                return 0
            number = number.item()
            return not PySequence_Check(number) and read_number(number, value, kind)
        if PyIndex_Check(number):
            number = PyNumber_Index(number)
        elif hasattr(type(number), "__float__"):
            value[0] = PyNumber_Float(number)
            # NumPy's bool has no __index__.
            kind[0] = DATA_INT if type(number).__name__ in ("bool", "bool_") else 0
            return 1
        else:
            return 0
    value[0] = number
    kind[0] = DATA_INT
    return 1


# ---- errors


cdef int check_numpys(int op, int32_t a, int32_t b, double z, int kind) except -1:
    """After an operation that gives a number of NumPy's: what its numbers do another way.

    Where it warns, the hook computes by NumPy; np.int64 has no negative powers.
    """
    cdef bint is_power = op == OP_POW or op == OP_POW_CONST
    check_power(op, a, b, 1 if tape.dialect.frozen >> op & 1 else 0, False)
    if kind & DATA_INT and fabs(z) >= 9007199254740992.0:
        raise OverflowError(
            f"{op_rows[op].label.decode()} of {number_of(a)!r} and {number_of(b)!r}: the result is "
            "too large, expected an np.int64 below 2**53: compute in floats"
        )
    # An infinity from finite numbers, or nan from others: raise_error knows of powers already.
    if not (is_power or isfinite(z)) and (
        isfinite(tape.val[a]) and isfinite(tape.val[b])
        or z != z and tape.val[a] == tape.val[a] and tape.val[b] == tape.val[b]
    ):
        raise_error(op, a, b, ERROR_OVERFLOW, False)
    return 0


cdef int check_power(int op, int32_t a, int32_t b, int least, bint reverse) except -1:
    """Raise if it is a power of ints, of which one is NumPy's, by less than `least`."""
    if op == OP_POW or op == OP_POW_CONST:
        if (tape.flags[a] & tape.flags[b] & DATA_INT and tape.val[b] < least
                and (data_kind(a) | data_kind(b)) & DATA_NUMPY):
            raise_error(op, a, b, ERROR_DOMAIN, reverse)
    return 0


cdef int raise_error(int op, int32_t a, int32_t b, int error, bint reverse) except -1:
    """Raise what Python's float or math would, and say which operation it was.

    Not while a program is traced: its numbers are an example's, and a program follows IEEE.
    Returns where the computation goes on, as NumPy's numbers do with a warning.
    """
    cdef int numpys_a = data_kind(a) & DATA_NUMPY, numpys_b = data_kind(b) & DATA_NUMPY
    cdef bint both_ints = tape.flags[a] & tape.flags[b] & DATA_INT
    cdef double z
    if is_tracer():
        return 0
    if tape.contexts and modes() & CHECKED:
        z = op_value(op, tape.val[a], tape.val[b])
        if error != ERROR_DOMAIN or not isfinite(z):  # which powers of np.int64 are
            raise_anomaly(op, a, b, z)
    x, y = number_of(a), number_of(b)
    if failure_hook is not None:
        failure_hook(op_rows[op].name.decode(), x, y, reverse)
    if op_is_numpy(op, numpys_a, numpys_b, tape.val[a], tape.val[b]) or (
        reverse and op == OP_LOG and numpys_a
    ):
        if both_ints and (op == OP_POW or op == OP_POW_CONST):
            raise ValueError(f"{x!r} ** {y!r}: an np.int64 has no negative powers, use a float")
        return 0
    return raise_error_of(op, x, y, error, reverse)


cdef int raise_error_of(int op, object x, object y, int error, bint reverse) except -1:
    """The same for numbers that are not on the tape."""
    if is_tracer():
        return 0
    if tape.contexts and modes() & CHECKED:
        numbers = (x, y)[:op_rows[op].operands]
        raise FloatingPointError(
            located(user_line(), value_text(label_of_op(op), numbers, op_value(op, x, y)))
        )
    if op == OP_POW or op == OP_POW_CONST:
        # Python's own spelling: -8.0 ** 0.5 would be -(8.0 ** 0.5).
        call = f"({x!r}) ** {y!r}" if x < 0 else f"{x!r} ** {y!r}"
        domain = "a negative number to a fractional power is complex, fastgrad computes in reals"
    else:
        call = f"{op_rows[op].label.decode()}({x!r})"
        wanted = {OP_LOG: "a positive number", OP_SQRT: "a number of at least 0"}
        domain = f"expected {wanted.get(op, 'a finite number')}"
    if reverse:
        call = f"backward of {call}"
    if error == ERROR_ZERO_DIVISION:
        raise ZeroDivisionError(
            f"{call} divides by zero" if reverse
            else f"{call}: zero cannot be raised to a negative power"
        )
    if error == ERROR_OVERFLOW:
        raise OverflowError(f"{call}: the result is too large for a float64")
    raise ValueError(f"{call}: {domain}")


cdef str label_of_op(int op):
    return op_rows[op].label.decode() or "a hand-made operation"


cdef str describe(object thing):
    text = repr(thing)
    return f"{type(thing).__name__} {text if len(text) < 60 else text[:56] + ' ...'}"


# ---- inside of no_grad and detect_anomaly


cdef int unusual(int op, int32_t a, int32_t b, double z) except -1:
    """What an operator does there before it appends `z`; is it to append a leaf?"""
    cdef int here = modes()
    if here & CHECKED and not isfinite(z):
        raise_anomaly(op, a, b, z)
    if here & PAUSED:
        return 1
    note_line(tape.size)
    return 0


cdef int unusual_sum(int64_t at, int64_t count, double z) except -1:
    """The same for a DOT of so many terms, whose slots are in the pool from `at` on."""
    cdef int here = modes()
    if here & CHECKED and not isfinite(z):
        slots = [tape.pool[at + k] for k in range(2 * count + 1)]
        text = sum_text([number_of(slot) for slot in slots], z, origin_of(slots))
        raise FloatingPointError(located(user_line(), text))
    if here & PAUSED:
        return 1
    note_line(tape.size)
    return 0


cdef int unusual_made(str label, object number, tuple children) except -1:
    """The same for a Value made by hand, whose line is noted when it is linked."""
    cdef int here = modes()
    cdef double z = number
    if here & CHECKED and not isfinite(z):
        tape.pins += 1
        try:
            slots = [handle(child).slot for child in children]
            text = value_text(label or label_of_op(OP_MADE), [number_of(slot) for slot in slots],
                              number, origin_of(slots))
            raise FloatingPointError(located(user_line(), text))
        finally:
            tape.pins -= 1
    return here & PAUSED


cdef int raise_anomaly(int op, int32_t a, int32_t b, double z) except -1:
    tape.pins += 1
    try:
        slots = [a, b][:op_rows[op].operands]
        numbers = [number_of(slot) for slot in slots]
        text = value_text(label_of_op(op), numbers, z, origin_of(slots))
        raise FloatingPointError(located(user_line(), text))
    finally:
        tape.pins -= 1


cdef str origin_of(list slots):
    """What an operand is that was nan or inf before; nothing if there is none."""
    cdef int32_t slot
    for slot in slots:
        if not isfinite(tape.val[slot]):
            if not tape.flags[slot] & INNER:
                return "a leaf"
            return "a result whose data was set" if line_at(slot) else (
                "from outside of detect_anomaly()"
            )
    return ""


cdef str label_of(int32_t slot):
    """What the operation of an entry is called, also by its maker."""
    cdef Handle *owner = tape.owner[slot]
    if owner != NULL and owner.attributes != NULL and "_op" in <dict>owner.attributes:
        return str((<dict>owner.attributes)["_op"])
    return label_of_op(tape.op[slot])


# ---- handles of entries


cdef object handle_of(int32_t slot):
    """The live handle of an entry, or a new one with what the last one left behind."""
    if tape.owner[slot] != NULL:
        return <object>tape.owner[slot]
    tape.pins += 1
    try:
        out = handle_alloc(&tape)
        if tape.owner[slot] != NULL:  # made by Python code that the allocation ran
            return <object>tape.owner[slot]
        (<Handle *>out).slot = slot
        tape.owner[slot] = <Handle *>out
        attributes = attributes_left_at(slot)
        if attributes is not None:
            Py_INCREF(attributes)
            (<Handle *>out).attributes = <PyObject *>attributes
            handle_track(out)
        if tape.flags[slot] & KEPT:
            keep(<Handle *>out, slot)
    finally:
        tape.pins -= 1
    return out


cdef list operand_slots(int32_t slot):
    """Slots of the operands in the order of the operation, hidden constants left out.

    The tape is pinned.  The pool may move while lists are made, so it is read word by word.
    """
    cdef int op = tape.op[slot], apart = 1
    cdef int64_t k, count = tape.b[slot], first = tape.a[slot]
    cdef list slots
    if not tape.flags[slot] & INNER:
        return []
    if op < OP_FIRST_POOLED:
        return [tape.a[slot], tape.b[slot]][:op_rows[op].shown]
    # No comprehensions: Cython 3.3 drops an item twice where the list cannot grow.
    if op == OP_RUN:
        slots = [tape.pool[first]] * (2 * count + 1)
        for k in range(count):
            slots[2 * k + 1] = tape.pool[first + 1] + <int32_t>k
            slots[2 * k + 2] = tape.pool[first + 2] + <int32_t>k
        return slots
    if op == OP_LOCAL:
        apart = 2
    else:
        count = op_words(op, count)
    slots = [None] * count
    for k in range(count):
        slots[k] = tape.pool[first + apart * k]
    return slots


cdef list operands_of(int32_t slot):
    """Handles of the operands, in the order of the operation."""
    cdef list operands
    cdef int64_t k
    tape.pins += 1
    try:
        operands = operand_slots(slot)
        for k in range(len(operands)):
            operands[k] = handle_of(operands[k])
        return operands
    finally:
        tape.pins -= 1


cdef dict attributes_of(object self):
    """The dict of a handle's attributes, made now if it has none."""
    attributes = {}  # may run the cyclic collector, and so Python code
    if handle(self).attributes == NULL:
        Py_INCREF(attributes)
        handle(self).attributes = <PyObject *>attributes
        handle_track(self)
    return <dict>handle(self).attributes


# ---- user-made rules


cdef int keep(Handle *user, int32_t slot) except -1:
    """Let the handle of `slot` hold the nearest handles below it that must be kept."""
    cdef int32_t operand
    cdef object held = <object>user  # the cyclic collector may drop the last other reference
    tape.pins += 1
    try:
        found = {}  # handles by address: a subclass may call different ones equal
        seen = set()
        waiting = [slot]
        while waiting:
            for operand in operand_slots(waiting.pop()):
                if not tape.flags[operand] & KEPT or operand in seen:
                    continue
                seen.add(operand)
                if tape.owner[operand] == NULL:
                    waiting.append(operand)
                else:
                    found[<size_t>tape.owner[operand]] = <object>tape.owner[operand]
        set_links(handle(held), (rule_of(user), *found.values()))
    finally:
        tape.pins -= 1
    return 0


cdef object rule_of(Handle *handle):
    return None if handle.links == NULL else (<tuple>handle.links)[0]


cdef int set_links(Handle *handle, tuple links) except -1:
    cdef PyObject *old = handle.links
    Py_INCREF(links)
    handle.links = <PyObject *>links
    handle_track(<object>handle)
    Py_XDECREF(old)
    return 0


cdef int set_rule(Handle *handle, object rule) except -1:
    """Replace the entry's rule, also when later entries already use it."""
    cdef int32_t slot, later
    tape.pins += 1
    try:
        slot = handle.slot
        links = () if handle.links == NULL else (<tuple>handle.links)[1:]
        set_links(handle, (rule, *links))
        if tape.op[slot] == OP_LEAF:  # a sweep stops at leaves, not at entries without operands
            tape.op[slot] = OP_MADE
            tape.a[slot] = tape.b[slot] = 0
        tape.flags[slot] |= RULE | KEPT | INNER
        if not tape.flags[slot] & USED:
            return 0
        later = slot
        while later + 1 < tape.size:  # which grows if the cyclic collector's finalizers record
            later += 1
            if not tape.flags[later] & INNER or not has_kept_operand(later):
                continue
            tape.flags[later] |= KEPT
            if tape.owner[later] != NULL and not holds_operands(later):
                keep(tape.owner[later], later)
    finally:
        tape.pins -= 1
    return 0


cdef bint holds_operands(int32_t slot) noexcept:
    """Does the handle of an elementary entry hold what it must of its operands already?"""
    if tape.op[slot] >= OP_FIRST_POOLED:
        return False
    return holds(tape.owner[slot], tape.a[slot]) and holds(tape.owner[slot], tape.b[slot])


cdef bint holds(Handle *user, int32_t operand) noexcept:
    cdef Py_ssize_t k
    if not tape.flags[operand] & KEPT:
        return True
    if user.links == NULL or tape.owner[operand] == NULL:
        return False
    for k in range(1, len(<tuple>user.links)):
        if <PyObject *>(<tuple>user.links)[k] == <PyObject *>tape.owner[operand]:
            return True
    return False


cdef bint has_kept_operand(int32_t slot) noexcept:
    cdef int32_t k, count = tape.b[slot]
    cdef int32_t *words
    if tape.op[slot] < OP_FIRST_POOLED:
        return (tape.flags[tape.a[slot]] | tape.flags[tape.b[slot]]) & KEPT
    words = tape.pool + tape.a[slot]
    if tape.op[slot] == OP_RUN:
        for k in range(count):
            if (tape.flags[words[1] + k] | tape.flags[words[2] + k]) & KEPT:
                return True
        return tape.flags[words[0]] & KEPT
    for k in range(op_words(tape.op[slot], count)):
        if tape.flags[words[k]] & KEPT:
            return True
    return False


# ---- user-made entries


cdef int link_children(
    object self, tuple children, tuple factors, bint in_trace=False
) except -1:
    """Move a fresh handle to an entry with operands: user-made, or in microgpt's form.

    `in_trace` says that programs know the rule that it will have.
    """
    cdef int64_t count = len(children), k
    cdef int32_t *words
    cdef int32_t old, slot
    cdef uint8_t flags
    cdef double factor = 0.0
    cdef int kind = 0
    cdef bint local = factors is not None
    if not in_trace:
        for child in children:
            guard(handle(child).slot, "a Value made by hand from")
    make_room(1 + count, 2 * count)
    tape.pins += 1
    try:
        words = tape.pool + tape.pool_size
        old = handle(self).slot
        flags = INNER | (tape.flags[old] & ~USED) | (0 if local else KEPT)
        if tape.flags[old] & (USED | INNER):
            raise TypeError("this Value is part of a graph already: make a new one with children")
        for k in range(count):
            slot = handle(children[k]).slot
            tape.flags[slot] |= USED
            flags |= tape.flags[slot] & KEPT
            if local:
                read_number(factors[k], &factor, &kind)
                words[2 * k] = slot
                words[2 * k + 1] = append_leaf(factor, kind, NULL)
                tape.flags[tape.size - 1] |= USED
            else:
                words[k] = slot
        tape.owner[old] = NULL
        slot = append(OP_LOCAL if local else OP_MADE, <int32_t>tape.pool_size, <int32_t>count,
                      tape.val[old], flags, handle(self))
        tape.pool_size += 2 * count if local else count
        if tape.contexts:
            note_line(slot)
        if flags & KEPT:
            keep(handle(self), slot)
    finally:
        tape.pins -= 1
    return 0


cdef object record_pooled(int op, tuple operands):
    """Append an n-ary entry of a traced program on handles; its value is set by the caller."""
    cdef int64_t count = len(operands), k
    cdef int32_t slot
    cdef uint8_t kept = 0
    cdef object out = handle_alloc(&tape)
    make_room(1, count)
    for k in range(count):
        slot = handle(operands[k]).slot
        tape.flags[slot] |= USED
        kept |= tape.flags[slot] & KEPT
        tape.pool[tape.pool_size + k] = slot
    slot = append(op, <int32_t>tape.pool_size, <int32_t>count, tape.val[handle(operands[0]).slot],
                  INNER | GRAD_INT | kept, handle(out))
    tape.pool_size += count
    if tape.contexts:
        note_line(slot)
    if kept:
        keep(handle(out), slot)
    return out


cdef tuple all_values(object children):
    children = tuple(children)
    for child in children:
        if not is_value(child):
            raise TypeError(f"children must be Values, got {describe(child)}")
    return children


cdef tuple all_numbers(object factors, tuple children):
    """Local gradients as plain Python numbers, one for each child."""
    cdef double value = 0.0
    cdef int kind = 0
    numbers = []
    for factor in factors:
        if not read_number(factor, &value, &kind):
            raise TypeError(f"local gradients must be numbers, got {describe(factor)}")
        numbers.append(number_from(value, kind))
    if len(numbers) != len(children):
        raise ValueError(
            f"got {len(numbers)} local gradients for {len(children)} children: "
            "expected one for each child"
        )
    return tuple(numbers)
