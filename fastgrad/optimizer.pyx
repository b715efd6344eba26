"""What all optimizers are: parameters, settings, a memory, and a step that is one C call.

The update formulas are in ``descent.pyx``; users find everything in ``fastgrad.optim``.

Invariant: a call that raises has changed nothing.

Limitations: all parameters form one group, which is fixed.  A grad of 0 is a gradient like any
other; PyTorch skips parameters whose grad is None.

Threads: a step is atomic under the GIL.
"""

import array

from cpython cimport array
from libc.math cimport INFINITY, isfinite
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memset

from fastgrad.pool cimport Task, run_tasks
from fastgrad.record cimport describe, handle, is_value, read_number
from fastgrad.slots cimport Slots, divide
from fastgrad.tape cimport DATA_INT, GRAD_INT, INNER, Run, own_values, tape
from fastgrad.trace cimport refuse_effect

from fastgrad.states import array_mismatches, mismatches, plain, refuse, stored

__all__ = ["Optimizer", "checked"]


cdef extern from "kernels/lines.h":
    void claim_lines(const double *numbers, int64_t count) noexcept nogil


cdef enum:
    CHUNK = 512      # gradients of a minimize() at a time
    PIECE = 1 << 13  # parameters of a task


cdef class Optimizer:
    """What all optimizers have in common; it has no update formula of its own.

    Parameters
    ----------
    params : iterable of Value
    settings : dict
        The others of ``param_groups[0]``, by name.

    Attributes
    ----------
    param_groups : tuple of one dict
        ``"params"``, and the settings, which each step reads: ``param_groups[0]["lr"] = 0.05``.
    """

    def __init__(self, params, dict settings):
        values = all_parameters(params, "optimizer")
        self.slots, self.params = Slots(values), tuple(values)
        self.names, self.memory = tuple(settings), {}
        settings = {name: plain(setting) for name, setting in settings.items()}
        self.param_groups = ({"params": self.params} | settings,)
        self.read_settings(self.param_groups[0])

    @property
    def lr(self):
        """Learning rate: the next steps use what is assigned.

        Raises
        ------
        TypeError, ValueError
            If what is assigned is no finite number of at least 0.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> optimizer = optim.SGD([Value(1.0)], lr=0.1)
        >>> optimizer.lr = 0.05
        >>> optimizer.lr, optimizer.param_groups[0]["lr"]
        (0.05, 0.05)
        """
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, lr):
        checked(lr, "lr", "learning rate")
        self.param_groups[0]["lr"] = plain(lr)

    def zero_grad(self):
        """Set every parameter's grad to the int 0.

        Raises
        ------
        TraceError
            If a program is being recorded.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> w = Value(1.0)
        >>> w.grad = 2.5
        >>> optim.SGD([w]).zero_grad()
        >>> w
        Value(data=1.0, grad=0)
        """
        cdef uint8_t *flags
        cdef int64_t run, k
        refuse_effect("zero_grad()")
        self.slots.find()
        for run in range(self.slots.run_count):
            flags = tape.flags + self.slots.runs[run].first
            memset(tape.adj + self.slots.runs[run].first, 0,
                   self.slots.runs[run].count * sizeof(double))
            for k in range(self.slots.runs[run].count):
                flags[k] |= GRAD_INT

    def step(self):
        """Change every parameter's data by its grad, which stays.

        Raises
        ------
        TypeError, ValueError
            If something in ``param_groups[0]`` has become a bad one.
        TraceError
            If a program is being recorded.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> w = Value(1.0)
        >>> w.grad = 2.0
        >>> optim.SGD([w], lr=0.25).step()
        >>> w
        Value(data=0.5, grad=2.0)
        """
        cdef int64_t run, at = 0
        cdef Run found
        self.prepare("step()")
        own_values()
        self.begin_step()
        for run in range(self.slots.run_count):
            found = self.slots.runs[run]
            self.move(tape.val + found.first, tape.adj + found.first, at, found.count)
            set_floats(found)
            at += found.count

    def minimize(self, program, *args, **kwargs):
        """Run a program forward and in reverse, and change the parameters by its gradient.

        Changes data as ``zero_grad()``, ``program.backward(*args)`` and ``step()`` would, in one
        call; no grad is read or written.

        Parameters
        ----------
        program : Program or distributed.DataParallel
            With one number a sample. Parameters of the optimizer that it does not use have the
            gradient 0, parameters of its own that the optimizer does not have stay as they are.
        *args, **kwargs
            What a call of `program` takes; of a `DataParallel` the rows, or nothing.

        Returns
        -------
        float
            The mean of the program's output over the batch, before the step.

        Raises
        ------
        TypeError, ValueError
            If `program` is neither, uses none of the optimizer's parameters, or something in
            ``param_groups[0]`` has become a bad one; else as `Program.backward`.
        TraceError
            If a program is being recorded.

        Examples
        --------
        >>> import fastgrad
        >>> w = fastgrad.Value(3.0)
        >>> square = fastgrad.compile(lambda x: (w * x) ** 2)
        >>> fastgrad.optim.SGD([w], lr=0.25).minimize(square, [1.0])
        9.0
        >>> w
        Value(data=1.5, grad=0)
        """
        self.prepare("minimize()")
        try:
            descend = program._descend
        except AttributeError:
            raise TypeError(
                f"minimize() needs a compiled program, got {describe(program)}: "
                "fastgrad.compile makes one of a function"
            ) from None
        return descend(self, self.params, args, kwargs)

    # ---- what an optimizer fills in

    cdef int read_settings(self, dict group) except -1:
        """Check the settings, and make what a step needs."""
        raise TypeError("Optimizer has no update formula: use SGD, Adam, AdamW or RMSprop")

    cdef dict uses(self, dict group):
        """Names of all that the memory may hold: whether steps with these settings need it."""

    cdef void begin_step(self) noexcept:
        """Do what comes once a step."""

    cdef void move(
        self, double *p, const double *g, int64_t at, int64_t count
    ) noexcept nogil:
        """Change numbers p, those of parameters `at` and following, by their gradients g."""

    # ---- what they share

    cdef int prepare(self, str what) except -1:
        """Check all that a step needs, and make room for it, before it changes anything."""
        cdef dict group = self.param_groups[0]
        refuse_effect(what)
        if group["params"] is not self.params:
            raise ValueError("the parameters of an optimizer are fixed: make another optimizer")
        self.read_settings(group)
        self.allot(group)
        return self.slots.find()

    def _step_by(self, const double[::1] gradient, order):
        """Step by a gradient that comes from elsewhere; `order` as for `descend`."""
        cdef const int64_t[::1] places
        cdef const int64_t *at = NULL
        self.prepare("minimize()")  # again, as it may have taken long to come
        if order is not None:
            places = order
            at = &places[0]
        self.descend(&gradient[0], at, 1.0, 1)

    cdef int descend(
        self, const double *sums, const int64_t *order, double samples, int threads
    ) except -1:
        """Step by a gradient, sums / samples: parameter k's is at order[k], or is 0 if that is -1.

        Without `order` it is at k.  With several threads the sums are a run's own, and claimed.
        """
        cdef int64_t run
        self.slots.find()  # a run may have let other threads collect
        own_values()
        self.begin_step()
        self.sums, self.order, self.samples, self.moved_at = sums, order, samples, 0
        self.claims = threads > 1
        for run in range(self.slots.run_count):
            self.moved = self.slots.runs[run]
            run_tasks(
                <Task>move_piece, <void *>self,
                (<int64_t>self.moved.count + PIECE - 1) // PIECE, threads
            )
            self.moved_at += self.moved.count
        return 0

    cdef int allot(self, dict group) except -1:
        for name, needed in self.uses(group).items():
            if needed and name not in self.memory:
                self.memory[name] = array.clone(array.array("d"), len(self.params), zero=True)
        return 0

    cdef double *remembered(self, str name) noexcept:
        """A number a parameter; NULL if the memory has no such thing."""
        cdef array.array numbers = self.memory.get(name)
        return NULL if numbers is None else numbers.data.as_doubles

    # ---- state

    def __repr__(self):
        settings = "".join(f", {name}={self.param_groups[0][name]!r}" for name in self.names)
        return f"{type(self).__name__}({len(self.params)} parameters{settings})"

    def __reduce__(self):
        """Copies and pickles have the parameters by value, or with the model that is in them."""
        return restored, (type(self), self.params, self.state_dict())

    def state_dict(self):
        """All that later steps depend on, but for the parameters.

        Returns
        -------
        dict of str to bool, int, float, str and ndarray of float64
            ``"optimizer"``, the class; ``"parameters"``, how many; the settings; ``"initial_lr"``
            if there is a schedule; ``"step"``, how many steps have been made (for SGD, with
            momentum); and by PyTorch's names what they left, each of shape (P,), in the order of
            the parameters. Copies: later steps do not change them.

        Raises
        ------
        TypeError, ValueError
            If something in ``param_groups[0]`` has become a bad one.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> w = Value(1.0)
        >>> w.grad = 2.0
        >>> optimizer = optim.SGD([w], lr=0.25, momentum=0.5)
        >>> optimizer.step()
        >>> state = optimizer.state_dict()
        >>> state["optimizer"], state["lr"], state["momentum_buffer"]
        ('SGD', 0.25, array([2.]))
        """
        import numpy as np

        cdef dict group = self.param_groups[0]
        self.read_settings(group)
        self.allot(group)
        names = [*self.names, "initial_lr"] if "initial_lr" in group else self.names
        return (
            {"optimizer": type(self).__name__, "parameters": len(self.params)}
            | {name: stored(group[name]) for name in names}
            | {"step": self.steps}
            | {name: np.array(numbers) for name, numbers in self.memory.items()}
        )

    def load_state_dict(self, state_dict):
        """Go on as the optimizer would whose state it is; the parameters stay as they are.

        Parameters
        ----------
        state_dict : dict
            What `state_dict` returned; it is copied.

        Raises
        ------
        TypeError
            If it is no dict, or a setting no number.
        ValueError
            If it is the state of an optimizer of another class or of another number of parameters,
            a name is missing or unknown, or something is out of range: all of it is listed.

        Examples
        --------
        >>> from fastgrad import Value, optim
        >>> state = optim.Adam([Value(1.0)], lr=0.25).state_dict()
        >>> optimizer = optim.Adam([Value(3.0)])
        >>> optimizer.load_state_dict(state)
        >>> optimizer.lr
        0.25
        """
        count = len(self.params)
        own = {"optimizer": type(self).__name__, "parameters": count}
        problems = mismatches(
            state_dict, own, (*self.names, "step"), ("initial_lr", *self.uses(self.param_groups[0]))
        )
        refuse("optimizer", problems)
        settings = {
            name: plain(state_dict[name])
            for name in (*self.names, "initial_lr") if name in state_dict
        }
        uses = self.uses(settings)
        problems = array_mismatches(
            state_dict, [name for name in uses if uses[name] or name in state_dict], count
        )
        steps = plain(state_dict["step"])
        if not isinstance(steps, int) or not 0 <= steps < 2**63:
            problems.append(f"step: got {steps!r}, expected an int of at least 0")
        refuse("optimizer", problems)
        if "initial_lr" in settings:
            checked(settings["initial_lr"], "initial_lr", "initial learning rate")
        memory = {
            name: array.array("d", state_dict[name].tobytes())
            for name in uses if name in state_dict
        }
        self.read_settings(settings)
        self.param_groups[0].update(settings)
        self.memory, self.steps = memory, steps


def restored(cls, params, state_dict):
    """An optimizer from its class, its parameters and its state: what unpickling calls."""
    optimizer = cls(params)
    optimizer.load_state_dict(state_dict)
    return optimizer


cdef void move_piece(Optimizer self, int64_t k, int seat) noexcept nogil:
    """A task of a descent."""
    cdef double[CHUNK] gradient
    cdef int64_t start = k * PIECE, end = min(start + PIECE, <int64_t>self.moved.count)
    cdef int64_t count, at, j
    while start < end:
        count, at = min(CHUNK, end - start), self.moved_at + start
        if self.order == NULL:
            if self.claims:
                claim_lines(self.sums + at, count)
            divide(gradient, self.sums + at, count, self.samples)
        else:
            for j in range(at, at + count):
                gradient[j - at] = (
                    self.sums[self.order[j]] / self.samples if self.order[j] >= 0 else 0.0
                )
        self.move(tape.val + self.moved.first + start, gradient, at, count)
        set_floats(Run(self.moved.first + <int32_t>start, <int32_t>count))
        start += count


cdef list all_parameters(object params, str user):
    """The parameters, each a leaf and there once; `user` is who asks."""
    cdef int64_t k
    cdef int32_t slot, last = -1
    cdef bint ascending = True
    cdef list values
    try:
        values = list(params)
    except TypeError:
        raise TypeError(
            f"params must be an iterable of Values, say model.parameters(), got {describe(params)}"
        ) from None
    if not values:
        raise ValueError(f"{user} got an empty parameter list: expected at least one Value")
    for k in range(len(values)):
        if not is_value(values[k]):
            raise TypeError(
                f"parameter {k} must be a Value, got {describe(values[k])}: "
                "pass one flat list of Values"
            )
        slot = handle(values[k]).slot
        if tape.flags[slot] & INNER:
            raise ValueError(
                f"parameter {k} must be a leaf, got {values[k]!r}, the result of "
                f"{values[k]._op!r}: detach() makes it a leaf"
            )
        ascending = ascending and slot > last
        last = slot
    if not ascending:  # a model's do: clipping, at each step, need not hash them
        refuse_twice(values)
    return values


cdef int refuse_twice(list values) except -1:
    seen = {}
    for k, value in enumerate(values):
        if seen.setdefault(id(value), k) != k:
            raise ValueError(
                f"parameter {k} is the same Value as parameter {seen[id(value)]}: "
                "expected each once"
            )
    return 0


cdef double read_setting(
    dict group, str key, str name, double least=0.0, double below=INFINITY
) except? -1.0:
    return checked(group[key], key, name, least, below)


cdef int read_flag(dict group, str key) except -1:
    cdef double value = 2.0
    cdef int kind = 0
    if is_value(group[key]) or not read_number(group[key], &value, &kind) or value not in (0, 1):
        raise TypeError(f"{key} must be True or False, got {describe(group[key])}")
    return <int>value


cpdef double checked(
    object number, str key, str name, double least=0.0, double below=INFINITY
) except? -1.0:
    """Read a setting, which must be a finite number, at least `least` and less than `below`.

    Raises
    ------
    TypeError, ValueError
        If it is not.

    Examples
    --------
    >>> checked(2, "lr", "learning rate")
    2.0
    """
    cdef double value = 0.0
    cdef int kind = 0
    try:
        if is_value(number) or not read_number(number, &value, &kind):
            raise TypeError(f"{key} must be a number, got {describe(number)}")
    except OverflowError:  # an int
        value = INFINITY
    if not isfinite(value) or not least <= value < below:
        raise ValueError(f"Invalid {name}: {number!s:.60}, expected {least:g} <= {key} < {below:g}")
    return value


cdef void set_floats(Run run) noexcept nogil:
    cdef uint8_t *flags = tape.flags + run.first
    cdef int64_t k
    for k in range(run.count):
        flags[k] &= ~DATA_INT
