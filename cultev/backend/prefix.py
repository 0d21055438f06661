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

from cultev.backend.types import ScoreRequest

WINDOW = 2048
"""Requests that the planner sees at a time: memory stays flat however long the run is."""

STRICT_SLICE = 64
"""Tokens of one computation of a prompt in strict mode; strict trunks end at multiples of it."""

TRUNK_COST = 24
"""What one more trunk costs beside its own tokens, in tokens: a decode call, and its copies."""


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
    costs = [_continuation_cost(r) for r in order]
    shared = [0] + [common_prefix(a.prompt, b.prompt) for a, b in pairwise(order)]
    # (first, end, trunk, cut): ranges still to be dealt with, the next one last; cut: into packs as it is.
    stack = [(0, len(order), 0, False)]
    while stack:
        low, high, trunk, cut = stack.pop()
        packs = _packs(order, shared, costs, low, high, trunk, limits)
        if cut or high - low == 1 or packs <= 2:
            yield from _cut(order, shared, costs, low, high, trunk, limits)
            continue
        shortest = min(len(order[i].prompt) for i in range(low, high))
        common = min(shortest - 1, *(shared[i] for i in range(low + 1, high)))
        # Every pack after the first saves what the trunk is longer by; what it was before is computed once more.
        if (packs - 1) * (common - trunk) >= TRUNK_COST + trunk:
            trunk = common
        # Children of the branching point: big ones may deserve a trunk of their own, runs of small ones don't.
        bounds = [low, *(i for i in range(low + 1, high) if shared[i] <= common), high]
        parts: list[tuple[int, int, int, bool]] = []
        run = low
        for a, b in pairwise(bounds):
            if b - a < high - low and _packs(order, shared, costs, a, b, trunk, limits) > 4:
                if run < a:
                    parts.append((run, a, trunk, True))
                parts.append((a, b, trunk, False))
                run = b
        if run < high:
            parts.append((run, high, trunk, True))
        stack.extend(reversed(parts))


def strict_plan(window: Sequence[ScoreRequest]) -> Iterator[Pack]:
    """A pack per request, each after a trunk that ends at a border: its shape depends on the request alone."""
    for request in sorted(window, key=lambda r: (r.prompt, r.key)):
        border = (len(request.prompt) - 1) // STRICT_SLICE * STRICT_SLICE
        yield Pack(request.prompt[:border], (request,))


def _continuation_cost(request: ScoreRequest) -> tuple[int, int, int]:
    """Tree nodes, leaves and reads that a request's continuations add to its prompt."""
    nodes: set[tuple[int, ...]] = set()
    for continuation in request.continuations:
        nodes.update(continuation.tokens[:end] for end in range(1, len(continuation.tokens)))
    inner = {n[:-1] for n in nodes}
    return len(nodes), max(1, len(nodes - inner)), 1 + len(nodes)


def _packs(
    order: Sequence[ScoreRequest],
    shared: Sequence[int],
    costs: Sequence[tuple[int, int, int]],
    low: int,
    high: int,
    trunk: int,
    limits: Limits,
) -> float:
    """About how many packs a run of sorted requests makes: by the limit that it reaches first."""
    tokens = sum(_new_tokens(order, shared, costs, i, low, trunk) for i in range(low, high))
    leaves, reads = (sum(costs[i][kind] for i in range(low, high)) for kind in (1, 2))
    return max(tokens / limits.tokens, leaves / limits.leaves, reads / limits.reads)


def _new_tokens(
    order: Sequence[ScoreRequest],
    shared: Sequence[int],
    costs: Sequence[tuple[int, int, int]],
    i: int,
    first: int,
    trunk: int,
) -> int:
    """Tokens that request i adds to a pack that began with request ``first``."""
    before = trunk if i == first else max(shared[i], trunk)
    return len(order[i].prompt) - before + costs[i][0]


def _cut(
    order: Sequence[ScoreRequest],
    shared: Sequence[int],
    costs: Sequence[tuple[int, int, int]],
    low: int,
    high: int,
    trunk: int,
    limits: Limits,
) -> Iterator[Pack]:
    """Cut a run of sorted requests greedily into packs that share a trunk."""
    first, used = low, [0, 0, 0]
    for i in range(low, high):
        added = [_new_tokens(order, shared, costs, i, first, trunk), costs[i][1], costs[i][2]]
        total = [u + a for u, a in zip(used, added, strict=True)]
        if i > first and (total[0] > limits.tokens or total[1] > limits.leaves or total[2] > limits.reads):
            yield Pack(order[low].prompt[:trunk], tuple(order[first:i]))
            first = i
            total = [_new_tokens(order, shared, costs, i, first, trunk), costs[i][1], costs[i][2]]
        used = total
    if first < high:
        yield Pack(order[low].prompt[:trunk], tuple(order[first:high]))
