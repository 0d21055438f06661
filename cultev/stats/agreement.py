"""How far raters agree: the share of agreement, Cohen's kappa for two, Krippendorff's alpha for any number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import product
from typing import TypeVar

import numpy as np

from cultev.stats.estimate import REPLICATES

Label = TypeVar("Label", bound=Hashable)


def raw_agreement(ours: Sequence[Hashable], theirs: Sequence[Hashable]) -> float:
    """Share of items on which two raters say the same; NaN for none."""
    return sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours) if ours else math.nan


def cohen_kappa(ours: Sequence[Hashable], theirs: Sequence[Hashable], weights: Sequence[float] | None = None) -> float:
    """Agreement of two raters beyond what their habits alone would give: (p - e) / (1 - e).

    Source: Cohen 1960, A coefficient of agreement for nominal scales. NaN for no items, and where both always say
    one and the same word (e = 1), which leaves nothing to tell apart.

    Args:
        ours, theirs: two raters' labels of the same items.
        weights: how much each item counts, 1 unless given.
    """
    if not ours:
        return math.nan
    w = [1.0] * len(ours) if weights is None else list(weights)
    total = sum(w)
    same = sum(x for a, b, x in zip(ours, theirs, w, strict=True) if a == b) / total
    mine, other = Counter[Hashable](), Counter[Hashable]()
    for a, b, x in zip(ours, theirs, w, strict=True):
        mine[a] += x  # type: ignore[assignment]
        other[b] += x  # type: ignore[assignment]
    expected = sum(mine[label] * other[label] for label in mine) / total**2
    return (same - expected) / (1 - expected) if expected < 1 else math.nan


def nominal(a: Hashable, b: Hashable) -> float:
    """Distance of labels that are only the same or not."""
    return float(a != b)


def krippendorff_alpha(units: Iterable[Sequence[Label]], distance: Callable[[Label, Label], float] = nominal) -> float:
    """1 - observed / expected disagreement, over units with any number of raters; missing labels are left out.

    Source: Krippendorff 2004, Content Analysis, chapter 11: coincidences of a unit with m labels count 1 / (m - 1)
    each; units with one label tell nothing. NaN with no unit of two labels, or when all labels are alike: there is then
    no variation that agreement could be about.

    Args:
        units: the labels that each unit got.
        distance: squared difference of two labels; ``nominal`` unless given.
    """
    coincidences: Counter[tuple[Label, Label]] = Counter()
    for labels in units:
        if len(labels) < 2:
            continue
        for i, j in product(range(len(labels)), repeat=2):
            if i != j:
                coincidences[labels[i], labels[j]] += 1 / (len(labels) - 1)  # type: ignore[assignment]
    margins: Counter[Label] = Counter()
    for (a, _), count in coincidences.items():
        margins[a] += count
    n = sum(margins.values())
    if n < 2:
        return math.nan
    observed = sum(count * distance(a, b) for (a, b), count in coincidences.items()) / n
    expected = sum(margins[a] * margins[b] * distance(a, b) for a, b in product(margins, repeat=2) if a != b) / (
        n * (n - 1)
    )
    return 1 - observed / expected if expected else math.nan


def bootstrap_interval(
    groups: Mapping[str, Sequence[int]], statistic: Callable[[Sequence[int]], float], seed: int = 0
) -> tuple[float, float]:
    """Percentile interval, 95 %, of a statistic of items when whole groups are drawn with replacement.

    Replicates in which the statistic is undefined are left out; (NaN, NaN) when more than a tenth are.

    Args:
        groups: group id -> indices of its items.
        statistic: of a list of indices, repeats included.
    """
    members = list(groups.values())
    if len(members) < 2:
        return math.nan, math.nan
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(REPLICATES // 4):
        drawn = generator.integers(0, len(members), len(members))
        values.append(statistic([i for g in drawn for i in members[g]]))
    sound = [v for v in values if not math.isnan(v)]
    if len(sound) < 0.9 * len(values):
        return math.nan, math.nan
    low, high = np.quantile(sound, [0.025, 0.975])
    return float(low), float(high)
