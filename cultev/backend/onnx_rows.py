"""From a token tree to batches of rows: which tokens go through a graph together, after what past.

An ONNX decoder knows rows, not trees. The tree is cut into chains, each from a branching point down to a leaf
along the deepest branch; a chain's past is a prefix of the chain it branches off, whose keys and values were
kept. That computes every token once, in few levels (Sleator and Tarjan's heavy paths, by depth).

Where a graph can be told which tokens of its row a token sees (``onnx_sight``), small branches needn't be rows of their
own: they stand in the row that they branch off, or beside each other, wherever that costs less than copying all that
they continue once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.backend.prefix import TokenTree

CALL_COST = 16.0
"""What starting one run of a graph costs, in tokens; measured between 10 and 25 on laptop-like processors."""

SLOT_COST = 1 / 32
"""What one slot of one row's past costs (gathered, concatenated), in tokens."""

PAIR_COST = 1 / 1200
"""What it costs that one token looks at one slot, whether it sees it or not, in tokens; measured with 9 heads of 64."""

MAX_ROWS = 64
"""Rows of one batch."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run of tokens that one row of a batch computes."""

    tokens: tuple[int, ...]
    nodes: tuple[int, ...]
    """Their tree nodes; -1 for a token that is in no tree (the trunk, where it is computed again)."""
    past: int
    """Tokens before the first one: its position."""
    parent: int
    """The node that this continues; -1: the trunk."""
    keep: int
    """How many of the tokens' keys and values later rows need, counted from the first."""
    before: tuple[int, ...] = ()
    """Which of the row's tokens each of them follows, -1: what the row continues. Empty: each the one before it."""

    @property
    def offsets(self) -> list[int]:
        """How far behind ``past`` each token's position is."""
        if not self.before:
            return list(range(len(self.tokens)))
        found: list[int] = []
        for b in self.before:
            found.append(found[b] + 1 if b >= 0 else 0)
        return found

    def seen(self, length: int) -> NDArray[np.bool_]:
        """Which tokens of a row that is filled up to ``length`` each of them sees: itself and what it follows."""
        sees = np.tri(length, dtype=np.bool_)
        for i, b in enumerate(self.before):
            sees[i] = sees[b] if b >= 0 else False
            sees[i, i] = True
        return sees


@dataclass(frozen=True, slots=True)
class Shape:
    """What a batch may be."""

    mixed_past: bool
    """Whether rows of different past lengths may share a batch, the gaps masked."""
    mixed_length: bool
    """Whether shorter rows may be filled up at their end."""
    one_row: bool
    """Whether each row goes alone."""
    cells: int
    """Most rows x tokens."""
    slots: int
    """Most rows x (past + tokens)."""
    n_ctx: int
    """Past + tokens of a padded row."""
    first_branches: bool = True
    """Whether rows without a past may branch, where others may."""


def chains(tree: TokenTree, longest: int, cut: AbstractSet[int] = frozenset()) -> list[list[Row]]:
    """The tree's chains by level; each continues the trunk or a chain of an earlier level.

    Args:
        tree: the tree.
        longest: tokens after which a chain is cut in two.
        cut: nodes after which a chain must end.
    """
    children: list[list[int]] = [[] for _ in tree.tokens]
    height = [1] * len(tree.tokens)
    heads: list[tuple[int, int]] = []
    for node in range(len(tree.tokens) - 1, -1, -1):
        parent = tree.parents[node]
        if parent < 0:
            heads.append((node, 0))
        else:
            children[parent].append(node)
            height[parent] = max(height[parent], height[node] + 1)
    heads.reverse()
    levels: list[list[Row]] = []
    for head, level in heads:  # grows while it is walked
        nodes, keep, node = [head], 0, head
        while children[node]:
            # Of two as deep, the older node, so that the order of the questions alone decides.
            down = max(children[node], key=lambda n: (height[n], -n))
            stop = len(nodes) >= longest or node in cut
            if stop or len(children[node]) > 1:
                keep = len(nodes)
            heads.extend((n, level + 1) for n in sorted(children[node]) if stop or n != down)
            if stop:
                break
            nodes.append(down)
            node = down
        while len(levels) <= level:
            levels.append([])
        tokens = tuple(tree.tokens[n] for n in nodes)
        levels[level].append(Row(tokens, tuple(nodes), tree.depths[head], tree.parents[head], keep))
    return levels


class _Bush:
    """A row that grows by small branches."""

    def __init__(self, chain: Row) -> None:
        self.chain = chain
        self.tokens, self.nodes = [*chain.tokens], [*chain.nodes]
        self.before = [*range(-1, len(chain.tokens) - 1)]
        self.keep = 0
        self.gone = False

    def take(self, other: _Bush, at: int) -> None:
        """Take a row's tokens in; the first follows token ``at`` of this one (-1: what this one continues)."""
        own = len(self.tokens)
        self.before += [b + own if b >= 0 else at for b in other.before]
        self.tokens += other.tokens
        self.nodes += other.nodes
        other.gone = True

    def row(self) -> Row:
        chain = self.chain
        before = tuple(self.before) if len(self.tokens) > len(chain.tokens) else ()
        return Row(tuple(self.tokens), tuple(self.nodes), chain.past, chain.parent, self.keep, before)


def bushes(levels: Sequence[Sequence[Row]], longest: int, shape: Shape) -> list[list[Row]]:
    """Rows by level that hold small branches too, for graphs that can be told what a token sees.

    Args:
        levels: the tree's chains.
        longest: most tokens of a row.
        shape: what a batch may be.
    """

    def cost(tokens: int, past: int) -> float:
        """What a row takes beside what each of its tokens takes by itself."""
        return past * SLOT_COST + tokens * (past + tokens) * PAIR_COST + (CALL_COST if shape.one_row else 0)

    def belongs(host: _Bush, other: _Bush) -> bool:
        ours, theirs, past = len(host.tokens), len(other.tokens), host.chain.past
        if not past and not shape.first_branches:
            return False
        fits = ours + theirs <= longest and past + ours + theirs <= shape.n_ctx
        return fits and cost(ours + theirs, past) < cost(ours, past) + cost(theirs, other.chain.past)

    grown = [[_Bush(row) for row in rows] for rows in levels]
    places = {node: (bush, i) for rows in grown for bush in rows for i, node in enumerate(bush.nodes)}
    for rows in reversed(grown):
        siblings: dict[int, list[_Bush]] = {}
        for bush in rows:
            siblings.setdefault(bush.chain.parent, []).append(bush)
        for parent, group in siblings.items():
            host, at = places.get(parent, (None, -1))
            last: _Bush | None = None
            for bush in group:
                if bush.keep:  # others continue it: its tokens must stay the first of a row
                    continue
                if host and belongs(host, bush):
                    host.take(bush, at)
                elif last and belongs(last, bush):
                    last.take(bush, -1)
                else:
                    last = bush
            if host and not all(bush.gone for bush in group):
                host.keep = max(host.keep, at + 1)
    return [[bush.row() for bush in rows if not bush.gone] for rows in grown]


def whole_rows(tree: TokenTree, trunk: Sequence[int], ends: Sequence[int]) -> list[Row]:
    """One row from the trunk's first token down to each node of ``ends``: for graphs that keep no state."""
    rows = []
    for end in ends:
        path = tree.path(end)
        tokens = (*trunk, *(tree.tokens[n] for n in path))
        rows.append(Row(tokens, (-1,) * len(trunk) + tuple(path), 0, -1, 0))
    return rows


def batches(rows: Sequence[Row], shape: Shape) -> Iterator[list[Row]]:
    """Cut the rows of one level into batches so that little is padded and few runs are started."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in rows:
        past = 0 if shape.mixed_past else row.past
        length = 0 if shape.mixed_length else len(row.tokens)
        groups.setdefault((past, length), []).append(row)
    for key in sorted(groups):
        yield from _partition(sorted(groups[key], key=lambda r: (len(r.tokens), r.past, r.nodes)), shape)


def _partition(rows: Sequence[Row], shape: Shape) -> list[list[Row]]:
    """The cheapest cut of a sorted list into runs: best[i] is the least cost of the first i rows."""
    best = [0.0] + [float("inf")] * len(rows)
    first = [0] * (len(rows) + 1)
    for end in range(1, len(rows) + 1):
        length = past = 0
        for start in range(end - 1, max(-1, end - 1 - MAX_ROWS), -1):
            length = max(length, len(rows[start].tokens))
            past = max(past, rows[start].past)
            n = end - start
            if n > 1 and (
                shape.one_row
                or n * length > shape.cells
                or n * (past + length) > shape.slots
                or past + length > shape.n_ctx
            ):
                break
            looks = length * (past + length) * PAIR_COST
            cost = best[start] + CALL_COST + n * (length + looks + past * SLOT_COST)
            if cost < best[end]:
                best[end], first[end] = cost, start
    result: list[list[Row]] = []
    end = len(rows)
    while end:
        result.append(list(rows[first[end] : end]))
        end = first[end]
    return result[::-1]
