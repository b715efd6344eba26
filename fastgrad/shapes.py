"""What a program's source says of the scalar autograd class that it carries.

This module lets you:

- `candidates`: find the top-level classes that look like micrograd's ``Value``;
- `Program`: ask which attributes, calls and imports the rest of the program has;
- `objection`: say why a class cannot be understood from its source alone;
- `impurity`: say what else than numbers a method touches.

Invariant: nothing is executed and nothing but `ast` is believed; whether a class computes what
micrograd's does is for ``proof.py`` to find out.

Limitations: what is reached by other ways than names and dots (``globals()["Val" + "ue"]``) is
not seen.
"""

import ast
import builtins
import types
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeAlias

Function: TypeAlias = ast.FunctionDef | ast.Lambda


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Methods by which a class takes over what the interpreter does for every object.
UNUSUAL = _words(
    "__new__ __getattr__ __getattribute__ __setattr__ __delattr__ __del__ __init_subclass__ "
    "__class_getitem__ __set_name__ __reduce__ __reduce_ex__ __getstate__ __setstate__ "
    "__array_ufunc__ __array_function__ __array__ __array_priority__ __copy__ __deepcopy__"
)
PURE_BUILTINS = _words(
    "abs all any bool complex dict divmod enumerate filter float frozenset getattr hasattr hash "
    "id int isinstance issubclass iter len list map max min next object pow property range repr "
    "reversed round set slice sorted staticmethod classmethod str sum super tuple type zip "
    "NotImplemented Ellipsis __debug__"
)
PURE_MODULES = _words(
    "math cmath operator numbers typing functools itertools collections fractions __future__ numpy"
)
# Functions that take an attribute's name as a string: do they assign it?
_BY_NAME = {"getattr": 0, "hasattr": 0, "attrgetter": 0, "setattr": 1, "delattr": 1}
CONSTANTS = (int, float, complex, str, bytes, bool, type(None), range)


class Left(Exception):
    """The class is left as written; the message says why."""


def candidates(tree: ast.Module) -> list[ast.ClassDef]:
    """List the top-level classes that look like micrograd's ``Value``, whatever their names.

    Parameters
    ----------
    tree : ast.Module

    Returns
    -------
    list of ast.ClassDef
        Those that define ``__add__`` and ``__mul__`` and whose ``__init__`` sets ``data`` and
        ``grad``.

    Examples
    --------
    >>> candidates(ast.parse("class Point:\\n    def __add__(self, other): return self"))
    []
    """
    return [node for node in tree.body if isinstance(node, ast.ClassDef) and _looks_alike(node)]


def _looks_alike(node: ast.ClassDef) -> bool:
    names = methods(node)
    init = names.get("__init__")
    if not isinstance(init, ast.FunctionDef) or not {"__add__", "__mul__"} <= names.keys():
        return False
    set_here = {n.attr for n in ast.walk(init) if isinstance(n, ast.Attribute) and _is_store(n)}
    return {"data", "grad"} <= set_here


def methods(node: ast.ClassDef) -> dict[str, Function]:
    """Functions of a class body by name, those under a second name (``__rmul__ = __mul__``) too."""
    found: dict[str, Function] = {}
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
            if isinstance(target, ast.Name):
                if isinstance(value, ast.Lambda):
                    found[target.id] = value
                elif isinstance(value, ast.Name) and value.id in found:
                    found[target.id] = found[value.id]
    return found


def objection(node: ast.ClassDef) -> str | None:
    """Why the class is no plain class of functions and constants; None if it is one.

    Examples
    --------
    >>> objection(ast.parse("class Value(Base): pass").body[0])
    'it has the base class Base'
    """
    for base in node.bases:
        if not (isinstance(base, ast.Name) and base.id == "object"):
            return f"it has the base class {ast.unparse(base)}"
    for keyword in node.keywords:
        return f"it is made with {keyword.arg or '**'}={ast.unparse(keyword.value)}"
    if node.decorator_list:
        return f"it has the decorator {ast.unparse(node.decorator_list[0])}"
    found = methods(node)
    for name in found:
        if name in UNUSUAL:
            return f"it defines {name}"
    if "backward" not in found:
        return "it has no method backward"
    for statement in node.body:
        if not _is_plain(statement, found):
            return f"its body does more than define methods (line {statement.lineno})"
    return None


def _is_plain(statement: ast.stmt, found: dict[str, Function]) -> bool:
    match statement:
        case ast.FunctionDef(decorator_list=decorators):
            plain = {"property", "staticmethod", "classmethod"}
            return all(
                (isinstance(d, ast.Name) and d.id in plain)
                or (isinstance(d, ast.Attribute) and d.attr in ("setter", "getter", "deleter"))
                for d in decorators
            )
        case ast.Pass() | ast.Expr(value=ast.Constant()) | ast.AnnAssign(value=None):
            return True
        case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
            if isinstance(value, ast.Lambda) or (isinstance(value, ast.Name) and value.id in found):
                return True
            slots = isinstance(statement, ast.Assign) and _is_name(statement.targets, "__slots__")
            return _is_literal(value) or (slots and isinstance(value, ast.List))
    return False


def _is_literal(value: ast.expr) -> bool:
    try:
        literal = ast.literal_eval(value)
    except ValueError:
        return False
    return isinstance(literal, (*CONSTANTS, tuple))


def _is_name(targets: list[ast.expr], name: str) -> bool:
    return [getattr(target, "id", "") for target in targets] == [name]


def parameters(function: Function) -> list[str] | None:
    """Names of the parameters after the first; None if there are ``*args`` or ``**kwargs``."""
    args = function.args
    if args.vararg or args.kwarg:
        return None
    return [a.arg for a in (*args.posonlyargs, *args.args)][1:] + [a.arg for a in args.kwonlyargs]


def is_composed(function: Function, class_name: str) -> bool:
    """Is the method written in terms of other methods, with no local derivative of its own?"""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and _is_store(node):
            return False
        match node:
            case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
                if name == class_name and len(args) + len(keywords) > 1:
                    return False
    return True


def _is_store(node: ast.expr) -> bool:
    return isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del))


# ---- the rest of the program


class Program:
    """All trees of a program: one of a script, one a cell of a notebook.

    Examples
    --------
    >>> program = Program([ast.parse("import micrograd.nn\\nv.label = 'a'")])
    >>> program.imports("micrograd"), program.attributes(set())
    (True, {'label': (1, 2)})
    """

    def __init__(self, trees: list[ast.Module]) -> None:
        self.trees = trees

    def walk(self, without: set[ast.AST]) -> Iterator[ast.AST]:
        """Every node that is not below one of `without`."""
        waiting: list[ast.AST] = list(reversed(self.trees))
        while waiting:
            node = waiting.pop()
            if node not in without:
                yield node
                waiting.extend(ast.iter_child_nodes(node))

    def imports(self, *packages: str) -> bool:
        """Does the program import one of the packages, or from one, anywhere?"""
        return not self.packages.isdisjoint(packages)

    @cached_property
    def packages(self) -> set[str]:
        """Every package that is imported from."""
        names = []
        for node in self.walk(set()):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names.append(node.module or "")
        return {name.split(".")[0] for name in names}

    def future_imports(self) -> list[ast.stmt]:
        """The program's ``from __future__`` imports, which say how annotations are read."""
        return [
            statement
            for tree in self.trees
            for statement in tree.body
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__"
        ]

    def imported(self, name: str) -> tuple[str, str | None] | None:
        """The module, and the name in it, that an import somewhere at top level binds `name` to."""
        for statement in (s for tree in self.trees for s in tree.body):
            if not isinstance(statement, (ast.Import, ast.ImportFrom)):
                continue
            for alias in statement.names:
                if (alias.asname or alias.name) != name:
                    continue
                if isinstance(statement, ast.Import):
                    return alias.name, None
                return statement.module or "", alias.name
        return None

    def attributes(self, without: set[ast.AST]) -> dict[str, tuple[int, int]]:
        """Attribute names, also those in ``getattr``'s strings: how often assigned, and a line."""
        found: dict[str, tuple[int, int]] = {}
        for node in self.walk(without):
            match node:
                case ast.Attribute(attr=name):
                    stores, line = found.get(name, (0, node.lineno))
                    found[name] = (stores + (_is_store(node) and not _is_self(node)), line)
                case ast.Call(func=ast.Name(id=function), args=args) if function in _BY_NAME:
                    for arg in args:
                        if isinstance(arg, ast.Constant) and isinstance(arg.value, str):
                            stores, line = found.get(arg.value, (0, node.lineno))
                            found[arg.value] = (stores + _BY_NAME[function], line)
        return found

    def calls(self, name: str, without: set[ast.AST]) -> Iterator[ast.Call]:
        """Calls of the plain name, as in ``Value(2.0, label="a")``."""
        for node in self.walk(without):
            match node:
                case ast.Call(func=ast.Name(id=called)) if called == name:
                    yield node

    def calls_of_method(self, name: str, without: set[ast.AST]) -> Iterator[ast.Call]:
        """Calls as in ``loss.backward(...)``."""
        for node in self.walk(without):
            match node:
                case ast.Call(func=ast.Attribute(attr=called)) if called == name:
                    yield node

    def bindings(self, name: str) -> int:
        """How often the program assigns, defines or imports a name, in any scope."""
        count = 0
        for node in self.walk(set()):
            if isinstance(node, ast.Name):
                count += node.id == name and _is_store(node)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                count += node.name == name
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                count += any((a.asname or a.name.split(".")[0]) == name for a in node.names)
        return count

    def define(self, name: str, names: dict[str, Any]) -> bool:
        """Define a function or constant that stands further down, in a namespace, if it is one."""
        if self.bindings(name) != 1:
            return False
        for statement in (s for tree in self.trees for s in tree.body):
            match statement:
                case ast.FunctionDef(name=defined, decorator_list=[]) if defined == name:
                    defaults = [*statement.args.defaults, *filter(None, statement.args.kw_defaults)]
                    harmless = all(isinstance(d, ast.Constant) for d in defaults)
                case ast.Assign(targets=[ast.Name(id=defined)], value=value) if defined == name:
                    harmless = _is_literal(value)
                case _:
                    continue
            if harmless:
                body: list[ast.stmt] = [*self.future_imports(), statement]
                exec(compile(ast.Module(body, []), "<program>", "exec", dont_inherit=True), names)
            return harmless
        return False

    def function(self, name: str) -> ast.FunctionDef | None:
        """The top-level function of that name, if there is one and no other."""
        found = [
            statement
            for tree in self.trees
            for statement in tree.body
            if isinstance(statement, ast.FunctionDef) and statement.name == name
        ]
        return found[0] if len(found) == 1 else None


def _is_self(node: ast.Attribute) -> bool:
    """In ``self.data = x`` of somebody else's class it is not a Value's attribute that is set."""
    return isinstance(node.value, ast.Name) and node.value.id == "self"


# ---- what a method touches


def impurity(
    function: Function,
    class_name: str,
    names: dict[str, Any],
    program: Program,
    seen: frozenset[str] = frozenset(),
) -> str | None:
    """What a method does beside computing from its operands; None if nothing.

    Parameters
    ----------
    function : ast.FunctionDef or ast.Lambda
    class_name : str
    names : dict
        The program's globals; receives harmless modules, functions and constants that the program
        imports or defines further down.
    program : Program
    seen : frozenset of str
        Functions that call this one.

    Returns
    -------
    str or None
        Such as ``"calls print"``.

    Examples
    --------
    >>> noisy = ast.parse("def __add__(self, other): print(self); return self").body[0]
    >>> impurity(noisy, "Value", {}, Program([]))
    'it uses print'
    """
    bound: set[str] = set()
    loaded: set[str] = set()
    for node in ast.walk(function):
        match node:
            case ast.Global():
                return f"it changes the global {node.names[0]}"
            case ast.Yield() | ast.YieldFrom() | ast.Await() | ast.AsyncFunctionDef():
                return "it is a generator or coroutine"
            case ast.arg():
                bound.add(node.arg)
            case ast.FunctionDef() | ast.ClassDef():
                bound.add(node.name)
            case ast.ExceptHandler(name=str() as name):
                bound.add(name)
            case ast.Name():
                (bound if _is_store(node) else loaded).add(node.id)
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    module = node.module if isinstance(node, ast.ImportFrom) else alias.name
                    if (module or "").split(".")[0] not in PURE_MODULES:
                        return f"it imports {module}"
                    bound.add(alias.asname or alias.name.split(".")[0])
            case ast.Call(func=func) if not isinstance(func, ast.Name) and _is_class(func, "cls"):
                return "it makes values of its own type, be it a subclass"
            case ast.Attribute(attr="random"):
                return "it uses random numbers"
            case ast.Attribute(value=value) if _is_store(node) and _is_class(value, class_name):
                return f"it changes the class attribute {node.attr}"
    for name in sorted(loaded - bound - seen - {class_name, "__class__"}):
        why = _impurity_of_name(name, class_name, names, program, seen)
        if why:
            return why
    return None


def _is_class(node: ast.expr, class_name: str) -> bool:
    match node:
        case ast.Name(id=name):
            return name in (class_name, "cls")
        case ast.Attribute(attr="__class__") | ast.Call(func=ast.Name(id="type")):
            return True
    return False


def _impurity_of_name(
    name: str, class_name: str, names: dict[str, Any], program: Program, seen: frozenset[str]
) -> str | None:
    if name not in names:
        builtin = getattr(builtins, name, None)
        if name in PURE_BUILTINS or (isinstance(builtin, type) and _is_error(builtin)):
            return None
        if builtin is not None:
            return f"it uses {name}"
        if program.define(name, names):
            return _impurity_of_name(name, class_name, names, program, seen)
        source = program.imported(name)
        if source is None or source[0].split(".")[0] not in PURE_MODULES:
            return f"it uses {name}, which is not defined yet"
        module = __import__(source[0])
        names[name] = module if source[1] is None else getattr(module, source[1])
    value = names[name]
    if isinstance(value, types.ModuleType):
        pure = value.__name__.split(".")[0] in PURE_MODULES
        return None if pure else f"it uses the module {value.__name__}"
    if isinstance(value, types.FunctionType) and value.__globals__ is not None:
        function = program.function(name)
        if function is None or program.bindings(name) > 1:
            return None if value.__module__ in PURE_MODULES else f"it calls {name}"
        why = impurity(function, class_name, names, program, seen | {name})
        return why and f"it calls {name}, and {why}"
    if isinstance(value, (*CONSTANTS, tuple)):
        return None if program.bindings(name) <= 1 else f"it uses {name}, which changes"
    if getattr(value, "__module__", None) in (*PURE_MODULES, "builtins") or (
        type(value).__module__ in ("typing", "types", "numpy")
    ):
        return None
    return f"it uses the global {name}, {_article(type(value).__name__)}"


def _is_error(builtin: type) -> bool:
    return issubclass(builtin, BaseException)


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
