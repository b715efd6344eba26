"""What to build nets of beside micrograd's layers: `Sequential`, `Embedding`, norms, `Dropout`.

Each takes one row, a sequence of numbers and Values, and works in a program too.  Formulas are
those of ``functional.pyx``.  All are public in ``nn.py``.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastgrad import functional, trace
from fastgrad.engine import Value
from fastgrad.module import Module, _check_size, _row

if TYPE_CHECKING:
    import numpy as np


class Sequential(Module):
    """Layers one after the other: each is called with what the one before it gives.

    Parameters
    ----------
    *layers : callable
        Modules, or functions that have no parameters.

    Raises
    ------
    TypeError
        If one of them cannot be called.
    ValueError
        If there is none.

    Examples
    --------
    >>> from fastgrad import functional
    >>> from fastgrad.nn import Dropout, Layer, Sequential
    >>> model = Sequential(Layer(2, 8), Dropout(0.5), Layer(8, 3, nonlin=False), functional.softmax)
    >>> len(model([1.0, 2.0])), list(model.state_dict())
    (3, ['0.weight', '0.bias', '2.weight', '2.bias'])
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        _check_size("layers", len(layers))
        for k, layer in enumerate(layers):
            if not callable(layer):
                raise TypeError(
                    f"layer {k} must be something to call, got {type(layer).__name__} "
                    f"{layer!r:.60}: pass layers one by one, not as a list"
                )
        self.layers: list[Any] = list(layers)

    def __call__(self, x: Any) -> Any:
        """Apply the layers to one row.

        Parameters
        ----------
        x : whatever the first layer takes

        Returns
        -------
        whatever the last layer gives
        """
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        parts = (one for one in self.layers if isinstance(one, Module))
        return list(dict.fromkeys(p for one in parts for p in one.parameters()))  # each once

    def _parts(self) -> dict[Any, Any]:
        parts = dict(super()._parts())
        return dict(enumerate(parts.pop("layers"))) | parts

    def __repr__(self) -> str:
        return f"Sequential of [{', '.join(map(repr, self.layers))}]"


class Embedding(Module):
    """A table that has a row of weights for each of `count` things, say letters.

    Parameters
    ----------
    count : int
        Number of rows, at least 1.
    width : int
        Weights in a row, at least 1.

    Raises
    ------
    ValueError
        If `count` or `width` is less than 1.

    Notes
    -----
    The weights are drawn from the standard normal distribution by ``random.gauss``.

    Examples
    --------
    >>> from fastgrad.nn import Embedding
    >>> letters = Embedding(27, 4)
    >>> letters, len(letters(2)), letters(2)[3] is letters.weight[2][3]
    (Embedding(27, 4), 4, True)
    """

    def __init__(self, count: int, width: int) -> None:
        _check_size("rows", count)
        _check_size("weights in a row", width)
        self.weight = [[Value(random.gauss(0, 1)) for _ in range(width)] for _ in range(count)]

    def __call__(self, i: Any) -> list[Value]:
        """Look a row up.

        Parameters
        ----------
        i : Value or number
            A whole number from 0 to ``count - 1``; in a program it may be an input.

        Returns
        -------
        list of Value
            Of length `width`. Gradient flows to this row.

        Raises
        ------
        TypeError
            If `i` is no number.
        IndexError
            If there is no such row.
        """
        row: list[Value] = functional.take(self.weight, i)
        return row

    def parameters(self) -> list[Value]:
        return [p for row in self.weight for p in row]

    def __repr__(self) -> str:
        return f"Embedding({len(self.weight)}, {len(self.weight[0])})"


class RMSNorm(Module):
    """The row scaled to a root mean square of 1, times a weight each.

    After Zhang and Sennrich (2019); `functional.rmsnorm` has the formula.

    Parameters
    ----------
    width : int
        Length of the rows, at least 1.
    eps : number
        Keeps a row of zeros from a division by zero.

    Raises
    ------
    ValueError
        If `width` is less than 1.

    Notes
    -----
    The weights start as 1.

    Examples
    --------
    >>> from fastgrad.nn import RMSNorm
    >>> [x.data for x in RMSNorm(2, eps=0)([3.0, -3.0])]
    [1.0, -1.0]
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        _check_size("weights", width)
        self.weight = [Value(1.0) for _ in range(width)]
        self.eps = eps

    def __call__(self, x: Any) -> list[Value]:
        """Normalise one row.

        Parameters
        ----------
        x : sequence of numbers and Values, shape (width,)

        Returns
        -------
        list of Value
            Of length `width`.

        Raises
        ------
        TypeError
            If `x` is no sequence of numbers and Values.
        ValueError
            If `x` has another length.
        """
        x = _row(x)
        if len(x) != len(self.weight):
            raise ValueError(f"{self!r} got a row of {len(x)}: {x!r:.200}")
        return [x * w for x, w in zip(functional.rmsnorm(x, self.eps), self.weight)]

    def parameters(self) -> list[Value]:
        return list(self.weight)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.weight)})"


class LayerNorm(RMSNorm):
    """The row shifted to a mean of 0, scaled to a variance of 1, times a weight, plus a bias each.

    After Ba, Kiros and Hinton (2016); the variance is that of the row itself, over n::

        (x - mean(x)) * (variance(x) + eps)**-0.5 * weight + bias

    Parameters
    ----------
    width : int
        Length of the rows, at least 1.
    eps : number
        Keeps a row of equal numbers from a division by zero.

    Raises
    ------
    ValueError
        If `width` is less than 1.

    Notes
    -----
    The weights start as 1, the biases as 0.

    Examples
    --------
    >>> from fastgrad.nn import LayerNorm
    >>> [x.data for x in LayerNorm(2, eps=0)([3.0, 5.0])]
    [-1.0, 1.0]
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__(width, eps)
        self.bias = [Value(0.0) for _ in range(width)]

    def __call__(self, x: Any) -> list[Value]:
        """Normalise one row, as `RMSNorm` does."""
        x = _row(x)
        mean = functional.mean(x)
        normed = super().__call__([one - mean for one in x])
        return [one + b for one, b in zip(normed, self.bias)]

    def parameters(self) -> list[Value]:
        return self.weight + self.bias


class Dropout(Module):
    """Numbers set to 0 at random while training, so that a net does not lean on single ones.

    After Srivastava et al. (2014). What is kept is multiplied by ``1 / (1 - p)``, so that nothing
    is to be done after training: then rows pass as they are (`Module.eval`).

    Parameters
    ----------
    p : number
        Probability of a 0, from 0 to 1.

    Raises
    ------
    ValueError
        If `p` is no such number.

    Notes
    -----
    Drawn by ``random.random``, one number after the other. In a program each run draws afresh, for
    every sample, with NumPy's generator, seeded by ``random.getrandbits``; so ``random.seed``
    repeats a training, on any number of threads. The run goes by the mode in which the module is
    then, not by that of the trace.

    Examples
    --------
    >>> import random
    >>> from fastgrad.nn import Dropout
    >>> random.seed(1)
    >>> dropout = Dropout(0.5)
    >>> dropout([1.0, 2.0, 3.0]), dropout.eval()([1.0, 2.0, 3.0])
    ([0.0, 4.0, 6.0], [1.0, 2.0, 3.0])
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"expected a probability from 0 to 1, got p={p!r}")
        self.p = p

    def __call__(self, x: Any) -> Any:
        """Apply it to one row.

        Parameters
        ----------
        x : Value, or sequence of numbers and Values

        Returns
        -------
        Value or list
            As `x` is.
        """
        row = _row(x)
        if trace.is_tracing():  # in either mode: the program follows it at each run
            factors: list[Any] = trace.hidden_inputs(len(row), self._factors)
        elif self.training:
            factors = [0.0 if random.random() < self.p else self._scale() for _ in row]
        else:
            return x if isinstance(x, Value) else row
        out = [one * factor for one, factor in zip(row, factors)]
        return out[0] if isinstance(x, Value) else out

    def _scale(self) -> float:
        return 1 / (1 - self.p) if self.p < 1 else 0.0

    def _factors(self, samples: int, count: int) -> "np.ndarray":
        """What a run of a program multiplies by: other numbers for each sample."""
        import numpy as np  # not at the top: a plain script shall not wait for it

        if not self.training:
            return np.ones((samples, count))
        draws = np.random.default_rng(random.getrandbits(64)).random((samples, count))
        return np.where(draws < self.p, 0.0, self._scale())

    def __repr__(self) -> str:
        return f"Dropout({self.p})"
