"""Successive halving: the same experts for less, and English always there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cultev.lsk.cells import ByMetadata
from cultev.lsk.gate import Gated
from cultev.lsk.halving import _sizes, halve_table
from cultev.lsk.table import OutcomeTable
from tests.lsk.tables import drawn, items_of, planted


def costly(table: OutcomeTable) -> OutcomeTable:
    """Hindi costs four times as many tokens as English."""
    return replace(table, tokens=np.tile([100, 120, 200, 400], (len(table), 1)) + np.arange(len(table))[:, None] % 7)


@pytest.mark.parametrize("per_cell", [4, 8, 20])
def test_the_same_experts_for_less(per_cell: int) -> None:
    table = costly(drawn(planted(24), per_cell))
    cells = ByMetadata().make(table)
    halved = halve_table(table, cells)
    probe = items_of(np.arange(24))
    assert (Gated().fit(halved.table).route(probe) == Gated().fit(table).route(probe)).all()
    assert halved.spent <= 0.3
    assert halved.spent == halved.table.tokens.sum() / table.tokens.sum()
    assert halved.asked == (halved.table.tokens > 0).sum()


def test_english_is_asked_wherever_anything_is() -> None:
    table = drawn(planted(12, 0.7, 0.3), 20)
    right = halve_table(table, ByMetadata().make(table)).table.right()
    asked = ~np.isnan(right)
    assert (asked[:, 0] | ~asked.any(axis=1)).all()
    assert asked.sum(axis=0).argmax() == 0


def test_only_what_was_asked_is_known_and_it_is_the_truth() -> None:
    table = drawn(planted(12, 0.7, 0.3), 20)
    got = halve_table(table, ByMetadata().make(table)).table.right()
    seen = ~np.isnan(got)
    assert (got[seen] == table.right()[seen]).all()
    assert seen.mean() <= 0.3


def test_survivors_are_english_and_one_other() -> None:
    table = drawn(planted(12), 20)
    survivors = halve_table(table, ByMetadata().make(table)).survivors
    assert survivors[:, 0].all()
    assert (survivors.sum(axis=1) == 2).all()


def test_cells_too_small_to_afford_are_not_asked() -> None:
    """Three items: one in all languages would be a third of the cell's table."""
    table = drawn(planted(12), 3)
    assert halve_table(table, ByMetadata().make(table)).asked == 0


def test_rounds() -> None:
    assert _sizes(16, 0.25) == [15, 4, 1]
    assert _sizes(8, 0.25) == [7, 2, 1]
    assert _sizes(8, 0.5) == [7, 4, 2, 1]
    assert _sizes(2, 0.25) == [1]
