"""``Value``: the handle that Python holds of an entry, with micrograd's API.

A handle holds a slot and nothing of the graph.  Its birth and death are in ``kernels/handle.h``,
which `handle_install` puts into the type at the end of this file; what the operators append is in
``operators.pyx``, how numbers get on the tape in ``record.pyx``.

Results are plain ``Value`` whatever the operands' types, as in micrograd.
"""

cimport cython
from cpython.object cimport (
    Py_EQ, Py_GT, Py_LE, Py_LT, Py_NE, PyObject, PyTypeObject, newfunc,
)
from libc.stdint cimport int32_t

import copyreg
from functools import partial

import fastgrad.reclaim  # which the tape calls  # no-cython-lint

from fastgrad.dialect cimport failure_hook, grad_kind
from fastgrad.operators cimport MINUS, OVER, PLUS, POWER, TIMES, binary, mixed, record_with
from fastgrad.record cimport (
    all_numbers, all_values, attributes_of, describe, handle, is_value, link_children, number_from,
    number_of, operands_of, read_number, record, record_pooled, set_rule, unusual_made,
)
from fastgrad.sweep cimport EntryRule, entry_rule, partials, push_alone, reverse
from fastgrad.tape cimport (
    DATA_INT, DATA_NUMPY, INNER, KEPT, OP_ABS, OP_ADD, OP_COS, OP_DETACH, OP_EXP, OP_GELU,
    OP_LEAKY_RELU, OP_LOG, OP_MAXIMUM, OP_MINIMUM, OP_MUL, OP_POW_CONST, OP_RELU, OP_RELU_FLOAT,
    OP_RELU_LOCAL, OP_RELU_MAX, OP_SIGMOID, OP_SIGMOID_EXP, OP_SIN, OP_SOFTPLUS, OP_SQRT, OP_TANH,
    OP_TANH_EXP, RULE, USED, Tape, append_leaf, check_room, entry_set_grad, handle_alloc, op_rows,
    own_values, tape,
)
from fastgrad.trace cimport depends, guard, is_tracer, refuse_edit, refuse_effect


cdef extern from "kernels/handle.h":
    ctypedef object (*vectorcallfunc)(PyTypeObject *, PyObject *const *, size_t, PyObject *)
    int handle_install(PyTypeObject *type, Tape *tape, newfunc make, vectorcallfunc call) except -1
    object handle_alloc_as(PyTypeObject *type)
    bint handle_is_plain(PyTypeObject *type) noexcept
    object handle_construct(PyTypeObject *type, object args, object kwargs)


# ---- construction


cdef enum:
    CONSTRUCTOR = 5  # after the operators, in Dialect.no_numpy_int


cdef int read_data(object data, double *value, int *kind) except -1:
    """Read the number that a constructor is given; returns 0 if it takes no such number."""
    if not read_number(data, value, kind):
        return 0
    if kind[0] == DATA_INT | DATA_NUMPY and tape.dialect.no_numpy_int & (1 << CONSTRUCTOR):
        return 0
    kind[0] &= tape.dialect.kinds
    return 1


cdef inline int set_data(int32_t slot, double value, int kind) except -1:
    own_values()
    if tape.dialect.frozen:
        tape.note_edit(slot)
    tape.val[slot] = value
    tape.flags[slot] = (tape.flags[slot] & ~(DATA_INT | (tape.numpy & DATA_NUMPY))) | kind
    return 0


cdef object new_leaf(object data):
    cdef double value = 0.0
    cdef int kind = 0
    if not read_data(data, &value, &kind):
        if failure_hook is not None:
            failure_hook("__init__", (data,), {})
        raise TypeError(f"data must be a number, got {describe(data)}")
    cdef object out = handle_alloc(&tape)
    check_room()
    append_leaf(value, kind, handle(out))
    return out


cdef object value_new(PyTypeObject *type, PyObject *args, PyObject *kwargs):
    """A leaf 0: also a subclass whose ``__init__`` does not call ours has an entry."""
    cdef object out
    if type is tape.type:
        out = handle_alloc(&tape)
    else:
        out = handle_alloc_as(type)
    check_room()
    append_leaf(0.0, DATA_INT, handle(out))
    if type is not tape.type:
        tape.flags[handle(out).slot] |= KEPT  # its type and state must not be lost
    return out


cdef object value_call(PyTypeObject *type, PyObject *const *args, size_t nargsf, PyObject *names):
    """``Value(x)`` without the tuple and dict that ``type.__call__`` makes."""
    cdef Py_ssize_t count = nargsf & ~(<size_t>1 << (8 * sizeof(size_t) - 1)), k
    if count == 1 and names == NULL and handle_is_plain(type):
        return new_leaf(<object>args[0])
    positional = tuple([<object>args[k] for k in range(count)])
    keywords = {}
    if names != NULL:
        keywords = {name: <object>args[count + k] for k, name in enumerate(<tuple>names)}
    if failure_hook is None:
        return handle_construct(type, positional, keywords)
    try:
        return handle_construct(type, positional, keywords)
    except Exception as error:
        failure = error
    failure_hook("__init__", positional, keywords)  # out here, its error stands alone
    raise failure


@cython.auto_pickle(False)
@cython.c_api_binop_methods(True)  # one function for both sides, called by CPython without a detour
cdef class Value:
    """A scalar that remembers how it was computed.

    Parameters
    ----------
    data : int or float
        The value; anything that Python or NumPy takes for a real number.
    _children : iterable of Value, optional
        Operands, for a user-made operation; also spelled ``children``.
    _op : str or sequence of numbers, optional
        A label (micrograd's form, also spelled ``op``), or the local gradients, one for each child
        (microgpt's form, also spelled ``local_grads``).
    label : str, optional
        A name for drawings.

    Raises
    ------
    TypeError
        If `data` is no number, a child is no Value, or a local gradient no number.
    ValueError
        If there are more or fewer local gradients than children.

    Notes
    -----
    Operators and methods append to the process's tape.  Threads may share Values: an operator is
    atomic under the GIL.

    Examples
    --------
    >>> from fastgrad import Value
    >>> a, b = Value(2.0), Value(-3.0)
    >>> c = a * b + a**2
    >>> c.backward()
    >>> c, a.grad
    (Value(data=-2.0, grad=1), 1.0)
    """

    # The layout of Handle in tape.h.  Never touch these: use handle(value).
    cdef int32_t slot, tracked
    cdef object attributes
    cdef object __weakref__
    cdef object links

    label = ""
    # np.float64(2) * v comes to __rmul__, and np.exp(v) still finds v.exp().
    __array_priority__ = 1000.0

    def __init__(self, data, _children=(), _op="", label="", *,
                 children=(), op="", local_grads=()):
        cdef double value = 0.0
        cdef int kind = 0
        cdef int32_t slot
        children = all_values(_children or children)
        _op = _op if isinstance(_op, str) and _op else op or _op
        if not isinstance(_op, str):
            _op, local_grads = "", _op
        factors = all_numbers(local_grads, children) if len(local_grads) else None
        if not read_data(data, &value, &kind):
            raise TypeError(f"data must be a number, got {describe(data)}")
        slot = handle(self).slot
        if tape.flags[slot] & INNER or (children and tape.flags[slot] & USED):
            raise TypeError(f"{self!r} is part of a graph: make a new Value instead")
        set_data(slot, value, kind)
        entry_set_grad(&tape, slot, 0.0, tape.dialect.fresh >> 1)
        if children and not (
            tape.contexts and unusual_made(_op, number_from(value, kind), children)
        ):
            link_children(self, children, factors)
        if _op:
            self._op = _op
        if label != "":
            self.label = label

    # ---- what it holds

    @property
    def data(self):
        """float or int: the value; assigning changes it in place."""
        guard(handle(self).slot, "reading .data of")
        return number_of(handle(self).slot)

    @data.setter
    def data(self, number):
        cdef double value = 0.0
        cdef int kind = 0
        if not read_number(number, &value, &kind):
            raise TypeError(f"data must be a number, got {describe(number)}")
        refuse_edit(handle(self).slot, "assigning .data")
        set_data(handle(self).slot, value, kind)

    @property
    def grad(self):
        """float or int: what backward passes have added up so far; may be assigned."""
        cdef int32_t slot = handle(self).slot
        guard(slot, "reading .grad of")
        return number_from(tape.adj[slot], grad_kind(slot))

    @grad.setter
    def grad(self, number):
        cdef double value = 0.0
        cdef int kind = 0
        if not read_number(number, &value, &kind):
            raise TypeError(f"grad must be a number, got {describe(number)}")
        refuse_edit(handle(self).slot, "assigning .grad")
        entry_set_grad(&tape, handle(self).slot, value, kind)

    @property
    def _prev(self):
        """set of Value: the operands; the same objects each time, while they are held."""
        return set(operands_of(handle(self).slot))

    @property
    def _children(self):
        """tuple of Value: the operands in the order of the operation."""
        return tuple(operands_of(handle(self).slot))

    @property
    def _local_grads(self):
        """tuple of numbers: the partial derivative with respect to each of ``_children``.

        Raises what `backward` raises where it is not defined.
        """
        guard(handle(self).slot, "reading ._local_grads of")
        return tuple(partials(handle(self).slot))

    @property
    def _op(self):
        """str: the operation that gave this value, for drawings; may be assigned."""
        cdef int32_t slot = handle(self).slot
        cdef PyObject *attributes = handle(self).attributes
        if attributes != NULL and "_op" in <dict>attributes:
            return (<dict>attributes)["_op"]
        if tape.op[slot] == OP_POW_CONST:
            return f"**{number_of(tape.b[slot])}"
        return op_rows[tape.op[slot]].label.decode()

    @_op.setter
    def _op(self, label):
        attributes_of(self)["_op"] = label

    @property
    def _backward(self):
        """callable: runs this entry's local rule once; assigning replaces the rule."""
        cdef EntryRule rule = entry_rule(handle(self).slot)
        if rule is not None:
            return partial(rule._push_adjoint_of, self)
        if tape.flags[handle(self).slot] & RULE and handle(self).links != NULL:
            return (<tuple>handle(self).links)[0]
        return self._push_adjoint  # what a rule that wraps it may call too

    @_backward.setter
    def _backward(self, rule):
        if not callable(rule):
            raise TypeError(f"_backward must be a function without arguments, got {describe(rule)}")
        set_rule(handle(self), rule)

    def _push_adjoint(self):
        """Add this entry's contributions to its operands' grads."""
        guard(handle(self).slot, "running _backward() of")
        refuse_effect("_backward()")
        push_alone(handle(self).slot)

    @property
    def __dict__(self):
        """dict: the attributes that the user hung on this value."""
        return attributes_of(self)

    def __repr__(self):
        if tape.tracing and depends(handle(self).slot):
            return f"Value(traced {self._op!r})"
        return f"Value(data={self.data}, grad={self.grad})"

    def __hash__(self):
        return <Py_hash_t>(<size_t><PyObject *>self >> 4)

    def __richcmp__(self, other, int comparison):
        cdef double x, y = 0.0
        cdef int kind = 0
        if comparison == Py_EQ or comparison == Py_NE or (
            tape.dialect.no_comparison & (1 << comparison)
        ):
            return NotImplemented  # identity
        guard(handle(self).slot, "comparing")
        if is_value(other):
            guard(handle(other).slot, "comparing")
            y = tape.val[handle(other).slot]
        elif not read_number(other, &y, &kind):
            return NotImplemented
        x = tape.val[handle(self).slot]
        if comparison == Py_LT:
            return x < y
        if comparison == Py_LE:
            return x <= y
        return x > y if comparison == Py_GT else x >= y

    def __reduce__(self):
        """An entry pickles and copies as a leaf with its data, grad and attributes."""
        attributes = dict(attributes_of(self)) if handle(self).attributes != NULL else {}
        return copyreg.__newobj__, (type(self),), (self.data, self.grad, attributes)

    def __setstate__(self, state):
        data, grad, attributes = state
        self.data = data
        self.grad = grad
        for name, value in attributes.items():
            setattr(self, name, value)

    # ---- operators

    def __add__(left, right):
        return binary(PLUS, OP_ADD, left, right)

    def __sub__(left, right):
        return mixed(MINUS, left, right)

    def __mul__(left, right):
        return binary(TIMES, OP_MUL, left, right)

    def __truediv__(left, right):
        return mixed(OVER, left, right)

    def __pow__(left, right, modulus):
        if modulus is not None:
            raise TypeError(f"a power of Values takes no modulus, got {describe(modulus)}")
        return mixed(POWER, left, right)

    def __neg__(self):
        return mixed(TIMES, self, -1)

    def __pos__(self):
        return self

    def __abs__(self):
        return record(OP_ABS, <PyObject *>self, <PyObject *>self)

    # ---- functions

    def relu(self):
        """max(0, x); its derivative at 0 is 0.

        Examples
        --------
        >>> Value(-2.0).relu(), Value(3.0).relu()
        (Value(data=0, grad=0), Value(data=3.0, grad=0))
        """
        return record(OP_RELU, <PyObject *>self, <PyObject *>self)

    def leaky_relu(self, slope=0.01):
        """x where x > 0, else slope * x; its derivative at 0 is the slope.

        Parameters
        ----------
        slope : float
            A number; no gradient flows to it.

        Raises
        ------
        TypeError
            If the slope is no number.

        Examples
        --------
        >>> Value(-2.0).leaky_relu(0.1).data
        -0.2
        """
        if is_value(slope):
            raise TypeError(f"slope must be a number, got {describe(slope)}")
        return record_with(OP_LEAKY_RELU, self, slope, "slope")

    def tanh(self):
        """Hyperbolic tangent; derivative 1 - tanh(x)**2.

        Examples
        --------
        >>> Value(0.0).tanh().data
        0.0
        """
        return record(OP_TANH, <PyObject *>self, <PyObject *>self)

    def sigmoid(self):
        """1 / (1 + exp(-x)), without overflow.

        Examples
        --------
        >>> Value(0.0).sigmoid().data, Value(-1000.0).sigmoid().data
        (0.5, 0.0)
        """
        return record(OP_SIGMOID, <PyObject *>self, <PyObject *>self)

    def exp(self):
        """e**x.

        Raises
        ------
        OverflowError
            If the result is too large for a float64, as `math.exp` does.

        Examples
        --------
        >>> Value(0).exp().data
        1.0
        """
        return record(OP_EXP, <PyObject *>self, <PyObject *>self)

    def log(self):
        """Natural logarithm.

        Raises
        ------
        ValueError
            If x <= 0, as `math.log` does.

        Examples
        --------
        >>> Value(1.0).log().data
        0.0
        """
        return record(OP_LOG, <PyObject *>self, <PyObject *>self)

    def sqrt(self):
        """Square root; its backward divides by zero at 0, and raises ZeroDivisionError there.

        Raises
        ------
        ValueError
            If x < 0, as `math.sqrt` does.

        Examples
        --------
        >>> Value(9.0).sqrt().data
        3.0
        """
        return record(OP_SQRT, <PyObject *>self, <PyObject *>self)

    def sin(self):
        """Sine of x radians.

        Raises
        ------
        ValueError
            If x is infinite, as `math.sin` does.

        Examples
        --------
        >>> Value(0.0).sin().data
        0.0
        """
        return record(OP_SIN, <PyObject *>self, <PyObject *>self)

    def cos(self):
        """Cosine of x radians.

        Raises
        ------
        ValueError
            If x is infinite, as `math.cos` does.

        Examples
        --------
        >>> Value(0.0).cos().data
        1.0
        """
        return record(OP_COS, <PyObject *>self, <PyObject *>self)

    # As scripts spell them; for a script's own class they get their public names.

    def _relu_max(self):
        """max(0, x): the int 0 for x <= 0, also for -0.0 and nan."""
        return record(OP_RELU_MAX, <PyObject *>self, <PyObject *>self)

    def _relu_local(self):
        """max(0, x), with a float as its local gradient, as in microgpt."""
        return record(OP_RELU_LOCAL, <PyObject *>self, <PyObject *>self)

    def _relu_float(self):
        """max(0.0, x): the float 0.0 for x <= 0, also for -0.0 and nan."""
        return record(OP_RELU_FLOAT, <PyObject *>self, <PyObject *>self)

    def _tanh_by_exp(self):
        """(exp(2x) - 1) / (exp(2x) + 1), which raises OverflowError from x = 355 on."""
        return record(OP_TANH_EXP, <PyObject *>self, <PyObject *>self)

    def _sigmoid_by_exp(self):
        """1 / (1 + exp(-x)), which raises OverflowError for x < -709.78."""
        return record(OP_SIGMOID_EXP, <PyObject *>self, <PyObject *>self)

    def softplus(self):
        """log(1 + exp(x)), without overflow.

        Examples
        --------
        >>> Value(1000.0).softplus().data
        1000.0
        """
        return record(OP_SOFTPLUS, <PyObject *>self, <PyObject *>self)

    def gelu(self):
        """x * Phi(x) = x * (1 + erf(x / sqrt(2))) / 2, Hendrycks and Gimpel's exact form.

        Examples
        --------
        >>> round(Value(1.0).gelu().data, 6)
        0.841345
        """
        return record(OP_GELU, <PyObject *>self, <PyObject *>self)

    def maximum(self, other):
        """The larger of two; a tie gives the gradient to the first, nan wins.

        Parameters
        ----------
        other : Value or number

        Raises
        ------
        TypeError
            If `other` is neither.

        Examples
        --------
        >>> Value(2.0).maximum(3).data
        3
        """
        return record_with(OP_MAXIMUM, self, other, "other")

    def minimum(self, other):
        """The smaller of two; a tie gives the gradient to the first, nan wins.

        Parameters
        ----------
        other : Value or number

        Raises
        ------
        TypeError
            If `other` is neither.

        Examples
        --------
        >>> Value(2.0).minimum(3).data
        2.0
        """
        return record_with(OP_MINIMUM, self, other, "other")

    def detach(self):
        """A new leaf with the same data: no gradient flows through it.

        Examples
        --------
        >>> (Value(2.0) * 3).detach()._prev
        set()
        """
        if is_tracer():  # a parameter's data too are other at each run
            return record_pooled(OP_DETACH, (self,))
        return new_leaf(self.data)

    def backward(self):
        """Add the derivative of this value to the ``grad`` of everything it was computed from.

        Its own ``grad`` becomes 1.  Grads accumulate over calls: set them to 0 in between, as
        `Module.zero_grad` does.  Cost: proportional to this value's own graph.

        Raises
        ------
        ZeroDivisionError, OverflowError, ValueError
            Where Python's float would, in the derivative of a power, logarithm or root; the
            entries above have then passed their gradients on, the others not.
        FloatingPointError
            Inside of `fastgrad.detect_anomaly`, where a grad would become nan or inf.

        Examples
        --------
        >>> x = Value(3.0)
        >>> (x * x).backward()
        >>> x.grad
        6.0
        """
        reverse(handle(self).slot)


handle_install(<PyTypeObject *>Value, &tape, <newfunc>value_new, <vectorcallfunc>value_call)
