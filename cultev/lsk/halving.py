"""Fewer questions for the same answer: successive halving over languages, cell by cell, English always kept.

Every cell starts with all languages on its first items; the best quarter goes on to further items, and so on until one
is left beside English, with which every other is compared. The budget is the same for every round (Karnin, Koren &
Somekh 2013, Almost optimal exploration in multi-armed bandits, algorithm 1; they halve, a quarter is kept here by
default, since a cell has few items). Languages are ranked by their posterior gain (``effects``), so that a cell's few
answers are read in the light of all others.

What was not asked is missing from the table, and policies learn from it as from any other: every pair of languages that
an item has in common counts. Which entries are missing depends on answers seen before: that makes the winners look a
little better than they are, as any selection does, so that the p values of ``gate`` are exact for full tables only.
Measured (``tools/simulate_lsk.py --halving``): where no language differs, a map ships in 6, 5 and 2 % of halved tables
of 200, 600 and 2,000 items, against 5, 5 and 2 % of full ones. Where languages differ by cell it ships less often.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.cells import Cells
from cultev.lsk.effects import Model, gains
from cultev.lsk.policies import table_sums
from cultev.lsk.table import OUTCOMES, Items, OutcomeTable

Ask = Callable[[Sequence[tuple[int, int]]], OutcomeTable]
"""Asks pairs of a row of the items and a language; returns the table of all that was asked so far."""


@dataclass(frozen=True, slots=True, eq=False)
class Halved:
    """What halving found.

    ``table`` holds what was asked; ``survivors`` (C, L) says which languages were in the last round of each cell;
    ``asked`` counts entries, ``spent`` is their cost as a share of the full table's.
    """

    table: OutcomeTable
    survivors: NDArray[np.bool_]
    asked: int
    spent: float


def halve(
    items: Items,
    cells: Cells,
    ask: Ask,
    cost: NDArray[np.float64],
    share: float = 0.3,
    keep: float = 0.25,
    salt: str = "lsk-halving",
) -> Halved:
    """Ask round by round.

    Args:
        items: what there is to ask.
        cells: learned beforehand; items in no cell are not asked.
        ask: see ``Ask``.
        cost: (L,) what an answer in each language costs, in any unit: its mean number of tokens.
        share: of the full table's cost, the most to spend; a cell too small for one item in all languages under
            it is not asked at all.
        keep: share of the languages other than English that a round leaves, at least one.
        salt: the order in which a cell's items are used is that of a hash.
    """
    cell, languages = cells.assign(items), len(cost)
    digest = [hashlib.sha256(f"{salt}|{name}".encode()).hexdigest() for name in items.ids.tolist()]
    order = np.argsort(np.array(digest), kind="stable")
    queue = [[int(row) for row in order[cell[order] == c]] for c in range(len(cells.names))]
    budget = np.array([share * len(rows) * cost.sum() for rows in queue])
    survivors = np.repeat((budget >= cost.sum() - 1e-9)[:, None], languages, axis=1)
    sizes = _sizes(languages, keep)
    table, asked, spent, total = None, 0, 0.0, float(len(items) * cost.sum())
    for rounds_left, size in zip(range(len(sizes), 0, -1), sizes, strict=True):
        hope = np.zeros(len(queue))
        if table is not None:
            survivors, hope = _best(table, cells, survivors, size)
        price = np.where(survivors.any(axis=1), survivors @ cost, np.inf)
        # A round may be too dear for its share of the budget: one item is the least that tells anything.
        counts = np.where(budget >= price - 1e-9, np.maximum(1, budget / rounds_left / price + 1e-9), 0).astype(int)
        if rounds_left == 1:
            # What is too little for one item in a cell goes to the cells with the most to gain.
            pool = float(budget[counts == 0].sum())
            for c in sorted(np.flatnonzero(counts == 0).tolist(), key=lambda c: (-hope[c], c)):
                if queue[c] and price[c] <= pool + 1e-9:
                    pool, counts[c], budget[c] = pool - price[c], 1, price[c]
        pairs = []
        for c, rows in enumerate(queue):
            taken, queue[c] = rows[: counts[c]], rows[counts[c] :]
            pairs += [(row, int(language)) for row in taken for language in np.flatnonzero(survivors[c])]
            budget[c] -= len(taken) * price[c] if taken else 0.0
            spent += len(taken) * price[c] if taken else 0.0
        if pairs:
            table = ask(pairs)
            asked += len(pairs)
    if table is None:
        table = ask([])
    return Halved(table, survivors, asked, spent / total if total else 0.0)


def halve_table(full: OutcomeTable, cells: Cells, share: float = 0.3, keep: float = 0.25) -> Halved:
    """Halving played on a table that is already known: what it would have asked, found and spent.

    Costs are the mean tokens of each language; ``spent`` counts the actual tokens of the entries asked. Without
    any tokens every entry costs the same.
    """
    cost = full.tokens.mean(axis=0).astype(float) if full.tokens.any() else np.ones(len(full.languages))
    seen = np.zeros(full.outcome.shape, dtype=bool)

    def ask(pairs: Sequence[tuple[int, int]]) -> OutcomeTable:
        for row, language in pairs:
            seen[row, language] = True
        return _only(full, seen)

    halved = halve(full.items, cells, ask, cost, share, keep)
    if not full.tokens.any():
        return halved
    spent = float(full.tokens[seen].sum() / full.tokens.sum())
    return Halved(halved.table, halved.survivors, halved.asked, spent)


def _only(full: OutcomeTable, seen: NDArray[np.bool_]) -> OutcomeTable:
    """The table with everything but ``seen`` taken out."""
    return OutcomeTable(
        full.items,
        full.languages,
        np.where(seen, full.outcome, OUTCOMES.index("not_asked")).astype(np.int8),
        np.where(seen, full.score, np.nan),
        np.where(seen, full.picked, -1).astype(np.int16),
        full.options,
        np.where(seen, full.tokens, 0),
    )


def _sizes(languages: int, keep: float) -> list[int]:
    """Numbers of languages beside English in each round: all of them first, 1 last."""
    sizes = [max(1, languages - 1)]
    while sizes[-1] > 1:
        sizes.append(max(1, min(sizes[-1] - 1, round(sizes[-1] * keep))))
    return sizes


def _best(
    table: OutcomeTable, cells: Cells, survivors: NDArray[np.bool_], size: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """English and the ``size`` languages with the largest posterior gain among each cell's survivors; and that gain."""
    mean = gains(Model(table_sums(table, cells))).mean
    rank = np.where(survivors, mean, -np.inf)
    hope = rank[:, 1:].max(axis=1)
    rank[:, 0] = np.inf
    order = np.argsort(-rank, axis=1, kind="stable")[:, : size + 1]
    chosen = np.zeros_like(survivors)
    np.put_along_axis(chosen, order, True, axis=1)
    return chosen & survivors, hope
