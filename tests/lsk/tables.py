"""Small tables with a known truth, for the tests of cultev.lsk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.table import Items, OutcomeTable

CODES = ("en", "es", "ar", "hi")


def items_of(cell: NDArray[np.intp], siblings: int = 1) -> Items:
    """Items of numbered cells: cell 5 is culture 'c2', topic 't1'."""
    ids = np.array([f"i{i:04}" for i in range(len(cell))])
    groups = np.array([f"g{i // siblings:04}" for i in range(len(cell))])
    return Items(ids, groups, np.array([f"c{c // 2}" for c in cell]), np.array([f"t{c % 2}" for c in cell]))


def drawn(truth: NDArray[np.float64], per_cell: int, seed: int = 0, siblings: int = 1) -> OutcomeTable:
    """Answers drawn from probabilities of being right, shape (cells, languages)."""
    generator = np.random.default_rng(seed)
    cell = np.repeat(np.arange(len(truth)), per_cell)
    right = generator.random((len(cell), truth.shape[1])) < truth[cell]
    codes = CODES if truth.shape[1] == 4 else ("en", *(f"x{i}" for i in range(1, truth.shape[1])))
    return OutcomeTable.of_right(items_of(cell, siblings), codes, right)


def planted(cells: int = 12, hit: float = 1.0, miss: float = 0.0) -> NDArray[np.float64]:
    """Cell c is known in language c % 4 and in no other."""
    truth = np.full((cells, 4), miss)
    truth[np.arange(cells), np.arange(cells) % 4] = hit
    return truth
