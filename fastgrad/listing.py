"""The tape as a list: a Wengert list as in a textbook, and the reverse sweep one step at a time.

Invariant: `tape_table` changes nothing; `backward_steps`, run to its end, leaves what
``backward()`` would.
"""

from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from fastgrad.engine import Value
from fastgrad.look import reached, slots_of


class TapeTable:
    """Rows of the tape, as `tape_table` lists them: text in a terminal, a table in Jupyter."""

    def __init__(self, rows: list[list[str]], left_out: int, at: int):
        self._rows = rows
        self._left_out = left_out
        self._at = at

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self._rows)]
        lines = [
            "  ".join(
                text.rjust(width) if name in _NUMBERS else text.ljust(width)
                for name, text, width in zip(self._rows[0], row, widths)
            ).rstrip()
            for row in self._rows
        ]
        if self._left_out:
            lines.insert(self._at, self._gap())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [_html_row("th", self._rows[0])]
        rows += [_html_row("td", row) for row in self._rows[1:]]
        if self._left_out:
            rows.insert(self._at, f'<tr><td colspan="{len(self._rows[0])}">{self._gap()}</td></tr>')
        return "<table>\n" + "\n".join(rows) + "\n</table>"

    def _gap(self) -> str:
        return f"… {self._left_out} more"


_NUMBERS = ("slot", "val", "adj")


def tape_table(root: Value, limit: int = 40) -> TapeTable:
    """List the entries that a value was computed from, as they lie on the tape.

    Parameters
    ----------
    root : Value
    limit : int
        Rows at the most, at least 2; of more entries the first and the last are shown.

    Returns
    -------
    TapeTable
        With a row an entry: its slot, its operation, the slots of its operands, its value and its
        adjoint (``data`` and ``grad``), and its label if any has one. Constants that ``_prev`` does
        not list, such as exponents, are part of the operation.

    Raises
    ------
    TypeError
        If `root` is no Value.
    ValueError
        If `limit` is less than 2.

    Notes
    -----
    Slots are those of now: entries move down when dead ones below them are dropped.

    Examples
    --------
    >>> x, y = Value(2.0), Value(3.0)
    >>> z = x * y + 1.0
    >>> z.backward()
    >>> tape_table(z)
    slot  op  operands  val  adj
    ...
    ...  *   ...  6.0    1
    ...           1.0    1
    ...  +   ...  7.0    1
    """
    if limit < 2:
        raise ValueError(f"expected limit to be at least 2 rows, got {limit}")
    values = reached(root)
    slots = {id(value): slot for value, slot in zip(values, slots_of(values))}
    left_out = max(len(values) - limit, 0)
    at = (limit + 1) // 2 if left_out else len(values)
    shown = values[:at] + values[at + left_out :]
    head = ["slot", "op", "operands", "val", "adj"]
    rows = [
        [
            str(slots[id(value)]),
            str(value._op),
            " ".join(str(slots[id(operand)]) for operand in value._children),
            repr(value.data),
            repr(value.grad),
        ]
        for value in shown
    ]
    labels = [str(value.label) for value in shown]
    if any(labels):
        head.append("label")
        rows = [[*row, label] for row, label in zip(rows, labels)]
    return TapeTable([head, *rows], left_out, at + 1)


def _html_row(tag: str, row: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in row) + "</tr>"


class Step(NamedTuple):
    """One entry's part in a reverse sweep."""

    slot: int
    op: str
    adj: float
    """The entry's adjoint, which is complete now."""
    changes: list[tuple[int, float, float]]
    """By operand: its slot, and its adjoint before and after."""

    def __str__(self) -> str:
        changes = [f"adj[{slot}]: {before} -> {after}" for slot, before, after in self.changes]
        return f"slot {self.slot}, {self.op}, adj {self.adj}: {', '.join(changes)}"


def backward_steps(root: Value) -> Iterator[Step]:
    """Do what ``root.backward()`` does, an entry at each step.

    Parameters
    ----------
    root : Value
        Its ``grad`` becomes 1 at the first step.

    Returns
    -------
    iterator of Step
        From the root down. An entry that has come up has passed its adjoint on to its operands;
        who stops early leaves the rest without.

    Raises
    ------
    TypeError
        If `root` is no Value.
    ZeroDivisionError, OverflowError, ValueError
        At the step where ``backward()`` would raise it.

    Examples
    --------
    >>> x, y = Value(2.0), Value(3.0)
    >>> z = x * y + x
    >>> for step in backward_steps(z):
    ...     print(step.op, step.adj, [after for slot, before, after in step.changes])
    + 1 [1, 1]
    * 1 [4.0, 2.0]
    >>> x.grad, y.grad
    (4.0, 2.0)
    """
    return _steps(reached(root))


def _steps(values: list[Value]) -> Iterator[Step]:
    values[-1].grad = 1
    for value in reversed(values):
        operands = list(dict.fromkeys(value._children))
        if not operands:
            continue
        before = [operand.grad for operand in operands]
        value._backward()
        (slot,) = slots_of([value])
        after = [operand.grad for operand in operands]
        changes = list(zip(slots_of(operands), before, after))
        yield Step(slot, str(value._op), value.grad, changes)
