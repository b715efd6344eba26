"""`Module`, the base of everything that has parameters: their names, their state, its mode.

A module's parts are its attributes: Values, modules, and lists, tuples and dicts of these.  What
`parameters` of the module that holds a Value, or of one further up, does not list is no part of its
state: a script may keep its inputs, its outputs and its constants in attributes too.

Invariant: a call that raises has changed nothing.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fastgrad import layer as _fused
from fastgrad.engine import Value

if TYPE_CHECKING:
    import numpy as np

DEEPEST = 32  # axes that an array may have; a list that contains itself has more


class Module:
    """Base of everything that has parameters.

    Attributes
    ----------
    training : bool
        What `train` and `eval` set; `Dropout` asks for it.

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

    training = True

    def zero_grad(self) -> None:
        """Set the grad of every parameter to 0."""
        _fused.zero_grads(self.parameters())

    def parameters(self) -> list[Value]:
        """List the trainable values; a subclass says which.

        Returns
        -------
        list of Value
        """
        return []

    def named_parameters(self) -> Iterator[tuple[str, Value]]:
        """Give each of `parameters` once, in their order, with its name.

        Yields
        ------
        str
            Its name in `state_dict`, and its place in the array there.
        Value

        Raises
        ------
        ValueError
            If `parameters` lists what no part holds, or two parts have one name.

        Examples
        --------
        >>> from fastgrad.nn import MLP
        >>> [name for name, _ in MLP(2, [1]).named_parameters()]
        ['layers.0.weight[0, 0]', 'layers.0.weight[0, 1]', 'layers.0.bias[0]']
        """
        names: dict[Value, str] = {}
        for name, one in self._arrays().items():
            for value, place in zip(one.values, product(*map(range, one.shape))):
                names.setdefault(value, f"{name}{list(place)}" if place else name)
        for value in dict.fromkeys(self.parameters()):
            yield names[value], value

    def state_dict(self) -> "dict[str, np.ndarray]":
        """Copy the parameters' data into arrays.

        Returns
        -------
        dict of str to ndarray
            One array for each list of Values that is as rectangular as a matrix, a layer's
            ``weight`` of shape (nout, nin) for example, of float64 or, if all data are ints, int64.
            Names lead from part to part: ``"layers.0.weight"``.

        Raises
        ------
        ValueError
            If `parameters` lists what no part holds, or two parts have one name.

        Examples
        --------
        >>> from fastgrad.nn import MLP
        >>> {name: array.shape for name, array in MLP(2, [3]).state_dict().items()}
        {'layers.0.weight': (3, 2), 'layers.0.bias': (3,)}
        """
        import numpy as np  # not at the top: a plain script shall not wait for it

        return {
            name: np.array([value.data for value in one.values]).reshape(one.shape)
            for name, one in self._arrays().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the parameters' data to what `state_dict` of a model of the same make gave.

        Parameters
        ----------
        state : dict of str to array_like
            Of real numbers. Ints stay ints.

        Raises
        ------
        TypeError
            If `state` is no dict.
        ValueError
            If names are missing or unknown, or arrays have other shapes: all are listed, and the
            model is as it was.

        Examples
        --------
        >>> from fastgrad.nn import MLP
        >>> model, twin = MLP(2, [3, 1]), MLP(2, [3, 1])
        >>> twin.load_state_dict(model.state_dict())
        >>> twin([1.0, 2.0]).data == model([1.0, 2.0]).data
        True
        """
        import numpy as np

        if not isinstance(state, Mapping):
            raise TypeError(
                "state must be a dict of names to arrays, as state_dict() gives, "
                f"got {type(state).__name__} {state!r:.60}"
            )
        arrays = self._arrays()
        wrong = [
            f"missing: {name} {one.shape}" for name, one in arrays.items() if name not in state
        ]
        numbers = {}
        for name, given in state.items():
            if name not in arrays:
                wrong.append(f"unexpected: {name}")
                continue
            try:
                array = np.asarray(given)
            except ValueError:  # ragged
                array = np.asarray(None)
            if array.dtype.kind not in "fiu":
                wrong.append(f"{name}: expected an array of numbers, got {given!r:.60}")
            elif array.shape != arrays[name].shape:
                wrong.append(f"{name}: expected shape {arrays[name].shape}, got {array.shape}")
            elif array.dtype.kind == "f":
                numbers[name] = array.astype(np.float64).ravel().tolist()
            else:
                numbers[name] = array.ravel().tolist()
        if wrong:
            raise ValueError(
                f"not the state of this {type(self).__name__}, which is left as it was:\n  "
                + "\n  ".join(wrong)
            )
        for name, one in arrays.items():
            for value, number in zip(one.values, numbers[name]):
                value.data = number

    def modules(self) -> Iterator["Module"]:
        """Give this module and all that are parts of it, each once.

        The neurons of a layer whose weights are a matrix are no parts, but its rows.

        Yields
        ------
        Module

        Examples
        --------
        >>> from fastgrad.nn import MLP
        >>> [type(one).__name__ for one in MLP(2, [1]).modules()]
        ['MLP', 'Layer']
        """
        parts = (part.thing for part in _walk(self, "", ()))
        yield from {id(one): one for one in parts if isinstance(one, Module)}.values()

    def train(self, mode: bool = True) -> Self:
        """Set `training` of this module and of all that are parts of it.

        Parameters
        ----------
        mode : bool

        Returns
        -------
        Module
            Itself.

        Examples
        --------
        >>> from fastgrad.nn import Dropout, Sequential
        >>> model = Sequential(Dropout(0.5)).eval()
        >>> model.training, model.layers[0].training, model([1.0, 2.0])
        (False, False, [1.0, 2.0])
        """
        for one in self.modules():
            one.training = mode
        return self

    def eval(self) -> Self:
        """Do ``train(False)``: from training to use.

        Returns
        -------
        Module
            Itself.
        """
        return self.train(False)

    def _parts(self) -> Mapping[Any, Any]:
        """The attributes, by name."""
        slots = (getattr(cls, "__slots__", ()) for cls in reversed(type(self).__mro__))
        names = [*(name for own in slots for name in own), *vars(self)]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def _arrays(self) -> "dict[str, _Array]":
        """What the state consists of; every parameter is in it."""
        arrays: dict[str, _Array] = {}
        listed: dict[int, set[int]] = {}  # by module: its parameters

        def lists(module: Any, value: Value) -> bool:
            if id(module) not in listed:
                listed[id(module)] = set(map(id, module.parameters()))
            return id(value) in listed[id(module)]

        for name, thing, shape, above in _walk(self, "", ()):
            if shape is None:
                continue
            values = _flat(thing, len(shape))
            owners = [one for one in above if isinstance(one, Module)]
            if any(lists(owner, value) for value in values for owner in owners):
                if name in arrays:
                    raise ValueError(f"two parts of {type(self).__name__} are called {name}")
                arrays[name] = _Array(shape, values)
        named = {id(value) for one in arrays.values() for value in one.values}
        for k, value in enumerate(self.parameters()):
            if id(value) not in named:
                raise ValueError(
                    f"parameter {k} of {type(self).__name__}, {value!r:.60}, has no name: keep it "
                    "as a Value in an attribute, or in a list, tuple, dict or module that is one"
                )
        return arrays


class _Array(NamedTuple):
    shape: tuple[int, ...]
    values: list[Value]


class _Part(NamedTuple):
    name: str
    thing: Any
    shape: tuple[int, ...] | None  # of nested Values; None of a module
    above: tuple[Any, ...]


def _walk(thing: Any, name: str, above: tuple[Any, ...]) -> Iterator[_Part]:
    """All modules and rectangular nests of Values that a thing is made of, itself first."""
    shape = _shape(thing)
    if shape is not None:
        yield _Part(name, thing, shape, above)
        return
    if any(thing is one for one in above):
        return
    inner: Mapping[Any, Any]
    if isinstance(thing, Module):
        yield _Part(name, thing, None, above)
        inner = thing._parts()
    elif isinstance(thing, dict):
        inner = thing
    elif isinstance(thing, (list, tuple)):
        inner = dict(enumerate(thing))
    else:
        return
    for key, part in inner.items():
        yield from _walk(part, f"{name}.{key}" if name else f"{key}", (*above, thing))


def held(module: Module) -> Iterator[Value]:
    """All Values in the attributes of a module and of its parts, listed by parameters() or not."""
    for part in _walk(module, "", ()):
        if part.shape is not None:
            yield from _flat(part.thing, len(part.shape))


def _shape(thing: Any, depth: int = 0) -> tuple[int, ...] | None:
    """The shape of a Value, or of nested lists of Values; None if it is none, or ragged."""
    if isinstance(thing, Value):
        return ()
    if not isinstance(thing, (list, tuple)) or not thing or depth == DEEPEST:
        return None
    shape = _shape(thing[0], depth + 1)
    if shape is None or any(_shape(part, depth + 1) != shape for part in thing):
        return None
    return (len(thing), *shape)


def _flat(thing: Any, depth: int) -> list[Value]:
    for _ in range(depth - 1):
        thing = [value for row in thing for value in row]
    return list(thing) if depth else [thing]


def _check_size(what: str, size: int) -> None:
    if size < 1:
        raise ValueError(f"expected at least 1 for the number of {what}, got {size}")


def _row(x: Any) -> Any:
    """A row as a sequence; a Value, which a layer of one neuron gives, is a row of one."""
    return (x,) if isinstance(x, Value) else x if hasattr(x, "__len__") else tuple(x)
