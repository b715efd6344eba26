"""Which expressions of a program are NumPy arrays, as far as its source says.

This module lets you ask whether a program gives its scalar class an array: as data, or as an
operand. There such a class makes one Value that holds the array, which fastgrad's cannot.

Invariant: nothing is executed. A name counts as an array, or as a Value, if it is bound to one
anywhere in its function, or in the program outside of functions; an attribute, if it is in any
object. What functions and methods are given is followed by their names.

Limitations: an array that is not seen is a TypeError when the program runs.
"""

import ast
from typing import TypeAlias

from fastgrad.shapes import Program

Axes: TypeAlias = int  # how many; a number has none
_Name: TypeAlias = tuple[ast.AST | None, str]  # the function that it is bound in, or None
_SHAPES = ("zeros", "ones", "empty", "full")
_SPREADS = ("linspace", "arange", "geomspace", "logspace")
_DRAWS = ("normal", "uniform", "randint", "choice", "standard_normal", "random", "integers")
_COPIES = (
    *("array", "asarray", "copy", "zeros_like", "ones_like", "full_like", "exp", "log", "sin"),
    *("cos", "tanh", "sqrt", "abs", "sign", "square", "maximum", "minimum", "round", "clip"),
    *("astype", "where", "sort", "sorted", "list", "tuple", "reversed", "normalize"),
)
_DATASETS = {"make_moons": 2, "make_blobs": 2, "make_circles": 2, "make_classification": 2}
_LOWER = ("mean", "sum", "std", "var", "max", "min", "argmax", "argmin")


class Arrays:
    """How many axes each name has that the program binds to an array.

    Parameters
    ----------
    program : Program
    class_name : str
    gone : set of ast.AST
        Parts that are not looked at.
    """

    def __init__(self, program: Program, class_name: str, gone: set[ast.AST]) -> None:
        self.class_name = class_name
        self.nodes: list[tuple[ast.AST, ast.AST | None]] = []
        self.bound: set[_Name] = set()  # names that are a function's own
        for tree in program.trees:
            self.collect(tree, None, gone)
        self.functions = {
            node.name: node for node, _ in self.nodes if isinstance(node, ast.FunctionDef)
        }
        for made in [node for node, _ in self.nodes if isinstance(node, ast.ClassDef)]:
            for part in made.body:
                if isinstance(part, ast.FunctionDef) and part.name == "__init__":
                    self.functions[made.name] = part
        self.axes: dict[_Name, Axes] = {}
        self.values: set[_Name] = set()
        self.scope: ast.AST | None = None  # the function that is looked at
        for _ in range(4):  # names are bound to what others are bound to
            for node, scope in self.nodes:
                self.scope = scope
                self.bind_all(node)

    def collect(self, node: ast.AST, scope: ast.AST | None, gone: set[ast.AST]) -> None:
        if node in gone:
            return
        self.nodes.append((node, scope))
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            scope = node
        elif scope and isinstance(node, ast.arg):
            self.bound.add((scope, node.arg))
        elif scope and isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self.bound.add((scope, node.id))
        for child in ast.iter_child_nodes(node):
            self.collect(child, scope, gone)

    def bind_parameters(self, function: ast.FunctionDef, args: list[ast.expr]) -> None:
        """Every call of a function tells of its parameters."""
        given = [(self.axes_of(arg), self.is_value(arg)) for arg in args]
        caller, self.scope = self.scope, function
        parameters = function.args.args
        if parameters and parameters[0].arg == "self":
            parameters = parameters[1:]
        for parameter, (axes, is_value) in zip(parameters, given):
            self.grow(parameter.arg, axes)
            if is_value:
                self.values.add(self.named(parameter.arg))
        self.scope = caller

    def named(self, name: str) -> _Name:
        local = (self.scope, name.removesuffix("[]")) in self.bound
        return (self.scope if local else None, name)

    def grow(self, name: str, axes: Axes) -> None:
        self.axes[self.named(name)] = max(self.axes.get(self.named(name), 0), axes)

    def given(self) -> str | None:
        """Where the class is given an array, in words; None if it is not.

        Examples
        --------
        >>> code = "x = np.linspace(0, 1, 5)\\nw = Value(2.0)\\nprint(w * x)"
        >>> Arrays(Program([ast.parse(code)]), "Value", set()).given()
        'it is combined with an array (line 3)'
        """
        for node, scope in self.nodes:
            self.scope = scope
            match node:
                case ast.Call(func=ast.Name(id=name), args=[data, *_]) if name == self.class_name:
                    if self.axes_of(data) > 0:
                        return f"its data is an array (line {node.lineno})"
                case ast.Call(func=ast.Name(id="map"), args=[ast.Name(id=name), data]):
                    if name == self.class_name and self.axes_of(data) > 1:
                        return f"its data is an array (line {node.lineno})"
                case ast.BinOp(left=left, right=right) if not isinstance(node.op, ast.MatMult):
                    # NumPy itself goes through an array on the left element by element.
                    if self.is_value(left) and self.axes_of(right) > 0 and self.is_array(right):
                        return f"it is combined with an array (line {node.lineno})"
        return None

    # ---- names

    def bind_all(self, node: ast.AST) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self.bind(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.bind(target, value)
            case ast.AugAssign(target=target, value=value):
                self.bind(target, ast.BinOp(target, node.op, value))
            case (
                ast.For(target=target, iter=iterable)
                | ast.comprehension(target=target, iter=iterable)
            ):
                self.bind_item(target, iterable)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if (
                name in self.functions
            ):
                self.bind_parameters(self.functions[name], args)
            case ast.Return(value=ast.expr() as value) if self.is_value(value):
                self.values.add((self.scope, "return"))

    def bind(self, target: ast.expr, value: ast.expr) -> None:
        name = _name(target)
        if name:
            self.grow(name, self.axes_of(value))
            if self.is_value(value):
                self.values.add(self.named(name))
            if self.holds_values(value):
                self.values.add(self.named(f"{name}[]"))
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for part, item in zip(target.elts, value.elts):
                self.bind(part, item)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Call):
            axes = _DATASETS.get(_called(value))
            for k, part in enumerate(target.elts if axes else []):
                if isinstance(part, ast.Name):
                    self.grow(part.id, 1 if k else axes or 0)

    def bind_item(self, target: ast.expr, iterable: ast.expr) -> None:
        match target, iterable:
            case ast.Tuple(elts=parts), ast.Call(func=ast.Name(id="zip"), args=args):
                for part, arg in zip(parts, args):
                    self.bind_item(part, arg)
            case ast.Tuple(elts=[_, part]), ast.Call(func=ast.Name(id="enumerate"), args=[arg, *_]):
                self.bind_item(part, arg)
            case ast.Tuple(elts=parts), _:
                for part in parts:
                    if isinstance(part, ast.Name):
                        self.grow(part.id, self.axes_of(iterable) - 2)
            case ast.Name(id=name), _:
                self.grow(name, self.axes_of(iterable) - 1)
                if self.holds_values(iterable):
                    self.values.add(self.named(name))

    # ---- expressions

    def is_value(self, node: ast.expr) -> bool:
        """Is it a Value for all one sees?"""
        match node:
            case ast.Name(id=name):
                return self.named(name) in self.values
            case ast.Call(func=ast.Name(id=name)):
                returned = (self.functions.get(name), "return")
                return name == self.class_name or returned in self.values
            case ast.Attribute():
                return self.named(_name(node)) in self.values
            case ast.Call(func=ast.Attribute(value=owner)) | ast.UnaryOp(operand=owner):
                return self.is_value(owner)
            case ast.BinOp(left=left, right=right):
                return self.is_value(left) or self.is_value(right)
            case ast.Subscript(value=owner, slice=index):
                return self.holds_values(owner) and not isinstance(index, ast.Slice)
        return False

    def holds_values(self, node: ast.expr) -> bool:
        """Is it a list of Values?"""
        match node:
            case ast.Name() | ast.Attribute():
                return self.named(f"{_name(node)}[]") in self.values
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return any(map(self.is_value, elements))
            case ast.ListComp(elt=element):
                return self.is_value(element)
        return False

    def is_array(self, node: ast.expr) -> bool:
        """Of what has axes: an array, not a list."""
        return not isinstance(node, (ast.List, ast.ListComp, ast.Tuple))

    def axes_of(self, node: ast.expr) -> Axes:
        """How many axes an array has, or how deep a list is nested; 0 where that is not known."""
        match node:
            case ast.Name(id=name):
                return self.axes.get(self.named(name), 0)
            case ast.List(elts=[first, *_]) | ast.Tuple(elts=[first, *_]):
                return 1 + self.axes_of(first)
            case ast.ListComp(elt=element):
                return 1 + self.axes_of(element)
            case ast.BinOp(left=left, right=right) if not self.is_value(node):
                return max(self.axes_of(left), self.axes_of(right))
            case ast.UnaryOp(operand=operand):
                return self.axes_of(operand)
            case ast.Subscript(value=owner, slice=index):
                return max(0, self.axes_of(owner) - self.axes_taken(index))
            case ast.Attribute(attr="T", value=owner):
                return self.axes_of(owner)
            case ast.Attribute():
                return self.axes.get(self.named(_name(node)), 0)
            case ast.Call():
                return self.axes_of_call(node)
        return 0

    def axes_taken(self, index: ast.expr) -> int:
        indices = index.elts if isinstance(index, ast.Tuple) else [index]
        taken = 0
        for one in indices:
            if isinstance(one, ast.Slice) or self.axes_of(one):
                continue
            taken += -1 if isinstance(one, ast.Constant) and one.value is None else 1
        return taken

    def axes_of_call(self, call: ast.Call) -> Axes:
        name = _called(call)
        named = {keyword.arg: keyword.value for keyword in call.keywords}
        of_array = (
            [call.func.value]
            if isinstance(call.func, ast.Attribute) and not _is_module(call.func.value)
            else []
        )
        given = [*of_array, *call.args]
        if name in _SHAPES and given:
            return self.rank(given[0])
        if name in ("rand", "randn") and not of_array:
            return len(call.args)
        if name in ("eye", "identity", "outer", "atleast_2d", "meshgrid", "vstack", "diag"):
            return 2
        if name in _SPREADS:
            return 1
        if name in _DRAWS and "size" in named:
            return self.rank(named["size"])
        if name in ("normal", "uniform", "randint") and len(call.args) == 3:
            return self.rank(call.args[2])
        if name in ("standard_normal", "permutation") and call.args:
            return max(self.rank(call.args[0]), 1 if name == "permutation" else 0)
        if name == "reshape" and given:
            shape = given[1:]
            return self.rank(shape[0]) if len(shape) == 1 else len(shape)
        if name in ("flatten", "ravel", "tolist") and given:
            return self.axes_of(given[0]) if name == "tolist" else 1
        if name in _LOWER and (of_array or _of_numpy(call)):
            return max(0, self.axes_of(given[0]) - 1) if "axis" in named else 0
        if name in _COPIES and given:
            return max(map(self.axes_of, given))
        if name in ("concatenate", "hstack", "stack", "append") and given:
            return max(0, self.axes_of(given[0]) - (name in ("concatenate", "hstack")))
        return 0

    def rank(self, shape: ast.expr) -> int:
        """Of a shape: a tuple, or a length."""
        return len(shape.elts) if isinstance(shape, (ast.Tuple, ast.List)) else 1


def _name(node: ast.expr) -> str:
    """Under which name it is remembered what a name or attribute holds; "" for anything else."""
    if isinstance(node, ast.Attribute) and node.attr not in ("data", "grad"):
        return f".{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _called(call: ast.Call) -> str:
    name: str = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name


def _is_module(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return _is_module(node.value)
    return isinstance(node, ast.Name) and node.id in ("np", "numpy", "random", "rng", "math")


def _of_numpy(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and _is_module(call.func.value)
