"""From a token tree to batches of rows: which tokens go through a graph together, after what past.

An ONNX decoder knows rows, not trees. The tree is cut into chains, each from a branching point down to a leaf
along the deepest branch; a chain's past is a prefix of the chain it branches off, whose keys and values were
kept. That computes every token once, in few levels (Sleator and Tarjan's heavy paths, by depth).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from cultev.backend.prefix import TokenTree

CALL_COST = 16.0
"""What starting one run of a graph costs, in tokens; measured between 10 and 25 on laptop-like processors."""

SLOT_COST = 1 / 32
"""What one slot of one row's past costs (gathered, concatenated, attended to), in tokens."""

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
            cost = best[start] + CALL_COST + n * (length + past * SLOT_COST)
            if cost < best[end]:
                best[end], first[end] = cost, start
    result: list[list[Row]] = []
    end = len(rows)
    while end:
        result.append(list(rows[first[end] : end]))
        end = first[end]
    return result[::-1]
