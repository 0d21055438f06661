"""Ways to choose a language, each learned from training items only: the paper's, the shrunk one, and the baselines.

Every policy is ``fit(table) -> Router``. Ties go to English first, then to the order of the table's languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.cells import ByEmbedding, ByMetadata, CellMaker, Cells, Everything
from cultev.lsk.effects import Gains, Model, gains
from cultev.lsk.prior import Prior, gains_with
from cultev.lsk.router import NOBODY, ByCell, ByChance, ByName, Constant, PanelByCell, Router
from cultev.lsk.sums import Sums, sum_by, sums
from cultev.lsk.table import Items, OutcomeTable


class Policy(Protocol):
    """A way to choose."""

    @property
    def name(self) -> str:
        """What the policy is called."""
        ...

    def fit(self, table: OutcomeTable) -> Router:
        """Learn from these items."""
        ...


@dataclass(frozen=True, slots=True)
class English:
    """Always English."""

    name: str = "english"

    def fit(self, table: OutcomeTable) -> Router:
        """Nothing to learn."""
        return Constant(0)


@dataclass(frozen=True, slots=True)
class BestSingle:
    """The language with the most right answers in training, for everything."""

    name: str = "best-single"

    def fit(self, table: OutcomeTable) -> Router:
        """Compare languages by their share of right answers among those seen."""
        share = _shares(table.right(), np.zeros(len(table), dtype=np.intp), 1)
        return Constant(int(share[0].argmax()))


@dataclass(frozen=True, slots=True)
class CultureLanguage:
    """The language of the item's culture; English where the culture has none among the table's."""

    languages: Mapping[str, str]
    """Culture -> BCP-47 code."""
    name: str = "culture-language"

    def fit(self, table: OutcomeTable) -> Router:
        """Look the codes up among the table's languages."""
        column = {code: i for i, code in enumerate(table.languages)}
        return ByName("culture", {culture: column.get(code, 0) for culture, code in self.languages.items()})


@dataclass(frozen=True, slots=True)
class ModelPicked:
    """The language the model itself named for each item; English where it named none of the table's."""

    picked: Mapping[str, str]
    """Item id -> BCP-47 code."""
    name: str = "model-picked"

    def fit(self, table: OutcomeTable) -> Router:
        """Look the codes up among the table's languages."""
        column = {code: i for i, code in enumerate(table.languages)}
        return ByName("id", {item: column.get(code, 0) for item, code in self.picked.items()})


@dataclass(frozen=True, slots=True)
class EqualVote:
    """All languages answer and the option picked by most wins; ties go to English, then to the languages' order."""

    name: str = "equal-vote"

    def fit(self, table: OutcomeTable) -> Router:
        """Nothing to learn."""
        return PanelByCell(Everything(), np.arange(len(table.languages), dtype=np.intp)[None])


@dataclass(frozen=True, slots=True)
class Random:
    """A language at random for each item."""

    seed: int = 0
    name: str = "random"

    def fit(self, table: OutcomeTable) -> Router:
        """Nothing to learn."""
        return ByChance(len(table.languages), self.seed)


def paper_cells(table: OutcomeTable) -> Cells:
    """The paper's cells: 12 k-means++ seeds of the embeddings, or culture x topic where there are none."""
    maker: CellMaker = ByMetadata() if table.items.embeddings is None else ByEmbedding(12, 512, iterations=0)
    return maker.make(table)


@dataclass(frozen=True, slots=True)
class Paper:
    """LSKExtractor as published (arXiv 2505.14990): in each cell, the language with the most right answers.

    No prior, no margin in favour of English. What its code gets wrong is not repeated: outcomes and cells are joined by
    item, the best is chosen on training items, ties are broken by rule and not by the order of files.
    """

    cells: CellMaker | None = None
    """None: the paper's own, see ``paper_cells``."""
    name: str = "paper"

    def fit(self, table: OutcomeTable) -> Router:
        """Argmax in each cell; English where nothing is right or nothing was seen."""
        cells = paper_cells(table) if self.cells is None else self.cells.make(table)
        share = _shares(table.right(), cells.assign(table.items), len(cells.names))
        return ByCell(cells, share.argmax(axis=1).astype(np.intp))


@dataclass(frozen=True, slots=True)
class PaperTop3:
    """The paper's variant: the three best languages of a cell vote. Languages with nothing right are left out."""

    cells: CellMaker | None = None
    size: int = 3
    name: str = "paper-top3"

    def fit(self, table: OutcomeTable) -> Router:
        """The best ``size`` in each cell, best first; English alone where nothing is right."""
        cells = paper_cells(table) if self.cells is None else self.cells.make(table)
        share = _shares(table.right(), cells.assign(table.items), len(cells.names))
        order = np.argsort(-share, axis=1, kind="stable")[:, : self.size]
        panel = np.where(np.take_along_axis(share, order, axis=1) > 0, order, NOBODY).astype(np.intp)
        panel[panel[:, 0] == NOBODY, 0] = 0
        return PanelByCell(cells, panel)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Cells and the posterior of gains in them."""

    cells: Cells
    sums: Sums
    model: Model
    gains: Gains

    def router(self, confidence: float, least: float = 0.0) -> ByCell:
        """The best language of each cell; English where P(gain > 0) < ``confidence`` or the mean gain < ``least``."""
        best, unseen = self.gains.best(confidence, least), self.gains.best_unseen(confidence, least)
        return ByCell(self.cells, best, unseen)


def fit_gains(table: OutcomeTable, maker: CellMaker, prior: Prior | None = None) -> Fitted:
    """Make cells of a table and estimate how much better than English each language is in them.

    With a ``prior``, another model's map, the effects are shrunk towards it as far as the table bears it out.
    """
    cells = maker.make(table)
    model = Model(table_sums(table, cells))
    found = gains(model) if prior is None else gains_with(model, prior.expects(cells.names, table.languages))
    return Fitted(cells, model.sums, model, found)


def table_sums(table: OutcomeTable, cells: Cells) -> Sums:
    """A table added up by cell, siblings taken into account."""
    names, member = np.unique(table.items.groups, return_inverse=True)
    groups = None if len(names) == len(member) else member.astype(np.intp)
    return sums(table.right(), cells.assign(table.items), len(cells.names), groups)


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The language with the largest posterior gain in each cell; English unless P(gain > 0) >= ``confidence``
    and the mean gain is at least ``least``.

    The posterior is that of ``effects``: each language's gain over English is shrunk, by cell towards its
    overall gain and overall towards the other languages', by as much as the data say that such differences are noise.
    """

    cells: CellMaker = field(default_factory=ByMetadata)
    confidence: float = 0.9
    least: float = 0.0
    name: str = "shrunk"

    def fit(self, table: OutcomeTable) -> Router:
        """Estimate and choose."""
        return fit_gains(table, self.cells).router(self.confidence, self.least)


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A control: ``policy`` learned with the cells of training items exchanged at random.

    Cells keep their sizes and lose their meaning. What such a router still gains has nothing to do with cells.
    """

    policy: Policy
    seed: int = 0
    name: str = "shuffled-labels"

    def fit(self, table: OutcomeTable) -> Router:
        """Exchange what cells are made of (culture, topic and embedding together), then learn."""
        order = np.argsort(table.items.ids, kind="stable")
        other = np.empty(len(table), dtype=np.intp)
        other[order] = order[np.random.default_rng(self.seed).permutation(len(table))]
        items = table.items
        embeddings = None if items.embeddings is None else items.embeddings[other]
        mixed = Items(items.ids, items.groups, items.cultures[other], items.topics[other], embeddings)
        return self.policy.fit(
            OutcomeTable(mixed, table.languages, table.outcome, table.score, table.picked, table.options, table.tokens)
        )


def _shares(right: NDArray[np.float64], cell: NDArray[np.intp], cells: int) -> NDArray[np.float64]:
    """Share of right answers by cell and language among those seen, (cells, languages); 0 where none was.

    Rounded, so that equal shares of different counts stay equal and ties are ties.
    """
    seen = ~np.isnan(right)
    inside = cell >= 0
    total = sum_by(cell[inside], np.where(seen, right, 0.0)[inside], cells)
    count = sum_by(cell[inside], seen[inside].astype(float), cells)
    return np.round(total / np.maximum(count, 1.0), 12)
