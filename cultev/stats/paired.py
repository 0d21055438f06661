"""Two ways of answering the same items: exact tests, intervals over groups, and corrections for many comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.stats.estimate import MIN_GROUPS, group_bootstrap

LEVEL = 0.05
"""Adjusted p values up to this are called a difference."""

EXACT_GROUPS = 16
"""Up to this many groups that differ, every assignment of signs is tried: 65,536."""

FLIPS = 20_000
"""Random assignments of signs otherwise: p = 0.05 is then known to 0.0015."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A paired difference, ours minus theirs, as a share of items, with its 95 % interval over groups.

    ``gained`` counts items that only we have right, ``lost`` those that only they have; ``p`` is two-sided. ``method``
    is 'mcnemar' or 'sign-flip'. ``low`` and ``high`` are NaN with fewer groups than a bootstrap can say anything from.
    """

    difference: float
    low: float
    high: float
    gained: int
    lost: int
    p: float
    n: int
    groups: int
    method: str

    def verdict(self, adjusted: float) -> str:
        """Either 'better', 'worse' or 'tie', given p adjusted for all comparisons made (see ``holm``)."""
        if not adjusted <= LEVEL:
            return "tie"
        return "better" if self.difference > 0 else "worse"


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test: of the items that only one side has right, is half ours?

    Source: McNemar 1947; the exact form is the binomial sign test on discordant pairs. 1 without any.
    """
    n = gained + lost
    tail = sum(math.comb(n, k) for k in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**n) if n else 1.0


def sign_flip(differences: NDArray[np.float64], seed: int = 0) -> float:
    """Two-sided p that differences, one per group, are symmetric around 0.

    Source: Fisher 1935, The design of experiments, section 21: every group's sign could as well be the other. All
    assignments are tried where there are few; otherwise FLIPS random ones, and p = (1 + as extreme) / (1 + FLIPS)
    (Phipson & Smyth 2010), so that it is never 0.
    """
    moved = differences[differences != 0]
    if not len(moved):
        return 1.0
    observed = abs(float(moved.sum())) - 1e-9
    if len(moved) <= EXACT_GROUPS:
        bits = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        return float(np.mean(np.abs((2 * bits - 1) @ moved) >= observed))
    generator = np.random.default_rng(seed)
    extreme, block = 0, max(1, 2_000_000 // len(moved))
    for start in range(0, FLIPS, block):
        signs = generator.integers(0, 2, size=(min(block, FLIPS - start), len(moved)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ moved) >= observed).sum())
    return (1 + extreme) / (1 + FLIPS)


def holm(p: Sequence[float]) -> list[float]:
    """P values adjusted for all of them being looked at: the chance of any false alarm stays below LEVEL.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure. In the order given.
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, highest = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = highest
    return adjusted


def compare(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], groups: NDArray[np.str_] | NDArray[np.intp]
) -> Comparison:
    """Compare answers to the same items: 1 right, 0 wrong, NaN unknown (the item is then left out).

    With every item a group of its own p is McNemar's; with siblings, which aren't independent, it is that of flipping
    the signs of whole groups.
    """
    both = ~(np.isnan(ours) | np.isnan(theirs))
    difference = (ours - theirs)[both]
    member = np.unique(groups[both], return_inverse=True)[1]
    n, count = len(difference), int(member.max()) + 1 if both.any() else 0
    gained, lost = int((difference > 0.5).sum()), int((difference < -0.5).sum())
    if not n:
        return Comparison(math.nan, math.nan, math.nan, 0, 0, 1.0, 0, 0, "mcnemar")
    sums = np.bincount(member, weights=difference).astype(float)
    low, high = math.nan, math.nan
    if count >= MIN_GROUPS:
        low, high = group_bootstrap(sums, np.bincount(member).astype(float))
    alone = count == n
    p = mcnemar(gained, lost) if alone else sign_flip(sums)
    method = "mcnemar" if alone else "sign-flip"
    return Comparison(float(difference.mean()), low, high, gained, lost, p, n, count, method)
