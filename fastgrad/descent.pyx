"""The optimizers: `SGD`, `Adam`, `AdamW` and `RMSprop`, each an update formula over all parameters.

They have PyTorch's names, defaults and formulas, and its order of operations: what they do to
float64 numbers is what torch.optim does to them, but for the last bits.

Invariant: the loops become vectors, as gcc's -fopt-info-vec tells; what is the same for all
parameters is decided outside of them.
"""

from libc.math cimport INFINITY, pow, sqrt
from libc.stdint cimport int64_t

from fastgrad.optimizer cimport Optimizer, checked, read_flag, read_setting
from fastgrad.record cimport describe

__all__ = ["SGD", "Adam", "AdamW", "RMSprop"]


cdef inline double lerp(double start, double end, double weight) noexcept nogil:
    """From start towards end, reckoned from the nearer one, as PyTorch does it."""
    cdef double nearer = start if weight < 0.5 else end
    return nearer + (weight if weight < 0.5 else weight - 1) * (end - start)


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
    cdef bint nesterov
    cdef double *buffer  # b

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
        cdef bint nesterov = read_flag(group, "nesterov")
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                "Nesterov momentum requires a momentum and zero dampening, "
                f"got momentum={group['momentum']} and dampening={group['dampening']}"
            )
        self.lr_, self.momentum, self.dampening, self.decay = lr, momentum, dampening, decay
        self.nesterov = nesterov
        return 0

    cdef dict uses(self, dict group):
        return {"momentum_buffer": group["momentum"] != 0}

    cdef void begin_step(self) noexcept:
        if self.momentum != 0:
            self.buffer = self.remembered("momentum_buffer")
            if self.steps == 0:
                self.dampening = 0.0  # the first b is g; the others are 0 so far
            self.steps += 1

    cdef void move(
        self, double *p, const double *g, int64_t at, int64_t count
    ) noexcept nogil:
        cdef double *b = self.buffer + at
        cdef double lr = self.lr_, decay = self.decay
        cdef double momentum = self.momentum, share = 1 - self.dampening
        cdef bint nesterov = self.nesterov
        cdef double d
        cdef int64_t k
        if momentum == 0:
            for k in range(count):
                d = g[k] + decay * p[k] if decay != 0 else g[k]
                p[k] -= lr * d
        else:
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
    cdef double kept          # share of p that a step keeps before anything else
    cdef double *means        # m
    cdef double *squares      # v

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
        self.lr_, self.beta1, self.beta2, self.eps, self.decay = lr, beta1, beta2, eps, decay
        return 0

    cdef dict uses(self, dict group):
        return {"exp_avg": True, "exp_avg_sq": True}

    cdef void begin_step(self) noexcept:
        self.means, self.squares = self.remembered("exp_avg"), self.remembered("exp_avg_sq")
        self.steps += 1
        self.rate = self.lr_ / (1 - pow(self.beta1, self.steps))
        self.spread = sqrt(1 - pow(self.beta2, self.steps))
        self.kept = 1.0

    cdef void move(
        self, double *p, const double *g, int64_t at, int64_t count
    ) noexcept nogil:
        cdef double *m = self.means + at
        cdef double *v = self.squares + at
        cdef double rate = self.rate, spread = self.spread, eps = self.eps, decay = self.decay
        cdef double beta2 = self.beta2, toward = 1 - self.beta1, share = 1 - beta2
        cdef double kept = self.kept, d
        cdef int64_t k
        for k in range(count):
            d = g[k] + decay * p[k] if decay != 0 else g[k]
            m[k] = lerp(m[k], d, toward)
            v[k] = beta2 * v[k] + share * d * d
            p[k] = kept * p[k] - rate * m[k] / (sqrt(v[k]) / spread + eps)


cdef class AdamW(Adam):
    """Adam whose weight decay is no part of the gradient: torch.optim.AdamW.

    After Loshchilov and Hutter (2019). As in `Adam` without weight decay, but before each step::

        p = p - lr * weight_decay * p

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
    >>> w = Value(3.0)  # its grad is 0: only the decay is left
    >>> optim.AdamW([w], lr=0.1, weight_decay=0.5).step()
    >>> round(w.data, 9)
    2.85
    """

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)

    cdef void begin_step(self) noexcept:
        Adam.begin_step(self)
        self.kept = 1 - self.lr_ * self.decay
        self.decay = 0.0


# ---- RMSprop


cdef inline double deviation(
    double *v, double *a, double grad, double alpha, bint centered
) noexcept nogil:
    """sqrt(v - a * a), once the averages know of the grad."""
    v[0] = alpha * v[0] + (1 - alpha) * grad * grad
    if not centered:
        return sqrt(v[0])
    a[0] = lerp(a[0], grad, 1 - alpha)
    return sqrt(v[0] - a[0] * a[0])


cdef class RMSprop(Optimizer):
    """Steps divided by how large each gradient was of late: torch.optim.RMSprop.

    After Hinton's lecture 6e (2012), centered after Graves (2013). For each parameter p with
    grad g, where a line with a setting of 0 is left out::

        g = g + weight_decay * p
        v = alpha * v + (1 - alpha) * g * g
        a = a + (1 - alpha) * (g - a)               # centered; else a = 0
        b = momentum * b + g / (sqrt(v - a * a) + eps)
        p = p - lr * b

    Parameters
    ----------
    params : iterable of Value
    lr : number
        Learning rate.
    alpha : number
        How much of the averages v and a a step keeps.
    eps, weight_decay, momentum : number
    centered : bool
        Whether to divide by the estimated deviation from the mean gradient.

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
    >>> optimizer = optim.RMSprop([w], lr=0.05)
    >>> for _ in range(100):
    ...     loss = (w - 1) ** 2
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    >>> round(w.data, 1)
    1.0
    """

    cdef double lr_, alpha, eps, decay, momentum
    cdef bint centered
    cdef double *squares  # v
    cdef double *means    # a
    cdef double *buffer   # b

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0,
                 centered=False):
        super().__init__(params, {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay,
            "momentum": momentum, "centered": centered,
        })

    cdef int read_settings(self, dict group) except -1:
        cdef double lr = read_setting(group, "lr", "learning rate")
        cdef double alpha = read_setting(group, "alpha", "alpha value", 0.0, 1.0)
        cdef double eps = read_setting(group, "eps", "epsilon value")
        cdef double decay = read_setting(group, "weight_decay", "weight_decay value")
        cdef double momentum = read_setting(group, "momentum", "momentum value")
        cdef bint centered = read_flag(group, "centered")
        self.lr_, self.alpha, self.eps, self.decay, self.momentum = lr, alpha, eps, decay, momentum
        self.centered = centered
        return 0

    cdef dict uses(self, dict group):
        return {
            "square_avg": True,
            "momentum_buffer": group["momentum"] != 0,
            "grad_avg": group["centered"],
        }

    cdef void begin_step(self) noexcept:
        self.squares, self.means = self.remembered("square_avg"), self.remembered("grad_avg")
        self.buffer = self.remembered("momentum_buffer")
        self.steps += 1

    cdef void move(
        self, double *p, const double *g, int64_t at, int64_t count
    ) noexcept nogil:
        cdef double *v = self.squares + at
        cdef double *a = self.means + at
        cdef double *b = self.buffer + at
        cdef double lr = self.lr_, alpha = self.alpha, eps = self.eps, decay = self.decay
        cdef double momentum = self.momentum
        cdef bint centered = self.centered
        cdef double d
        cdef int64_t k
        if momentum == 0:
            for k in range(count):
                d = g[k] + decay * p[k] if decay != 0 else g[k]
                p[k] -= lr * d / (deviation(v + k, a + k, d, alpha, centered) + eps)
        else:
            for k in range(count):
                d = g[k] + decay * p[k] if decay != 0 else g[k]
                b[k] = momentum * b[k] + d / (deviation(v + k, a + k, d, alpha, centered) + eps)
                p[k] -= lr * b[k]
