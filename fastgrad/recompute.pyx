"""Checkpoints: parts of a graph that are recorded again when the reverse sweep comes to them.

What a function records between its operands and its results dies when it has returned:

    operands ...  -> [ the function's entries ] -> results      as it is without
    operands ...  ->          segment           -> results      what the tape holds of it

The segment's entry has as operands what the function's entries had from outside of them: its
arguments and what it captures.  A result's entry hands its adjoint over.  When the sweep comes to
the segment, the function runs again on top of the tape; its entries are swept, which adds to the
operands' adjoints in the order of the graph without a checkpoint, and taken back.

Adjoints of inner entries persist from sweep to sweep in a graph that is swept twice.  So a segment
remembers what its results' adjoints were in earlier sweeps, and does those again before the next.

Invariant: what a function gives when it runs again has the bits that it had before, or it raises.
"""

cimport cython
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp

import random
import weakref
from array import array

from fastgrad.contexts cimport PAUSED, modes, pause_again, resume
from fastgrad.copies cimport Copies, operands_below, set_adjoint
from fastgrad.record cimport (
    attributes_of, describe, handle, is_value, link_children, number_of, set_rule,
)
from fastgrad.reclaim cimport rewind
from fastgrad.sweep cimport (
    EntryRule, Marks, Sweep, mark_entry, mark_operands, reserve_marks, walk,
)
from fastgrad.tape cimport (
    DATA_INT, GRAD_INT, INNER, SWEPT, Run, append_leaf, check_room, handle_alloc, tape,
)
from fastgrad.trace cimport is_tracer


cdef enum:
    DEEPEST = 64  # a list that contains itself must not end in a stack overflow


def checkpoint(fn, *xs):
    """Compute ``fn(*xs)`` and forget how: ``backward()`` runs `fn` again to find out.

    A graph that is made of k such segments of n operations each takes the memory of n + k entries
    instead of n * k, and about twice the time of its forward pass.  A recurrence of n steps in
    segments of ``sqrt(n)`` needs the memory of ``sqrt(n)`` steps.

    Parameters
    ----------
    fn : callable
        It must do the same each time: give the same results for the same data of `xs` and of what
        else it uses, and change nothing.  What it records must not leave it but as its result.
    *xs : Value, number, or nested lists and tuples of them
        Its arguments; other things are passed as they are.

    Returns
    -------
    Value, or nested lists and tuples of Values
        As `fn` returns it.

    Raises
    ------
    TypeError
        If `fn` is not callable, or returns something else.
    RuntimeError
        In ``backward()``, if `fn` gives other results than before, as it does if data that it reads
        has been changed.

    Notes
    -----
    Data and gradients are those of ``fn(*xs)``, to the last bit, also of Values that `fn` captures
    and of a graph that is swept twice.  What `fn` draws from Python's `random`, as `nn.Dropout`
    does, is drawn again.  Checkpoints may be nested.

    Inside of `no_grad`, and in the function of a program, this is ``fn(*xs)`` and nothing else.

    An error that `fn` raises in ``backward()`` comes out of that.

    Threads: entries that another thread records while `fn` runs, and holds, are left where they
    are, and so are those of `fn` below them until the tape's collector comes.

    Examples
    --------
    >>> from fastgrad import Value, checkpoint
    >>> a = Value(0.5)
    >>> def ten_steps(h):
    ...     for _ in range(10):
    ...         h = (h * a + 1.0).tanh()
    ...     return h
    >>> h = Value(0.0)
    >>> for _ in range(10):
    ...     h = checkpoint(ten_steps, h)
    >>> h.backward()
    >>> print(f"{h.data:.6f} {a.grad:.6f}")
    0.895219 0.197372
    """
    if not callable(fn):
        raise TypeError(f"checkpoint: fn must be a function, got {describe(fn)}")
    if is_tracer() or (tape.contexts and modes() & PAUSED):
        return fn(*xs)
    return record_segment(Segment(fn, snapshot(xs, 0)))


# ---- nested arguments and results


cdef int check_depth(int depth) except -1:
    if depth > DEEPEST:
        raise ValueError(f"checkpoint: lists are nested more than {DEEPEST} deep")
    return 0


cdef object snapshot(object thing, int depth):
    """Nested lists and tuples as they are now: the caller may change them."""
    check_depth(depth)
    if type(thing) is list:
        return [snapshot(item, depth + 1) for item in thing]
    if type(thing) is tuple:
        return tuple([snapshot(item, depth + 1) for item in thing])
    return thing


cdef object read_result(object thing, dict values, int depth):
    """Nested like the result, with places among `values`, to which its Values are added by id."""
    check_depth(depth)
    if is_value(thing):
        place, _ = values.setdefault(id(thing), (len(values), thing))
        return place
    if type(thing) is list:
        return [read_result(item, values, depth + 1) for item in thing]
    if type(thing) is tuple:
        return tuple([read_result(item, values, depth + 1) for item in thing])
    raise TypeError(
        "checkpoint: fn must return a Value, or nested lists and tuples of Values, got "
        f"{describe(thing)}"
    )


cdef object nested(object places, list values):
    if type(places) is list:
        return [nested(place, values) for place in places]
    if type(places) is tuple:
        return tuple([nested(place, values) for place in places])
    return values[<Py_ssize_t>places]


# ---- segments


@cython.trashcan(True)
cdef class Segment(EntryRule):
    """A function with its arguments: the rule of the entry that stands for what it records."""

    cdef object fn, arguments, state  # of `random` at the first run, if that has drawn from it
    cdef list results                 # weak references to the results of its own
    cdef list history                 # of earlier sweeps: (adjoints of the results, the reached)
    cdef list reached                 # places of results that the sweep has come to
    cdef uint64_t sweep

    def __cinit__(self, fn, arguments):
        self.fn, self.arguments = fn, arguments
        self.results, self.history, self.reached = [], [], []

    cdef int push(self, int32_t slot, Sweep *sweep) except -1:
        cdef Copies copies = Copies()
        cdef object bottom
        cdef int32_t start
        cdef Marks marks = Marks(NULL, 0)
        cdef Sweep alone = Sweep(&marks, NULL, 0, 0, 0, False, Run(-1, 0))
        reached = self.reached if self.sweep == (0 if sweep == NULL else sweep.number) else []
        self.reached = []
        if not reached:
            return 0
        try:
            if sweep == NULL:
                reserve_marks(&marks, tape.size)
                sweep = &alone
            bottom = new_leaf()
            start = handle(bottom).slot + 1
            values = self.run_again(copies, start)
            if sweep.marks.own != NULL:
                reserve_marks(sweep.marks, tape.size)
            self.sweep_again(values, copies, start, reached, sweep)
            values = None
            copies.close(start)
            bottom = None
            rewind(start - 1)
        finally:
            free(marks.own)
        return 0

    cdef void note(self, Py_ssize_t place, uint64_t sweep) noexcept:
        """A sweep has come to a result."""
        if self.sweep != sweep:
            self.sweep, self.reached = sweep, []
        if place not in self.reached:
            self.reached.append(place)

    cdef object add_result(self, object joint, object number):
        """Record the entry of a result."""
        cdef Result rule = Result.__new__(Result)
        output = (<object>tape.type)(number, (joint,), name_of(self.fn))
        rule.segment, rule.place = self, len(self.results)
        set_rule(handle(output), rule)
        self.results.append(weakref.ref(output))
        return output

    cdef tuple run(self, Copies copies):
        """Run the function: its result nested with places, the Values that stand for these."""
        values = {}
        places = read_result(self.fn(*copies.argument(self.arguments)), values, 0)
        return places, [value for _, value in values.values()]

    cdef list run_again(self, Copies copies, int32_t start):
        """The results, for those of the first run."""
        now = token = None
        if tape.contexts and modes() & PAUSED:
            token = resume()
        try:
            if self.state is not None:
                now = random.getstate()
                random.setstate((self.state[0], tuple(self.state[1]), self.state[2]))
            _, values = self.run(copies)
        finally:
            if now is not None:
                random.setstate(now)
            if token is not None:
                pause_again(token)
        values = own_results(values, copies, start)
        self.compare(values)
        return values

    cdef int compare(self, list values) except -1:
        """Raise unless the results are those of the first run."""
        cdef Py_ssize_t k
        if len(values) != len(self.results):
            raise RuntimeError(
                f"checkpoint: {name_of(self.fn)} gave {len(self.results)} results that it had "
                f"computed, and {len(values)} when backward() ran it again: it must do the same "
                "each time"
            )
        for k in range(len(values)):
            first = self.results[k]()
            if first is not None and memcmp(
                &tape.val[handle(first).slot], &tape.val[handle(values[k]).slot], sizeof(double)
            ):
                raise RuntimeError(
                    f"checkpoint: {name_of(self.fn)} gave {number_of(handle(first).slot)!r}, and "
                    f"{number_of(handle(values[k]).slot)!r} when backward() ran it again: it must "
                    "do the same each time, and data that it reads must not change before "
                    "backward()"
                )
        return 0

    cdef int sweep_again(
        self, list values, Copies copies, int32_t start, list reached, Sweep *outer
    ) except -1:
        """Sweep the entries of a run, from the results that the sweep has come to."""
        cdef Sweep sweep
        cdef Py_ssize_t k
        firsts = [result() for result in self.results]
        if not tape.numpy and self.is_zeroed(firsts):
            self.history = []
        if self.history:
            self.repeat(values, start, outer)
        adjoints = [None if first is None else adjoint_of(first) for first in firsts]
        set_adjoints(values, adjoints)
        copies.take_adjoints()
        try:
            sweep = Sweep(outer.marks, outer, start, 0, outer.number, outer.checked, Run(-1, 0))
            walk(mark_results(values, reached, &sweep), &sweep)
        finally:
            copies.give_adjoints()
        for k in range(len(values)):
            if firsts[k] is not None:
                set_adjoints([firsts[k]], [adjoint_of(values[k])])
                if not tape.numpy:
                    tape.flags[handle(firsts[k]).slot] |= SWEPT
        self.history.append((adjoints, reached))
        return 0

    cdef bint is_zeroed(self, list firsts) noexcept:
        """Has a result's grad been set to 0 since the last sweep, and so inner entries' too?"""
        for first in firsts:
            if first is not None and not tape.flags[handle(first).slot] & SWEPT:
                return True
        return False

    cdef int repeat(self, list values, int32_t start, Sweep *outer) except -1:
        """Do the earlier sweeps again, for the adjoints of inner entries alone."""
        cdef Marks marks = Marks(NULL, 0)
        cdef Sweep aside = Sweep(&marks, NULL, 0, 0, outer.number, outer.checked, Run(-1, 0))
        cdef Sweep sweep
        cdef int32_t slot
        operands = [handle(value).slot for value in operands_below(values, start)]
        before = [(tape.adj[slot], tape.flags[slot]) for slot in operands]
        try:
            for adjoints, reached in self.history:
                free(marks.own)
                marks = Marks(NULL, 0)
                reserve_marks(&marks, tape.size)
                set_adjoints(values, adjoints)
                sweep = Sweep(&marks, &aside, start, 0, outer.number, outer.checked, Run(-1, 0))
                walk(mark_results(values, reached, &sweep), &sweep)
        finally:
            free(marks.own)
            for slot, (adjoint, kind) in zip(operands, before):
                set_adjoint(slot, adjoint, kind)
        return 0


@cython.trashcan(True)
cdef class Result(EntryRule):
    """The rule of a result's entry."""

    cdef Segment segment
    cdef Py_ssize_t place

    cdef int push(self, int32_t slot, Sweep *sweep) except -1:
        self.segment.note(self.place, 0 if sweep == NULL else sweep.number)
        if sweep != NULL:
            mark_operands(slot, sweep)
        return 0


cdef str name_of(object fn):
    return str(getattr(fn, "__name__", type(fn).__name__))


cdef tuple adjoint_of(object value):
    cdef int32_t slot = handle(value).slot
    return tape.adj[slot], tape.flags[slot] & GRAD_INT


cdef int set_adjoints(list values, list adjoints) except -1:
    """Set the adjoints of those for which there is one."""
    for value, adjoint in zip(values, adjoints):
        if adjoint is not None:
            set_adjoint(handle(value).slot, adjoint[0], adjoint[1])
    return 0


cdef int32_t mark_results(list values, list reached, Sweep *sweep) except -1:
    """Mark where a sweep begins; returns the highest of these entries."""
    cdef int32_t slot, top = sweep.floor
    for place in reached:
        slot = handle(values[place]).slot
        if tape.flags[slot] & INNER:
            mark_entry(slot, sweep)
            top = max(top, slot)
    return top


cdef list own_results(list values, Copies copies, int32_t start):
    """Those of a run's results that it has recorded itself."""
    return [
        value for value in values
        if id(value) not in copies.original_of and handle(value).slot >= start
    ]


cdef object new_leaf():
    """Below what a function records: other threads' runs take back nothing from there down."""
    cdef object out = handle_alloc(&tape)
    check_room()
    append_leaf(0.0, DATA_INT, handle(out))
    return out


cdef object record_segment(Segment segment):
    """The first run."""
    cdef Copies copies = Copies()
    cdef list operands, outputs
    cdef int32_t start
    cdef object joint = new_leaf()
    state = random.getstate()
    places, values = segment.run(copies)
    if state != random.getstate():
        segment.state = state[0], array("L", state[1]), state[2]
    tape.pins += 1
    tape.sweeps += 1
    try:
        start = handle(joint).slot + 1
        own = own_results(values, copies, start)
        operands = operands_below(own, start)
        numbers = [number_of(handle(value).slot) for value in own]
        place_of = {id(value): place for place, value in enumerate(own)}
        # A place among the results, or a Value that has been there before.
        values = [
            place_of.get(id(value), copies.original_of.get(id(value), value)) for value in values
        ]
        own = None
        copies.close(start)
    finally:
        tape.pins -= 1
        tape.sweeps -= 1
    if numbers:
        link_children(joint, tuple(operands), None)
        attributes_of(joint)["_op"] = "checkpoint"
        set_rule(handle(joint), segment)
    outputs = [segment.add_result(joint, number) for number in numbers]
    return nested(places, [
        value if is_value(value) else outputs[<Py_ssize_t>value] for value in values
    ])
