"""The reverse sweep: from a root down the tape, through the entries that it reaches.

An entry takes part only if the root reaches it, else a second loss would push the first one's
adjoints again.  ``mark`` says which entries are reached and still waiting; the sweep counts them
and stops when there are none, so its cost follows the root's own graph and not the length of the
tape.  Adjoints persist and accumulate as micrograd's do.

Invariant: marks are 0 before and after, also when a rule raises.  A sweep begun inside another
(by a user-made rule, or by another thread while a rule runs) has marks of its own.

The local rules of elementary operations are expanded from ``kernels/ops.h``.
"""

from libc.math cimport floor, isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from fastgrad.contexts cimport CHECKED, modes
from fastgrad.dialect cimport data_kind, grad_kind
from fastgrad.record cimport (
    check_power, handle, label_of, number_from, number_of, operand_slots, raise_error,
)
from fastgrad.tables cimport line_at, partial_sums, read_recorded
from fastgrad.tape cimport (
    DATA_INT, DATA_NUMPY, ERROR_NONE, GRAD_INT, GRAD_NUMPY, INNER, OP_DOT, OP_FIRST_POOLED,
    OP_LAST_LIGHT, OP_LOCAL, OP_RUN, RULE, SWEPT, Handle, Run, op_partials, op_push,
    op_push_light, op_push_numpy, op_rows, op_words, tape,
)
from fastgrad.trace cimport guard, refuse_effect

from fastgrad.anomaly import adjoint_text, located

cdef extern from "Python.h":
    bint Py_EnterRecursiveCall(const char *where) noexcept  # true with RecursionError set
    void Py_LeaveRecursiveCall()


cdef bint marks_taken = False  # tape.mark serves one sweep at a time
cdef uint64_t sweeps = 0  # so far


cdef class EntryRule:
    """A rule that is given the entry, and so need not refer to its handle: that is no cycle."""

    cdef int push(self, int32_t slot, Sweep *sweep) except -1:
        """Add the entry's contributions, and mark for the sweep what they reach.

        The tape is pinned.  `sweep` is NULL if the rule is run by hand.
        """
        raise NotImplementedError

    def _push_adjoint_of(self, value):
        """What ``value._backward`` is."""
        guard(handle(value).slot, "running _backward() of")
        refuse_effect("_backward()")
        tape.pins += 1
        tape.sweeps += 1
        try:
            self.push(handle(value).slot, NULL)
        finally:
            tape.pins -= 1
            tape.sweeps -= 1


cdef EntryRule entry_rule(int32_t slot):
    """The rule of an entry, if it is one of those."""
    cdef Handle *owner = tape.owner[slot]
    if not tape.flags[slot] & RULE or owner == NULL or owner.links == NULL:
        return None
    rule = (<tuple>owner.links)[0]
    return <EntryRule>rule if isinstance(rule, EntryRule) else None


cdef int reverse(int32_t root) except -1:
    """Seed `root` with 1 and add every reached entry's contributions to its operands."""
    cdef Marks marks = Marks(NULL, 0)
    cdef Sweep sweep
    cdef bint shares = not marks_taken
    global marks_taken, sweeps
    guard(root, "backward() of")
    refuse_effect("backward()")
    if not shares:
        reserve_marks(&marks, root + 1)
    tape.adj[root] = 1.0
    tape.flags[root] &= ~(GRAD_INT | (tape.numpy & GRAD_NUMPY))
    tape.flags[root] |= tape.dialect.seed
    if not tape.flags[root] & INNER:
        free(marks.own)
        return 0
    marks_taken = True
    sweeps += 1
    sweep = Sweep(&marks, NULL, 0, 0, sweeps, tape.contexts and modes() & CHECKED != 0, Run(-1, 0))
    tape.pins += 1
    tape.sweeps += 1
    try:
        mark_entry(root, &sweep)
        walk(root, &sweep)
    finally:
        tape.pins -= 1
        tape.sweeps -= 1
        free(marks.own)
        if shares:
            marks_taken = False
    return 0


cdef int reserve_marks(Marks *marks, int64_t entries) except -1:
    """Let a sweep that does not use the tape's marks have its own for so many entries."""
    cdef uint8_t *moved
    if entries <= marks.room:
        return 0
    moved = <uint8_t *>realloc(marks.own, entries)
    if moved == NULL:
        raise MemoryError(f"no memory for a nested backward pass: {entries} bytes of marks")
    memset(moved + marks.room, 0, entries - marks.room)
    marks.own, marks.room = moved, entries
    return 0


cdef inline uint8_t *marks_of(const Sweep *sweep) noexcept:
    """Where the marks are now: they move when the tape grows."""
    return tape.mark if sweep.marks.own == NULL else sweep.marks.own


cdef int walk(int32_t slot, Sweep *sweep) except -1:
    """Visit the marked entries from `slot` down to the sweep's floor, highest slot first."""
    cdef int32_t stale
    cdef EntryRule rule
    try:
        while True:
            stale = slot + 1 if sweep.checked or tape.numpy else tape.stale_below
            slot = descend(slot, sweep, stale)
            if slot < 0:
                return 0
            # Python code that runs in a rule may record, and so move the arrays.
            rule = entry_rule(slot)
            if rule is not None:
                call_entry_rule(rule, slot, sweep)
                continue
            mark_operands(slot, sweep)
            if sweep.checked:
                push_checked(slot, True)
            elif tape.flags[slot] & RULE:
                call_rule(slot)
            else:
                push(slot)
    except BaseException:
        clear_marks(slot, sweep)
        raise


cdef inline int32_t descend(int32_t slot, Sweep *sweep, int32_t stale) noexcept:
    if sweep.outer == NULL:
        return visit(slot, sweep, stale, False)
    return visit(slot, sweep, stale, True)


cdef inline int32_t visit(
    int32_t slot, Sweep *sweep, int32_t stale, bint has_floor
) noexcept:
    """The sweep's inner loop: visit marked entries from `slot` down, marking their operands.

    Returns the first whose rule is more than plain arithmetic on the operands as they are now, or
    that lies below `stale`, its mark taken off, or -1 when none is waiting.
    """
    cdef const double *val = tape.val
    cdef double *adj = tape.adj
    cdef const int32_t *a = tape.a
    cdef const int32_t *b = tape.b
    cdef const uint8_t *op = tape.op
    cdef uint8_t *flags = tape.flags
    cdef uint8_t *mark = marks_of(sweep)
    cdef int64_t waiting = sweep.waiting
    cdef int32_t left, right
    while waiting:
        if mark[slot]:
            mark[slot] = 0
            waiting -= 1
            if (flags[slot] & RULE or op[slot] > OP_LAST_LIGHT
                    or slot < stale):
                sweep.waiting = waiting
                return slot
            # In locals, because to the C compiler a store to flags might change any array.
            left, right = a[slot], b[slot]
            if has_floor and left < sweep.floor:
                mark_entry(left, sweep)
            else:
                waiting += mark_one(left, flags, mark)
            if has_floor and right < sweep.floor:
                mark_entry(right, sweep)
            else:
                waiting += mark_one(right, flags, mark)
            op_push_light(op[slot], val, adj, flags, left, right, slot)
        slot -= 1
    sweep.waiting = 0
    return -1


cdef inline int mark_one(int32_t slot, const uint8_t *flags, uint8_t *mark) noexcept:
    """Mark an entry that has operands; returns 1 if it was not marked already."""
    cdef uint8_t before = mark[slot], after = before | (flags[slot] & INNER)
    mark[slot] = after  # no branch: which entries are reached twice cannot be predicted
    return before != after


cdef void mark_entry(int32_t slot, Sweep *sweep) noexcept:
    """Mark an entry for the sweep that will visit it."""
    while slot < sweep.floor:
        sweep = sweep.outer
    sweep.waiting += mark_one(slot, tape.flags, marks_of(sweep))


cdef int mark_operands(int32_t slot, Sweep *sweep) except -1:
    """Mark an entry's operands.

    `last_run` remembers the last fused input: the neurons of a layer share it, and while one of
    them is visited none of its entries has been.
    """
    cdef int32_t count = tape.b[slot]
    cdef int32_t *words = tape.pool + tape.a[slot]
    cdef int64_t k
    if tape.op[slot] < OP_FIRST_POOLED:
        mark_entry(tape.a[slot], sweep)
        mark_entry(tape.b[slot], sweep)
    elif tape.op[slot] == OP_RUN:
        mark_entry(words[0], sweep)
        mark_run(words[1], count, sweep)
        if words[2] != sweep.last_run.first or count != sweep.last_run.count:
            sweep.last_run = Run(words[2], count)
            mark_run(words[2], count, sweep)
    else:
        for k in range(op_words(tape.op[slot], count)):
            mark_entry(words[k], sweep)
    return 0


cdef void mark_run(int32_t first, int32_t count, Sweep *sweep) noexcept:
    cdef const uint8_t *flags = tape.flags + first
    cdef uint8_t any_flag = 0
    cdef int32_t k
    for k in range(count):
        any_flag |= flags[k]
    if not any_flag & INNER:
        return
    if first < sweep.floor:
        for k in range(count):
            mark_entry(first + k, sweep)
    else:
        for k in range(count):
            sweep.waiting += mark_one(k, flags, marks_of(sweep) + first)


cdef void clear_marks(int32_t slot, Sweep *sweep) noexcept:
    """After an error: the entries still waiting are all below `slot`."""
    cdef uint8_t *mark = marks_of(sweep)
    while sweep.waiting:
        slot -= 1
        sweep.waiting -= mark[slot] != 0
        mark[slot] = 0


# ---- inside of detect_anomaly


cdef int push_alone(int32_t slot) except -1:
    """An entry's own local rule, outside of a sweep."""
    if not (tape.contexts and modes() & CHECKED):
        return push(slot)
    tape.pins += 1
    try:
        return push_checked(slot, False)
    finally:
        tape.pins -= 1


cdef int push_checked(int32_t slot, bint by_user) except -1:
    """Run a rule, the user-made one if there is one and `by_user`, and look at what it added."""
    cdef int32_t operand
    before = [tape.adj[operand] for operand in operand_slots(slot)]
    if by_user and tape.flags[slot] & RULE:
        call_rule(slot)
    else:
        push(slot)
    return check_adjoints(slot, before)


cdef int check_adjoints(int32_t slot, list before) except -1:
    """Raise if an operand's adjoint is nan or inf; `before` are theirs before the rule has run."""
    cdef int32_t operand
    for place, operand in enumerate(operand_slots(slot)):
        if not isfinite(tape.adj[operand]):
            raise_adjoint(slot, place, tape.adj[operand], before[place])
    return 0


cdef int raise_adjoint(int32_t slot, int place, double became, double before) except -1:
    """Raise FloatingPointError: an operand's adjoint is nan or inf, or would become so."""
    slots = operand_slots(slot)
    if tape.op[slot] < OP_FIRST_POOLED:  # hidden constants too
        slots = [tape.a[slot], tape.b[slot]][:op_rows[tape.op[slot]].operands]
    text = adjoint_text(label_of(slot), [number_of(operand) for operand in slots], place, became,
                        before, number_from(tape.adj[slot], grad_kind(slot)))
    raise FloatingPointError(located(line_at(slot), text))


# ---- local rules


cdef int push(int32_t slot) except -1:
    """Run one entry's own local rule, whether or not a user-made one replaces it in sweeps."""
    cdef int error
    if tape.op[slot] >= OP_FIRST_POOLED:
        push_pooled(slot)
    elif slot < tape.stale_below and tape.dialect.frozen >> tape.op[slot] & 1:
        push_as_recorded(slot)
    elif tape.flags[slot] & INNER:
        if tape.numpy:
            check_power(tape.op[slot], tape.a[slot], tape.b[slot], 1, True)
        error = op_push(tape.op[slot], tape.val, tape.adj, tape.flags, tape.a[slot],
                        tape.b[slot], slot, False)
        if error != ERROR_NONE:
            if tape.contexts and modes() & CHECKED:
                raise_would_be(slot)
            raise_error(tape.op[slot], tape.a[slot], tape.b[slot], error, True)
            op_push(tape.op[slot], tape.val, tape.adj, tape.flags, tape.a[slot], tape.b[slot],
                    slot, True)
        if tape.numpy:
            op_push_numpy(tape.op[slot], tape.flags, tape.a[slot], tape.b[slot], slot,
                          tape.dialect.relu)
    return 0


cdef int raise_would_be(int32_t slot) except -1:
    """The same where the rule itself has refused, and so has added nothing."""
    cdef int32_t a = tape.a[slot]
    cdef double dx = op_partials(
        tape.op[slot], tape.val[a], tape.val[tape.b[slot]], tape.val[slot]
    ).x
    tape.pins += 1
    try:
        raise_adjoint(slot, 0, tape.adj[a] + dx * tape.adj[slot], tape.adj[a])
    finally:
        tape.pins -= 1


cdef int push_as_recorded(int32_t slot) except -1:
    """The rule of an op whose partials were fixed when it was recorded: on a copy of the values."""
    cdef int32_t[3] slots = [tape.a[slot], tape.b[slot], slot]
    cdef double val[3]
    cdef double adj[3]
    cdef uint8_t flags[3]
    cdef int k, b = 0 if slots[0] == slots[1] else 1
    for k in range(3):
        read_recorded(slots[k], slot, &val[k], &flags[k])
        adj[k] = tape.adj[slots[k]]
    op_push(tape.op[slot], val, adj, flags, 0, b, 2, False)
    if tape.numpy:
        op_push_numpy(tape.op[slot], flags, 0, b, 2, tape.dialect.relu)
    for k in range(b + 1):
        tape.adj[slots[k]] = adj[k]
        tape.flags[slots[k]] &= ~(GRAD_INT | (tape.numpy & GRAD_NUMPY))
        tape.flags[slots[k]] |= flags[k] & (GRAD_INT | (tape.numpy & GRAD_NUMPY))
    return 0


cdef int call_entry_rule(EntryRule rule, int32_t slot, Sweep *sweep) except -1:
    if Py_EnterRecursiveCall(" in a rule"):
        return -1
    try:
        rule.push(slot, sweep)
    finally:
        Py_LeaveRecursiveCall()
    return 0


cdef int call_rule(int32_t slot) except -1:
    cdef Handle *owner = tape.owner[slot]
    if owner == NULL or owner.links == NULL:
        # Handles that use the entry hold its handle, so only Python code run by the cyclic
        # collector can come here, from a graph that is being torn down.
        raise ReferenceError("the rule of this user-made Value has been collected")
    rule = (<tuple>owner.links)[0]
    if Py_EnterRecursiveCall(" in a rule"):  # `y._backward = y.backward` has no frames to count
        return -1
    try:
        rule()
    finally:
        Py_LeaveRecursiveCall()
    return 0


cdef int push_pooled(int32_t slot) except -1:
    """The local rules of n-ary entries; that of OP_MADE without a rule does nothing."""
    cdef int32_t count = tape.b[slot]
    cdef int32_t *words = tape.pool + tape.a[slot]
    cdef int op = tape.op[slot]
    cdef int64_t k
    if OP_LOCAL < op < OP_DOT:
        raise TypeError(
            f"{op_rows[op].label.decode()} was recorded for a program: run the program's backward()"
        )
    if op == OP_LOCAL:
        for k in range(count):
            add_product(words[2 * k], words[2 * k + 1], tape.adj[slot],
                        tape.flags[slot] & GRAD_INT)
            if tape.numpy:
                tape.flags[words[2 * k]] |= tape.flags[slot] & GRAD_NUMPY
    elif op == OP_DOT or op == OP_RUN:
        if tape.flags[slot] & SWEPT:
            push_dot(slot, partial_sums(slot))
        else:
            tape.flags[slot] |= SWEPT
            memcpy(words + op_words(op, count), &tape.adj[slot], sizeof(double))
            if op == OP_RUN and not tape.flags[slot] & GRAD_INT and are_apart(words, count):
                push_run(tape.adj[slot], words[0], words[1], words[2], count)
            else:
                push_dot(slot, NULL)
    return 0


cdef void push_dot(int32_t slot, double *sums) noexcept:
    """A fused neuron's rule, term by term from the last.

    In micrograd the partial sums are entries: each keeps its adjoint from sweep to sweep and
    passes all of it on, to the partial sum before it and to the product between them.  `sums` are
    those adjoints, one a term; NULL at the entry's first sweep, where each is the entry's own.
    """
    cdef int32_t *words = tape.pool + tape.a[slot]
    cdef bint run = tape.op[slot] == OP_RUN
    cdef bint is_int = tape.flags[slot] & GRAD_INT
    cdef double g = tape.adj[slot]
    cdef int64_t k
    cdef int32_t w, x
    for k in range(tape.b[slot] - 1, -1, -1):
        w = words[1] + <int32_t>k if run else words[2 * k + 1]
        x = words[2] + <int32_t>k if run else words[2 * k + 2]
        if k == 0:
            add_adjoint(words[0], g, is_int)
        if sums != NULL:
            sums[k] += g
            g = sums[k]
            is_int = is_int and g == floor(g)
        add_product(w, x, g, is_int)
        add_product(x, w, g, is_int)


cdef inline void add_product(int32_t operand, int32_t factor, double g, bint is_int) noexcept:
    """Add val[factor] * g to an operand's adjoint."""
    add_adjoint(operand, tape.val[factor] * g, is_int and tape.flags[factor] & DATA_INT)
    if tape.numpy:
        tape.flags[operand] |= (tape.flags[factor] & DATA_NUMPY) << 1


cdef inline void add_adjoint(int32_t operand, double contribution, bint is_int) noexcept:
    tape.adj[operand] += contribution
    if not is_int:
        tape.flags[operand] &= ~GRAD_INT


cdef inline bint are_apart(const int32_t *words, int32_t count) noexcept:
    """Have bias, w and x no entry in common?  Else adding w by w, then x by x, is another order."""
    cdef int64_t bias = words[0], w = words[1], x = words[2]
    return (w + count <= x or x + count <= w) and not (
        w <= bias < w + count or x <= bias < x + count
    )


cdef void push_run(double g, int32_t bias, int32_t w, int32_t x, int64_t count) noexcept:
    """A fused neuron's rule when `g` is a float, as plain loops over consecutive slots."""
    cdef const double *val_w = tape.val + w
    cdef const double *val_x = tape.val + x
    cdef double *adj_w = tape.adj + w
    cdef double *adj_x = tape.adj + x
    cdef uint8_t *flags_w = tape.flags + w
    cdef uint8_t *flags_x = tape.flags + x
    cdef int64_t k
    add_adjoint(bias, g, False)
    for k in range(count):
        adj_w[k] += val_x[k] * g
    for k in range(count):
        adj_x[k] += val_w[k] * g
    for k in range(count):
        flags_w[k] &= ~GRAD_INT
    for k in range(count):
        flags_x[k] &= ~GRAD_INT


cdef list partials(int32_t slot):
    """Partials by an entry's operands: its local rule, run on a copy with adjoint 1."""
    cdef double val[3]
    cdef double adj[3]
    cdef uint8_t flags[3]
    cdef int error, op = tape.op[slot]
    cdef int32_t k, count = tape.b[slot], first = tape.a[slot]
    cdef int32_t[3] slots = [tape.a[slot], tape.b[slot], slot]
    if not tape.flags[slot] & INNER or (op >= OP_FIRST_POOLED and op != OP_LOCAL):
        return []
    if op == OP_LOCAL:
        tape.pins += 1
        try:
            return [number_of(tape.pool[first + 2 * k + 1]) for k in range(count)]
        finally:
            tape.pins -= 1
    for k in range(3):
        val[k] = tape.val[slots[k]]
        flags[k] = data_kind(slots[k]) | GRAD_INT
        adj[k] = 1.0 if k == 2 else -0.0  # to which a zero can be added with its sign
    error = op_push(op, val, adj, flags, 0, 1, 2, False)
    if error != ERROR_NONE:
        raise_error(op, slots[0], slots[1], error, True)
        op_push(op, val, adj, flags, 0, 1, 2, True)
    if tape.numpy:
        op_push_numpy(op, flags, 0, 1, 2, tape.dialect.relu)
    return [
        number_from(adj[k], (flags[k] & (GRAD_INT | GRAD_NUMPY)) >> 1)
        for k in range(op_rows[op].shown)
    ]
