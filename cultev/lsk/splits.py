"""Which items may be learned from: splits by group, fixed by hash, so that no sibling of a test item is in training.

Groups are ranked by the SHA-256 of a salt and their name within their stratum (culture x topic), and the ranks
are dealt out in turn. Nothing is drawn: the same items give the same split on any machine. Dealing by rank instead of
by the hash's own value keeps every stratum's share exact to one group, which matters where a cell has eight items.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from cultev.errors import UsageError
from cultev.lsk.table import Items

MIN_GROUPS = 20
"""Groups below which neither part of a split could say anything."""


def _order(items: Items, salt: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Each item's group as a number, and the groups in dealing order: stratum by stratum, by hash within."""
    names, first, member = np.unique(items.groups, return_index=True, return_inverse=True)
    # A group's stratum must not depend on the order of rows: that of its member with the smallest id.
    by_id = np.lexsort((items.ids, member))
    first = by_id[np.searchsorted(member[by_id], np.arange(len(names)))]
    rank = [hashlib.sha256(f"{salt}|{name}".encode()).hexdigest() for name in names.tolist()]
    order = np.lexsort((np.array(rank), items.topics[first], items.cultures[first]))
    return member.astype(np.intp), order.astype(np.intp)


MIN_HALF = MIN_GROUPS // 2
"""Groups below which a part of a split says nothing."""


def held_out(items: Items, share: float = 0.5, salt: str = "lsk-test") -> NDArray[np.bool_]:
    """True for the items kept for the test: about ``share`` of each stratum's groups, never part of a group.

    Raises:
        UsageError: fewer than MIN_GROUPS groups.
    """
    member, order = _order(items, salt)
    if len(order) < MIN_GROUPS:
        raise UsageError(
            f"{len(order)} groups of items are too few to split into training and test.",
            f"Ask for more with a larger --limit, or use a suite with at least {MIN_GROUPS} groups of items.",
        )
    # Systematic: the running number of test groups is share * groups, rounded, so no stratum strays by more than one.
    steps = np.floor(np.arange(1, len(order) + 1) * share + 0.5)
    chosen = np.zeros(len(order), dtype=bool)
    chosen[order] = np.diff(steps, prepend=0.0) > 0
    return chosen[member]


def check_split(items: Items, test: NDArray[np.bool_], *, tried: bool) -> None:
    """Refuse a split with a part that could say nothing.

    Args:
        items: all of them.
        test: mask of the test items.
        tried: whether anything is to be tried on the test items; if not, there may be few of them, or none.

    Raises:
        UsageError: fewer than MIN_HALF groups in a part.
    """
    training, testing = len(np.unique(items.groups[~test])), len(np.unique(items.groups[test]))
    for count, what, matters in ((training, "to learn from", True), (testing, "to test on", tried)):
        if matters and count < MIN_HALF:
            raise UsageError(
                f"{count} groups of items {what} are too few: {training + testing} were split into {training} and"
                f" {testing}.",
                f"At least {MIN_HALF} are needed on either side: leave --held-out at 0.5, or ask for more with a larger"
                " --limit.",
            )


def fold_of(items: Items, folds: int = 5, salt: str = "lsk-fold") -> NDArray[np.intp]:
    """Each item's fold, 0 to ``folds`` - 1, for nested validation; groups stay together, strata are spread evenly."""
    member, order = _order(items, salt)
    dealt = np.empty(len(order), dtype=np.intp)
    dealt[order] = np.arange(len(order)) % folds
    return dealt[member]
