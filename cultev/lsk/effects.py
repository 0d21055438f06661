"""How much better than English is each language, in each cell: two-level hierarchical normal model.

For cell c and language l, beside what all languages share in the cell:

    effect[c, l] = b[l] + r[c, l]      b[l] ~ N(mu, tau_b^2) for l other than English,  r[c, l] ~ N(0, tau_r^2)
    gain[c, l]   = effect[c, l] - effect[c, English]

English's own b and the mean mu of the others are free (flat prior): how far English leads is learned, not assumed. That
is the difference from shrinking towards English, which credits noise whenever English is far ahead. The data
enter through ``Sums`` with a normal likelihood. Both spreads tau are averaged over, not plugged in: a grid with a flat
prior on each standard deviation (Gelman 2006, Prior distributions for variance parameters), weighted by the
restricted likelihood (Harville 1977) with all b, r and mu integrated out. Given the spreads everything is normal
(Lindley & Smith 1972); Efron & Morris 1975 is the plug-in form of the same shrinkage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.sums import Sums

SPREADS_B = np.array([0.003, 0.01, 0.02, 0.03, 0.045, 0.065, 0.09, 0.13, 0.19, 0.28, 0.4])
"""Grid of tau_b: standard deviation of languages' overall effects, as a share of answers."""

SPREADS_R = np.array([0.0, 0.01, 0.02, 0.03, 0.045, 0.065, 0.09, 0.13, 0.19, 0.28, 0.4])
"""Grid of tau_r: standard deviation of what is special to a cell and language."""

NEGLIGIBLE = 1e-3
"""Grid points lighter than this, relative to the heaviest, are left out: they can't move a probability by a percent."""


@dataclass(frozen=True, slots=True, eq=False)
class Gains:
    """Posterior of every language's gain over English. Arrays have shape (C, L); English's column is 0, 0 and 0.

    ``mean`` and ``sd`` are shares of answers; ``chance`` is P(gain > 0). ``unseen_mean`` and ``unseen_chance``, shape (L,),
    are those of a cell that was never seen. ``counts`` (C,) are the items behind each cell; ``spread_b`` and ``spread_r``
    the posterior means of the two standard deviations.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    chance: NDArray[np.float64]
    unseen_mean: NDArray[np.float64]
    unseen_chance: NDArray[np.float64]
    counts: NDArray[np.int64]
    spread_b: float
    spread_r: float


def gains(sums: Sums) -> Gains:
    """The posterior of gains over English, which is language 0. With one cell tau_r is 0: nothing could tell it from b."""
    from scipy.special import ndtr

    spreads_r = SPREADS_R if len(sums.counts) > 1 else SPREADS_R[:1]
    languages = sums.languages
    if languages == 1:
        zero = np.zeros((len(sums.counts), 1))
        return Gains(zero, zero, zero, zero[0] if len(zero) else np.zeros(1), np.zeros(1), sums.counts, 0.0, 0.0)
    k, spun, axes, noise = sums.values, sums.spun, sums.vectors, sums.noise
    seen = k > 0
    # Precision of a cell's effects once r is integrated out, along each axis: k / (noise + tau_r^2 k).
    shrunk = 1.0 / (noise + np.square(spreads_r)[:, None, None] * k)  # (R, C, L)
    precision = np.einsum("clk,rck,cmk->rlm", axes, k * shrunk, axes, optimize=True)
    scores = np.einsum("clk,rck->rl", axes, spun * shrunk, optimize=True)
    safe = np.where(seen, k, 1.0)
    logdet = -np.where(seen, np.log(safe * shrunk), 0.0).sum(axis=(1, 2))
    quadratic = np.where(seen, spun**2 / safe * shrunk, 0.0).sum(axis=(1, 2))
    # b of English is the zero point; the others' prior has precision (I - J / m) / tau_b^2, mu integrated out.
    m = languages - 1
    prior = (np.eye(m) - 1.0 / m) / np.square(SPREADS_B)[:, None, None]
    total = precision[:, None, 1:, 1:] + prior + 1e-9 * np.eye(m)  # (R, B, m, m)
    covariance = np.linalg.inv(total)
    b = np.einsum("rblm,rm->rbl", covariance, scores[:, 1:])
    fit = np.einsum("rbl,rl->rb", b, scores[:, 1:])
    loglik = -0.5 * (
        logdet[:, None] + quadratic[:, None] - fit + (m - 1) * np.log(np.square(SPREADS_B)) + np.linalg.slogdet(total)[1]
    )
    weight = np.exp(loglik - loglik.max()) * _widths(spreads_r)[:, None] * _widths(SPREADS_B)
    at_r, at_b = np.nonzero(weight > NEGLIGIBLE * weight.max())
    w = weight[at_r, at_b] / weight[at_r, at_b].sum()  # (G,) kept grid points

    level = np.zeros((len(w), languages))
    level[:, 1:] = b[at_r, at_b]
    spread = np.zeros((len(w), languages, languages))
    spread[:, 1:, 1:] = covariance[at_r, at_b]
    tau2 = np.square(spreads_r)[at_r]
    if sums.balanced:
        # W_c = w_c (I - J / L): contrasts are shrunk by one factor per cell, noise / (noise + tau_r^2 n_c).
        kept = noise * shrunk[at_r, :, -1:]
        h = np.einsum("clk,ck->cl", axes, spun)
        mean = kept * level[:, None, :] + (tau2[:, None] * shrunk[at_r, :, -1])[..., None] * (h - h[:, :1])
        variance = kept**2 * np.einsum("gll->gl", spread)[:, None, :] + 2 * tau2[:, None, None] * kept
    else:
        mean, variance = _cell_gains(sums, level, spread, tau2, shrunk[at_r])
    variance[..., 0] = 0.0

    sd = np.sqrt(np.maximum(variance, 1e-12))
    chance = np.einsum("g,gcl->cl", w, ndtr(mean / sd))
    average = np.einsum("g,gcl->cl", w, mean)
    total_variance = np.einsum("g,gcl->cl", w, variance + mean**2) - average**2
    chance[:, 0] = 0.0
    new_sd = np.sqrt(np.einsum("gll->gl", spread) + 2 * tau2[:, None] + 1e-12)
    unseen_chance = w @ ndtr(level / new_sd)
    unseen_chance[0] = 0.0
    return Gains(
        average,
        np.sqrt(np.maximum(total_variance, 0.0)),
        chance,
        w @ level,
        unseen_chance,
        sums.counts,
        float(w @ SPREADS_B[at_b]),
        float(w @ spreads_r[at_r]),
    )


def _cell_gains(
    sums: Sums,
    level: NDArray[np.float64],
    spread: NDArray[np.float64],
    tau2: NDArray[np.float64],
    shrunk: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and variance of gains, shape (G, C, L), for G grid points, whatever is missing.

    Args:
        sums: the data.
        level, spread: posterior mean (G, L) and covariance (G, L, L) of b, English 0.
        tau2: (G,) tau_r squared.
        shrunk: (G, C, L) 1 / (noise + tau_r^2 k).
    """
    # keep = I - W_c, W_c the shrinkage of the cell's own effects: what remains of b once the cell's data are heard.
    axes = sums.vectors
    keep = np.einsum("clk,gck,cmk->gclm", axes, sums.noise * shrunk, axes, optimize=True)
    own = np.einsum("clk,gck->gcl", axes, tau2[:, None, None] * sums.spun * shrunk)
    effect = np.einsum("gclm,gm->gcl", keep, level) + own
    # Covariance of effects: tau_r^2 (I - W_c) + (I - W_c) Cov(b) (I - W_c)'; of gains, only the diagonal is needed.
    contrast = keep - keep[:, :, :1, :]
    variance = np.einsum("gclm,gclm->gcl", np.matmul(contrast, spread[:, None]), contrast)
    diagonal = np.einsum("gcll->gcl", keep)
    special = diagonal + diagonal[..., :1] - 2 * keep[:, :, 0, :]
    return effect - effect[..., :1], variance + tau2[:, None, None] * np.maximum(special, 0.0)


def _widths(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Trapezoid weights: the prior is flat in the spread, whatever the grid's steps."""
    if len(grid) == 1:
        return np.ones(1)
    return np.gradient(grid)
