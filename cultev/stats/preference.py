"""Which of two answers a model finds likelier: accuracy, margins, and whether length alone explains them.

A summed log-probability falls with every token, so that by it the shorter answer wins; a model can look kind because
kind answers happen to be short. Beside every accuracy stand what a respondent who always takes the shorter (or longer)
answer would get, how often the model does just that, the accuracy among pairs of about one length, and the win rate
with length taken out by a logistic regression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.stats.estimate import Estimate, proportion
from cultev.stats.summary import ENOUGH

NEAR_TIE = 0.01
"""Nats a byte: margins below it are flipped by quantization."""

MATCHED = 0.1
"""Lengths that differ by less than this share count as one."""

FOLLOWS = 0.9
"""From this share of shorter (or longer) picks on, a model is said to go by length."""

REPLICATES = 500

_PRIOR = (0.16, 0.0001)
"""Ridge on intercept and slope: 1 / 2.5^2 on the log-odds at equal length (Gelman et al. 2008), next to nothing on the
slope, so that a model which goes by length alone, whose wins a line separates wholly, is explained by the slope."""


@dataclass(frozen=True, slots=True)
class Preference:
    """How pairs came out. ``accuracy`` counts a tie as half; its interval is over groups.

    ``margin_mean`` and ``margin_median``: of the better answer over the other, in the unit that the margins were given
    in. ``shorter``: the accuracy of always taking the shorter answer (of always taking the longer: 1 - it);
    ``picks_shorter``: how often the model takes it. ``matched``: accuracy among pairs of about one length.
    ``controlled``: the win rate at equal length by logistic regression, with the interval of drawing groups anew.
    """

    accuracy: Estimate
    margin_mean: float
    margin_median: float
    near_ties: float
    shorter: float
    picks_shorter: float
    matched: Estimate
    controlled: float
    controlled_low: float
    controlled_high: float

    @property
    def warning(self) -> str:
        """Why the accuracy must not be read as it stands, '' when it may."""
        if self.accuracy.n == 0:
            return "no pairs"
        if self.accuracy.n < ENOUGH:
            return f"fewer than {ENOUGH} pairs, from which nothing can be told"
        for share, word in ((self.picks_shorter, "shorter"), (1 - self.picks_shorter, "longer")):
            if share >= FOLLOWS:
                return f"goes by length: takes the {word} answer in {share:.0%} of the pairs"
        if self.near_ties > 0.5:
            return "most pairs are near-ties"
        if self.accuracy.covers(0.5):
            return "can't be told from chance"
        return ""


def preference(
    margins: NDArray[np.float64],
    better_bytes: NDArray[np.float64],
    worse_bytes: NDArray[np.float64],
    groups: NDArray[np.str_],
    *,
    seed: int = 0,
) -> Preference:
    """Summarise pairs, one entry each: the better answer's margin over the other, and both lengths in bytes."""
    wins = np.where(margins > 0, 1.0, np.where(margins == 0, 0.5, 0.0))
    if not len(wins):
        empty = Estimate(math.nan, 0.0, 1.0, 0, 0, "wilson")
        nan = math.nan
        return Preference(empty, nan, nan, nan, nan, nan, empty, nan, nan, nan)
    difference = better_bytes - worse_bytes
    shorter = np.where(difference < 0, 1.0, np.where(difference == 0, 0.5, 0.0))
    alike = np.abs(better_bytes / worse_bytes - 1) < MATCHED
    relative = difference / (better_bytes + worse_bytes)
    low, high = _controlled_interval(wins, relative, groups, seed)
    apart = difference != 0
    took_shorter = np.where(wins == 0.5, 0.5, (wins == 1) == (difference < 0))[apart]
    return Preference(
        _grouped(wins, groups),
        float(margins.mean()),
        float(np.median(margins)),
        float((np.abs(margins) < NEAR_TIE).mean()),
        float(shorter.mean()),
        float(took_shorter.mean()) if len(took_shorter) else 0.5,
        _grouped(wins[alike], groups[alike]),
        _controlled(wins, relative, np.ones(len(wins))),
        low,
        high,
    )


def _grouped(wins: NDArray[np.float64], groups: NDArray[np.str_]) -> Estimate:
    if not len(wins):
        return Estimate(math.nan, 0.0, 1.0, 0, 0, "wilson")
    member = np.unique(groups, return_inverse=True)[1]
    return proportion(np.bincount(member, weights=wins).astype(float), np.bincount(member).astype(float))


def _controlled(wins: NDArray[np.float64], relative: NDArray[np.float64], times: NDArray[np.float64]) -> float:
    """sigmoid(intercept) of win ~ 1 + relative difference of length: the win rate at equal length.

    After Dubois et al. 2024 (Length-controlled AlpacaEval), with a linear term. Newton's method, ridge _PRIOR.
    """
    spread = float(np.sqrt(np.average(relative**2, weights=times))) or 1.0
    x = np.stack([np.ones(len(wins)), relative / spread], axis=1)
    beta, ridge = np.zeros(2), np.array(_PRIOR)
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        gradient = x.T @ (times * (wins - p)) - ridge * beta
        hessian = (x * (times * p * (1 - p))[:, None]).T @ x + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        beta += step
        if float(np.abs(step).max()) < 1e-8:
            break
    return float(1 / (1 + math.exp(-max(-30.0, min(30.0, float(beta[0]))))))


def _controlled_interval(
    wins: NDArray[np.float64], relative: NDArray[np.float64], groups: NDArray[np.str_], seed: int
) -> tuple[float, float]:
    member = np.unique(groups, return_inverse=True)[1]
    count = int(member.max()) + 1
    if count < 2:
        return 0.0, 1.0
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(REPLICATES):
        times = np.bincount(generator.integers(0, count, count), minlength=count).astype(float)
        draws.append(_controlled(wins, relative, times[member]))
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
