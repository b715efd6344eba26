"""Optimizers: `SGD` and `Adam`, whose step is one C call over all parameters.

They have PyTorch's names, defaults and formulas, and its order of operations: what they do to
float64 numbers is what torch.optim does to them, but for the last bits.

Invariant: a call that raises has changed nothing.

Limitations: all parameters form one group, which is fixed.  A grad of 0 is a gradient like any
other; PyTorch skips parameters whose grad is None.

Threads: a step is atomic under the GIL.
"""

import array

from cpython cimport array
from libc.math cimport INFINITY, isfinite, pow, sqrt
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from fastgrad.record cimport describe, handle, is_value, read_number
from fastgrad.slots cimport divide
from fastgrad.tape cimport DATA_INT, GRAD_INT, INNER, Run, tape
from fastgrad.trace cimport refuse_effect

__all__ = ["SGD", "Adam", "Optimizer"]


cdef enum:
    CHUNK = 512  # gradients of a minimize() at a time


cdef class Optimizer:
    """What `SGD` and `Adam` have in common; it has no rule of its own.

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
        values = all_parameters(params)
        self.slots, self.params = Slots(values), tuple(values)
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
        read_setting({"lr": lr}, "lr", "learning rate")
        self.param_groups[0]["lr"] = lr

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
        program : Program
            With one number a sample. Parameters of the optimizer that it does not use have the
            gradient 0, parameters of its own that the optimizer does not have stay as they are.
        *args, **kwargs
            What a call of `program` takes.

        Returns
        -------
        float
            The mean of the program's output over the batch, before the step.

        Raises
        ------
        TypeError, ValueError
            If `program` is no Program, uses none of the optimizer's parameters, or something in
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
            step = program._descend
        except AttributeError:
            raise TypeError(
                f"minimize() needs a compiled program, got {describe(program)}: "
                "fastgrad.compile makes one of a function"
            ) from None
        return step(self, args, kwargs)

    cdef int prepare(self, str what) except -1:
        """Check all that a step needs, before it changes anything."""
        cdef dict group = self.param_groups[0]
        refuse_effect(what)
        if group["params"] is not self.params:
            raise ValueError("the parameters of an optimizer are fixed: make another optimizer")
        self.read_settings(group)
        return self.slots.find()

    cdef int descend(
        self, const double *sums, const int64_t *order, double samples
    ) except -1:
        """Step by a gradient, sums / samples: parameter k's is at order[k], or is 0 if that is -1.

        Without `order` it is at k.
        """
        cdef double[CHUNK] gradient
        cdef int64_t run, start, count, k, at = 0
        cdef Run found
        self.prepare("minimize()")  # settings may have been changed while the program was traced
        self.begin_step()
        for run in range(self.slots.run_count):
            found = self.slots.runs[run]
            for start in range(0, found.count, CHUNK):
                count = min(CHUNK, found.count - start)
                if order == NULL:
                    divide(gradient, sums + at, count, samples)
                else:
                    for k in range(count):
                        gradient[k] = sums[order[at + k]] / samples if order[at + k] >= 0 else 0.0
                self.move(tape.val + found.first + start, gradient, at, count)
                at += count
            set_floats(found)
        return 0

    cdef int read_settings(self, dict group) except -1:
        """Check the settings, and make what a step needs."""
        raise TypeError("Optimizer has no rule of its own: use SGD or Adam")

    cdef void begin_step(self) noexcept:
        """Do what comes once a step."""

    cdef void move(
        self, double *p, const double *g, int64_t at, int64_t count
    ) noexcept:
        """Change numbers p, those of parameters `at` and following, by their gradients g."""


cdef list all_parameters(object params):
    try:
        values = list(params)
    except TypeError:
        raise TypeError(
            f"params must be an iterable of Values, say model.parameters(), got {describe(params)}"
        ) from None
    if not values:
        raise ValueError("optimizer got an empty parameter list: expected at least one Value")
    seen = {}
    for k, value in enumerate(values):
        if not is_value(value):
            raise TypeError(
                f"parameter {k} must be a Value, got {describe(value)}: "
                "pass one flat list of Values"
            )
        if tape.flags[handle(value).slot] & INNER:
            raise ValueError(
                f"can't optimize {value!r}, parameter {k}: expected a leaf, got the result of "
                f"{value._op!r}; detach() makes it a leaf"
            )
        if seen.setdefault(id(value), k) != k:
            raise ValueError(
                f"parameter {k} is the same Value as parameter {seen[id(value)]}: "
                "expected each once"
            )
    return values


cdef double read_setting(
    dict group, str key, str name, double least=0.0, double below=INFINITY
) except? -1.0:
    """A number of the group, which must be finite, at least `least` and less than `below`."""
    return checked(group[key], key, name, least, below)


cdef double checked(object number, str key, str name, double least, double below) except? -1.0:
    cdef double value = 0.0
    cdef int is_int = 0
    if is_value(number) or not read_number(number, &value, &is_int):
        raise TypeError(f"{key} must be a number, got {describe(number)}")
    if not isfinite(value) or not least <= value < below:
        raise ValueError(f"Invalid {name}: {number}, expected {least:g} <= {key} < {below:g}")
    return value


cdef array.array zeros(int64_t count):
    return array.clone(array.array("d"), count, zero=True)


cdef void set_floats(Run run) noexcept:
    cdef uint8_t *flags = tape.flags + run.first
    cdef int64_t k
    for k in range(run.count):
        flags[k] &= ~DATA_INT


# ---- SGD


cdef class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for: torch.optim.SGD.

    For each parameter p with grad g, where a line with a setting of 0 is left out::

        g = g + weight_decay * p
        b = momentum * b + (1 - dampening) * g      # b = g in the first step
        g = b                                       # nesterov: g + momentum * b
        p = p - lr * g

    Parameters
    ----------
    params : iterable of Value
    lr : number
        Learning rate.
    momentum, dampening, weight_decay : number
    nesterov : bool
        Whether to look ahead, after Sutskever et al. (2013).

    Raises
    ------
    TypeError
        If a parameter is no Value, or a setting no number.
    ValueError
        If there are no parameters, one is there twice or is no leaf; or a setting is out of range.

    Examples
    --------
    >>> from fastgrad import Value, optim
    >>> w = Value(3.0)
    >>> optimizer = optim.SGD([w], lr=0.1, momentum=0.9)
    >>> for _ in range(100):
    ...     loss = (w - 1) ** 2
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> round(w.data, 1)
    1.0
    """

    cdef double lr_, momentum, dampening, decay
    cdef bint nesterov, started
    cdef array.array buffer  # b

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False):
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov,
        })

    cdef int read_settings(self, dict group) except -1:
        cdef double lr = read_setting(group, "lr", "learning rate")
        cdef double momentum = read_setting(group, "momentum", "momentum value")
        cdef double dampening = read_setting(group, "dampening", "dampening", -INFINITY)
        cdef double decay = read_setting(group, "weight_decay", "weight_decay value")
        cdef bint nesterov = group["nesterov"]
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                "Nesterov momentum requires a momentum and zero dampening, "
                f"got momentum={group['momentum']} and dampening={group['dampening']}"
            )
        if momentum != 0 and self.buffer is None:
            self.buffer = zeros(len(self.slots.values))
        self.lr_, self.momentum, self.dampening, self.decay = lr, momentum, dampening, decay
        self.nesterov = nesterov
        return 0

    cdef void begin_step(self) noexcept:
        if self.momentum != 0 and not self.started:
            self.started = True
            self.dampening = 0.0  # the first b is g; the others are 0 so far

    cdef void move(
        self, double *p, const double *g, int64_t at, int64_t count
    ) noexcept:
        cdef double lr = self.lr_, decay = self.decay
        cdef double momentum = self.momentum, share = 1 - self.dampening
        cdef bint nesterov = self.nesterov
        cdef double *b
        cdef double d
        cdef int64_t k
        if momentum == 0:
            for k in range(count):
                d = g[k] + decay * p[k] if decay != 0 else g[k]
                p[k] -= lr * d
        else:
            b = self.buffer.data.as_doubles + at
            for k in range(count):
                d = g[k] + decay * p[k] if decay != 0 else g[k]
                b[k] = momentum * b[k] + share * d
                p[k] -= lr * (d + momentum * b[k] if nesterov else b[k])


# ---- Adam


cdef class Adam(Optimizer):
    """Steps scaled by how large each gradient usually is: torch.optim.Adam.

    After Kingma and Ba (2015). For each parameter p with grad g, in step t = 1, 2, ...::

        g = g + weight_decay * p                    # unless weight_decay is 0
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * g * g
        p = p - lr / (1 - beta1**t) * m / (sqrt(v) / sqrt(1 - beta2**t) + eps)

    Parameters
    ----------
    params : iterable of Value
    lr : number
        Learning rate.
    betas : pair of numbers
        How much of the averages m and v a step keeps.
    eps, weight_decay : number

    Raises
    ------
    TypeError
        If a parameter is no Value, or a setting no number.
    ValueError
        If there are no parameters, one is there twice or is no leaf; or a setting is out of range.

    Examples
    --------
    >>> from fastgrad import Value, optim
    >>> w = Value(3.0)
    >>> optimizer = optim.Adam([w], lr=0.1)
    >>> for _ in range(100):
    ...     loss = (w - 1) ** 2
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> round(w.data, 1)
    1.0
    """

    cdef double lr_, beta1, beta2, eps, decay
    cdef double rate, spread  # lr / (1 - beta1**t), sqrt(1 - beta2**t)
    cdef int64_t steps
    cdef array.array means, squares  # m, v

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay,
        })

    cdef int read_settings(self, dict group) except -1:
        cdef double lr = read_setting(group, "lr", "learning rate"), beta1, beta2
        cdef double eps = read_setting(group, "eps", "epsilon value")
        cdef double decay = read_setting(group, "weight_decay", "weight_decay value")
        try:
            first, second = group["betas"]
        except (TypeError, ValueError):
            raise TypeError(f"betas must be two numbers, got {describe(group['betas'])}") from None
        beta1 = checked(first, "betas[0]", "beta parameter at index 0", 0.0, 1.0)
        beta2 = checked(second, "betas[1]", "beta parameter at index 1", 0.0, 1.0)
        if self.means is None:
            self.means = zeros(len(self.slots.values))
            self.squares = zeros(len(self.slots.values))
        self.lr_, self.beta1, self.beta2, self.eps, self.decay = lr, beta1, beta2, eps, decay
        return 0

    cdef void begin_step(self) noexcept:
        self.steps += 1
        self.rate = self.lr_ / (1 - pow(self.beta1, self.steps))
        self.spread = sqrt(1 - pow(self.beta2, self.steps))

    cdef void move(
        self, double *p, const double *g, int64_t at, int64_t count
    ) noexcept:
        cdef double *m = self.means.data.as_doubles + at
        cdef double *v = self.squares.data.as_doubles + at
        cdef double rate = self.rate, spread = self.spread, eps = self.eps, decay = self.decay
        cdef double beta2 = self.beta2, toward = 1 - self.beta1, share = 1 - beta2
        cdef double d
        cdef int64_t k
        for k in range(count):
            d = g[k] + decay * p[k] if decay != 0 else g[k]
            m[k] += toward * (d - m[k])
            v[k] = beta2 * v[k] + share * d * d
            p[k] -= rate * m[k] / (sqrt(v[k]) / spread + eps)
