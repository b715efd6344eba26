"""Graphs as pictures: micrograd's `trace` and `draw_dot`, without graphviz's ``dot`` program.

Invariant: drawing reads a graph and changes nothing of it.

The folding of large graphs is in ``fold.py``, the layout in ``layered.py``, SVG in ``picture.py``;
here values become nodes with texts, and those become DOT and files.  A `Drawing` shows what the
graph was when it was drawn, and keeps nothing of it.
"""

import os
import re
from math import isnan
from pathlib import Path

from fastgrad.engine import Value
from fastgrad.fold import Group, fold, links
from fastgrad.look import reached
from fastgrad.picture import Node, plain, svg


def trace(root: Value) -> tuple[set[Value], set[tuple[Value, Value]]]:
    """Collect what a value was computed from, as micrograd's trace_graph.ipynb does.

    Parameters
    ----------
    root : Value

    Returns
    -------
    nodes : set of Value
    edges : set of (Value, Value)
        From an operand to the value computed from it.

    Raises
    ------
    TypeError
        If `root` is no Value.

    Examples
    --------
    >>> x = Value(3.0)
    >>> nodes, edges = trace(x * x)
    >>> len(nodes), len(edges)
    (2, 1)
    """
    nodes = reached(root)
    return set(nodes), {(operand, node) for node in nodes for operand in node._prev}


def draw_dot(
    root: Value, *, rankdir: str = "LR", precision: int = 4, max_nodes: int = 200
) -> "Drawing":
    """Draw the graph of a value, as micrograd's trace_graph.ipynb does.

    Parameters
    ----------
    root : Value
    rankdir : str
        ``"LR"``, operands to the left of what is computed from them, or ``"TB"``, above it.
    precision : int
        Digits after the point. Numbers that would be long are written with an exponent.
    max_nodes : int
        A graph of more values is folded: values of one operation at one depth, such as the neurons
        of a layer, are drawn as one box with the range of their numbers.

    Returns
    -------
    Drawing
        Jupyter shows it; it has ``save`` and ``source``.

    Raises
    ------
    TypeError
        If `root` is no Value.
    ValueError
        If `rankdir` is another one, or `precision` or `max_nodes` is negative.

    Examples
    --------
    >>> x = Value(3.0)
    >>> x.label = "x"
    >>> print(draw_dot(x.tanh()).source)
    digraph {
        graph [rankdir=LR]
        0 [label="{ x | data 3.0000 | grad 0.0000 }" shape=record]
        1 [label="{ data 0.9951 | grad 0.0000 }" shape=record]
        "1tanh" [label=tanh]
        "1tanh" -> 1
        0 -> "1tanh"
    }
    """
    if rankdir not in ("LR", "TB"):
        raise ValueError(f"expected rankdir to be 'LR' or 'TB', got {rankdir!r}")
    for name, number in (("precision", precision), ("max_nodes", max_nodes)):
        if number < 0:
            raise ValueError(f"expected {name} to be at least 0, got {number}")
    values = reached(root)
    ops, operands = links(values)
    ops = [plain(op) for op in ops]
    if len(values) <= max_nodes:
        groups = [Group("", [k], 0) for k in range(len(values))]
    else:
        groups = fold(ops, operands)
    group_of = {k: number for number, group in enumerate(groups) for k in group.members}
    nodes = []
    for number, group in enumerate(groups):
        members = [values[k] for k in group.members]
        folded = len(members) > 1
        fields = (
            _range_fields(group.title, members, precision)
            if folded
            else _fields(members[0], precision)
        )
        below = {group_of[one]: None for k in group.members for one in operands[k]}
        below.pop(number, None)
        nodes.append(Node(fields, "" if folded else ops[group.members[0]], list(below), folded))
    note = ""
    if len(groups) < len(values):
        note = (
            f"{len(values)} values folded into {len(groups)} boxes, by operation and depth; "
            f"max_nodes={len(values)} shows each"
        )
    return Drawing(nodes, rankdir, note)


class Drawing:
    """A picture of a graph, as `draw_dot` makes it.

    Attributes
    ----------
    note : str
        What was folded; empty if nothing was.
    """

    def __init__(self, nodes: list[Node], rankdir: str, note: str):
        self._nodes = nodes
        self._rankdir = rankdir
        self.note = note

    @property
    def source(self) -> str:
        """str: the picture in graphviz's language, DOT."""
        label = f"label={_quoted(self.note)} " if self.note else ""
        lines = ["digraph {", f"\tgraph [{label}rankdir={self._rankdir}]"]
        ops = [node.op.replace("\\", "\\\\") for node in self._nodes]
        names = [f"{k}{op}" for k, op in enumerate(ops)]
        for k, node in enumerate(self._nodes):
            record = _quoted(f"{{ {' | '.join(map(_escaped, node.fields))} }}")
            lines.append(f"\t{k} [label={record} shape=record]")
            if node.op:
                lines.append(f"\t{_quoted(names[k])} [label={_quoted(ops[k])}]")
                lines.append(f"\t{_quoted(names[k])} -> {k}")
        for k, node in enumerate(self._nodes):
            lines += [f"\t{one} -> {_quoted(names[k])}" for one in node.below]
        return "\n".join([*lines, "}", ""])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path : str or path-like
            Its ending says what is written: ``.svg``, ``.png`` (two pixels for one of the SVG) or
            ``.dot``.

        Raises
        ------
        ValueError
            If it ends in something else.
        ImportError
            For a PNG, if what ``pip install "fastgrad[plot]"`` brings is not there.
        OSError
            If it cannot be written.

        Examples
        --------
        >>> draw_dot(Value(1.0)).save("one.jpg")
        Traceback (most recent call last):
        ValueError: expected a name that ends in .svg, .png or .dot, got 'one.jpg'
        """
        kind = Path(path).suffix
        if kind == ".png":
            data = _png(self._repr_svg_())
        elif kind in (".svg", ".dot"):
            data = (self.source if kind == ".dot" else self._repr_svg_()).encode()
        else:
            raise ValueError(f"expected a name that ends in .svg, .png or .dot, got {str(path)!r}")
        Path(path).write_bytes(data)

    def _repr_svg_(self) -> str:
        return svg(self._nodes, self._rankdir, self.note)

    def __repr__(self) -> str:
        return f"<Drawing of {self.note or f'{len(self._nodes)} values'}>"


def _png(picture: str) -> bytes:
    try:
        import resvg_py
        from matplotlib import get_data_path
    except ImportError as error:
        raise ImportError(
            f'a PNG needs the package {error.name}: pip install "fastgrad[plot]", or save an .svg'
        ) from error
    # Machines without fonts would draw no text; matplotlib brings the one that text is measured by.
    fonts = Path(get_data_path(), "fonts", "ttf")
    return bytes(resvg_py.svg_to_bytes(svg_string=picture, zoom=2, font_dirs=[str(fonts)]))


def _fields(value: Value, precision: int) -> list[str]:
    label = [plain(str(value.label))] if value.label != "" else []
    data, grad = _number(value.data, precision), _number(value.grad, precision)
    return [*label, f"data {data}", f"grad {grad}"]


def _range_fields(title: str, values: list[Value], precision: int) -> list[str]:
    fields = [title]
    for name in ("data", "grad"):
        numbers = [getattr(value, name) for value in values]
        known = [number for number in numbers if not isnan(number)]
        ends = [_number(end, precision) for end in (min(known), max(known))] if known else []
        texts = [" … ".join(dict.fromkeys(ends))] if ends else []
        if len(known) < len(numbers):
            texts.append(f"{len(numbers) - len(known)} nan")
        fields.append(f"{name} {', '.join(texts)}")
    return fields


def _number(number: float, precision: int) -> str:
    text = f"{number:.{precision}f}"
    return text if len(text) <= precision + 12 else f"{number:.{precision}e}"


# ---- DOT, quoted as the graphviz package for Python does

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|-?(\.[0-9]+|[0-9]+(\.[0-9]*)?)")
_KEYWORDS = {"digraph", "edge", "graph", "node", "strict", "subgraph"}


def _quoted(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _KEYWORDS:
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    """Text of a record's field, in which these characters mean something."""
    return re.sub(r"([\\{}|<>])", r"\\\1", text)
