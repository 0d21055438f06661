"""The prefix planner: which requests are computed together, and what they share.

Requests of one window are sorted by their prompt's tokens, so that shared prefixes sit together, and cut into
packs. A pack is computed in one go as a token tree, each shared token once. A *trunk* is a prefix that several
packs share (an instruction, say); an engine keeps its state between packs.

A pack depends on the requests of its window only, never on what has been answered before: an interrupted run
that goes on computes the rest in the same packs, hence to the same bits, as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

from cultev.backend.types import ScoreRequest

WINDOW = 2048
"""Requests that the planner sees at a time: memory stays flat however long the run is."""

STRICT_SLICE = 64
"""Tokens of one computation of a prompt in strict mode; strict trunks end at multiples of it."""

TRUNK_COST = 24
"""What a trunk costs beside its own tokens, in tokens: a decode call, and its copies."""

LEVEL = 4
"""Tokens that requests must share beyond a trunk to be tried with one of their own."""

NESTED = 16
"""Trunks that are tried within each other."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one pack may hold. A single request over a limit gets a pack of its own."""

    tokens: int = 512
    """Tree nodes, trunk aside."""
    leaves: int = 48
    """Different sequences: branches of the tree."""
    reads: int = 256
    """Positions whose logits are read."""


@dataclass(frozen=True, slots=True)
class Pack:
    """Requests that are computed together after ``trunk``, a prefix of every prompt (maybe empty)."""

    trunk: tuple[int, ...]
    requests: tuple[ScoreRequest, ...]


@dataclass(frozen=True, slots=True)
class TokenTree:
    """The different tokens of a pack beyond its trunk, parents before children.

    Node i holds ``tokens[i]`` at position ``depths[i]`` (counted from the prompt's start) and continues
    ``parents[i]`` (-1: the trunk). ``leaves`` are the nodes without children. ``reads[r][c]`` lists, for
    request r and continuation c, the nodes whose next-token distribution is asked, one per continuation token.
    """

    tokens: list[int]
    depths: list[int]
    parents: list[int]
    leaves: list[int]
    reads: list[list[list[int]]]

    def path(self, node: int) -> list[int]:
        """Nodes from the trunk's end down to ``node``, itself included."""
        nodes = []
        while node >= 0:
            nodes.append(node)
            node = self.parents[node]
        return nodes[::-1]


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix of two token sequences."""
    n = min(len(a), len(b))
    if tuple(a[:n]) == tuple(b[:n]):
        return n
    low, high = 0, n
    while high - low > 1:  # slices compare in C: halving beats a Python loop over tokens
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def spread(n: int, share: float) -> list[bool]:
    """Of n positions an evenly spread share, and the last one always: those whose logits a plain prompt asks for."""
    return [int((i + 1) * share) > int(i * share) or i == n - 1 for i in range(n)]


def build_tree(requests: Sequence[ScoreRequest], trunk: int) -> TokenTree:
    """Merge the requests' tokens beyond the first ``trunk`` into a tree; every prompt is longer than that."""
    tree = TokenTree([], [], [], [], [])
    children: dict[tuple[int, int], int] = {}
    has_child: set[int] = set()

    def step(parent: int, token: int, depth: int) -> int:
        node = children.get((parent, token))
        if node is None:
            node = len(tree.tokens)
            children[parent, token] = node
            tree.tokens.append(token)
            tree.depths.append(depth)
            tree.parents.append(parent)
            has_child.add(parent)
        return node

    for request in requests:
        node = -1
        for depth in range(trunk, len(request.prompt)):
            node = step(node, request.prompt[depth], depth)
        rows = []
        for continuation in request.continuations:
            at, nodes = node, [node]
            for offset, token in enumerate(continuation.tokens[:-1]):
                at = step(at, token, len(request.prompt) + offset)
                nodes.append(at)
            rows.append(nodes)
        tree.reads.append(rows)
    tree.leaves.extend(n for n in range(len(tree.tokens)) if n not in has_child)
    return tree


def windows(requests: Iterable[ScoreRequest], size: int = WINDOW) -> Iterator[list[ScoreRequest]]:
    """Cut a stream of requests into lists of at most ``size``."""
    stream = iter(requests)
    while window := list(islice(stream, size)):
        yield window


def plan(window: Sequence[ScoreRequest], limits: Limits) -> Iterator[Pack]:
    """Cut one window into packs, in the order in which they should be computed."""
    order = sorted(window, key=lambda r: (r.prompt, r.key))
    if order:
        planner = _Planner(order, limits)
        for trunk, first, end in planner.best(0, len(order), 0, NESTED).packs:
            yield Pack(order[first].prompt[:trunk], tuple(order[first:end]))


def strict_plan(window: Sequence[ScoreRequest]) -> Iterator[Pack]:
    """A pack per request, each after a trunk that ends at a border: its shape depends on the request alone."""
    for request in sorted(window, key=lambda r: (r.prompt, r.key)):
        border = (len(request.prompt) - 1) // STRICT_SLICE * STRICT_SLICE
        yield Pack(request.prompt[:border], (request,))


def _continuation_cost(request: ScoreRequest) -> tuple[int, int, int]:
    """Tree nodes, leaves and reads that a request's continuations add to its prompt."""
    # Sorted, each shares most with the one before it; one that begins the next is no leaf.
    paths = sorted({c.tokens[:-1] for c in request.continuations if len(c.tokens) > 1})
    shared = [0, *(common_prefix(a, b) for a, b in pairwise(paths))]
    nodes = sum(len(path) - n for path, n in zip(paths, shared, strict=False))
    leaves = len(paths) - sum(n == len(path) for path, n in zip(paths, shared[1:], strict=False))
    return nodes, max(1, leaves), 1 + nodes


class _Cut(NamedTuple):
    """A way to compute some requests: (trunk's length, first request, end) of each pack, and tokens that it takes."""

    packs: list[tuple[int, int, int]]
    cost: int

    def plus(self, tokens: int) -> _Cut:
        """The same at a higher cost."""
        return _Cut(self.packs, self.cost + tokens)


class _Planner:
    """Chooses trunks for sorted requests by what each way would compute.

    Without a trunk, each pack begins with all that its first request has. With one, all packs go on from it, but it is
    a decode call, and it is computed whole: from the very beginning, and again when it is gone back to.
    """

    def __init__(self, order: Sequence[ScoreRequest], limits: Limits) -> None:
        self._lengths = [len(r.prompt) for r in order]
        self._costs = [_continuation_cost(r) for r in order]
        self._shared = [0] + [common_prefix(a.prompt, b.prompt) for a, b in pairwise(order)]
        self._limits = limits

    def best(self, low: int, high: int, trunk: int, depth: int) -> _Cut:
        """The cheapest way found for requests low to high, all of which begin with the held ``trunk``."""
        found = self._greedy(low, high, trunk)
        if len(found.packs) == 1 or not depth:
            return found
        common = min(*self._lengths[low:high], *(n + 1 for n in self._shared[low + 1 : high])) - 1
        if common > trunk:
            longer = self._greedy(low, high, common)
            if longer.cost + common + TRUNK_COST < found.cost:
                return self._divided(low, high, common, longer, depth).plus(common + TRUNK_COST)
        return self._divided(low, high, trunk, found, depth)

    def _divided(self, low: int, high: int, trunk: int, flat: _Cut, depth: int) -> _Cut:
        """Requests that share more with each other get a trunk of their own, where that is cheaper than ``flat``."""
        level = max(trunk, min(self._shared[low + 1 : high])) + LEVEL
        starts = [low, *(i for i in range(low + 1, high) if self._shared[i] < level)]
        if len(starts) == 1:
            return flat
        ways = []
        for start, end in pairwise([*starts, high]):
            alone = self._greedy(start, end, trunk)
            if len(alone.packs) > 1:
                ways.append((start, end, alone.cost, self.best(start, end, trunk, depth - 1)))
        back = trunk + TRUNK_COST
        # Whether this trunk has to be gone back to depends on what follows: both ways of counting are tried.
        tried = [
            self._joined(
                low, high, trunk, [(start, end, way) for start, end, alone, way in ways if way.cost + extra < alone]
            )
            for extra in (0, back)
        ]
        return min([flat, *tried], key=lambda found: found.cost)

    def _joined(self, low: int, high: int, trunk: int, own: Sequence[tuple[int, int, _Cut]]) -> _Cut:
        """Ways for some stretches of requests, (start, end, way), and packs after ``trunk`` for the others."""
        packs: list[tuple[int, int, int]] = []
        cost, run = 0, low
        for start, end, way in [*own, (high, high, _Cut([], 0))]:
            if run < start:
                between = self._greedy(run, start, trunk)
                packs += between.packs
                cost += between.cost + (trunk + TRUNK_COST if run > low else 0)
            packs += way.packs
            cost += way.cost
            run = end
        return _Cut(packs, cost)

    def _greedy(self, low: int, high: int, trunk: int) -> _Cut:
        """Packs after one trunk, each as full as the limits let it be."""
        most = (self._limits.tokens, self._limits.leaves, self._limits.reads)
        packs: list[tuple[int, int, int]] = []
        first, total = low, 0
        used = (0, 0, 0)
        for i in range(low, high):
            nodes, leaves, reads = self._costs[i]
            whole = self._lengths[i] - trunk + nodes
            tokens = whole if i == first else whole - max(0, self._shared[i] - trunk)
            added = (used[0] + tokens, used[1] + leaves, used[2] + reads)
            if i > first and any(a > m for a, m in zip(added, most, strict=True)):
                packs.append((trunk, first, i))
                first, tokens, added = i, whole, (whole, leaves, reads)
            used = added
            total += tokens
        packs.append((trunk, first, high))
        return _Cut(packs, total)
