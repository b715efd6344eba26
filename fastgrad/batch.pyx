"""Batches: a program's array arguments, as columns of numbers.

A column is one number of a sample, for all samples: where it lies for the first one, and how far
apart samples are.  Arrays of float64 are read where they lie, whatever their strides; all else is
converted first.

Invariant: a Batch holds what it points at.
"""

import numpy

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, Py_buffer, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc

from fastgrad.tape cimport check_count


cdef object ndarray = numpy.ndarray

cdef enum:
    SPARE = 16  # columns for the arguments to come


cdef class Batch:
    """See the head of this file.

    Parameters
    ----------
    arguments : tuple of array_like
    names : list of str
        What errors call them.

    Raises
    ------
    TypeError
        If there is no argument, or one is no array of numbers.
    ValueError
        If one has no batch axis, another number of samples, or rows of different lengths.
    """

    def __init__(self, tuple arguments, list names):
        self.begin(arguments, names)

    cdef int begin(self, tuple arguments, list names) except -1:
        cdef int64_t k
        self.samples = -1
        self.arrays = []
        shapes = []
        for k in range(len(arguments)):
            shapes.append(self.add(arguments[k], names[k]))
        self.shapes = tuple(shapes)
        if self.samples < 0:
            raise TypeError("a program needs at least one argument, an array of samples, got none")
        self.given = self.columns
        return 0

    def __dealloc__(self):
        free(self.starts)
        free(self.strides)

    def example(self):
        """The first sample's numbers, for a trace; zeros if there is none."""
        cdef int64_t k
        return [self.starts[k][0] if self.samples else 0.0 for k in range(self.given)]

    def number(self, int64_t sample, int64_t column):
        """One number."""
        return self.starts[column][sample * self.strides[column]]

    def append(self, array):
        """Add columns that are no argument: an ndarray of float64, shape (samples, n)."""
        self.add_view(array, "a hidden input")

    cdef tuple add(self, object argument, str name):
        """Add an argument's columns; returns the shape of one sample."""
        shape = self.add_view(argument, name) if type(argument) is ndarray else None
        if shape is not None:
            return shape
        array = numbers_of(argument, name)
        if array.ndim == 0:
            raise ValueError(
                f"{name} must have a batch axis in front, got the number {argument!r}: "
                "for one sample pass a list of one"
            )
        return self.add_view(array, name)

    cdef tuple add_view(self, object array, str name):
        """Take an array as it is; None if it is none of float64."""
        cdef Py_buffer view
        cdef int axis
        cdef int64_t size = 1
        try:
            PyObject_GetBuffer(array, &view, PyBUF_FORMAT | PyBUF_STRIDES)
        except ValueError:  # dates, among others
            return None
        try:
            if view.ndim == 0 or view.format[0] != c"d" or view.format[1]:
                return None
            if <size_t>view.buf % sizeof(double):
                return None
            for axis in range(view.ndim):
                if view.strides[axis] % <int64_t>sizeof(double):
                    return None
            if self.samples >= 0 and view.shape[0] != self.samples:
                raise ValueError(
                    f"{name} has {view.shape[0]} samples (shape {array.shape}), but the arguments "
                    f"before have {self.samples}: expected the same number"
                )
            self.samples = view.shape[0]
            for axis in range(1, view.ndim):
                check_count(view.shape[axis], "the numbers of a sample")
                size *= view.shape[axis]
                check_count(size, "the numbers of a sample")
            self.make_room(size)
            if size:
                self.add_columns(<const double *>view.buf, 1, &view)
            self.arrays.append(array)
            return shape_of(&view)
        finally:
            PyBuffer_Release(&view)

    cdef int make_room(self, int64_t more) except -1:
        cdef int64_t room = self.columns + more + SPARE
        check_count(self.columns + more, "the numbers of a sample")
        if self.columns + more <= self.room and self.starts != NULL:
            return 0
        cdef void *starts = realloc(self.starts, room * sizeof(double *))
        if starts != NULL:
            self.starts = <const double **>starts
        cdef void *strides = realloc(self.strides, room * sizeof(int64_t))
        if strides != NULL:
            self.strides = <int64_t *>strides
        if starts == NULL or strides == NULL:
            raise MemoryError(f"no memory for {self.columns + more} columns")
        self.room = room
        return 0

    cdef int add_columns(self, const double *start, int axis, Py_buffer *view) except -1:
        """Those of a sample's numbers from this axis on."""
        cdef const double **starts = self.starts + self.columns
        cdef int64_t *strides = self.strides + self.columns
        cdef int64_t k, count = 1, step = 0
        if axis < view.ndim:
            count, step = view.shape[axis], view.strides[axis] // <int64_t>sizeof(double)
        if axis < view.ndim - 1:
            for k in range(count):
                self.add_columns(start + k * step, axis + 1, view)
            return 0
        for k in range(count):
            starts[k] = start + k * step
            strides[k] = view.strides[0] // <int64_t>sizeof(double)
        self.columns += count
        return 0


cdef tuple shape_of(const Py_buffer *view):
    """Of one sample."""
    if view.ndim == 1:
        return ()
    if view.ndim == 2:
        return (view.shape[1],)
    return tuple([view.shape[axis] for axis in range(1, view.ndim)])


cdef Batch new_batch(tuple arguments, list names):
    """The same as ``Batch(arguments, names)``, in less time."""
    cdef Batch batch = Batch.__new__(Batch)
    batch.begin(arguments, names)
    return batch


def numbers_of(argument, str name):
    """Convert an argument to an array of float64.

    Parameters
    ----------
    argument : array_like
    name : str
        What errors call it.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If its rows have different lengths.

    Examples
    --------
    >>> numbers_of([[1, 2]], "x")
    array([[1., 2.]])
    """
    try:
        array = numpy.asarray(argument)
    except ValueError:  # ragged
        raise ValueError(
            f"{name} must be an array of numbers, got rows of different lengths: {argument!r:.200}"
        ) from None
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"{name} must be an array of numbers, got {array.dtype} of shape {array.shape}: "
            f"{argument!r:.100}"
        )
    return array.astype(numpy.float64)
