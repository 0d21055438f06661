"""How much better than English is each language, in each cell: a two-level hierarchical normal model.

For cell c and language l, beside what all languages share in the cell:

    effect[c, l] = b[l] + r[c, l]      b[l] ~ N(mu, tau_b^2) for l other than English,  r[c, l] ~ N(0, tau_r^2)
    gain[c, l]   = effect[c, l] - effect[c, English]

How far English leads the others, b[English] - mu, is learned and not assumed: its prior has a standard deviation of
LEAD_SD, nearly flat. That is the difference from shrinking every language towards English, which credits noise
whenever English is far ahead. The data enter through ``Sums`` with a normal likelihood. Both spreads tau are averaged
over, not plugged in: a grid with a flat prior on each standard deviation (Gelman 2006, Prior distributions for variance
parameters), weighted by the restricted likelihood (Harville 1977) with b, r and mu integrated out. Given the spreads
everything is normal (Lindley & Smith 1972); Efron & Morris 1975 is the plug-in form of the same shrinkage.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.sums import Sums

SPREADS_B = np.array([0.003, 0.01, 0.02, 0.03, 0.045, 0.065, 0.09, 0.13, 0.19, 0.28, 0.4])
"""Grid of tau_b: standard deviation of languages' overall effects, as a share of answers. 0.003 stands for none."""

SPREADS_R = np.array([0.0, 0.01, 0.02, 0.03, 0.045, 0.065, 0.09, 0.13, 0.19, 0.28, 0.4])
"""Grid of tau_r: standard deviation of what is special to a cell and language."""

LEAD_SD = 0.1
"""How far English may lead the other languages' mean, as a standard deviation around 0: nearly flat."""

NEGLIGIBLE = 1e-3
"""Grid points lighter than this, relative to the heaviest, are left out: they can't move a probability by a percent."""


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """Posterior of every language's gain over English. Arrays have shape (C, L); English's column is 0, 0 and 0.

    ``mean`` and ``sd`` are shares of answers; ``chance`` is P(gain > 0). ``unseen_mean`` and ``unseen_chance``, shape
    (L,), are those of a cell that was never seen. ``counts`` (C,) are the items behind each cell; ``spread_b`` and
    ``spread_r`` the posterior means of the two standard deviations.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    chance: NDArray[np.float64]
    unseen_mean: NDArray[np.float64]
    unseen_chance: NDArray[np.float64]
    counts: NDArray[np.int64]
    spread_b: float
    spread_r: float

    def best(self, confidence: float, least: float = 0.0) -> NDArray[np.intp]:
        """Each cell's language with the largest mean gain, shape (C,).

        English (0) where P(gain > 0) < ``confidence`` or the mean gain is below ``least``.
        """
        return _chosen(self.mean, self.chance, confidence, least)

    def best_unseen(self, confidence: float, least: float = 0.0) -> int:
        """The same for a cell that was never seen."""
        return int(_chosen(self.unseen_mean[None], self.unseen_chance[None], confidence, least)[0])


def _chosen(
    mean: NDArray[np.float64], chance: NDArray[np.float64], confidence: float, least: float
) -> NDArray[np.intp]:
    best = mean.argmax(axis=1)[:, None]
    sure = (np.take_along_axis(chance, best, axis=1) >= confidence) & (np.take_along_axis(mean, best, axis=1) >= least)
    return np.where(sure, best, 0)[:, 0].astype(np.intp)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """Gains that are expected before the data, and their variances, (C, L), English 0: what effects shrink towards.

    ``unseen`` and ``unseen_variance``, (L,), are those of a cell that was never seen.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    unseen: NDArray[np.float64]
    unseen_variance: NDArray[np.float64]


class Model:
    """The model for one design (which items were asked in which language), over the grid of spreads.

    R and B are the numbers of grid points of tau_r and tau_b. With one cell tau_r is 0: nothing could tell it from b.
    """

    def __init__(self, sums: Sums) -> None:
        self.sums = sums
        self.spreads_r: NDArray[np.float64] = SPREADS_R if len(sums.counts) > 1 else SPREADS_R[:1]
        k, axes = sums.values, sums.vectors
        # Once r is integrated out, a cell's effects have precision k / (noise + tau_r^2 k) along each axis.
        self.shrunk = 1.0 / (sums.noise + np.square(self.spreads_r)[:, None, None] * k)  # (R, C, L)
        precision = np.einsum("clk,rck,cmk->rlm", axes, k * self.shrunk, axes, optimize=True)
        # b of English is the zero point. Mu integrated out, the others' prior covariance is tau_b^2 I + LEAD_SD^2 J.
        m = sums.languages - 1
        tau2_b = np.square(SPREADS_B)
        joint = tau2_b + m * LEAD_SD**2
        prior = (np.eye(m) - (LEAD_SD**2 / joint)[:, None, None]) / tau2_b[:, None, None]
        total = precision[:, None, 1:, 1:] + prior  # (R, B, m, m)
        self.covariance = np.linalg.inv(total)
        self.seen = k > 0
        self.inverse = np.where(self.seen, 1.0 / np.where(self.seen, k, 1.0), 0.0)
        logs = np.log(np.where(self.seen, k, 1.0) * self.shrunk)
        self.constant = np.where(self.seen, logs, 0.0).sum(axis=(1, 2))[:, None] - (
            (m - 1) * np.log(tau2_b) + np.log(joint) + np.linalg.slogdet(total)[1]
        )

    def scores(self, spun: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weighted sums over cells, (..., R, L), of data in the shape of ``Sums.spun``, (..., C, L)."""
        axes = self.sums.vectors
        if self.sums.balanced:
            return np.asarray(np.einsum("...ck,rck->...rk", spun, self.shrunk, optimize=True) @ axes[0].T)
        return np.asarray(np.einsum("clk,...ck,rck->...rl", axes, spun, self.shrunk, optimize=True))

    def without(self, target: Target) -> NDArray[np.float64]:
        """The data less what a target expects of them, in the shape of ``Sums.spun``: h_c - K_c target_c."""
        expected: NDArray[np.float64] = self.sums.values * np.einsum("clk,cl->ck", self.sums.vectors, target.mean)
        return self.sums.spun - expected

    def log_evidence(self, spun: NDArray[np.float64]) -> float:
        """Logarithm of the restricted likelihood averaged over the grid, up to a constant of the design."""
        from scipy.special import logsumexp

        widths = _widths(self.spreads_r)[:, None] * _widths(SPREADS_B)
        return float(logsumexp(self.loglik(spun), b=widths / widths.sum()))

    def loglik(self, spun: NDArray[np.float64]) -> NDArray[np.float64]:
        """Restricted log-likelihood, up to a constant, at every grid point: (..., R, B)."""
        scores = self.scores(spun)[..., 1:]
        quadratic = np.einsum("...ck,rck->...r", spun**2 * self.inverse, self.shrunk, optimize=True)
        fit = np.einsum("...rl,rblm,...rm->...rb", scores, self.covariance, scores, optimize=True)
        result: NDArray[np.float64] = 0.5 * (self.constant - quadratic[..., None] + fit)
        return result


@dataclass(frozen=True, slots=True)
class Evidence:
    """Restricted likelihood ratios, as 2 x the difference of log-likelihoods, 0 or more.

    ``any``: some spread among languages against none, be it overall or by cell; ``cells``: some spread by cell
    against an overall one alone. The maximum over the grid stands for the maximum (Stram & Lee 1994, Variance
    components testing in the longitudinal mixed effects model).
    """

    any: float
    cells: float


def evidence(model: Model, draws: int = 2000, seed: int = 0) -> tuple[Evidence, Evidence]:
    """The two ratios of the model's data, and the share of null data sets whose ratio is as large (p values).

    A null data set has the same items asked in the same languages, and languages that don't differ: h_c ~ N(0, noise
    K_c), the noise being as far off as an estimate with its degrees of freedom is. The ratios of boundary parameters
    have no simple reference distribution, so it is simulated (parametric bootstrap, Davison & Hinkley 1997, section
    4.2). p = (1 + draws at least as large) / (1 + draws).
    """
    observed = _ratios(model.loglik(model.sums.spun))
    null = _null_ratios(_Design(model, draws, seed))
    p = (1.0 + (null >= observed - 1e-9).sum(axis=0)) / (1.0 + draws)
    return Evidence(float(observed[0]), float(observed[1])), Evidence(float(p[0]), float(p[1]))


def _ratios(loglik: NDArray[np.float64]) -> NDArray[np.float64]:
    most = loglik.max(axis=(-2, -1))
    return 2.0 * np.stack([most - loglik[..., 0, 0], most - loglik[..., 0, :].max(axis=-1)], axis=-1)


class _Design:
    """A model's design as a key: two tables with the same cells and (almost) the same noise share their null draws."""

    def __init__(self, model: Model, draws: int, seed: int) -> None:
        self.model, self.draws, self.seed = model, draws, seed
        sums = model.sums
        axes = b"" if sums.balanced else sums.vectors.tobytes()
        self.key = (sums.values.tobytes(), axes, f"{sums.noise:.2g}", sums.noise_df, sums.languages, draws, seed)

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Design) and self.key == other.key


@lru_cache(maxsize=64)
def _null_ratios(design: _Design) -> NDArray[np.float64]:
    sums, draws = design.model.sums, design.draws
    generator = np.random.default_rng(design.seed)
    scale = np.sqrt(sums.noise * sums.values)
    block = max(1, 2_000_000 // max(1, scale.size * len(design.model.spreads_r)))
    parts = []
    for start in range(0, draws, block):
        count = min(block, draws - start)
        off = np.sqrt(sums.noise_df / generator.chisquare(sums.noise_df, (count, 1, 1)))
        spun = generator.standard_normal((count, *scale.shape)) * scale * off
        parts.append(_ratios(design.model.loglik(spun)))
    return np.concatenate(parts)


def gains(model: Model, target: Target | None = None) -> Gains:
    """The posterior of gains over English, which is language 0.

    With a ``target`` the effects are its own plus those of the model, which then describe how far the data are off
    it; see ``prior`` for where one comes from. Its variance enters as far as the data leave room for it.
    """
    from scipy.special import ndtr

    sums, languages = model.sums, model.sums.languages
    if languages == 1:
        zero = np.zeros((len(sums.counts), 1))
        return Gains(zero, zero, zero, np.zeros(1), np.zeros(1), sums.counts, 0.0, 0.0)
    spun = sums.spun if target is None else model.without(target)
    loglik = model.loglik(spun)
    weight = np.exp(loglik - loglik.max()) * _widths(model.spreads_r)[:, None] * _widths(SPREADS_B)
    at_r, at_b = np.nonzero(weight > NEGLIGIBLE * weight.max())
    w = weight[at_r, at_b] / weight[at_r, at_b].sum()  # (G,) kept grid points

    spread = np.zeros((len(w), languages, languages))
    spread[:, 1:, 1:] = model.covariance[at_r, at_b]
    level = np.einsum("glm,gm->gl", spread, model.scores(spun)[at_r])
    tau2 = np.square(model.spreads_r)[at_r]
    shrunk = model.shrunk[at_r]
    if sums.balanced:
        # W_c = w_c (I - J / L): contrasts are shrunk by one factor per cell, noise / (noise + tau_r^2 n_c).
        kept = sums.noise * shrunk[:, :, -1:]
        h = np.einsum("clk,ck->cl", sums.vectors, spun)
        mean = kept * level[:, None, :] + (tau2[:, None] * shrunk[:, :, -1])[..., None] * (h - h[:, :1])
        variance = kept**2 * np.einsum("gll->gl", spread)[:, None, :] + 2 * tau2[:, None, None] * kept
        if target is not None:
            variance = variance + kept**2 * target.variance
    else:
        mean, variance = _cell_gains(sums, spun, level, spread, tau2, shrunk, target)
    unseen_variance = np.einsum("gll->gl", spread) + 2 * tau2[:, None]
    if target is not None:
        mean = mean + target.mean
        unseen_variance = unseen_variance + target.unseen_variance
        unseen = level + target.unseen
    else:
        unseen = level
    variance[..., 0] = 0.0

    chance = np.einsum("g,gcl->cl", w, ndtr(mean / np.sqrt(np.maximum(variance, 1e-12))))
    chance[:, 0] = 0.0
    average = np.einsum("g,gcl->cl", w, mean)
    total = np.einsum("g,gcl->cl", w, variance + mean**2) - average**2
    unseen_chance = w @ ndtr(unseen / np.sqrt(unseen_variance + 1e-12))
    unseen_chance[0] = 0.0
    return Gains(
        average,
        np.sqrt(np.maximum(total, 0.0)),
        chance,
        w @ unseen,
        unseen_chance,
        sums.counts,
        float(w @ SPREADS_B[at_b]),
        float(w @ model.spreads_r[at_r]),
    )


def _cell_gains(
    sums: Sums,
    spun: NDArray[np.float64],
    level: NDArray[np.float64],
    spread: NDArray[np.float64],
    tau2: NDArray[np.float64],
    shrunk: NDArray[np.float64],
    target: Target | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of gains, shape (G, C, L), for G grid points, whatever is missing.

    Args:
        sums: the design.
        spun: the data, less what the target expects.
        level: (G, L) posterior mean of b, English 0.
        spread: (G, L, L) its covariance.
        tau2: (G,) tau_r squared.
        shrunk: (G, C, L) 1 / (noise + tau_r^2 k).
        target: its variance is added where the data leave room.
    """
    # keep = I - W_c, W_c the shrinkage of the cell's own effects: what remains of b once the cell's data are heard.
    axes = sums.vectors
    keep = np.einsum("clk,gck,cmk->gclm", axes, sums.noise * shrunk, axes, optimize=True)
    own = np.einsum("clk,gck->gcl", axes, tau2[:, None, None] * spun * shrunk)
    effect = np.einsum("gclm,gm->gcl", keep, level) + own
    # Covariance of effects: tau_r^2 (I - W_c) + (I - W_c) Cov(b) (I - W_c)'; of gains, only the diagonal is needed.
    contrast = keep - keep[:, :, :1, :]
    variance = np.einsum("gclm,gclm->gcl", np.matmul(contrast, spread[:, None]), contrast)
    if target is not None:
        variance = variance + np.einsum("gclm,cm,gclm->gcl", contrast, target.variance, contrast, optimize=True)
    diagonal = np.einsum("gcll->gcl", keep)
    special = diagonal + diagonal[..., :1] - 2 * keep[:, :, 0, :]
    return effect - effect[..., :1], variance + tau2[:, None, None] * np.maximum(special, 0.0)


def _widths(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each grid point stands for: the prior is flat in the spread, whatever the grid's steps."""
    return np.ones(1) if len(grid) == 1 else np.asarray(np.gradient(grid))
