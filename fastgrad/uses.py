"""Would the rest of a program notice that its class ``Value`` has been replaced?

This module lets you ask a `Program` for what fastgrad's Value cannot do as the class did it: data
that are no real numbers, NumPy numbers where one sees that they are NumPy's, looking into objects
or at source code, arguments that its constructor does not know.

Invariant: each function returns the reason in words, or None; nothing is executed.

Limitations: data are followed no further than the expression that constructs a Value.
"""

import ast
from collections.abc import Iterator

from fastgrad.shapes import Program

# Modules whose numbers are no floats, and modules that look at classes and source code.
OTHER_NUMBERS = ("fractions", "decimal", "cmath", "mpmath", "sympy", "gmpy2")
OTHER_TENSORS = ("torch", "jax", "tensorflow", "cupy")
ONLOOKERS = ("inspect", "dis", "pydoc", "tracemalloc", "objgraph", "weakref")
# Modules that send objects to where the class is as written.
SENDERS = ("multiprocessing", "concurrent", "pickle", "dill", "shelve", "joblib")
# Modules that hand out NumPy numbers.
ARRAYS = ("numpy", "pandas", "scipy", "sklearn", "torchvision", "datasets", "matplotlib", "seaborn")
PRYING = (
    "__dict__",
    "__slots__",
    "__code__",
    "__closure__",
    "__defaults__",
    "__annotations__",
    "__doc__",
)
ARRAY_MAKERS = frozenset(
    ("array", "asarray", "arange", "linspace", "zeros", "ones", "eye", "full", "empty", "tensor")
) | {"zeros_like", "ones_like", "full_like", "meshgrid", "stack", "concatenate", "reshape"}


def other_data(program: Program, class_name: str, gone: set[ast.AST]) -> str | None:
    """Data that are no real numbers, as far as one can see.

    Examples
    --------
    >>> other_data(Program([ast.parse("v = Value([1, 2])")]), "Value", set())
    'its data is a list (line 1)'
    """
    for module in OTHER_NUMBERS:
        if program.imports(module):
            return f"the program imports {module}, whose numbers are no floats"
    for module in OTHER_TENSORS:
        line = program.imports(module) and _meets(program, class_name, gone, module)
        if line:
            return f"the program computes with {module} and {class_name} together (line {line})"
    for node in program.walk(gone):
        if isinstance(node, ast.Constant) and isinstance(node.value, complex):
            return f"the program computes with complex numbers (line {node.lineno})"
    for node in program.walk(gone):
        match node:
            case ast.Attribute(attr=name) | ast.Constant(value=str(name)) if name in _NARROW:
                return f"the program computes with {name} (line {node.lineno})"
            case ast.Assign(
                targets=[ast.Attribute(value=owner, attr="data" | "grad")], value=value
            ):
                what = _no_number(value, class_name)
                if what and not (isinstance(owner, ast.Name) and owner.id == "self"):
                    return f"it is assigned {what} (line {node.lineno})"
    for call in program.calls(class_name, gone):
        for arg in [*call.args[:1], *(k.value for k in call.keywords if k.arg == "data")]:
            what = _no_number(arg, class_name)
            if what:
                return f"its data is {what} (line {call.lineno})"
    return None


def _meets(program: Program, class_name: str, gone: set[ast.AST], module: str) -> int:
    """The line of a statement in which a tensor might reach a Value; 0 if there is none.

    What is assigned from the module's functions, or from what is, is a tensor, unless it is turned
    into a number (`_NUMBERS`). Only scripts that keep the two apart pass, as those do that check
    their gradients by torch's at the end.
    """
    tensors, values = {module}, {class_name}
    nodes = list(program.walk(gone))
    for node in nodes:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            origin = getattr(node, "module", None)
            tensors |= {
                alias.asname or alias.name.split(".")[0]
                for alias in node.names
                if (origin or alias.name).split(".")[0] == module
            }
    while True:
        before = len(tensors), len(values)
        for node in nodes:
            match node:
                case ast.Assign(targets=targets, value=value):
                    stored: list[ast.expr] = targets
                case (
                    ast.AugAssign(target=target, value=value)
                    | ast.AnnAssign(target=target, value=ast.expr() as value)
                ):
                    stored = [target]
                case (
                    ast.For(target=target, iter=value)
                    | ast.comprehension(target=target, iter=value)
                ):
                    stored = [target]
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                    used = _names(node, tensors)
                    tensors |= {name} if used & tensors else set()
                    values |= {name} if used & values else set()
                    continue
                case _:
                    continue
            bound = {n.id for t in stored for n in ast.walk(t) if isinstance(n, ast.Name)}
            tensors |= bound if _names(value, tensors) & tensors else set()
            values |= bound if _names(value, tensors) & values else set()
        if (len(tensors), len(values)) == before:
            break
    both = tensors & values
    for node in nodes:
        if isinstance(node, ast.Name) and node.id in both:
            return node.lineno
        if isinstance(node, (ast.BinOp, ast.Call, ast.AugAssign)):
            used = _names(node, tensors)
            if used & tensors and used & values and not _only_shown(node):
                return node.lineno
    return 0


_NUMBERS = ("item", "tolist", "float", "int", "bool", "isclose", "allclose")


def _names(node: ast.AST, tensors: set[str]) -> set[str]:
    """Names in it, but for those of which a number is taken, such as a Value's data."""
    found, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _NUMBERS:
                continue
            case ast.Attribute(attr="data" | "grad", value=ast.Name(id=name)) if (
                name not in tensors
            ):
                continue
            case ast.Name(id=name):
                found.add(name)
        waiting.extend(ast.iter_child_nodes(node))
    return found


def _only_shown(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"


_NARROW = ("float32", "float16", "longdouble", "float128", "int32", "int16", "int8") + (
    *("uint8", "uint16", "uint32", "uint64", "intc"),
)


def _no_number(node: ast.expr, class_name: str) -> str | None:
    match node:
        case ast.List() | ast.ListComp():
            return "a list"
        case ast.Tuple() | ast.Set() | ast.Dict() | ast.SetComp() | ast.DictComp():
            return "a collection"
        case ast.JoinedStr() | ast.Constant(value=str()):
            return "a string"
        case ast.Constant(value=None | bytes()):
            return "no number"
        case ast.Constant(value=bool()) | ast.Compare() | ast.BoolOp():
            return "a truth value"
        case ast.Call(func=ast.Name(id=name)) if name == class_name:
            return f"a {name}"
        case ast.Call(func=ast.Attribute(attr=name)) if name in ARRAY_MAKERS:
            return "an array"
        case ast.Call(func=ast.Attribute(attr="rand" | "randn"), args=[_, *_]):
            return "an array"
        case ast.BinOp(left=left, right=right):
            return _no_number(left, class_name) or _no_number(right, class_name)
    return None


def onlookers(
    program: Program, class_name: str, gone: set[ast.AST], redefined: set[str]
) -> str | None:
    """Code that looks at classes, objects and source, or replaces methods, of all things.

    Parameters
    ----------
    redefined : set of str
        Methods that others use, so that replacing one later would change those too.
    """
    for module in (*ONLOOKERS, *SENDERS):
        if program.imports(module):
            return f"the program imports {module}"
    own = {id(node) for node in _of_other_classes(program)}
    for node in program.walk(gone):
        match node:
            case ast.Attribute(attr=name, value=value) if name in PRYING and id(value) not in own:
                return f"the program looks into {name} (line {node.lineno})"
            case ast.Attribute(attr=name, value=ast.Name(id=owner), ctx=ast.Store()) if (
                owner == class_name and name in redefined
            ):
                return f"the program replaces {class_name}.{name} (line {node.lineno})"
            case ast.ClassDef(bases=[ast.Name(id=base)], body=body) if base == class_name:
                for statement in body:
                    name = getattr(statement, "name", "__init__")
                    if name in redefined - {"__init__"}:
                        return f"class {node.name} overrides {name} (line {statement.lineno})"
            case ast.Call(func=ast.Name(id="vars" | "dir" | "help" as name), args=[arg, *_]):
                if not isinstance(arg, ast.Name) or (id(arg) not in own and arg.id not in _OPTIONS):
                    return f"the program looks into an object by {name} (line {node.lineno})"
    return None


_OPTIONS = ("args", "opt", "opts", "config", "cfg", "hparams")  # an argparse.Namespace, usually


def _of_other_classes(program: Program) -> Iterator[ast.AST]:
    """Every ``self`` in classes that have nothing of a Value: they may look into themselves."""
    for tree in program.trees:
        for statement in tree.body:
            if isinstance(statement, ast.ClassDef):
                names = {s.name for s in statement.body if isinstance(s, ast.FunctionDef)}
                if "__mul__" not in names and not statement.bases:
                    for node in ast.walk(statement):
                        if isinstance(node, ast.Name) and node.id == "self":
                            yield node


def identities(program: Program, gone: set[ast.AST]) -> str | None:
    """Remembering values of a graph by ``id``: fastgrad makes their objects when asked for them.

    An id that outlives its object may come again, as that of another value.

    Examples
    --------
    >>> identities(Program([ast.parse("seen.add(id(v))")]), set())
    'the program remembers values by id (line 1)'
    """
    for node in program.walk(gone):
        match node:
            case ast.Call(func=ast.Attribute(attr="add" | "append" | "get"), args=[key, *_]):
                keys: list[ast.expr | None] = [key]
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()]) | ast.Subscript(slice=key):
                keys = [key]
            case ast.Dict(keys=listed):
                keys = list(listed)
            case ast.DictComp(key=key) | ast.SetComp(elt=key):
                keys = [key]
            case _:
                continue
        for found in keys:
            if isinstance(found, ast.Call) and getattr(found.func, "id", "") == "id":
                return f"the program remembers values by id (line {found.lineno})"
    return None


def arguments(
    program: Program, class_name: str, gone: set[ast.AST], roles: dict[str, str]
) -> str | None:
    """Arguments that fastgrad's own constructor would not take as the class's does.

    Parameters
    ----------
    roles : dict
        For each parameter of the class's constructor, in order: ``"data"``, ``"children"``,
        ``"op"``, ``"local_grads"``, ``"label"``, or anything else.

    Examples
    --------
    >>> program = Program([ast.parse("v = Value(2.0, 'a')")])
    >>> arguments(program, "Value", set(), {"data": "data", "label": "label"})
    'label is given at position 2 (line 1)'
    """
    own = list(roles)
    for call in program.calls(class_name, gone):
        named = [keyword.arg for keyword in call.keywords]
        given = own[1 : len(call.args)]
        if any(isinstance(a, ast.Starred) for a in call.args) or None in named:
            given = own[1:]
        for k, name in enumerate(given):
            if k >= len(_POSITIONS) or roles[name] not in _POSITIONS[k]:
                return f"{name} is given at position {k + 2} (line {call.lineno})"
        if len(call.args) > len(own):
            return f"too much is given (line {call.lineno})"
        for keyword in filter(None, named):
            if keyword.lstrip("_") != roles.get(keyword) or keyword not in _KEYWORDS:
                return f"{keyword}= is given (line {call.lineno})"
    return None


_POSITIONS = (("children",), ("op", "local_grads"), ("label",))
_KEYWORDS = ("data", "_children", "children", "_op", "op", "local_grads", "label")
