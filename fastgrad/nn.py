"""micrograd's neural nets: Module, Neuron, Layer, MLP, with its draws, order, reprs and numbers.

A `Neuron` called by itself runs micrograd's literal sum, so that its graph draws as in micrograd's
README; a `Layer` or an `MLP` of plain neurons is recorded by one C call (``layer.pyx``).

There is no ``__all__``: ``from micrograd.nn import *`` brings ``Value`` and ``random`` too.
"""

import random

from fastgrad import layer as _fused
from fastgrad.engine import Value


class Module:
    """Base of everything that has parameters.

    Examples
    --------
    >>> class Scale(Module):
    ...     def __init__(self):
    ...         self.factor = Value(3.0)
    ...     def parameters(self):
    ...         return [self.factor]
    >>> Scale().parameters()
    [Value(data=3.0, grad=0)]
    """

    def zero_grad(self):
        """Set the grad of every parameter to 0."""
        _fused.zero_grads(self.parameters())

    def parameters(self):
        """List the trainable values; a subclass says which.

        Returns
        -------
        list of Value
        """
        return []


class Neuron(Module):
    """A weighted sum of its inputs plus a bias, with relu unless told otherwise.

    Parameters
    ----------
    nin : int
        Number of inputs, at least 1.
    nonlin : bool
        Whether relu is applied.

    Raises
    ------
    ValueError
        If `nin` is less than 1.

    Notes
    -----
    The weights are drawn by ``random.uniform(-1, 1)``, as in micrograd; the bias is 0.

    Examples
    --------
    >>> random.seed(0)
    >>> n = Neuron(2)
    >>> n, len(n.parameters()), n([1.0, -1.0])
    (ReLUNeuron(2), 3, Value(data=0.1729..., grad=0))
    """

    # Slots, so that the fused path can look at them without a dict look-up.
    __slots__ = ("w", "b", "nonlin")

    def __init__(self, nin, nonlin=True):
        _check_size("inputs", nin)
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(0)
        self.nonlin = nonlin

    def __call__(self, x):
        """Apply the neuron to one row.

        Parameters
        ----------
        x : sequence of numbers and Values, shape (nin,)

        Returns
        -------
        Value

        Raises
        ------
        ValueError
            If `x` has another length (micrograd ignores what is too much).
        """
        x = _row(x)
        if len(x) != len(self.w):
            raise ValueError(f"a neuron of {len(self.w)} inputs got {len(x)}: {x!r:.200}")
        act = sum((wi * xi for wi, xi in zip(self.w, x)), self.b)
        return act.relu() if self.nonlin else act

    def parameters(self):
        return self.w + [self.b]

    def __repr__(self):
        return f"{'ReLU' if self.nonlin else 'Linear'}Neuron({len(self.w)})"


class Layer(Module):
    """Neurons side by side.

    Parameters
    ----------
    nin, nout : int
        Number of inputs and of neurons, at least 1.
    **kwargs
        Passed to each `Neuron`.

    Raises
    ------
    ValueError
        If `nin` or `nout` is less than 1.

    Examples
    --------
    >>> Layer(2, 3, nonlin=False)
    Layer of [LinearNeuron(2), LinearNeuron(2), LinearNeuron(2)]
    """

    __slots__ = ("neurons", "_seat")

    def __init__(self, nin, nout, **kwargs):
        _check_size("inputs", nin)
        _check_size("neurons", nout)
        self.neurons = [Neuron(nin, **kwargs) for _ in range(nout)]
        self._seat = _fused.Seat()

    def __call__(self, x):
        """Apply the layer to one row.

        Parameters
        ----------
        x : sequence of numbers and Values, shape (nin,)

        Returns
        -------
        Value or list of Value
            A list of `nout`, or the Value alone if that is 1.

        Raises
        ------
        TypeError
            If `x` is no sequence of numbers and Values.
        ValueError
            If `x` has another length.
        """
        out = _fused.forward([self], x)
        if out is not NotImplemented:
            return out
        x = _row(x)
        out = [n(x) for n in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self):
        return [p for n in self.neurons for p in n.parameters()]

    def __repr__(self):
        return f"Layer of [{', '.join(str(n) for n in self.neurons)}]"


class MLP(Module):
    """Layers one after the other; all but the last with relu.

    Parameters
    ----------
    nin : int
        Number of inputs.
    nouts : list of int
        Number of neurons of each layer.

    Raises
    ------
    ValueError
        If a size is less than 1, or there is no layer.

    Examples
    --------
    >>> random.seed(1337)
    >>> model = MLP(3, [4, 4, 1])
    >>> len(model.parameters())
    41
    >>> model([2.0, 3.0, -1.0])
    Value(data=..., grad=0)
    """

    def __init__(self, nin, nouts):
        _check_size("layers", len(nouts))
        sz = [nin, *nouts]
        self.layers = [
            Layer(sz[i], sz[i + 1], nonlin=i != len(nouts) - 1) for i in range(len(nouts))
        ]

    def __call__(self, x):
        """Apply the layers to one row.

        Parameters
        ----------
        x : sequence of numbers and Values, shape (nin,)

        Returns
        -------
        Value or list of Value
            A list of the last layer's outputs, or the Value alone if there is one.

        Raises
        ------
        TypeError
            If `x` is no sequence of numbers and Values.
        ValueError
            If `x` has another length.
        """
        out = _fused.forward(self.layers, x)
        if out is not NotImplemented:
            return out
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self):
        return [p for layer in self.layers for p in layer.parameters()]

    def __repr__(self):
        return f"MLP of [{', '.join(str(layer) for layer in self.layers)}]"


def _check_size(what, size):
    if size < 1:
        raise ValueError(f"expected at least 1 for the number of {what}, got {size}")


def _row(x):
    """A row as a sequence; a Value, which a layer of one neuron gives, is a row of one."""
    return (x,) if isinstance(x, Value) else x if hasattr(x, "__len__") else tuple(x)


_fused.register(Neuron, Layer)
