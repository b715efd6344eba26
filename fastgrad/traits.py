"""What the instances of a program's own class Value are like.

This module lets you execute a class in a namespace (`Source`) and look at what its constructor and
operators make (`Traits`): attributes, int or float grads, under which names the operands are kept,
what each argument of the constructor becomes.

Invariant: only the class's own constructor, ``+``, ``*``, ``**`` and ``backward`` are called, which
``shapes.py`` has found to do nothing but compute.
"""

import ast
import importlib
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastgrad.shapes import Function, Left, Program, methods, parameters

KINDS = ("add", "sub", "mul", "truediv", "pow")  # in the order of operators.pxd
COMPARISONS = ("__lt__", "__le__", "__eq__", "__ne__", "__gt__", "__ge__")  # CPython's order
_UNORDERED = (set, frozenset)


@dataclass
class Source:
    """A class in a program's source: its node, without the mark, and where it stands."""

    node: ast.ClassDef
    file: str
    where: str
    program: Program

    def __post_init__(self) -> None:
        self.name = self.node.name
        self.methods: dict[str, Function] = methods(self.node)

    def execute(self, names: dict[str, Any], node: ast.ClassDef | None = None) -> type:
        """Define the class, or another in its place, in a namespace."""
        body = [*self.program.future_imports(), node or self.node]
        code = compile(ast.Module(body, []), self.file, "exec", dont_inherit=True)
        exec(code, names)
        made: type = names[self.name]
        return made


class Traits:
    """What the instances of a class are like.

    Attributes
    ----------
    attributes, inner : dict
        The attributes of a new value, and of a product.
    children : dict
        Names under which a value keeps its operands: set, frozenset, tuple or list.
    local, op : str
        Names under which it keeps its local gradients and the name of its operation, or "".
    dialect : dict
        Arguments for `set_dialect`.

    Raises
    ------
    Left
        If its data or grads are not those of a Value.
    """

    def __init__(self, source: Source, C: Any) -> None:
        self.source, self.C = source, C
        name = source.name
        leaf, a, b = C(2.5), C(2.0), C(3.0)
        inner = a * b
        if type(leaf.data) is not float or leaf.data != 2.5:
            raise Left(f"the data of {name}(2.5) is {leaf.data!r}")
        if type(C(5).data) not in (int, float) or C(5).data != 5:
            raise Left(f"the data of {name}(5) is {C(5).data!r}")
        if type(leaf.grad) not in (int, float) or leaf.grad != 0:
            raise Left(f"a new grad is {leaf.grad!r}, expected 0")
        if type(attempt(lambda: C(C(2.0)).data)) is float:
            raise Left(f"its constructor takes a {name} as data")
        root = C(2.0) + C(3.0)
        if root.backward() is not None:
            raise Left("backward returns something")
        self.dialect: dict[str, Any] = {
            "int_grad": type(leaf.grad) is int,
            "int_seed": type(root.grad) is int,
            "floats": type(C(5).data) is float,
            "no_reflected": sum(
                1 << k for k, kind in enumerate(KINDS) if f"__r{kind}__" not in source.methods
            ),
            "no_comparison": sum(
                1 << k for k, method in enumerate(COMPARISONS) if method not in source.methods
            ),
            "no_value_power": attempt(lambda: C(2.0) ** C(3.0)) is None,
        }
        self.numpy: Any = None  # the module, if the program uses it
        self.slotted = not hasattr(leaf, "__dict__")
        rule = getattr(inner, "_backward", None)
        if callable(rule) and attempt(lambda: (rule(), True)) is None:
            raise Left("its rules take arguments")
        self.attributes = attributes_of(leaf)
        # Under which names it keeps its operands and what made it, for those who draw graphs.
        self.inner = attributes_of(inner)
        self.children = {
            key: type(held)
            for key, held in self.inner.items()
            if type(held) in (*_UNORDERED, tuple, list) and {*map(id, held)} == {id(a), id(b)}
        }
        lists = {key: held for key, held in self.inner.items() if type(held) in (tuple, list)}
        self.local = next(
            (key for key, held in lists.items() if sorted(held, key=repr) == [2.0, 3.0]), ""
        )
        self.op = next((n for n in ("_op", "op", "operation") if n in self.inner), "")
        self.no_label = getattr(leaf, self.op, "")

    def look_at_numpy(self) -> None:
        """Where does the class take an np.int64?  For a program that uses NumPy, if it is there."""
        try:
            self.numpy = importlib.import_module("numpy")
        except ImportError:
            return
        number = self.numpy.int64(2)
        tried = [partial(getattr(operator, name), self.C(2.0), number) for name in KINDS]
        self.dialect["no_numpy_int"] = sum(
            1 << k
            for k, compute in enumerate([*tried, partial(self.C, number)])
            # Division raises by a negative power, which every np.int64 refuses.
            if raised(compute) not in (None, ValueError)
        )

    def roles(self) -> dict[str, str]:
        """What the class's constructor makes of each of its parameters: a role, or an attribute."""
        names = parameters(self.source.methods["__init__"])
        if names is None:
            raise Left("its constructor takes any number of arguments")
        roles = {names[0]: "data"}
        for name in names[1:]:
            held = self.C(1.0)
            v = self.made_with(name, (held,))
            if v and any(held in (getattr(v, child) or ()) for child in self.children):
                roles[name] = "children"
                continue
            found = [
                key
                for key, value in attributes_of(self.made_with(name, "?")).items()
                if value == "?"
            ]
            if found:
                roles[name] = {self.op: "op", self.local: "local_grads"}.get(found[0], found[0])
            else:
                raise Left(f"its constructor does not just keep {name}")
        return roles

    def made_with(self, parameter: str, value: Any) -> Any:
        return attempt(lambda: self.C(2.0, **{parameter: value}))


def attributes_of(v: Any) -> dict[str, Any]:
    """The attributes of an instance, in a dict or in slots."""
    slots = (n for kind in type(v).__mro__ for n in getattr(kind, "__slots__", ()))
    return {**getattr(v, "__dict__", {}), **{n: getattr(v, n) for n in slots if hasattr(v, n)}}


def attempt(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Exception:
        return None


def raised(compute: Callable[[], Any]) -> type[Exception] | None:
    try:
        compute()
    except Exception as error:
        return type(error)
    return None


def shape(v: Any, attribute: str) -> Any:
    """The graph below a value; operands in order, unless they are kept in a set."""
    held = getattr(v, attribute)
    below = [shape(child, attribute) for child in held]
    return v.data, tuple(sorted(below, key=repr) if isinstance(held, _UNORDERED) else below)
