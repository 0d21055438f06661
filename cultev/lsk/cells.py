"""Groups of items that may have their own best language: by culture and topic, or clusters of embeddings.

A *maker* learns cells from training items; the cells then take any item, seen or not. Rows are put in order of
their ids before anything is drawn, so that the order of a file decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cultev.errors import UsageError
from cultev.lsk.table import Items, OutcomeTable

UNKNOWN = -1
"""The cell of an item that belongs to none of the learned ones."""


class Cells(Protocol):
    """Learned cells. ``names`` has one entry per cell."""

    @property
    def names(self) -> tuple[str, ...]:
        """What each cell is called."""
        ...

    def assign(self, items: Items) -> NDArray[np.intp]:
        """Each item's cell, or UNKNOWN; shape (items,)."""
        ...


class CellMaker(Protocol):
    """Learns cells from training items. Only ``choose.ByValidation`` looks at the outcomes."""

    def make(self, table: OutcomeTable) -> Cells:
        """Cells learned from these items and no others."""
        ...


@dataclass(frozen=True, slots=True)
class Everything:
    """One cell that holds every item: k = 1. Its own maker."""

    names: tuple[str, ...] = ("all",)

    def make(self, table: OutcomeTable) -> Cells:
        """Itself: there is nothing to learn."""
        return self

    def assign(self, items: Items) -> NDArray[np.intp]:
        """0 for every item."""
        return np.zeros(len(items), dtype=np.intp)


@dataclass(frozen=True, slots=True)
class Metadata:
    """Cells by name, such as 'kelmori / food'. ``columns`` are 'culture', 'topic' or both."""

    names: tuple[str, ...]
    columns: tuple[str, ...]

    def assign(self, items: Items) -> NDArray[np.intp]:
        """The cell of each item's name; UNKNOWN for a name that training never had."""
        known = {name: cell for cell, name in enumerate(self.names)}
        distinct, member = np.unique(_names(items, self.columns), return_inverse=True)
        return np.array([known.get(name, UNKNOWN) for name in distinct.tolist()], dtype=np.intp)[member]


@dataclass(frozen=True, slots=True)
class ByMetadata:
    """Makes ``Metadata`` cells, one for each value that training has."""

    columns: tuple[str, ...] = ("culture", "topic")

    def make(self, table: OutcomeTable) -> Cells:
        """One cell for each combination of the columns' values among the items, sorted."""
        return Metadata(tuple(np.unique(_names(table.items, self.columns)).tolist()), self.columns)


def _names(items: Items, columns: Sequence[str]) -> NDArray[np.str_]:
    values = {"culture": items.cultures, "topic": items.topics}
    joined = values[columns[0]]
    for column in columns[1:]:
        joined = np.char.add(np.char.add(joined, " / "), values[column])
    return joined


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Cells around centres, shape (cells, dimensions): an item belongs to the centre with the largest cosine."""

    names: tuple[str, ...]
    centres: NDArray[np.float64]

    def assign(self, items: Items) -> NDArray[np.intp]:
        """The nearest centre of each item; the first one where two are equally near."""
        return np.asarray((_embeddings(items) @ self.centres.T).argmax(axis=1), dtype=np.intp)


@dataclass(frozen=True, slots=True)
class ByEmbedding:
    """Makes clusters of embeddings: k-means++ seeds, then ``iterations`` of Lloyd's on the sphere.

    With ``iterations`` = 0 the centres are the seeds themselves, k actual items: what the paper's code does
    (it calls k-means what is only its seeding).
    """

    k: int = 12
    seed: int = 512
    iterations: int = 50

    def make(self, table: OutcomeTable) -> Cells:
        """Clusters of the items' embeddings; fewer than k where there are fewer different items.

        Raises:
            UsageError: the items have no embeddings.
        """
        points = _embeddings(table.items)[np.argsort(table.items.ids, kind="stable")]
        centres = points[seeds(points, self.k, np.random.default_rng(self.seed))]
        for _ in range(self.iterations):
            cell = (points @ centres.T).argmax(axis=1)
            total = np.zeros_like(centres)
            np.add.at(total, cell, points)
            length = np.linalg.norm(total, axis=1, keepdims=True)
            # An empty cluster (or one whose points cancel out) keeps its centre.
            moved = np.where(length > 1e-12, total / np.maximum(length, 1e-12), centres)
            if np.allclose(moved, centres, atol=1e-12):
                break
            centres = moved
        return Clusters(tuple(f"cluster {i + 1}" for i in range(len(centres))), centres)


def seeds(points: NDArray[np.float64], k: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Indices of k points chosen by k-means++: each drawn with probability proportional to its squared distance.

    At every step the best of 2 + log(k) candidates is kept (Arthur & Vassilvitskii 2007, section 2.2 and its
    remark on greedy choice; scikit-learn does the same). Fewer than k where all points are taken.
    """
    n = len(points)
    tries = 2 + int(np.log(max(k, 1)))
    chosen = [int(generator.integers(n))]
    closest = ((points - points[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < min(k, n) and closest.sum() > 1e-12:
        at = generator.random(tries) * closest.sum()
        candidates = np.minimum(np.searchsorted(np.cumsum(closest), at), n - 1)
        distance = ((points[None] - points[candidates][:, None]) ** 2).sum(axis=2)
        reached = np.minimum(closest, distance)
        best = int(reached.sum(axis=1).argmin())
        chosen.append(int(candidates[best]))
        closest = reached[best]
    return np.array(chosen, dtype=np.intp)


def _embeddings(items: Items) -> NDArray[np.float64]:
    if items.embeddings is None:
        raise UsageError("Clusters need embeddings of the questions.", "Use cells by culture and topic instead.")
    return items.embeddings
