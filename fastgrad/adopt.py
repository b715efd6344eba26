"""Let fastgrad's ``Value`` stand in for a class that a program carries itself.

`mark` finds such classes in a program's source. When their definitions are executed they are
compared with fastgrad's (``shapes.py``, ``proof.py``); a class that is proven equal is replaced,
any other is left as written, and a line on stderr says which.

What is replaced: construction, the arithmetic operators, backward, and functions such as tanh whose
values agree to the last bit. What the class has besides (``__repr__``, methods made of others,
another formula for a known function) is taken over as it is written. What it lacks, fastgrad's
Value loses.

Invariant: at most one class is replaced in a process, because ``Value`` itself becomes that class:
its name, its int or float grads, its errors. A class that is left as written changes nothing.

Limitations: only classes at the top level of the program itself, not of modules that it imports.
"""

import ast
import builtins
import copy
import operator
import sys
import warnings
from collections.abc import Callable
from types import FunctionType
from typing import Any

from fastgrad import probes, proof, uses
from fastgrad.arrays import Arrays
from fastgrad.engine import Value
from fastgrad.proof import Engine
from fastgrad.role import Role
from fastgrad.shapes import (
    Left,
    Program,
    candidates,
    impurity,
    is_composed,
    objection,
    parameters,
)
from fastgrad.traits import Source, Traits, shape

HOOK = "__fastgrad_adopt__"
# What others are made of comes first, so that a bug is found where it is.
_ORDER = (
    *(
        "__add__",
        "__mul__",
        "__radd__",
        "__rmul__",
        "__neg__",
        "__pow__",
        "__rpow__",
        "__sub__",
        "__rsub__",
    ),
    *("__truediv__", "__rtruediv__", *sorted(proof.FUNCTIONS - {"__neg__"})),
)
SPELLINGS = {  # fastgrad's method, then other formulas for it
    "relu": ("relu", "_relu_max", "_relu_local", "_relu_float"),
    "tanh": ("tanh", "_tanh_by_exp"),
    "sigmoid": ("sigmoid", "_sigmoid_by_exp"),
}


def mark(trees: list[ast.Module], files: list[str], strict: bool, quiet: bool) -> bool:
    """Have the classes of a program that look like ``Value`` adopted when they are defined.

    Parameters
    ----------
    trees : list of ast.Module
        The program: one tree, or one a notebook cell. Changed in place.
    files : list of str
        What to call them, in messages and tracebacks.
    strict : bool
        End the program where a class is left as written.
    quiet : bool
        Say nothing on stderr.

    Returns
    -------
    bool
        Whether there are such classes.

    Examples
    --------
    >>> mark([ast.parse("print('no class here')")], ["script.py"], strict=False, quiet=True)
    False
    """
    program = Program(trees)
    found = [(node, k) for k, tree in enumerate(trees) for node in candidates(tree)]
    adoptions = []
    for node, k in found:
        where = f"cell {k + 1}, line {node.lineno}" if len(trees) > 1 else f"line {node.lineno}"
        adoptions.append(_Adoption(Source(copy.copy(node), files[k], where, program)))
    for number, (node, _) in enumerate(found):
        # Value can become one class only: of several by the same name the last.
        rivals = [a.source for a in adoptions if a.source.name != node.name]
        rivals += [a.source for a in adoptions[number + 1 :][-1:]]
        adoptions[number].other = rivals[0] if rivals else None
        call = ast.parse(f"{HOOK}({number})", mode="eval").body
        for part in ast.walk(call):
            if isinstance(part, ast.expr):
                ast.copy_location(part, node)
                part.end_lineno, part.end_col_offset = node.lineno, node.col_offset
        node.decorator_list = [call, *node.decorator_list]

    def hook(number: int) -> Callable[[type], type]:
        def adopt(cls: type) -> type:
            return adoptions[number].decide(cls, sys._getframe(1).f_globals, strict, quiet)

        return adopt

    if found:
        setattr(builtins, HOOK, hook)
    return bool(found)


class _Adoption:
    """One class of the program, from its definition to the decision."""

    role: Role  # once it has been looked at

    def __init__(self, source: Source) -> None:
        self.source = source
        self.other: Source | None = None  # because of which this one stays as it is

    def decide(self, cls: type, names: dict[str, Any], strict: bool, quiet: bool) -> type:
        """Replace the class or leave it, and say so."""
        try:
            with warnings.catch_warnings():  # NumPy's, where a probe leaves a function's domain
                warnings.simplefilter("ignore")
                self.replace(cls, names)
        except Exception as error:
            if hasattr(self, "role"):
                self.role.leave()
            why = str(error) if isinstance(error, Left) else f"{type(error).__name__}: {error}"
            said, result = f"left as written: {why}", cls
        else:
            said, result = "replaced", Value
        if not quiet or (strict and result is cls):
            sys.stdout.flush()
            what = f"class {self.source.name} ({self.source.where})"
            print(f"fastgrad: {what} {said}", file=sys.stderr, flush=True)
        if strict and result is cls:
            raise SystemExit(1)
        return result

    def replace(self, cls: type, names: dict[str, Any]) -> None:
        self.check_source()
        known = self.known_methods()
        scratch = _apart(names)
        for name in sorted(known):
            function = self.source.methods[name]
            why = impurity(function, self.source.name, scratch, self.source.program)
            if why:
                raise Left(f"in {name} {why}")
        self.theirs, self.ours = Engine(self.source.execute(scratch)), Engine(Value)
        self.traits = Traits(self.source, self.theirs.Value)
        self.labels = {"": self.traits.no_label}
        local: set[ast.AST] = {
            function
            for function in map(self.source.methods.get, known)
            if function and not is_composed(function, self.source.name)
        }
        self.used = self.source.program.attributes(local)
        self.check_rules(known)
        self.role = Role(self.source, self.traits, scratch)
        if "numpy" in sys.modules or self.source.program.imports(*uses.ARRAYS):
            self.traits.look_at_numpy()
        self.role.speak()
        replaced = known - self.prove(known)
        self.look_at_partials(replaced)
        self.role.speak()
        self.role.meet_numpy = lambda: self.prove_late(replaced)
        self.check_uses(replaced)
        self.role.rehearse(self.ours.names, self.labels, replaced, self.used)
        self.role.play(cls, replaced)
        for module in "micrograd", "micrograd.engine", "micrograd.nn":
            sys.modules.pop(module, None)  # the redirect's: Value is no longer micrograd's

    def check_source(self) -> None:
        why = objection(self.source.node)
        if why:
            raise Left(why)
        if self.other and self.other.name == self.source.name:
            raise Left(f"it is defined again ({self.other.where})")
        if self.other:
            raise Left(f"class {self.other.name} ({self.other.where}) looks like it")
        if self.source.program.imports("micrograd", "fastgrad"):
            raise Left("the program imports micrograd or fastgrad too")

    def check_rules(self, known: set[str]) -> None:
        """Refuse methods that ask an operand for more than its numbers, say for requires_grad."""
        plain = {"data", "grad", "_backward", "label", self.traits.op, self.traits.local}
        more = self.traits.attributes.keys() - plain - self.traits.children.keys()
        for statement in self.source.node.body:  # a switch for all instances
            if isinstance(statement, ast.Assign):
                more |= {getattr(target, "id", "") for target in statement.targets}
        more -= self.source.methods.keys()
        if parameters(self.source.methods["backward"]) != []:
            raise Left("backward takes an argument")
        for name in sorted(known):
            for node in ast.walk(self.source.methods[name]):
                of_class = isinstance(node, ast.Attribute) and (
                    isinstance(node.value, ast.Name) and node.value.id == self.source.name
                )
                if isinstance(node, ast.Attribute) and (
                    of_class or (node.attr in more and name != "__init__")
                ):
                    raise Left(f"{name} depends on {node.attr} (line {node.lineno})")

    def known_methods(self) -> set[str]:
        """The methods that fastgrad has too, which are replaced if they agree."""
        return {"__init__", "backward", *_ORDER} & self.source.methods.keys()

    # ---- proof

    def prove(self, known: set[str]) -> set[str]:
        """Compare operation by operation; returns the methods that stay as they are written."""
        carried = set()
        self.compare(probes.backward_probes()[:1])
        if not proof.reaches_operands(self.theirs):
            raise Left("backward leaves the grads of the operands as they are")
        if not proof.reaches_down(self.theirs):
            raise Left("backward leaves the grads two operations below the root as they are")
        # Other probes multiply and add, so these two come first, each without the other.
        alone = [p for p in probes.operator_probes("__add__") if p.situation != probes.BELOW]
        called_twice = probes.sum_twice()
        products = probes.operator_probes("__mul__")
        self.compare([*alone, called_twice, *products], exact=False)
        for name in ("__add__", "__mul__"):
            self.compare(self.numpy_probes(name))
        for name in _ORDER:
            if name not in known:
                continue
            if name in proof.FUNCTIONS:
                if self.keeps_own_function(name):
                    carried.add(name)
            elif self.keeps_own(name):
                carried.add(name)
            if name.startswith("__r") and name.replace("__r", "__") not in known:
                raise Left(f"it has {name} but not {name.replace('__r', '__')}")
        if "__pow__" in known and not self.traits.dialect["no_value_power"]:
            self.compare(probes.value_power_probes())
        self.compare(probes.backward_probes())
        return carried

    def compare(self, tried: list[proof.Probe], exact: bool = True) -> None:
        why = proof.compare(self.theirs, self.ours, tried, exact)
        if why:
            raise Left(why)

    def keeps_own(self, method: str) -> bool:
        """Is an operator computed in another way than fastgrad's?  It must be right, too."""
        tried = probes.operator_probes(method)
        if not proof.compare(self.theirs, self.ours, tried):
            differs = proof.compare(self.theirs, self.ours, self.numpy_probes(method))
            return bool(differs) or self.shows_other_graph(method)
        if method == "__sub__":  # as one operation, perhaps, whose grads differ at a second pass
            self.traits.dialect["own_sub"] = True
            self.role.speak()
            numpys = self.numpy_probes(method)
            if not proof.compare(self.theirs, self.ours, [*tried, *numpys]):
                return self.shows_other_graph(method)
            self.traits.dialect["own_sub"] = False
            self.role.speak()
        # Computed in yet another way it stays as it is written, so a second pass is its own too.
        tried = [probe._replace(backwards=1) for probe in tried]
        composed = is_composed(self.source.methods[method], self.source.name)
        if not (composed and proof.always_fails(self.theirs, tried)):
            self.compare(tried, exact=False)
        return True

    def keeps_own_function(self, name: str) -> bool:
        """Has a function another formula than any of fastgrad's?  It must be right, too."""
        for spelling in SPELLINGS.get(name, (name,)):
            ours = Engine(Value, {name: spelling})
            if not proof.compare(self.theirs, ours, probes.function_probes(name)):
                self.ours.names[name] = spelling
                return self.computes_other_kinds(name) or self.shows_other_graph(name)
        why = proof.compare(
            self.theirs, self.ours, probes.function_probes(name, extreme=False), exact=False
        )
        # Or is it another function altogether, say a logarithm with an epsilon?  Then it stays.
        another = why and why.startswith("value") and not name.startswith("__")
        if why and not (another and proof.is_differentiated(self.theirs, name)):
            raise Left(why)
        return True

    def numpy_probes(self, method: str) -> list[proof.Probe]:
        """What a program that has no NumPy needs no proof of."""
        numpy = self.traits.numpy
        return probes.numpy_probes(method, numpy) if numpy else []

    def computes_other_kinds(self, function: str) -> bool:
        """Is a function's number of another kind than fastgrad's where operands are NumPy's?"""
        tried = self.numpy_probes(function)
        for relu in (1, 2, 0) if function == "relu" and tried else (0,):
            if function == "relu":
                self.traits.dialect["relu"] = relu
                self.role.speak()
            if not proof.compare(self.theirs, self.ours, tried):
                return False
        return True

    def prove_late(self, replaced: set[str]) -> None:
        """The program's first NumPy number is here, though it does not seem to use NumPy."""
        if self.traits.numpy:
            return
        self.traits.look_at_numpy()
        self.role.speak()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for name in sorted(replaced - {"__init__", "backward"}):
                    is_function = name in proof.FUNCTIONS
                    if is_function and self.computes_other_kinds(name):
                        raise Left(f"{name} gives another kind of number")
                    self.compare([] if is_function else self.numpy_probes(name))
        except Left as error:
            what = f"{self.source.name} and numbers of NumPy: {error}"
            raise TypeError(f"{what}: run it with --as-written, or import numpy above") from None
        finally:
            self.role.speak_in_earnest()

    def shows_other_graph(self, method: str) -> bool:
        """Would a drawing of the graph show that the method has been replaced?"""
        labels = dict(self.labels)
        for x in 2.0, 3.0:
            theirs, ours = (self.example(engine, method, x) for engine in (self.theirs, self.ours))
            for attribute, kind in self.traits.children.items():
                view = "_prev" if issubclass(kind, (set, frozenset)) else "_children"
                if attribute in self.used and shape(theirs, attribute) != shape(ours, view):
                    return True
            if self.traits.op in self.used:
                label = getattr(theirs, self.traits.op)
                # Of a power fastgrad shows the exponent, as micrograd does: f"**{n}".
                exponent = ours._op.startswith("**") and ours._op != "**"
                known = "**n" if exponent and label != ours._op else ours._op
                if labels.setdefault(known, label) != label:
                    return True
        self.labels = labels
        return False

    def uses_graph(self) -> bool:
        return any(name in self.used for name in self.traits.children)

    def look_at_partials(self, replaced: set[str]) -> None:
        """Which operations keep the partials of their forward pass, as microgpt's do?"""
        frozen = set()
        for method in ("__mul__", "__pow__", *sorted(proof.FUNCTIONS)):
            if method not in replaced:
                continue
            if method in proof.FUNCTIONS:
                spelling = self.ours.names.get(method, method).strip("_")
                rows = [spelling.replace("by_", "").upper()]
                probe = probes.function_probes(method)[0]
            else:
                rows = {"__mul__": ["MUL"], "__pow__": ["POW_CONST", "POW"]}[method]
                probe = probes.operator_probes(method)[0]
            keeps = proof.keeps_partials(self.theirs, self.ours, probe)
            if keeps is None:
                raise Left(f"gradient of {method} differs {proof.with_edits(probe).situation}")
            if keeps:
                frozen.update(rows)
        frozen.discard("NEG")
        self.traits.dialect["frozen"] = tuple(sorted(frozen))

    def example(self, engine: Engine, method: str, x: float) -> Any:
        a, b = engine.Value(0.5), engine.Value(x)
        name = method.strip("_")
        if method in proof.FUNCTIONS:
            return engine.call(method, a)
        if name == "pow":
            return a**x
        if method.startswith("__r"):
            return getattr(operator, name[1:])(x, a)
        return getattr(operator, name)(a, b)

    def check_uses(self, replaced: set[str]) -> None:
        """Refuse a program that would notice that it no longer has these methods."""
        gone: set[ast.AST] = {self.source.methods[name] for name in replaced}
        self.used = self.source.program.attributes(gone)
        for why in (
            uses.onlookers(self.source.program, self.source.name, gone, replaced),
            uses.other_data(self.source.program, self.source.name, gone),
            self.traits.numpy and Arrays(self.source.program, self.source.name, gone).given(),
            uses.identities(self.source.program, gone) if self.uses_graph() else None,
        ):
            if why:
                raise Left(why)
        for name in ("_prev", "_children", "_local_grads", *self.traits.children):
            if self.used.get(name, (0, 0))[0]:
                raise Left(f"the program assigns {name} (line {self.used[name][1]})")
        for call in self.source.program.calls_of_method("backward", gone):
            if call.args or call.keywords:
                raise Left(f"the program gives backward an argument (line {call.lineno})")


def _apart(names: dict[str, Any]) -> dict[str, Any]:
    """A copy of a program's globals, with copies of its functions that look there."""
    apart = dict(names)
    for name, value in names.items():
        if isinstance(value, FunctionType) and value.__globals__ is names:
            apart[name] = _in_namespace(value, apart)
    return apart


def _in_namespace(function: FunctionType, names: dict[str, Any]) -> FunctionType:
    """The same function with other globals."""
    code, defaults, closure = function.__code__, function.__defaults__, function.__closure__
    other = FunctionType(code, names, function.__name__, defaults, closure)
    other.__kwdefaults__ = function.__kwdefaults__
    return other
