"""Splits: siblings stay together, nothing is drawn, strata are shared out evenly."""

from __future__ import annotations

import numpy as np
import pytest

from cultev.errors import UsageError
from cultev.lsk.splits import fold_of, held_out
from tests.lsk.tables import items_of

ITEMS = items_of(np.repeat(np.arange(12), 8), siblings=2)
FROZEN = "000001111001110111010100"


def test_no_sibling_of_a_test_item_is_in_training() -> None:
    test = held_out(ITEMS)
    assert not set(ITEMS.groups[test]) & set(ITEMS.groups[~test])
    for held in range(5):
        out = fold_of(ITEMS) == held
        assert not set(ITEMS.groups[out]) & set(ITEMS.groups[~out])


def test_every_cell_gives_its_half() -> None:
    test = held_out(ITEMS)
    for culture in np.unique(ITEMS.cultures):
        for topic in np.unique(ITEMS.topics):
            assert test[(ITEMS.cultures == culture) & (ITEMS.topics == topic)].sum() == 4


def test_the_order_of_rows_decides_nothing() -> None:
    order = np.random.default_rng(3).permutation(len(ITEMS))
    shuffled = ITEMS.take(order)
    assert (held_out(shuffled) == held_out(ITEMS)[order]).all()
    assert (fold_of(shuffled) == fold_of(ITEMS)[order]).all()


def test_the_split_is_the_same_for_ever() -> None:
    """A changed hash or rule would silently move items between training and test of published maps."""
    assert "".join(str(int(t)) for t in held_out(items_of(np.zeros(24, dtype=np.intp)))) == FROZEN


@pytest.mark.parametrize("share", [0.2, 0.3, 0.5])
def test_the_share_is_kept(share: float) -> None:
    items = items_of(np.repeat(np.arange(7), 13))
    assert held_out(items, share).mean() == pytest.approx(share, abs=0.006)


def test_folds_are_even() -> None:
    assert np.bincount(fold_of(ITEMS, 5)).tolist() == [20, 20, 20, 18, 18]


def test_too_few_groups_are_refused() -> None:
    with pytest.raises(UsageError, match="too few"):
        held_out(items_of(np.zeros(19, dtype=np.intp)))
