"""How many cells? Chosen by cross-validation on training items, one cell included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cultev.lsk.cells import UNKNOWN, ByEmbedding, CellMaker, Cells, Everything
from cultev.lsk.policies import fit_gains
from cultev.lsk.splits import fold_of
from cultev.lsk.table import OutcomeTable

SIZES = (4, 8, 12, 24)
"""Numbers of clusters tried, beside 1."""


def loss(table: OutcomeTable, maker: CellMaker, folds: int = 5) -> float:
    """Mean squared error of predicted language effects on items of left-out folds, over all languages.

    Both outcomes and predictions are taken relative to the mean of the item's seen languages: which items are hard is
    not what cells are for. All languages' outcomes enter, not only those of the chosen language: the accuracy of the
    router itself would be far too noisy to choose by.
    """
    fold = fold_of(table.items, folds)
    squares = entries = 0.0
    for held in range(folds):
        out = fold == held
        if not out.any() or out.all():
            continue
        fitted = fit_gains(table.take(~out), maker)
        test = table.take(out)
        cell = fitted.cells.assign(test.items)
        predicted = np.where((cell == UNKNOWN)[:, None], fitted.gains.unseen_mean, fitted.gains.mean[cell])
        right = test.right()
        seen = ~np.isnan(right)
        count = np.maximum(seen.sum(axis=1, keepdims=True), 1)
        error = np.where(seen, right - predicted, 0.0)
        error = np.where(seen, error - error.sum(axis=1, keepdims=True) / count, 0.0)
        squares += float((error**2).sum())
        entries += float(seen.sum())
    return squares / max(entries, 1.0)


@dataclass(frozen=True, slots=True)
class ByValidation:
    """Makes cells with the maker that predicts left-out items best; of equals, the first: put the simplest first."""

    makers: Sequence[CellMaker]
    folds: int = 5

    def make(self, table: OutcomeTable) -> Cells:
        """Compare the makers by ``loss``, then use the best on all items."""
        losses = [loss(table, maker, self.folds) for maker in self.makers]
        best = min(range(len(losses)), key=lambda i: losses[i])
        return self.makers[best].make(table)


def clusters(sizes: Sequence[int] = SIZES, seed: int = 512) -> ByValidation:
    """Clusters of embeddings, k chosen from 1 and ``sizes``."""
    return ByValidation((Everything(), *(ByEmbedding(k, seed) for k in sizes)))
