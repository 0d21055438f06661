"""Three ways to compute a token tree after a prefix, by what a model's memory can do.

``copy``: one batch in which every node carries the sequence ids of the leaves below it, so that in the unified
cache each leaf sees its own path and nothing else. Plain and sliding-window attention.

``restore``: level by level. Each run of nodes without a branch is a sequence that begins as a whole copy of the one
it continues, and all runs of a level are computed together. Recurrent and hybrid models, whose state can be
copied but neither cut nor shared between branches.

``recompute``: every path from the very start.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.backend.llama_context import LlamaContext
from cultev.backend.logprobs import gather_logprobs
from cultev.backend.prefix import TokenTree
from cultev.backend.sequences import Wanted

COPY, RESTORE, RECOMPUTE = WAYS = ("copy", "restore", "recompute")


class Reuse(ABC):
    """A way to compute trees in one context.

    Args:
        context: where.
        spare: sequence ids that nothing else uses, empty before and after each call.
    """

    def __init__(self, context: LlamaContext, spare: Sequence[int]) -> None:
        self._context, self._spare = context, spare

    @abstractmethod
    def compute(self, base: int, before: Sequence[int], tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """Log-probabilities of ``wanted`` in a tree after sequence ``base``, which holds the tokens ``before``."""


class CopyReuse(Reuse):
    """See the module."""

    def compute(self, base: int, before: Sequence[int], tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """See ``Reuse.compute``."""
        reads = Reads(wanted, self._context.threads)
        n = len(self._spare)
        for start in range(0, len(tree.leaves), n):
            self._some(base, len(before), tree, tree.leaves[start : start + n], reads)
        return reads.out

    def _some(self, base: int, length: int, tree: TokenTree, leaves: Sequence[int], reads: Reads) -> None:
        context = self._context
        below: list[list[int]] = [[] for _ in tree.tokens]
        used = self._spare[: len(leaves)]
        for sequence, leaf in zip(used, leaves, strict=True):
            node = leaf
            while node >= 0:
                below[node].append(sequence)
                node = tree.parents[node]
            if length:
                context.copy(base, sequence, length)
        nodes = range(len(tree.tokens)) if len(leaves) == len(tree.leaves) else [i for i, b in enumerate(below) if b]
        for part in reads.parts(nodes, context):
            logits = context.decode(
                [tree.tokens[i] for i in part], [tree.depths[i] for i in part], [below[i] for i in part],
                [reads.asks(i) for i in part],
            )  # fmt: skip
            reads.take([i for i in part if reads.asks(i)], logits)
        for sequence in used:
            context.cut(sequence)


class RestoreReuse(Reuse):
    """See the module. ``transfer``: move states through memory of our own where the cache can't share them."""

    def __init__(self, context: LlamaContext, spare: Sequence[int], *, transfer: bool = False) -> None:
        super().__init__(context, spare)
        self._transfer = transfer

    def clone(self, source: int, target: int) -> None:
        """Make the empty sequence ``target`` equal to ``source``."""
        if self._transfer:
            self._context.restore(target, self._context.save(source))
        else:
            self._context.copy(source, target)

    def compute(self, base: int, before: Sequence[int], tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """See ``Reuse.compute``."""
        reads = Reads(wanted, self._context.threads)
        n = len(self._spare)
        for start in range(0, len(tree.leaves), n):  # no more leaves than sequences: then no run ever waits for one
            self._some(base if before else -1, tree, tree.leaves[start : start + n], reads)
        return reads.out

    def _some(self, base: int, tree: TokenTree, leaves: Sequence[int], reads: Reads) -> None:
        runs = runs_of(tree, leaves)
        free = list(self._spare)[::-1]
        level = [(run, base) for run in runs if run.parent < 0]
        while level:
            started: list[tuple[Run, int]] = []
            for i, (run, source) in enumerate(level):
                if source >= 0 and source != base and all(s != source for _, s in level[i + 1 :]):
                    started.append((run, source))  # the last that continues it takes it over
                    continue
                sequence = free.pop()
                if source >= 0:
                    self.clone(source, sequence)
                started.append((run, sequence))
            self._extend(started, tree, reads)
            level = [(runs[child], sequence) for run, sequence in started for child in run.children]
            for run, sequence in started:
                if not run.children:
                    self._context.cut(sequence)
                    free.append(sequence)

    def _extend(self, runs: Sequence[tuple[Run, int]], tree: TokenTree, reads: Reads) -> None:
        """Decode some runs together, an equal stretch of each: that is how llama.cpp batches recurrent states."""
        done = [0] * len(runs)
        while left := [i for i, (run, _) in enumerate(runs) if done[i] < len(run.nodes)]:
            step = max(1, self._context.batch // len(left))
            nodes: list[int] = []
            ids: list[list[int]] = []
            asked = 0
            for i in left:
                run, sequence = runs[i]
                for node in run.nodes[done[i] : done[i] + step]:
                    full = len(nodes) >= self._context.batch
                    if full or (reads.asks(node) and asked >= self._context.outputs):
                        break
                    nodes.append(node)
                    ids.append([sequence])
                    asked += reads.asks(node)
                    done[i] += 1
            logits = self._context.decode(
                [tree.tokens[n] for n in nodes], [tree.depths[n] for n in nodes], ids, [reads.asks(n) for n in nodes]
            )
            reads.take([n for n in nodes if reads.asks(n)], logits)


class RecomputeReuse(Reuse):
    """See the module."""

    def compute(self, base: int, before: Sequence[int], tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """See ``Reuse.compute``; ``base`` need hold nothing."""
        reads = Reads(wanted, self._context.threads)
        context, sequence = self._context, self._spare[0]
        for leaf in tree.leaves:
            path = [*range(-len(before), 0), *tree.path(leaf)]
            tokens = [*before, *(tree.tokens[node] for node in path[len(before) :])]
            at = 0
            for part in reads.parts(path, context):
                end = at + len(part)
                asked = [reads.asks(node) for node in part]
                logits = context.decode(tokens[at:end], range(at, end), [[sequence]] * len(part), asked)
                reads.take([node for node in part if reads.asks(node)], logits)
                at = end
            context.cut(sequence)
        return reads.out


@dataclass(slots=True)
class Run:
    """Nodes of a tree that follow each other without a branch; the runs that continue it."""

    nodes: list[int]
    parent: int
    """The run's number that it continues; -1: what stands before the tree."""
    children: list[int]


def runs_of(tree: TokenTree, leaves: Sequence[int]) -> list[Run]:
    """The runs above some of a tree's leaves, parents before children."""
    degree: dict[int, int] = {}
    for leaf in leaves:
        node = leaf
        while node >= 0 and node not in degree:
            degree[node] = 0
            node = tree.parents[node]
    for node in degree:
        if tree.parents[node] >= 0:
            degree[tree.parents[node]] += 1
    runs: list[Run] = []
    of_node: dict[int, int] = {}
    for node in sorted(degree):
        parent = tree.parents[node]
        if parent >= 0 and degree[parent] == 1:
            run = of_node[parent]
            runs[run].nodes.append(node)
        else:
            run = len(runs)
            above = of_node[parent] if parent >= 0 else -1
            runs.append(Run([node], above, []))
            if above >= 0:
                runs[above].children.append(run)
        of_node[node] = run
    return runs


class Reads:
    """Which log-probabilities are still to be read, and those that were; ``threads`` share the reading."""

    def __init__(self, wanted: Wanted, threads: int) -> None:
        self._threads = threads
        self.out = np.full(len(wanted), np.nan)  # what should stay unread is refused later
        self._wanted = wanted
        self._places: dict[int, list[int]] = {}
        for place, (node, _) in enumerate(wanted):
            self._places.setdefault(node, []).append(place)

    def asks(self, node: int) -> bool:
        """Whether the logits after a node are still wanted."""
        return node in self._places

    def parts(self, nodes: Sequence[int], context: LlamaContext) -> Iterator[list[int]]:
        """Cut nodes into runs that one decode call can take."""
        part: list[int] = []
        asked = 0
        for node in nodes:
            if len(part) >= context.batch or (self.asks(node) and asked >= context.outputs):
                yield part
                part, asked = [], 0
            part.append(node)
            asked += self.asks(node)
        if part:
            yield part

    def take(self, nodes: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Read what is wanted after ``nodes``, to which the rows of ``logits`` belong in order."""
        if not nodes:
            return
        found = [self._places.pop(node) for node in nodes]
        places = [place for some in found for place in some]
        rows = [row for row, some in enumerate(found) for _ in some]
        tokens = [self._wanted[place][1] for place in places]
        self.out[places] = gather_logprobs(
            logits, np.asarray(rows, np.intp), np.asarray(tokens, np.intp), threads=self._threads
        )
