"""``Value`` in the role of a program's own class.

`Role` changes the type Value so that a program sees the class that it wrote: its name, its
attributes, its own methods, its constructor's arguments, its errors.

Invariant: every change can be taken back (`Role.leave`), and then Value is micrograd's again.
"""

import ast
import copy
import operator
from collections.abc import Callable
from types import FunctionType, MemberDescriptorType
from typing import Any

from fastgrad import proof, uses
from fastgrad.dialect import set_dialect
from fastgrad.engine import Value
from fastgrad.shapes import CONSTANTS, Left, impurity
from fastgrad.traits import COMPARISONS, KINDS, Source, Traits

VIEWS = ("_prev", "_children", "_local_grads", "_op", "_backward", "label")
EXTRAS = ("gelu", "leaky_relu", "maximum", "minimum", "detach")
_MISSING = object()
_LEAVE = frozenset(
    ("__module__", "__dict__", "__weakref__", "__slots__", "__qualname__", "__annotations__")
) | {"__firstlineno__", "__static_attributes__", "__annotate__", "__init__", "__doc__"}


class Role:
    """The changes that make Value look like one class.

    Parameters
    ----------
    source, traits : Source, Traits
        The class.
    scratch : dict
        A namespace in which it has been defined, apart from the program's.
    """

    def __init__(self, source: Source, traits: Traits, scratch: dict[str, Any]) -> None:
        self.source, self.traits, self.scratch = source, traits, scratch
        self.name, self.methods = source.name, source.methods
        self.undo: list[tuple[str, Any]] = []
        self.meet_numpy: Callable[[], None] = lambda: None  # before its first number is read

    def rehearse(
        self,
        names: dict[str, str],
        labels: dict[Any, Any],
        replaced: set[str],
        used: dict[str, tuple[int, int]],
    ) -> None:
        """Take on the role, and compare what is taken over as it is written.

        Parameters
        ----------
        names : dict
            By which of Value's methods the class's functions are replaced.
        labels : dict
            What the class calls Value's operations.
        replaced : set of str
            The methods that are not taken over.
        used : dict
            Attributes that the program uses, and in which line.

        Raises
        ------
        Left
            If the program would notice.
        """
        namespace = dict(self.scratch)
        written = self.source.execute(namespace)
        namespace[self.name] = Value
        for name, spelling in names.items():
            self.change(name, Value.__dict__[spelling])
        for attribute in "__name__", "__qualname__":
            self.change(attribute, self.name)
        self.change("__module__", self.scratch.get("__name__"))
        self.change("__doc__", written.__doc__)
        for missing in (*proof.FUNCTIONS, *EXTRAS):
            if missing not in self.methods:
                self.change(missing, _MISSING)
        for name in KINDS:
            if f"__{name}__" not in self.methods:
                self.change(f"__{name}__", _MISSING)
                self.change(f"__r{name}__", _MISSING)
        self.take_arguments(replaced)
        self.change("__repr__", object.__repr__)
        if self.methods.keys() & set(COMPARISONS):
            for missing in set(COMPARISONS) - self.methods.keys():
                self.change(missing, getattr(object, missing))
        self.show_attributes(labels, used)
        own = self.own_things(written, replaced)
        for name, value in own:
            self.change(name, value)
        for name, value in own:
            if self.is_quiet(name, value):
                why = proof.compare_method(self.traits.C, Value, name)
                if why:
                    raise Left(why)

    def take_arguments(self, replaced: set[str]) -> None:
        """Let the constructor take what the program gives it, if it does not anyway."""
        roles = self.traits.roles()
        gone: set[ast.AST] = {self.methods[name] for name in replaced}
        if not uses.arguments(self.source.program, self.name, gone, roles):
            return
        # A function with the parameters, defaults and error messages of the class's own.
        init: Any = copy.copy(self.methods["__init__"])
        listed = ", ".join(f"{name!r}: {name}" for name in roles)
        init.body = [ast.Return(ast.parse(f"{{{listed}}}", mode="eval").body)]
        shell = ast.fix_missing_locations(ast.ClassDef(self.name, [], [], [init], []))
        shell = ast.copy_location(shell, self.source.node)
        read = vars(self.source.execute(dict(self.scratch), shell))["__init__"]
        native: Any = Value.__init__

        def __init__(v: Any, *args: Any, **kwargs: Any) -> None:
            given = {roles[name]: value for name, value in read(v, *args, **kwargs).items()}
            children, made = given.pop("children", None), given.pop("op", None)
            native(
                v, given.pop("data"), children or (), given.pop("local_grads", None) or made or ""
            )
            for name, value in given.items():
                if getattr(v, name, _MISSING) is not value:
                    setattr(v, name, value)

        self.change("__init__", __init__)

    def show_attributes(self, labels: dict[Any, Any], used: dict[str, tuple[int, int]]) -> None:
        """Give Value the attributes of the class's instances, or refuse where it cannot."""
        views = {name: Value.__dict__[name] for name in VIEWS}
        operands = views["_children"].__get__
        for name in VIEWS:
            if name not in self.traits.attributes:
                self.change(name, _MISSING)
        for name, first in self.traits.attributes.items():
            spelled = name.removeprefix(f"_{self.name.lstrip('_')}") if "__" in name else name
            if name == "_backward" and name in used and not callable(first):
                raise Left(f"a new value's _backward is {first!r}")
            if name in ("data", "grad", "_backward") or spelled not in used:
                continue
            if name in self.traits.children:
                self.change(name, _held_in(self.traits.children[name], operands))
            elif name == self.traits.local:
                self.change(name, _held_in(type(first), views["_local_grads"].__get__))
            elif name == self.traits.op:
                if any(native != own for native, own in labels.items()) or name != "_op":
                    self.change(name, _relabelled(views["_op"], labels))
            elif isinstance(first, CONSTANTS) and self.traits.inner.get(name, _MISSING) == first:
                self.change(name, first)
            else:
                raise Left(f"it keeps {name}, which the program uses (line {used[name][1]})")

    def own_things(self, cls: type, replaced: set[str]) -> list[tuple[str, Any]]:
        """What the class has and fastgrad's Value takes over as it is written."""
        own = []
        for name, value in vars(cls).items():
            if name in replaced or name in _LEAVE or isinstance(value, MemberDescriptorType):
                continue
            code = getattr(getattr(value, "__func__", value), "__code__", None)
            if code and "__class__" in code.co_freevars:
                raise Left(f"{name} uses super() or __class__")
            own.append((name, value))
        return own

    def is_quiet(self, name: str, value: Any) -> bool:
        """Can a method be tried without anybody noticing?"""
        function = self.methods.get(name)
        if not function or name == "__hash__" or not isinstance(value, (FunctionType, property)):
            return False
        return impurity(function, self.name, self.scratch, self.source.program) is None

    def change(self, name: str, value: Any) -> None:
        """Set or delete an attribute of Value so that it can be put back."""
        inherited = name in ("__name__", "__qualname__", "__doc__")
        before = getattr(Value, name) if inherited else Value.__dict__.get(name, _MISSING)
        self.undo.append((name, before))
        _put(name, value)

    def play(self, cls: type, replaced: set[str]) -> None:
        """After the rehearsal: with the methods of the class that the program has defined."""
        for name, value in self.own_things(cls, replaced):
            setattr(Value, name, value)
        self.speak_in_earnest()

    def speak(self, **more: Any) -> None:
        """Let Value compute in the class's dialect."""
        may_set = self.set_as_written if self.traits.slotted else None
        more = {"numpy": lambda: None, **more}
        set_dialect(**self.traits.dialect, may_set=may_set, **more)

    def speak_in_earnest(self) -> None:
        """And fail as the class does."""
        self.speak(hook=self.fail_as_written, numpy=lambda: self.meet_numpy())

    def leave(self) -> None:
        """Make Value micrograd's again."""
        while self.undo:
            _put(*self.undo.pop())
        set_dialect()

    # ---- errors

    def set_as_written(self, v: Any, name: str) -> None:
        """Raise what setting an attribute raises if the class has no such slot."""
        if name not in self.traits.attributes:
            setattr(self.traits.C(0.0), name, None)

    def fail_as_written(self, operation: str, left: Any, right: Any, reverse: bool = False) -> None:
        """Raise what the class as written raises, with its own lines in the traceback."""
        C = self.traits.C
        if operation == "__init__":
            C(*left, **right)
            return
        if operation.startswith("__"):
            x, y = (C(v.data) if isinstance(v, Value) else v for v in (left, right))
            getattr(operator, operation)(x, y)
            return
        if operation in ("ADD", "MUL", "SUB"):
            getattr(operator, operation.lower())(C(left), C(right))
            return
        v = C(1.0 if reverse else left)
        if operation in ("POW_CONST", "POW"):
            out = v ** (right if operation == "POW_CONST" else C(right))
        else:  # a row of ops.h such as LOG, or a spelling such as TANH_EXP
            out = getattr(v, operation.split("_")[0].lower())()
        if reverse:  # it is with the operand's present data that the rule fails
            v.data = left
            if operation == "SQRT":
                out.data = left**0.5
            out.backward()


def _held_in(kind: Callable[[Any], Any], operands: Callable[[Any], Any]) -> property:
    return property(lambda v: kind(operands(v)))


def _relabelled(native: Any, labels: dict[Any, Any]) -> property:
    def get(v: Any) -> Any:
        label = native.__get__(v)
        power = label.startswith("**") and label not in labels
        return labels.get("**n" if power else label, label)

    return property(get, native.__set__)


def _put(name: str, value: Any) -> None:
    if value is not _MISSING:
        setattr(Value, name, value)
    elif name in Value.__dict__:
        delattr(Value, name)
