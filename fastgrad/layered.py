"""A layered layout of a directed graph without cycles, after Sugiyama, Tagawa and Toda (1981).

This module lets you `arrange` boxes of any sizes in ranks, operands before users, and route the
edges between them.

Invariant: nothing overlaps. Boxes of a rank share a column and keep their distance in it; an edge
that passes a column does so in a lane of its own, and bends only in the gaps between columns.

The steps: longest-path ranks; edges over several ranks get a lane in each, which those from one
box share; barycenters reduce crossings; positions within a rank are the least-squares fit to the
neighbours' under the distances, by pooling adjacent violators (Best and Chakravarti, 1990).
"""

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple

BETWEEN_RANKS = 34.0
WIDEST_GAP = 300.0
BETWEEN_BOXES = 14.0
LANE = 6.0  # the height of an edge that passes a rank
ORDERINGS = 12  # sweeps over the ranks at the most
PATIENCE = 4  # sweeps without fewer crossings
FITTINGS = 3

Point = tuple[float, float]


class Arrangement(NamedTuple):
    """Where things are, in the units of the boxes' sizes; x grows with the rank."""

    width: float
    height: float
    centers: list[Point]
    """Of the boxes, in their order."""
    routes: list[tuple[list[Point], bool]]
    """Four points, and whether an arrow head belongs on the last: straight to the second, a curve
    to the third, straight to the last."""


def arrange(sizes: Sequence[Point], edges: Sequence[tuple[int, int]]) -> Arrangement:
    """Lay a graph out from left to right.

    Parameters
    ----------
    sizes : sequence of (width, height)
        Of the boxes, operands before users.
    edges : sequence of (int, int)
        From the box at the first index to that at the second, which is larger.

    Returns
    -------
    Arrangement
        Its routes cover what edges from one box share once.

    Raises
    ------
    ValueError
        If an edge does not lead to a larger index.

    Examples
    --------
    >>> arrange([(10.0, 4.0), (10.0, 4.0), (20.0, 8.0)], [(0, 2), (1, 2)]).centers
    [(5.0, 2.0), (5.0, 20.0), (54.0, 11.0)]
    """
    for start, end in edges:
        if start >= end:
            raise ValueError(f"expected edges to lead to larger indices, got {start} to {end}")
    graph = _Ranked(sizes, edges)
    graph.order()
    across = graph.fit()
    return graph.arrangement(across)


class _Ranked:
    """Items, boxes first and then lanes, in ranks; every link joins neighbouring ranks."""

    def __init__(self, sizes: Sequence[Point], edges: Sequence[tuple[int, int]]):
        self.sizes = list(sizes)
        self.boxes = len(sizes)
        self.rank = _ranks(len(sizes), edges)
        self.before: list[list[int]] = [[] for _ in sizes]
        self.after: list[list[int]] = [[] for _ in sizes]
        targets: list[list[int]] = [[] for _ in sizes]
        for start, end in edges:
            targets[start].append(end)
        for start, ends in enumerate(targets):
            self._link(start, ends)
        self.columns = self._first_order()

    def _link(self, start: int, ends: list[int]) -> None:
        """Lead all edges from one box through lanes that they share."""
        last, rank = start, self.rank[start]
        for end in sorted(set(ends), key=lambda end: self.rank[end]):
            while rank < self.rank[end] - 1:
                rank += 1
                lane = len(self.sizes)
                self.sizes.append((0.0, LANE))
                self.rank.append(rank)
                self.before.append([last])
                self.after.append([])
                self.after[last].append(lane)
                last = lane
            self.after[last].append(end)
            self.before[end].append(last)

    def _first_order(self) -> list[list[int]]:
        """Depth first from the last box, which draws a tree without crossings."""
        columns: list[list[int]] = [[] for _ in range(max(self.rank, default=-1) + 1)]
        seen = [False] * len(self.sizes)
        for root in range(self.boxes - 1, -1, -1):
            waiting = [root]
            while waiting:
                item = waiting.pop()
                if not seen[item]:
                    seen[item] = True
                    columns[self.rank[item]].append(item)
                    waiting += reversed(self.before[item])
        return columns

    # ---- crossings

    def order(self) -> None:
        """Permute the columns; the best permutation seen is kept."""
        best, fewest, found = self.columns, self._crossings(), 0
        for sweep in range(ORDERINGS):
            if not fewest or sweep - found == PATIENCE:
                break
            forward = sweep % 2 == 0
            self.columns = self._ordered(self.before if forward else self.after, forward)
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest, found = self.columns, crossings, sweep
        self.columns = best

    def _ordered(self, neighbours: list[list[int]], forward: bool) -> list[list[int]]:
        """Sort each column by the mean place of its items' neighbours, column after column."""
        columns = list(self.columns)
        place = [0.0] * len(self.sizes)
        for k in range(len(columns)) if forward else range(len(columns) - 1, -1, -1):
            for index, item in enumerate(columns[k]):
                near = neighbours[item]
                own = (index + 0.5) / len(columns[k])
                place[item] = sum(place[other] for other in near) / len(near) if near else own
            columns[k] = sorted(columns[k], key=place.__getitem__)
            for index, item in enumerate(columns[k]):
                place[item] = (index + 0.5) / len(columns[k])
        return columns

    def _crossings(self) -> int:
        place = [0] * len(self.sizes)
        for column in self.columns:
            for index, item in enumerate(column):
                place[item] = index
        crossings = 0
        for column in self.columns:
            ends: list[int] = []  # sorted
            for item in column:
                for end in sorted(place[other] for other in self.after[item]):
                    crossings += len(ends) - bisect_right(ends, end)
                    insort(ends, end)
        return crossings

    # ---- positions

    def fit(self) -> list[float]:
        """Give each item its position across the ranks, from 0 on."""
        across = [0.0] * len(self.sizes)
        alone: list[list[int]] = [[] for _ in self.sizes]
        both = [near + far for near, far in zip(self.before, self.after)]
        forward, backward = self.columns, self.columns[::-1]
        passes = [(both, backward), (both, forward)] * FITTINGS
        passes += [(self.after, backward), (self.before, forward)] * FITTINGS  # chains straight
        for neighbours, columns in [(alone, forward), *passes]:
            for column in columns:
                wanted = [
                    sum([across[other] for other in neighbours[item]]) / len(neighbours[item])
                    if neighbours[item]
                    else across[item]
                    for item in column
                ]
                for item, position in zip(column, self._fit_column(column, wanted)):
                    across[item] = position
        top = min((across[k] - height / 2 for k, (_, height) in enumerate(self.sizes)), default=0)
        return [position - top for position in across]

    def _fit_column(self, column: list[int], wanted: list[float]) -> list[float]:
        offsets, offset = [], 0.0
        for k, item in enumerate(column):
            if k:
                offset += (self.sizes[column[k - 1]][1] + self.sizes[item][1]) / 2 + BETWEEN_BOXES
            offsets.append(offset)
        blocks: list[tuple[float, float, int]] = []  # mean, weight, items
        for item, place, offset in zip(column, wanted, offsets):
            # Lanes weigh more, so that long edges are straight.
            mean, weight, items = place - offset, 1.0 if item < self.boxes else 4.0, 1
            while blocks and blocks[-1][0] > mean:
                other_mean, other_weight, others = blocks.pop()
                mean = (mean * weight + other_mean * other_weight) / (weight + other_weight)
                weight, items = weight + other_weight, items + others
            blocks.append((mean, weight, items))
        means = [mean for mean, _, items in blocks for _ in range(items)]
        return [mean + offset for mean, offset in zip(means, offsets)]

    # ---- what comes out

    def arrangement(self, across: list[float]) -> Arrangement:
        """Put the columns side by side."""
        lefts, rights, right = [], [], 0.0
        for column in self.columns:
            climbs = [abs(across[k] - across[item]) for item in column for k in self.before[item]]
            # Steep edges would lie upon each other.
            gap = min(max(max(climbs) / 6, BETWEEN_RANKS), WIDEST_GAP) if climbs else 0.0
            lefts.append(right + gap)
            right = lefts[-1] + max(self.sizes[item][0] for item in column)
            rights.append(right)
        middle = [(lefts[rank] + rights[rank]) / 2 for rank in self.rank]
        routes = []
        for item, ends in enumerate(self.after):
            start = rights[self.rank[item]]
            first = middle[item] + self.sizes[item][0] / 2 if item < self.boxes else start
            for end in ends:
                is_box = end < self.boxes
                stop = lefts[self.rank[end]]
                last = middle[end] - self.sizes[end][0] / 2 if is_box else rights[self.rank[end]]
                points = [(first, across[item]), (start, across[item])]
                points += [(stop, across[end]), (last, across[end])]
                routes.append((points, is_box))
        height = max((across[k] + size[1] / 2 for k, size in enumerate(self.sizes)), default=0.0)
        centers = list(zip(middle, across))[: self.boxes]
        return Arrangement(right, height, centers, routes)


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """Longest paths from the left, then to the right what shortens edges by that."""
    before: list[set[int]] = [set() for _ in range(count)]
    after: list[set[int]] = [set() for _ in range(count)]
    for start, end in edges:
        before[end].add(start)
        after[start].add(end)
    rank = [0] * count
    follows = [False] * count  # moves to the right together with its only user
    for box in range(count):
        rank[box] = max((rank[start] + 1 for start in before[box]), default=0)
        fixed = sum(not (follows[start] and len(after[start]) == 1) for start in before[box])
        follows[box] = fixed < len(after[box])
    for box in range(count - 1, -1, -1):
        if follows[box]:
            rank[box] = min(rank[end] for end in after[box]) - 1
    return rank
