"""A proportion with its 95 % interval, from answers that may not be independent of each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054
"""The normal distribution's 97.5 % point."""

REPLICATES = 2000
"""Bootstrap replicates: the interval's ends are then stable to about a tenth of their distance."""

MIN_GROUPS = 12
"""Below this a bootstrap over groups is known to be too narrow (Cameron, Gelbach & Miller 2008)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A proportion, its 95 % interval, and what both rest on.

    ``n`` counts answers and ``groups`` the groups of answers that depend on each other; ``method`` is 'wilson',
    'group-bootstrap' or 'wilson-on-groups' (see ``proportion``).
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    method: str

    def covers(self, value: float) -> bool:
        """Whether ``value`` lies within the interval, its ends included."""
        return self.low <= value <= self.high


def wilson(share: float, n: float, quantile: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share among n independent answers (n may be an effective size).

    ``quantile`` is the point of the normal (or of Student's t) that the coverage calls for: 95 % unless told.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
    Never leaves [0, 1], and is not empty when all or none are right. n = 0 gives (0, 1).
    """
    if n <= 0:
        return 0.0, 1.0
    z2 = quantile * quantile
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = quantile / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At a share of exactly 0 or 1 rounding must not move the end past it.
    return min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half))


def group_bootstrap(
    right: NDArray[np.float64], sizes: NDArray[np.float64], replicates: int = REPLICATES, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval, 95 %, of sum(right) / sum(sizes) when whole groups are drawn with replacement.

    Args:
        right: correct answers per group, shape (groups,).
        sizes: answers per group, shape (groups,).
        replicates: bootstrap samples.
        seed: the same data and seed give the same interval.

    Source: Davison & Hinkley 1997, section 3.8 (resampling clusters). Memory stays at a few MB.
    """
    groups = len(right)
    generator = np.random.default_rng(seed)
    shares = np.empty(replicates)
    block = max(1, 1_000_000 // groups)
    for start in range(0, replicates, block):
        count = min(block, replicates - start)
        drawn = generator.integers(0, groups, size=(count, groups))
        shares[start : start + count] = right[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)


def proportion(right: NDArray[np.float64], sizes: NDArray[np.float64]) -> Estimate:
    """The share of correct answers, given per group.

    - every group holds one answer: Wilson's interval;
    - otherwise, with MIN_GROUPS groups or more that do not all agree: the bootstrap over groups, but never narrower
      than Wilson's for as many independent answers (groups that happen to score alike would give no width at all);
    - otherwise Wilson's interval with the number of groups in the place of n, as if all answers of a group said
      the same: wide on purpose, since few groups say little about how much groups differ.
    """
    n, groups = int(sizes.sum()), len(sizes)
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0, 0, "wilson")
    share = float(right.sum() / n)
    if n == groups:
        return Estimate(share, *wilson(share, n), n, groups, "wilson")
    if groups < MIN_GROUPS or share in (0.0, 1.0):
        return Estimate(share, *wilson(share, groups), n, groups, "wilson-on-groups")
    ends = zip(group_bootstrap(right, sizes), wilson(share, n), strict=True)
    (low, other_low), (high, other_high) = ends
    return Estimate(share, min(low, other_low), max(high, other_high), n, groups, "group-bootstrap")
