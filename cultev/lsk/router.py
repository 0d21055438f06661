"""Routers: which language, or languages, an item is asked in. They see items and never outcomes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.cells import UNKNOWN, Cells
from cultev.lsk.table import Items, OutcomeTable

NOBODY = -1
"""Fills up the panel of an item that is asked in fewer languages than others."""


class Router(Protocol):
    """Sends items to languages, as indices into the table's languages; 0 is English."""

    def route(self, items: Items) -> NDArray[np.intp]:
        """The language each item is asked in first, shape (items,)."""
        ...

    def panel(self, items: Items) -> NDArray[np.intp]:
        """All languages each item is asked in, best first, filled up with NOBODY; shape (items, most)."""
        ...


class _Single(ABC):
    """A router that asks in one language."""

    __slots__ = ()

    @abstractmethod
    def route(self, items: Items) -> NDArray[np.intp]:
        """The language each item is asked in, shape (items,)."""

    def panel(self, items: Items) -> NDArray[np.intp]:
        """The same as a column."""
        return self.route(items)[:, None]


@dataclass(frozen=True, slots=True)
class Constant(_Single):
    """One language for everything."""

    language: int = 0

    def route(self, items: Items) -> NDArray[np.intp]:
        """The one language, for every item."""
        return np.full(len(items), self.language, dtype=np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class ByCell(_Single):
    """A language for each cell, and one for cells that were never seen. ``languages`` has shape (cells,)."""

    cells: Cells
    languages: NDArray[np.intp]
    unseen: int = 0

    def route(self, items: Items) -> NDArray[np.intp]:
        """The language of each item's cell."""
        cell = self.cells.assign(items)
        return np.where(cell == UNKNOWN, self.unseen, self.languages[cell]).astype(np.intp)


@dataclass(frozen=True, slots=True)
class ByName(_Single):
    """A language by the item's culture ('culture') or its id ('id'); English for names that are not listed."""

    column: str
    languages: Mapping[str, int]

    def route(self, items: Items) -> NDArray[np.intp]:
        """What is listed for each item's name."""
        names = items.cultures if self.column == "culture" else items.ids
        return np.array([self.languages.get(name, 0) for name in names.tolist()], dtype=np.intp)


@dataclass(frozen=True, slots=True)
class ByChance(_Single):
    """A language at random, drawn from a hash of the seed and the item's id."""

    languages: int
    seed: int = 0

    def route(self, items: Items) -> NDArray[np.intp]:
        """The drawn language of each item: always the same for the same id."""
        drawn = [hashlib.sha256(f"{self.seed}|{name}".encode()).digest()[:8] for name in items.ids.tolist()]
        return np.array([int.from_bytes(d, "big") % self.languages for d in drawn], dtype=np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class PanelByCell:
    """Several languages for each cell, best first. ``languages`` has shape (cells, most), filled up with NOBODY.

    A cell that was never seen is asked in English only.
    """

    cells: Cells
    languages: NDArray[np.intp]

    def route(self, items: Items) -> NDArray[np.intp]:
        """The first language of each item's panel."""
        return self.panel(items)[:, 0]

    def panel(self, items: Items) -> NDArray[np.intp]:
        """The panel of each item's cell."""
        english = np.full((1, self.languages.shape[1]), NOBODY, dtype=np.intp)
        english[0, 0] = 0
        # UNKNOWN is -1: the row put last.
        return np.concatenate([self.languages, english])[self.cells.assign(items)]


def answers(router: Router, table: OutcomeTable) -> NDArray[np.float64]:
    """1 where the router's answer to an item is right, 0 where it isn't, NaN where the table can't say; (items,).

    A panel of several languages votes: the option picked by most wins; of options with as many votes, the one whose
    first supporter stands earliest in the panel. (The paper's code lets the smallest letter win, which favours A.)

    Raises:
        ValueError: a panel, and the table doesn't hold which options were picked.
    """
    panel, right = router.panel(table.items), table.right()
    rows = np.arange(len(table))
    if panel.shape[1] == 1:
        return np.asarray(right[rows, panel[:, 0]])
    if len(table) and (table.picked < 0).all():
        raise ValueError("a vote needs the options that were picked")
    asked = panel != NOBODY
    at = np.where(asked, panel, 0)
    picked = np.where(asked, table.picked[rows[:, None], at], -1)
    votes = ((picked[:, :, None] == picked[:, None, :]) & (picked >= 0)[:, :, None]).sum(axis=2)
    winner = votes.argmax(axis=1)  # the first of the largest
    result = np.where(votes[rows, winner] > 0, right[rows, at[rows, winner]], 0.0)
    unseen = np.isnan(right[rows[:, None], at]) & asked
    return np.where((unseen | ~asked).all(axis=1), np.nan, np.nan_to_num(result))


def tokens(router: Router, table: OutcomeTable) -> NDArray[np.int64]:
    """What each item's answer costs under the router: tokens of all languages of its panel, shape (items,)."""
    panel = router.panel(table.items)
    cost = table.tokens[np.arange(len(table))[:, None], np.maximum(panel, 0)]
    return np.asarray(np.where(panel == NOBODY, 0, cost).sum(axis=1))
