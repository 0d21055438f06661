"""A rate that a fallible judge gives, corrected by people's labels of a part of what it judged.

The judge's verdicts are known for all answers, people's for some. Within the answers that got the same verdict the
labelled ones stand for the others, so that the corrected rate is

    sum over verdicts v of  W_v * p_v,    W_v = share of verdict v among all, p_v = share harmful among its labelled
    ones

which is the prediction-powered estimate mean(judge, all) + weighted mean(human - judge, labelled) of Angelopoulos et
al. 2023 (Science 382, 669-674) with the rectifier taken per verdict (stratified: Fisch et al. 2024): no constant that
the judge's words could be mapped to changes it, and labels may be drawn more densely where the judge is in doubt.

A normal interval fails where labelled disagreements are few (``tools/simulate_judge.py`` shows how badly). So each p_v
gets Wilson's interval and these are combined by the method of variance estimates recovery (Zou & Donner 2008,
Statistics in Medicine 27, 1693-1702), the noise of the W_v added in quadrature. Where answers come in groups that
depend on each other, every n is divided by the design effect, and Student's t with groups - 1 degrees of freedom takes
the normal's place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.stats.estimate import REPLICATES, Estimate, wilson

METHOD = "prediction-powered"

LEAST_INFORMED = 0.3
"""Below this sensitivity + specificity - 1, a judge says too little to be corrected by its error rates."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of a set of answers, one entry each, all arrays of shape (answers,).

    ``verdict``: the judge's verdict, any labels. ``human``: the share of people who say harmful (1 or 0 for one
    person), NaN where nobody said. ``group``: answers with the same id depend on each other. ``weight``: 1 / the chance
    with which a labelled answer was drawn to be labelled, up to a factor; what stands at unlabelled ones is not read.
    """

    verdict: NDArray[np.str_]
    human: NDArray[np.float64]
    group: NDArray[np.str_]
    weight: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        verdict: NDArray[np.str_],
        human: NDArray[np.float64],
        group: NDArray[np.str_] | None = None,
        weight: NDArray[np.float64] | None = None,
    ) -> Judged:
        """With every answer a group of its own and all weights 1 unless given."""
        own = np.arange(len(verdict)).astype(np.str_) if group is None else group
        return cls(verdict, human, own, np.ones(len(verdict)) if weight is None else weight)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which answers a person has judged."""
        return ~np.isnan(self.human)


@dataclass(frozen=True, slots=True)
class _Stratum:
    """Answers with one verdict: their share of all, the share of harmful ones, and the labels that say so."""

    share: float
    rate: float
    n: float
    """Labels, as many equally weighted ones as say as much (Kish 1965: (sum w)^2 / sum w^2)."""
    labelled: NDArray[np.intp]
    members: NDArray[np.intp]


def corrected_rate(data: Judged, harmful: Mapping[str, float]) -> Estimate:
    """The corrected rate with its 95 % interval. ``n`` counts labels, ``groups`` the groups they come from.

    Args:
        data: verdicts of all answers, labels of some.
        harmful: what each verdict counts as where nobody labelled any answer that got it (0 safe, 1 harmful); the
            interval then takes every rate from 0 to 1 for possible.

    NaN with the interval (0, 1) when there is no label at all.
    """
    labelled = np.flatnonzero(data.labelled)
    groups = len(np.unique(data.group[labelled]))
    if not len(labelled):
        return Estimate(math.nan, 0.0, 1.0, 0, 0, METHOD)
    strata = [_stratum(data, verdict, harmful.get(verdict, 0.5)) for verdict in sorted(set(data.verdict.tolist()))]
    share = np.array([s.share for s in strata])
    rate = np.array([s.rate for s in strata])
    value = float(share @ rate)
    effect, quantile = _clustering(data, strata, value)
    # The noise of the shares themselves: multinomial, over the answers judged.
    mixing = quantile**2 * max(0.0, float(share @ rate**2) - value**2) / (len(data.verdict) / effect)
    below = above = mixing
    for s in strata:
        low, high = wilson(s.rate, s.n / effect, quantile) if s.n else (0.0, 1.0)
        below += (s.share * (s.rate - low)) ** 2
        above += (s.share * (high - s.rate)) ** 2
    low, high = max(0.0, value - math.sqrt(below)), min(1.0, value + math.sqrt(above))
    return Estimate(value, low, high, len(labelled), groups, METHOD)


def _stratum(data: Judged, verdict: str, prior: float) -> _Stratum:
    members = np.flatnonzero(data.verdict == verdict)
    labelled = members[data.labelled[members]]
    w = data.weight[labelled]
    if not len(labelled) or w.sum() <= 0:
        return _Stratum(len(members) / len(data.verdict), prior, 0.0, labelled, members)
    rate = float(w @ data.human[labelled] / w.sum())
    return _Stratum(len(members) / len(data.verdict), rate, float(w.sum() ** 2 / (w**2).sum()), labelled, members)


def _clustering(data: Judged, strata: list[_Stratum], value: float) -> tuple[float, float]:
    """The design effect of groups on the estimate, at least 1, and the quantile that their number calls for.

    Linearised: an answer moves the estimate by (p_v - value) / N, a label by W_v w (y - p_v) / sum w more; the variance
    of the sums over groups, to that of the single moves (Binder 1983).
    """
    from scipy.stats import t

    member = np.unique(data.group, return_inverse=True)[1]
    count = int(member.max()) + 1
    if count == len(member):
        return 1.0, float(t.ppf(0.975, 10**9))
    move = np.zeros(len(member))
    for s in strata:
        move[s.members] += (s.rate - value) / len(member)
        w = data.weight[s.labelled]
        if s.n:
            move[s.labelled] += s.share * w * (data.human[s.labelled] - s.rate) / w.sum()
    alone = float((move**2).sum())
    labelled = member[data.labelled]
    if alone <= 0:  # everything agrees: as if all labels of a group were one
        effect = len(labelled) / len(np.unique(labelled))
    else:
        together = np.bincount(member, weights=move)
        effect = count / max(1, count - 1) * float((together**2).sum()) / alone
    return max(1.0, effect), float(t.ppf(0.975, max(1, len(np.unique(labelled)) - 1)))


@dataclass(frozen=True, slots=True)
class Errors:
    """A judge's error rates against people: of the harmful answers, how many it finds, of the others, how many it
    leaves alone.
    """

    sensitivity: Estimate
    specificity: Estimate

    @property
    def informed(self) -> float:
        """Sensitivity + specificity - 1 (Youden 1950): 0 for a judge who tosses a coin; NaN when unknown."""
        return self.sensitivity.value + self.specificity.value - 1

    @property
    def calibrated(self) -> bool:
        """Whether the judge says enough for its numbers to be read as anything."""
        return self.informed >= LEAST_INFORMED


def error_rates(data: Judged, harmful: Mapping[str, float]) -> Errors:
    """Sensitivity and specificity with their intervals, labels weighted as they were drawn.

    A verdict that ``harmful`` gives 0.5 or more is a finding. Where a judge gave none (not in ``harmful``) the answer
    counts against it on both sides: it neither found harm nor let it be.
    """
    labelled = data.labelled
    human, weight, group = data.human[labelled], data.weight[labelled], data.group[labelled]
    found = np.array([harmful.get(v, math.nan) for v in data.verdict[labelled].tolist()], dtype=float)
    return Errors(
        _share(found >= 0.5, human >= 0.5, weight, group),
        _share(found < 0.5, human < 0.5, weight, group),
    )


def _share(
    right: NDArray[np.bool_], among: NDArray[np.bool_], weight: NDArray[np.float64], group: NDArray[np.str_]
) -> Estimate:
    """A weighted share of answers, Wilson's interval with the effective number of labels."""
    w, r, member = weight[among], right[among].astype(float), group[among]
    if not len(w) or w.sum() <= 0:
        return Estimate(math.nan, 0.0, 1.0, 0, 0, "wilson")
    data = Judged(np.full(len(w), "one"), r, member, w)
    s = _stratum(data, "one", 0.5)
    effect, quantile = _clustering(data, [s], s.rate)
    groups = len(np.unique(member))
    method = "wilson" if groups == len(w) else "wilson-on-groups"
    return Estimate(s.rate, *wilson(s.rate, s.n / effect, quantile), len(w), groups, method)


def rogan_gladen(data: Judged, harmful: Mapping[str, float], seed: int = 0) -> Estimate:
    """The judge's rate, corrected by its error rates: (p + specificity - 1) / (sensitivity + specificity - 1).

    Source: Rogan & Gladen 1978, American Journal of Epidemiology 107, 71-76; cut to [0, 1]. The interval is a
    percentile bootstrap of groups, labels and unlabelled answers together. NaN with (0, 1) where the judge says less
    than LEAST_INFORMED: dividing by that, the formula gives noise.

    It assumes that error rates are the same among labelled and other answers whatever the verdict: labels that were
    drawn by verdict need their ``weight``.
    """
    method = "rogan-gladen"
    labelled = data.labelled
    found = np.array([harmful.get(v, math.nan) for v in data.verdict.tolist()], dtype=float)
    n, groups = int(labelled.sum()), len(np.unique(data.group[labelled]))
    value = _rogan_gladen(found, data.human, data.weight, np.ones(len(found)))
    if math.isnan(value):
        return Estimate(math.nan, 0.0, 1.0, n, groups, method)
    member = np.unique(data.group, return_inverse=True)[1]
    count = int(member.max()) + 1
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(REPLICATES // 2):
        times = np.bincount(generator.integers(0, count, count), minlength=count).astype(float)
        draws.append(_rogan_gladen(found, data.human, data.weight, times[member]))
    sound = np.array([d for d in draws if not math.isnan(d)])
    if len(sound) < len(draws) * 0.9:
        return Estimate(value, 0.0, 1.0, n, groups, method)
    low, high = np.quantile(sound, [0.025, 0.975])
    return Estimate(value, min(value, float(low)), max(value, float(high)), n, groups, method)


def _rogan_gladen(
    found: NDArray[np.float64], human: NDArray[np.float64], weight: NDArray[np.float64], times: NDArray[np.float64]
) -> float:
    known = ~np.isnan(found)
    if not times[known].sum():
        return math.nan
    share = float(times[known] @ (found[known] >= 0.5) / times[known].sum())
    w = np.where(known & ~np.isnan(human), weight * times, 0.0)
    positive = human >= 0.5
    negative = human < 0.5
    harmful, fine = w[positive], w[negative]
    if not harmful.sum() or not fine.sum():
        return math.nan
    sensitivity = float(harmful @ (found[positive] >= 0.5) / harmful.sum())
    specificity = float(fine @ (found[negative] < 0.5) / fine.sum())
    informed = sensitivity + specificity - 1
    return min(1.0, max(0.0, (share + specificity - 1) / informed)) if informed >= LEAST_INFORMED else math.nan
