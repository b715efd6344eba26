"""micrograd's neural nets: Module, Neuron, Layer, MLP, with its draws, order, reprs and numbers.

A `Neuron` called by itself runs micrograd's literal sum, so that its graph draws as in micrograd's
README; a `Layer` or an `MLP` of plain neurons is recorded by one C call (``layer.pyx``).

`Module` itself is in ``module.py``, what micrograd has not in ``parts.py``.

There is no ``__all__``: ``from micrograd.nn import *`` brings ``Value`` and ``random`` too.
"""

import random
from math import sqrt as _sqrt

from fastgrad import layer as _fused
from fastgrad.engine import Value
from fastgrad.module import Module, _check_size, _row
from fastgrad.parts import Dropout as Dropout
from fastgrad.parts import Embedding as Embedding
from fastgrad.parts import LayerNorm as LayerNorm
from fastgrad.parts import RMSNorm as RMSNorm
from fastgrad.parts import Sequential as Sequential

_ACTIVATIONS = {"relu": True, "linear": False, "tanh": "tanh", "sigmoid": "sigmoid", "gelu": "gelu"}
_TITLES = {"tanh": "Tanh", "sigmoid": "Sigmoid", "gelu": "GELU"}


class Neuron(Module):
    """A weighted sum of its inputs plus a bias, with relu unless told otherwise.

    Parameters
    ----------
    nin : int
        Number of inputs, at least 1.
    nonlin : bool
        Whether the activation is applied.
    activation : str
        ``"relu"``, ``"tanh"``, ``"sigmoid"``, ``"gelu"`` or ``"linear"``.
    init : str or callable
        How the weights are drawn, by Python's ``random``; the bias is 0. ``"uniform"``: from -1 to
        1, as in micrograd. ``"kaiming"``: normal, of standard deviation sqrt(2 / nin), for relu,
        after He et al. (2015). ``"xavier"``: uniform up to sqrt(6 / (nin + nout)) on both sides of
        0, for tanh, after Glorot and Bengio (2010); `nout` is the number of neurons in the layer.
        A function of no arguments gives one weight at each call.

    Attributes
    ----------
    nonlin : bool or str
        True for relu, False for linear, else the name of the activation.

    Raises
    ------
    ValueError
        If `nin` is less than 1, or there is no such activation or init.

    Examples
    --------
    >>> random.seed(0)
    >>> n = Neuron(2)
    >>> n, len(n.parameters()), n([1.0, -1.0])
    (ReLUNeuron(2), 3, Value(data=0.1729..., grad=0))
    >>> Neuron(2, activation="tanh", init="xavier")
    TanhNeuron(2)
    """

    # Slots, so that the fused path can look at them without a dict look-up.
    __slots__ = ("w", "b", "nonlin")

    def __init__(self, nin, nonlin=True, activation="relu", init="uniform"):
        _check_size("inputs", nin)
        if isinstance(nonlin, str) or activation not in _ACTIVATIONS:
            name = nonlin if isinstance(nonlin, str) else activation
            raise ValueError(
                f"expected activation to be one of {', '.join(_ACTIVATIONS)}, and nonlin a bool, "
                f"got {name!r}"
            )
        draw = _drawing(init, nin, 1)
        self.w = [Value(draw()) for _ in range(nin)]
        self.b = Value(0)
        self.nonlin = nonlin and _ACTIVATIONS[activation]

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
        if not self.nonlin:
            return act
        return getattr(act, self.nonlin)() if isinstance(self.nonlin, str) else act.relu()

    def parameters(self):
        return self.w + [self.b]

    def __repr__(self):
        title = _TITLES.get(self.nonlin, "ReLU") if self.nonlin else "Linear"
        return f"{title}Neuron({len(self.w)})"


class Layer(Module):
    """Neurons side by side.

    Parameters
    ----------
    nin, nout : int
        Number of inputs and of neurons, at least 1.
    **kwargs
        Passed to each `Neuron`: ``nonlin``, ``activation``, ``init``.

    Raises
    ------
    ValueError
        If `nin` or `nout` is less than 1, or there is no such activation or init.

    Examples
    --------
    >>> Layer(2, 3, nonlin=False)
    Layer of [LinearNeuron(2), LinearNeuron(2), LinearNeuron(2)]
    """

    __slots__ = ("neurons", "_seat")

    def __init__(self, nin, nout, **kwargs):
        _check_size("inputs", nin)
        _check_size("neurons", nout)
        if "init" in kwargs:
            kwargs["init"] = _drawing(kwargs["init"], nin, nout)
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

    def _parts(self):
        parts = super()._parts()
        if not all(type(n) is Neuron for n in parts["neurons"]):
            return parts
        # A matrix is what people expect in a file. What else hangs on the neurons keeps its name.
        rest = [{k: v for k, v in n._parts().items() if k not in ("w", "b")} for n in self.neurons]
        own = {"weight": [n.w for n in self.neurons], "bias": [n.b for n in self.neurons]}
        return own | parts | {"neurons": rest}

    def __repr__(self):
        return f"Layer of [{', '.join(str(n) for n in self.neurons)}]"


class MLP(Module):
    """Layers one after the other; all but the last with an activation, relu unless told otherwise.

    Parameters
    ----------
    nin : int
        Number of inputs.
    nouts : list of int
        Number of neurons of each layer.
    **kwargs
        Passed to each `Neuron`: ``activation``, ``init``.

    Raises
    ------
    ValueError
        If a size is less than 1, there is no layer, or no such activation or init.

    Examples
    --------
    >>> random.seed(1337)
    >>> model = MLP(3, [4, 4, 1])
    >>> len(model.parameters())
    41
    >>> model([2.0, 3.0, -1.0])
    Value(data=..., grad=0)
    >>> MLP(2, [1, 1], activation="gelu", init="kaiming")
    MLP of [Layer of [GELUNeuron(2)], Layer of [LinearNeuron(1)]]
    """

    def __init__(self, nin, nouts, **kwargs):
        _check_size("layers", len(nouts))
        sz = [nin, *nouts]
        self.layers = [
            Layer(sz[i], sz[i + 1], nonlin=i != len(nouts) - 1, **kwargs) for i in range(len(nouts))
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


def _drawing(init, nin, nout):
    """A function that draws one weight of a layer."""
    if init == "uniform":
        return lambda: random.uniform(-1, 1)
    if init == "kaiming":
        return lambda: random.gauss(0, _sqrt(2 / nin))
    if init == "xavier":
        bound = _sqrt(6 / (nin + nout))
        return lambda: random.uniform(-bound, bound)
    if callable(init):
        return init
    raise ValueError(
        "expected init to be uniform, kaiming, xavier or a function of no arguments that draws a "
        f"weight, got {init!r:.60}"
    )


_fused.register(Neuron, Layer)
