"""Boxes and arrows as SVG: what a `Drawing` of ``graph.py`` looks like.

Invariant: text stays within its box, and an arrow never runs over one.

Limitations: text is measured as if every character were as wide as in DejaVu Sans Mono, which
holds for most monospaced fonts; East Asian characters count twice.
"""

from typing import NamedTuple
from unicodedata import combining, east_asian_width
from xml.sax.saxutils import escape

from fastgrad.layered import Point, arrange

CELL = 7.3  # pixels across a character of 12 pixels
LINE = 24.0
PADDING = 8.0
MARGIN = 8.0
LONGEST = 48  # characters that are shown of a label or an operation
HEAD = 7.0  # pixels of an arrow's head
STYLE = 'font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="12"'
INK = 'stroke="#333333" text-anchor="middle"'
FILLS = {"record": "#ffffff", "op": "#dbe9f9", "folded": "#f3efe0"}


class Node(NamedTuple):
    """A value, or several that are drawn as one, and where it comes from."""

    fields: list[str]
    op: str
    """What its oval says; empty if it has none."""
    below: list[int]
    """The nodes that are its operands, by index."""
    folded: bool


class _Box(NamedTuple):
    fields: list[str]
    kind: str
    upright: bool  # fields one above the other

    def size(self) -> Point:
        widths = [width(text) for text in self.fields]
        if self.upright:
            return max(widths), LINE * len(self.fields)
        return sum(widths), LINE


def svg(nodes: list[Node], rankdir: str, note: str) -> str:
    """Draw nodes.

    Parameters
    ----------
    nodes : list of Node
        Operands before users.
    rankdir : str
        ``"LR"``, from left to right, or ``"TB"``, from top to bottom.
    note : str
        A line below the picture.

    Returns
    -------
    str
        An ``<svg>`` element, in pixels.

    Examples
    --------
    >>> svg([Node(["data 1"], "", [], False)], "LR", "")[:44]
    '<svg xmlns="http://www.w3.org/2000/svg" widt'
    """
    down = rankdir == "TB"
    boxes: list[_Box] = []
    edges, entrances, exits = [], [], []
    for node in nodes:
        entrances.append(len(boxes))
        if node.op:
            boxes.append(_Box([_cut(node.op)], "op", False))
            edges.append((len(boxes) - 1, len(boxes)))
        exits.append(len(boxes))
        kind = "folded" if node.folded else "record"
        boxes.append(_Box([_cut(text) for text in node.fields], kind, down or node.folded))
        edges += [(exits[one], entrances[-1]) for one in node.below]
    sizes = [box.size() for box in boxes]
    plan = arrange([_turned(size, down) for size in sizes], edges)
    across, up = _turned((plan.width, plan.height), down)
    total_width = max(across, width(note)) + 2 * MARGIN
    total_height = up + (LINE if note else 0.0) + 2 * MARGIN
    lines, heads = [], []
    for points, has_head in plan.routes:
        line, head = _route(points, down)
        lines.append(line)
        heads += [head] if has_head else []
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(total_width)}" '
        f'height="{_n(total_height)}" viewBox="0 0 {_n(total_width)} {_n(total_height)}" {STYLE}>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<g transform="translate({_n(MARGIN)} {_n(MARGIN)})" {INK}>',
        f'<path d="{"".join(lines)}" fill="none"/>',
        f'<path d="{"".join(heads)}" fill="#333333" stroke="none"/>',
        *(_box(box, size, _turned(at, down)) for box, size, at in zip(boxes, sizes, plan.centers)),
    ]
    if note:
        parts.append(_text(note, width(note) / 2, up + LINE / 2))
    return "\n".join([*parts, "</g>", "</svg>"])


def plain(text: str) -> str:
    """Put spaces for line ends and for what XML cannot hold."""
    return "".join(c if c.isprintable() else " " for c in text)


def width(text: str) -> float:
    """Pixels that a text takes in its box; 0 for no text."""
    cells = [0 if combining(c) else 2 if east_asian_width(c) in "FW" else 1 for c in text]
    return CELL * sum(cells) + 2 * PADDING if text else 0.0


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _turned(point: Point, down: bool) -> Point:
    return point[::-1] if down else point


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _box(box: _Box, size: Point, center: Point) -> str:
    left, top = center[0] - size[0] / 2, center[1] - size[1] / 2
    fill = f'fill="{FILLS[box.kind]}"'
    if box.kind == "op":
        shape = (
            f'<ellipse cx="{_n(center[0])}" cy="{_n(center[1])}" rx="{_n(size[0] / 2)}" '
            f'ry="{_n(size[1] / 2)}" {fill}/>'
        )
        return shape + _text(box.fields[0], *center)
    parts = [
        f'<rect x="{_n(left)}" y="{_n(top)}" width="{_n(size[0])}" height="{_n(size[1])}" {fill}/>'
    ]
    for k, text in enumerate(box.fields):
        if box.upright:
            parts.append(_text(text, center[0], top + LINE / 2))
            top += LINE
            border = f"M{_n(left)} {_n(top)}h{_n(size[0])}"
        else:
            parts.append(_text(text, left + width(text) / 2, center[1]))
            left += width(text)
            border = f"M{_n(left)} {_n(top)}v{_n(size[1])}"
        if k < len(box.fields) - 1:
            parts.append(f'<path d="{border}"/>')
    return "".join(parts)


def _text(text: str, x: float, y: float) -> str:
    # The baseline lies 4 pixels below the middle of lower-case letters and digits.
    return f'<text x="{_n(x)}" y="{_n(y + 4)}" stroke="none">{escape(text)}</text>'


def _route(points: list[Point], down: bool) -> tuple[str, str]:
    """An arrow's line, and its head."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = points
    middle = (x1 + x2) / 2
    bends = [(x1, y1), (middle, y1), (middle, y2), (x2, y2)]
    start, end = _place((x0, y0), down), _place((x3, y3), down)
    curve = ""
    if y1 != y2:
        leave, bend, back, enter = (_place(point, down) for point in bends)
        curve = f"L{leave}C{bend} {back} {enter}"
    head = [(x3, y3), (x3 - HEAD, y3 - HEAD / 2), (x3 - HEAD, y3 + HEAD / 2)]
    corners = " ".join(_place(point, down) for point in head)
    return f"M{start}{curve}L{end}", f"M{corners}Z"


def _place(point: Point, down: bool) -> str:
    x, y = _turned(point, down)
    return f"{_n(x)} {_n(y)}"
