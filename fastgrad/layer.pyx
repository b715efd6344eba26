"""Fused layers: a whole layer, or an MLP of plain layers, is recorded by one C call.

A layer records its DOT entries, then their activations.  Weights and outputs then lie in
consecutive slots, which collections preserve, and both sweeps run over plain vectors; between the
layers of an MLP no handles are made.  The numbers are those of micrograd's neuron by neuron sums,
to the bit.

Invariant: what a layer's `Seat` remembers is compared with the layer's lists at every call, so
replaced or shared weights are honoured.  Whatever is not plain (a subclass, a replaced method, a
weight that is no Value) is left to the Python code in ``nn.py``.
"""

from cpython.object cimport Py_TYPE, PyObject, PyTypeObject
from cpython.list cimport PyList_CheckExact, PyList_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from fastgrad.contexts cimport CHECKED, PAUSED, modes, note_lines
from fastgrad.record cimport adopt, is_value, read_number
from fastgrad.tape cimport (
    DATA_INT, GRAD_INT, INNER, KEPT, OP_DOT, OP_GELU, OP_RELU, OP_RUN, OP_SIGMOID, OP_TANH,
    USED, Handle, append, append_leaf, entry_set_grad, handle_alloc, make_room, op_is_int,
    op_pool_words, op_value, tape, use_run,
)
from fastgrad.trace cimport refuse_effect


cdef extern from "Python.h":
    PyObject *Py_True
    PyObject *Py_False
    int PyUnicode_CheckExact(object)
    int PyUnicode_CompareWithASCIIString(object, const char *) noexcept


cdef extern from *:
    """
    #include <structmember.h>

    /* Where a class with __slots__ keeps the attribute that this descriptor stands for. */
    static Py_ssize_t slot_offset(PyObject *descriptor)
    {
        return ((PyMemberDescrObject *)descriptor)->d_member->offset;
    }
    #define attribute_at(object, offset) (*(PyObject **)((char *)(object) + (offset)))
    #define list_items(list) (((PyListObject *)(list))->ob_item)
    #define version_of(type) ((type)->tp_version_tag)
    """
    Py_ssize_t slot_offset(object descriptor)
    PyObject *attribute_at(PyObject *thing, Py_ssize_t offset)
    PyObject **list_items(PyObject *list)
    unsigned int version_of(PyTypeObject *type)


# ---- which classes and methods are plain


cdef PyTypeObject *neuron_type
cdef PyTypeObject *layer_type
cdef Py_ssize_t w_at, b_at, nonlin_at, neurons_at, seat_at
cdef unsigned int neuron_version, layer_version, value_version
cdef list plain_methods = []


cdef struct Activation:
    const char *name  # of the method of Value, and what a neuron's `nonlin` says
    int op
    bint is_plain     # is the method of Value still its own?


cdef Activation[3] activations = [  # beside relu, for which `nonlin` is True
    Activation(b"tanh", OP_TANH, True), Activation(b"sigmoid", OP_SIGMOID, True),
    Activation(b"gelu", OP_GELU, True),
]
cdef list plain_activations = []


def register(neuron, layer):
    """Tell the fused path the classes of ``nn.py`` that it stands in for."""
    global neuron_type, layer_type, w_at, b_at, nonlin_at, neurons_at, seat_at
    neuron_type, layer_type = <PyTypeObject *>neuron, <PyTypeObject *>layer
    w_at, b_at, nonlin_at = slot_offset(neuron.w), slot_offset(neuron.b), slot_offset(neuron.nonlin)
    neurons_at, seat_at = slot_offset(layer.neurons), slot_offset(layer._seat)
    value = <object>tape.type
    named = [(neuron, "__call__"), (layer, "__call__"), (value, "relu")]
    named += [(value, name) for name in ("__add__", "__radd__", "__mul__", "__rmul__")]
    plain_methods[:] = [(owner, name, getattr(owner, name)) for owner, name in named]
    plain_activations[:] = [method_of(activation) for activation in activations]


cdef object method_of(Activation activation):
    return getattr(<object>tape.type, activation.name.decode())


cdef inline bint methods_are_plain() except -1:
    # CPython gives a class a new version, or 0, whenever one of its attributes is replaced.
    if (
        version_of(neuron_type) == neuron_version
        and version_of(layer_type) == layer_version
        and version_of(tape.type) == value_version
        and neuron_version and layer_version and value_version
    ):
        return True
    return look_at_methods()


cdef bint look_at_methods() except -1:
    global neuron_version, layer_version, value_version
    neuron_version = layer_version = value_version = 0
    for owner, name, method in plain_methods:
        if getattr(owner, name) is not method:
            return False
    for k in range(3):
        activations[k].is_plain = method_of(activations[k]) is plain_activations[k]
    neuron_version, layer_version = version_of(neuron_type), version_of(layer_type)
    value_version = version_of(tape.type)
    return True


# ---- where a layer's parameters lie


cdef inline bint is_plain_nonlin(PyObject *nonlin) noexcept:
    return nonlin == Py_True or nonlin == Py_False or activation_named(nonlin) >= 0


cdef int activation_named(PyObject *nonlin) noexcept:
    """The op of a neuron's activation that is neither relu nor linear; -1 if it is not plain."""
    cdef int k
    if nonlin != NULL and PyUnicode_CheckExact(<object>nonlin):
        for k in range(3):
            if not PyUnicode_CompareWithASCIIString(<object>nonlin, activations[k].name):
                return activations[k].op if activations[k].is_plain else -1
    return -1


cdef class Seat:
    """A layer's parameters as once seen, and their slots.  Copies and pickles as an empty one.

    It is not changed afterwards, but for the slots: a layer that has changed gets another.
    """

    cdef tuple neurons
    cdef list parameters     # inputs weights and the bias of each neuron; nobody else has this list
    cdef PyObject **seen     # its items
    cdef int32_t *first      # first weight's slot of each neuron, -1 if not consecutive
    cdef bint consecutive           # do all parameters of the layer lie in one run?
    cdef int64_t count, inputs
    cdef uint64_t collections

    def __dealloc__(self):
        free(self.first)

    def __reduce__(self):
        return Seat, ()

    cdef bint is_current(self, PyObject *neurons) noexcept:
        """Are the layer's lists the ones that were seen?"""
        cdef PyObject *neuron
        cdef PyObject *w
        cdef PyObject **seen = self.seen
        cdef int64_t j
        if self.neurons is None or PyList_GET_SIZE(<object>neurons) != self.count:
            return False
        for j in range(self.count):
            neuron = list_items(neurons)[j]
            if neuron != <PyObject *>self.neurons[j] or Py_TYPE(<object>neuron) is not neuron_type:
                return False
            w = attribute_at(neuron, w_at)
            if w == NULL or not PyList_CheckExact(<object>w):
                return False
            if PyList_GET_SIZE(<object>w) != self.inputs:
                return False
            if memcmp(list_items(w), seen, self.inputs * sizeof(PyObject *)):
                return False
            if attribute_at(neuron, b_at) != seen[self.inputs]:
                return False
            if not is_plain_nonlin(attribute_at(neuron, nonlin_at)):
                return False
            seen += self.inputs + 1
        return True

    cdef bint look(self, PyObject *neurons) except -1:
        """See the layer; False if it is not plain."""
        cdef list found = []
        inputs = -1
        for neuron in <list>neurons:
            if type(neuron) is not <object>neuron_type:
                return False
            w, b = getattr(neuron, "w", None), getattr(neuron, "b", None)
            if type(w) is not list:
                return False
            if not is_plain_nonlin(attribute_at(<PyObject *>neuron, nonlin_at)):
                return False
            if inputs not in (-1, len(w)):
                return False
            inputs = len(w)
            found += w
            found.append(b)
        if not found or not inputs:
            return False
        for value in found:
            if type(value) is not <object>tape.type:
                return False
        self.inputs = inputs
        self.count = len(found) // (inputs + 1)
        self.first = <int32_t *>malloc(self.count * sizeof(int32_t))
        if self.first == NULL:
            raise MemoryError(f"no memory for the slots of {self.count} neurons")
        self.parameters = found
        self.seen = list_items(<PyObject *>found)
        self.find_slots()
        self.neurons = tuple(<list>neurons)
        return True

    cdef void find_slots(self) noexcept:
        cdef PyObject **seen = self.seen
        cdef int32_t start = (<Handle *>seen[0]).slot
        cdef int64_t j, k
        for j in range(self.count):
            self.first[j] = (<Handle *>seen[0]).slot
            for k in range(1, self.inputs):
                if (<Handle *>seen[k]).slot != self.first[j] + k:
                    self.first[j] = -1
                    break
            seen += self.inputs + 1
        self.consecutive = True
        for k in range(self.count * (self.inputs + 1)):
            if (<Handle *>self.seen[k]).slot != start + k:
                self.consecutive = False
        self.collections = tape.collections

    cdef uint8_t use(self) noexcept:
        """Flag all parameters as used; returns their flags or-ed together."""
        cdef uint8_t flags = 0
        cdef int64_t k
        if self.consecutive:
            return use_run(self.first[0], self.count * (self.inputs + 1))
        for k in range(self.count * (self.inputs + 1)):
            flags |= use_run((<Handle *>self.seen[k]).slot, 1)
        return flags


# ---- recording


cdef struct Row:  # what flows from layer to layer
    int64_t count
    int32_t *slots
    bint consecutive
    uint8_t flags  # of the entries to be recorded
    bint ints      # are all of them ints?


def forward(layers, inputs):
    """Record plain layers, one after the other.

    Parameters
    ----------
    layers : list of nn.Layer
    inputs : sequence of numbers and Values

    Returns
    -------
    Value or list of Value or NotImplemented
        What the last layer gives; NotImplemented, with nothing recorded, if a layer is not plain.

    Raises
    ------
    TypeError
        If `inputs` is no sequence of numbers and Values.
    ValueError
        If it has the wrong length.
    """
    cdef int64_t entries = 0, words = 0, widest, k, width
    cdef int32_t start
    cdef int32_t *buffer = NULL
    cdef double *numbers = NULL
    cdef Row row
    cdef Seat seat
    if not layers or not methods_are_plain():
        return NotImplemented
    if tape.contexts and modes() & CHECKED:  # sum by sum: an error shall name the term
        return NotImplemented
    # First everything that can run Python code, ...
    items = items_of(inputs)
    width = len(items)
    seats = []
    for layer in layers:
        seat = seat_of(layer)
        if seat is None:
            return NotImplemented
        seats.append(seat)
    widest = width
    for seat in seats:
        if seat.inputs != width:
            raise ValueError(f"a layer of {seat.inputs} inputs got {width}: {inputs!r:.200}")
        width = seat.count
        widest = max(widest, width)
        entries += 2 * seat.count
        words += op_pool_words(OP_DOT, seat.inputs) * seat.count
    numbers = <double *>malloc((len(items) + 1) * sizeof(double))
    buffer = <int32_t *>malloc(2 * widest * sizeof(int32_t))
    try:
        if numbers == NULL or buffer == NULL:
            raise MemoryError(f"no memory for a row of {widest} slots")
        read_items(items, numbers, buffer)
        outputs = [handle_alloc(&tape) for _ in range(width)]
        make_room(entries + len(items), words)
        # ... then what does not: slots are held from here on.
        tape.pins += 1
        try:
            start = tape.size
            row = Row(len(items), buffer, False, 0, False)
            find_inputs(&row, items, numbers)
            for seat in seats:
                if seat.collections != tape.collections:
                    seat.find_slots()
                record_layer(seat, &row, buffer if row.slots != buffer else buffer + widest)
            if tape.contexts:
                note_lines(start, tape.size)
            for k in range(width):
                adopt(outputs[k], row.slots[k])
        finally:
            tape.pins -= 1
    finally:
        free(numbers)
        free(buffer)
    return outputs[0] if width == 1 else outputs


cdef tuple items_of(object inputs):
    if is_value(inputs):
        return (inputs,)  # what a layer of one neuron gives
    try:
        return tuple(inputs)
    except TypeError:
        raise TypeError(
            "inputs must be a sequence of numbers and Values, "
            f"got {type(inputs).__name__} {inputs!r:.60}"
        ) from None


cdef Seat seat_of(object layer):
    """The layer's seat, up to date; None if the layer is not plain."""
    cdef PyObject *neurons
    cdef Seat seat
    if Py_TYPE(layer) is not layer_type:
        return None
    neurons = attribute_at(<PyObject *>layer, neurons_at)
    if neurons == NULL or not PyList_CheckExact(<object>neurons):
        return None
    if attribute_at(<PyObject *>layer, seat_at) != NULL:
        known = <object>attribute_at(<PyObject *>layer, seat_at)
        if isinstance(known, Seat) and (<Seat>known).is_current(neurons):
            return known
    seat = Seat()
    if not seat.look(neurons):
        return None
    layer._seat = seat
    return seat


cdef int read_items(tuple items, double *numbers, int32_t *kinds) except -1:
    """Read the numbers; kinds become -1 for a Value, else whether the number is an int."""
    cdef int64_t k
    cdef int kind = 0
    for k in range(len(items)):
        if is_value(items[k]):
            kinds[k] = -1
        elif read_number(items[k], &numbers[k], &kind):
            kinds[k] = kind
        else:
            raise TypeError(
                f"input {k} must be a number or a Value, "
                f"got {type(items[k]).__name__} {items[k]!r:.60}"
            )
    return 0


cdef void find_inputs(Row *row, tuple items, const double *numbers) noexcept:
    """Turn the kinds in `row.slots` into slots: leaves for the numbers."""
    cdef int64_t k
    row.consecutive = True
    for k in range(row.count):
        if row.slots[k] < 0:
            row.slots[k] = (<Handle *><PyObject *>items[k]).slot
        else:
            row.slots[k] = append_leaf(numbers[k], row.slots[k], NULL)
        if row.slots[k] != row.slots[0] + k:
            row.consecutive = False


cdef void record_layer(Seat seat, Row *row, int32_t *outputs) noexcept:
    """Append a layer's entries; `row` then says where its outputs lie."""
    cdef PyObject **seen = seat.seen
    cdef bint leaves = tape.contexts and modes() & PAUSED != 0
    cdef uint8_t flags = seat.use()
    cdef int64_t j, k
    cdef PyObject *nonlin
    row.ints = flags & DATA_INT  # perhaps: record_dot looks again
    for k in range(row.count):
        flags |= tape.flags[row.slots[k]]
        row.ints = row.ints and tape.flags[row.slots[k]] & DATA_INT
        tape.flags[row.slots[k]] |= USED
    row.flags = INNER | GRAD_INT | (flags & KEPT)
    for j in range(seat.count):
        outputs[j] = record_dot(seat.first[j], seen, row, leaves)
        seen += seat.inputs + 1
    for j in range(seat.count):
        nonlin = attribute_at(<PyObject *>seat.neurons[j], nonlin_at)
        if nonlin == Py_True:  # apart, because the switches in it vanish for a constant
            outputs[j] = record_activation(OP_RELU, outputs[j], leaves)
        elif is_plain_nonlin(nonlin) and nonlin != Py_False:  # an input's __float__ may edit it
            outputs[j] = record_activation(activation_named(nonlin), outputs[j], leaves)
    row.count = seat.count
    row.slots = outputs
    row.consecutive = True
    for j in range(seat.count):
        if outputs[j] != outputs[0] + j:
            row.consecutive = False


cdef int32_t record_dot(int32_t w, PyObject **seen, Row *row, bint leaves) noexcept:
    """Append bias + w[0]*x[0] + w[1]*x[1] + ..., summed in this order as micrograd does."""
    cdef int64_t k, count = row.count
    cdef int32_t bias = (<Handle *>seen[count]).slot
    cdef int32_t *words = tape.pool + tape.pool_size
    cdef uint8_t is_int = DATA_INT if row.ints else 0
    cdef double z = tape.val[bias]
    cdef int op = OP_RUN if w >= 0 and row.consecutive else OP_DOT
    words[0] = bias
    if op == OP_RUN:
        words[1] = w
        words[2] = row.slots[0]
        z = dot_run(z, tape.val + w, tape.val + words[2], count)
    else:
        for k in range(count):
            words[2 * k + 1] = (<Handle *>seen[k]).slot
            words[2 * k + 2] = row.slots[k]
            z += tape.val[words[2 * k + 1]] * tape.val[words[2 * k + 2]]
    if is_int:
        for k in range(count + 1):
            is_int &= tape.flags[(<Handle *>seen[k]).slot]
        if is_int:
            z += 0.0  # an int 0 has no sign
    if leaves:
        return append_leaf(z, is_int, NULL)
    w = append(op, <int32_t>tape.pool_size, <int32_t>count, z, row.flags | is_int, NULL)
    tape.pool_size += op_pool_words(op, count)
    return w


cdef inline double dot_run(double z, const double *w, const double *x, int64_t count) noexcept:
    cdef int64_t k
    for k in range(count):
        z += w[k] * x[k]
    return z


cdef inline int32_t record_activation(int op, int32_t slot, bint leaves) noexcept:
    cdef double x = tape.val[slot], z = op_value(op, x, x)
    cdef int kind = DATA_INT if op_is_int(op, tape.flags[slot] & DATA_INT, 0, x, x) else 0
    if leaves:
        return append_leaf(z, kind, NULL)
    tape.flags[slot] |= USED
    return append(op, slot, slot, z,
                  INNER | GRAD_INT | kind | (tape.flags[slot] & KEPT), NULL)


# ---- zero_grad


def zero_grads(parameters):
    """Set the grad of every parameter to the int 0.

    Parameters
    ----------
    parameters : iterable of Value
        Anything else in it gets its attribute ``grad`` set, as micrograd's loop does.
    """
    refuse_effect("zero_grad()")
    for parameter in parameters:
        if Py_TYPE(parameter) is tape.type:
            entry_set_grad(&tape, (<Handle *><PyObject *>parameter).slot, 0.0, DATA_INT)
        else:
            parameter.grad = 0
