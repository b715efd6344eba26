"""Folding a large graph into a few groups that show its shape: layers, batches, long sums.

Invariant: the groups are a partition of the entries, without cycles between them; the root is
alone.

Entries of one operation at one depth form a group: the neurons of a layer, whatever the number of
samples. An entry that only one entry of the same operation uses goes with that one, so a long sum
is one group. Leaves go by who uses them. Where that leaves too many, as in a deep chain, entries
are cut by depth alone.
"""

from collections import Counter
from typing import NamedTuple

from fastgrad.engine import Value

FEW = 40  # groups that a reader can still follow
CUTS = 12
MOST_OPS = 4  # that a title names


class Group(NamedTuple):
    """Entries that are drawn as one."""

    title: str
    members: list[int]
    depth: int
    """The longest path below any of them; 0 of leaves."""


def links(values: list[Value]) -> tuple[list[str], list[list[int]]]:
    """Say by which operation each value was computed, and from which others.

    Parameters
    ----------
    values : list of Value
        With the operands of each, as `reached` lists them.

    Returns
    -------
    ops : list of str
    operands : list of list of int
        In the order of the operation.

    Examples
    --------
    >>> x = Value(2.0)
    >>> links([x, x * x])
    (['', '*'], [[], [0, 0]])
    """
    places = {id(value): k for k, value in enumerate(values)}
    operands = [[places[id(one)] for one in value._children] for value in values]
    return [str(value._op) for value in values], operands


def fold(ops: list[str], operands: list[list[int]]) -> list[Group]:
    """Group the entries of a graph.

    Parameters
    ----------
    ops : list of str
        By entry, operands before users, the root last.
    operands : list of list of int
        By entry, lower indices.

    Returns
    -------
    list of Group
        Used groups before those that use them.

    Examples
    --------
    >>> sums = [[k - 1, k % 3] for k in range(3, 9)]
    >>> groups = fold([""] * 3 + ["+"] * 6, [[], [], []] + sums)
    >>> [(group.title, group.members) for group in groups]
    [('2 leaves', [0, 1]), ('a leaf', [2]), ('5 × +', [3, 4, 5, 6, 7]), ('1 × +', [8])]
    """
    graph = _Graph(ops, operands)
    graph.by_operation()
    groups = graph.groups()
    if len(groups) > FEW:
        graph.by_depth()
        groups = graph.groups()
    return groups


class _Graph:
    def __init__(self, ops: list[str], operands: list[list[int]]):
        self.ops = ops
        self.operands = operands
        self.root = len(ops) - 1
        self.depth = [0] * len(ops)
        self.users: list[list[int]] = [[] for _ in ops]
        for k, below in enumerate(operands):
            self.depth[k] = max((self.depth[one] + 1 for one in below), default=0)
            for one in below:
                self.users[one].append(k)
        self.inner = [k for k in range(self.root) if operands[k]]
        self.key: dict[int, object] = {self.root: "root"}

    def by_operation(self) -> None:
        for k in reversed(self.inner):
            users = set(self.users[k])
            user = users.pop()
            if users or user == self.root or self.ops[user] != self.ops[k]:
                self.key[k] = (self.depth[k], self.ops[k])
            else:
                self.key[k] = self.key[user]
        for k, below in enumerate(self.operands):
            if not below and k != self.root:
                using = frozenset(self.key[user] for user in self.users[k])
                self.key[k] = (using, self._role(k))

    def by_depth(self) -> None:
        for k in self.inner:
            self.key[k] = self.depth[k] * CUTS // (self.depth[self.root] + 1)
        for k, below in enumerate(self.operands):
            if not below and k != self.root:
                self.key[k] = (self.key[self.users[k][0]], self._role(k))

    def groups(self) -> list[Group]:
        groups = [
            Group(self._title(members), members, max(self.depth[k] for k in members))
            for members in self._members().values()
        ]
        return sorted(groups, key=lambda group: group.depth)

    def _members(self) -> dict[object, list[int]]:
        members: dict[object, list[int]] = {}
        for k in sorted(self.key):
            members.setdefault(self.key[k], []).append(k)
        return members

    def _role(self, leaf: int) -> str:
        """What a leaf is to its first user; a dot's operands are the bias, then w, x, w, x, ..."""
        user = self.users[leaf][0]
        if self.ops[user] != "dot":
            return "leaves"
        place = self.operands[user].index(leaf)
        return "inputs" if place and place % 2 == 0 else "weights and biases"

    def _title(self, members: list[int]) -> str:
        if self.operands[members[0]]:
            counts = Counter(self.ops[k] for k in members).most_common()
            parts = [f"{count} × {op or 'by hand'}" for op, count in counts]
            return ", ".join(parts if len(parts) <= MOST_OPS else [*parts[:MOST_OPS], "…"])
        if len(members) == 1:
            return "a leaf"
        return f"{len(members)} {self._role(members[0])}"
