/* The handle's life: what Cython cannot say without doubling the cost of an operator.
 *
 * A handle at birth (handle_alloc in tape.h) is not known to the cyclic collector: it holds a slot
 * number and three NULLs.  It becomes known when the user hangs an attribute on it or it gets
 * links.  Dead plain handles rest in a small freelist and keep their reference to the type.
 *
 *   handle_dealloc   takes its attributes to the attic if its entry is still used, frees its slot
 *   handle_finalize  does so before the cyclic collector empties the dict that holds them
 *   handle_setattro  `v.data = 1.5` and `v.grad = 0.5` without a descriptor look-up
 *   handle_is_plain  may `Value(x)` bypass __new__ and __init__?
 *   handle_install   puts these into the slots of the type that Cython made
 */
#ifndef FASTGRAD_HANDLE_H
#define FASTGRAD_HANDLE_H

#include <stddef.h>
#include "tape.h"

static Tape *handle_tape;
static PyObject *name_data, *name_grad;

static inline void handle_leave_entry(Handle *self)
{
    Tape *tape = handle_tape;
    const int32_t slot = self->slot;
    if (slot < 0) return;
    /* First, before anything can run Python: a dead handle must not be found through its entry. */
    tape->owner[slot] = NULL;
    tape->deaths++;
    self->slot = -1;
    if (self->attributes && tape->flags[slot] & USED) tape->store_attributes(slot, self);
    else if ((tape->flags[slot] & (INNER | USED)) == INNER) tape->root_died();
}

static void handle_finalize(PyObject *object)
{
    Handle *self = (Handle *)object;
    if (self->slot >= 0 && self->attributes && handle_tape->flags[self->slot] & USED)
        handle_tape->store_attributes(self->slot, self);
}

static void handle_dealloc(PyObject *object);

static void handle_dealloc_rest(PyObject *object)
{
    Handle *self = (Handle *)object;
    PyTypeObject *type = Py_TYPE(object);
    /* `Value.__del__ = f`; for a subclass CPython has done it already. */
    if (type == handle_tape->type && type->tp_finalize != handle_finalize
        && PyObject_CallFinalizerFromDealloc(object) < 0)
        return;
    if (self->tracked || type != handle_tape->type) PyObject_GC_UnTrack(object);
    handle_leave_entry(self);
    Py_TRASHCAN_BEGIN(object, handle_dealloc)
    if (self->weakrefs) PyObject_ClearWeakRefs(object);
    Py_CLEAR(self->attributes);
    Py_CLEAR(self->links);
    type->tp_free(object);
    Py_DECREF(type);
    Py_TRASHCAN_END
}

static void handle_dealloc(PyObject *object)
{
    Handle *self = (Handle *)object;
    Tape *tape = handle_tape;
    if (self->tracked || self->attributes || self->weakrefs || self->links
        || Py_TYPE(object) != tape->type || tape->type->tp_finalize != handle_finalize
        || tape->resting == HANDLES_AT_REST) {
        handle_dealloc_rest(object);
        return;
    }
    handle_leave_entry(self);
    if (tape->resting == HANDLES_AT_REST) { /* a collection freed handles in between */
        handle_dealloc_rest(object);
        return;
    }
    tape->at_rest[tape->resting++] = self;
}

static int handle_traverse(PyObject *object, visitproc visit, void *arg)
{
    Handle *self = (Handle *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->attributes);
    Py_VISIT(self->links);
    return 0;
}

static int handle_clear(PyObject *object)
{
    Handle *self = (Handle *)object;
    if (Py_TYPE(object)->tp_finalize != handle_finalize) /* but somebody's `__del__` */
        handle_finalize(object);
    Py_CLEAR(self->attributes);
    Py_CLEAR(self->links);
    return 0;
}

static Py_NO_INLINE int handle_setattro_rest(PyObject *object, PyObject *name, PyObject *value)
{
    Tape *tape = handle_tape;
    if (name == name_grad && value && PyLong_CheckExact(value) && Py_TYPE(object) == tape->type
        && !tape->tracing) {
        const double grad = PyLong_AsDouble(value); /* `p.grad = 0` is micrograd's idiom */
        if (grad == -1.0 && PyErr_Occurred()) return -1;
        entry_set_grad(tape, ((Handle *)object)->slot, grad, DATA_INT);
        return 0;
    }
    if (tape->dialect.may_set) {
        PyObject *allowed = PyObject_CallFunctionObjArgs(tape->dialect.may_set, object, name, NULL);
        if (!allowed) return -1;
        Py_DECREF(allowed);
    }
    if (PyObject_GenericSetAttr(object, name, value) < 0) {
        if (!value && PyErr_ExceptionMatches(PyExc_NotImplementedError)) /* Cython's property */
            PyErr_Format(PyExc_AttributeError, "cannot delete %R: every Value has it", name);
        return -1;
    }
    if (((Handle *)object)->attributes) handle_track(object);
    if (Py_TYPE(object) != tape->type) { /* `v.__class__ = Subclass`: its type must not be lost */
        tape->flags[((Handle *)object)->slot] |= KEPT;
        handle_track(object);
    }
    return 0;
}

static int handle_setattro(PyObject *object, PyObject *name, PyObject *value)
{
    Tape *tape = handle_tape;
    const int32_t slot = ((Handle *)object)->slot;
    if (value && PyFloat_CheckExact(value) && Py_TYPE(object) == tape->type && !tape->tracing) {
        if (name == name_data && !tape->readers) {
            if (tape->dialect.frozen) tape->note_edit(slot);
            tape->val[slot] = PyFloat_AS_DOUBLE(value);
            tape->flags[slot] &= ~(DATA_INT | (tape->numpy & DATA_NUMPY));
            return 0;
        }
        if (name == name_grad) {
            entry_set_grad(tape, slot, PyFloat_AS_DOUBLE(value), 0);
            return 0;
        }
    }
    return handle_setattro_rest(object, name, value);
}

/* A handle of a Python subclass: the cyclic collector knows it from the start. */
static PyObject *handle_alloc_as(PyTypeObject *type)
{
    PyObject *object = type->tp_alloc(type, 0);
    if (object) {
        ((Handle *)object)->slot = -1;
        ((Handle *)object)->tracked = 1;
    }
    return object;
}

static initproc plain_init;
static newfunc plain_new;

/* Is `type` Value itself, with the constructor that it was born with? */
static int handle_is_plain(PyTypeObject *type)
{
    return type == handle_tape->type && type->tp_init == plain_init && type->tp_new == plain_new;
}

/* What `type.__call__` does. */
static PyObject *handle_construct(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return PyType_Type.tp_call((PyObject *)type, args, kwargs);
}

/* For `object.__new__(Value)`, which CPython allows once somebody has replaced Value.__new__. */
static PyObject *handle_alloc_entry(PyTypeObject *type, Py_ssize_t items)
{
    if (type == handle_tape->type) return plain_new(type, NULL, NULL);
    return PyType_GenericAlloc(type, items);
}

/* Makes `type`, which Cython has laid out, live by this file.  Returns -1 with an error set if
 * its layout is not Handle's. */
static int handle_install(PyTypeObject *type, Tape *tape, newfunc make, vectorcallfunc call)
{
    handle_tape = tape;
    if (type->tp_basicsize != sizeof(Handle)
        || type->tp_weaklistoffset != offsetof(Handle, weakrefs)) {
        PyErr_SetString(PyExc_SystemError, "Value is not laid out as the Handle of tape.h");
        return -1;
    }
    name_data = PyUnicode_InternFromString("data");
    name_grad = PyUnicode_InternFromString("grad");
    if (!name_data || !name_grad) return -1;
    type->tp_dictoffset = offsetof(Handle, attributes);
    type->tp_new = plain_new = make;
    plain_init = type->tp_init;
    type->tp_alloc = handle_alloc_entry;
    type->tp_vectorcall = call;
    type->tp_dealloc = handle_dealloc;
    type->tp_traverse = handle_traverse;
    type->tp_clear = handle_clear;
    type->tp_finalize = handle_finalize;
    type->tp_setattro = handle_setattro;
    type->tp_free = PyObject_GC_Del;
    tape->type = type;
    PyType_Modified(type);
    return 0;
}

#endif
