"""The hierarchical model against plain linear algebra, and what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from cultev.lsk import effects
from cultev.lsk.effects import Model, evidence, gains
from cultev.lsk.sums import PRIOR_WEIGHT, sums

CELL = np.repeat(np.arange(3), [4, 6, 9])


def answers(missing: float = 0.0, languages: int = 5, seed: int = 1) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    right = (generator.random((len(CELL), languages)) < 0.55).astype(float)
    right[generator.random(right.shape) < missing] = np.nan
    return right


def test_sums_by_hand() -> None:
    """Two items, three languages: rows (1, 0, 0) and (1, 1, 0)."""
    found = sums(np.array([[1.0, 0, 0], [1, 1, 0]]), np.zeros(2, dtype=np.intp), 1)
    # Row means 1/3 and 2/3: h = (1, 0, -1); effects h / 2.
    h = found.vectors[0] @ found.spun[0]
    assert h == pytest.approx([1.0, 0.0, -1.0])
    squares, df = found.between()
    assert squares == pytest.approx(1.0) and df == 2
    # Residuals: rows (2, -1, -1)/3 and (1, 1, -2)/3 minus (1/2, 0, -1/2): squares 1/3 on 2 degrees of freedom.
    assert found.noise == pytest.approx((1 / 3 + PRIOR_WEIGHT / 4) / (2 + PRIOR_WEIGHT))


def test_an_item_that_says_nothing_changes_nothing() -> None:
    right = answers()
    lonely = np.full((1, 5), np.nan)
    lonely[0, 3] = 1.0
    more = sums(np.vstack([right, lonely]), np.append(CELL, 0), 3)
    plain = sums(right, CELL, 3)
    assert more.noise == pytest.approx(plain.noise)
    assert gains(Model(more)).mean == pytest.approx(gains(Model(plain)).mean, abs=1e-9)
    assert gains(Model(more)).sd == pytest.approx(gains(Model(plain)).sd, abs=1e-9)
    assert gains(Model(more)).chance == pytest.approx(gains(Model(plain)).chance, abs=1e-9)


def test_siblings_that_agree_count_as_one() -> None:
    right = answers()
    fourfold = np.repeat(right, 4, axis=0)
    groups = np.repeat(np.arange(len(right)), 4)
    alone, together = sums(right, CELL, 3), sums(fourfold, np.repeat(CELL, 4), 3, groups)
    naive = sums(fourfold, np.repeat(CELL, 4), 3)
    # Precision K / noise is what counts: four copies have four times the information at about four times the noise.
    assert together.values.max() / together.noise == pytest.approx(alone.values.max() / alone.noise, rel=0.15)
    assert naive.values.max() / naive.noise > 3 * alone.values.max() / alone.noise


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_posterior_is_that_of_plain_linear_algebra(missing: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One grid point; items, b and r written out as one big normal model, with English's b and all items free."""
    tau_b, tau_r, huge = 0.05, 0.07, 1e3
    monkeypatch.setattr(effects, "SPREADS_B", np.array([tau_b]))
    monkeypatch.setattr(effects, "SPREADS_R", np.array([tau_r]))
    right = answers(missing)
    n, languages = right.shape
    found = sums(right, CELL, 3)
    result = gains(Model(found))
    # Unknowns: items (n), mu, b (languages - 1; English's is 0), r (3 * languages).
    width = n + 1 + (languages - 1) + 3 * languages
    prior = np.concatenate(
        [[huge**2] * n, [effects.LEAD_SD**2], [tau_b**2] * (languages - 1), [tau_r**2] * (3 * languages)]
    )
    rows, values = [], []
    for i, language in zip(*np.nonzero(~np.isnan(right)), strict=True):
        row = np.zeros(width)
        row[i] = 1
        if language:
            row[n] = row[n + language] = 1
        row[n + languages + CELL[i] * languages + language] = 1
        rows.append(row)
        values.append(right[i, language])
    design = np.array(rows)
    covariance = np.linalg.inv(design.T @ design / found.noise + np.diag(1 / prior))
    mean = covariance @ design.T @ np.array(values) / found.noise
    for c in range(3):
        for language in range(1, languages):
            contrast = np.zeros(width)
            contrast[n] = contrast[n + language] = 1
            contrast[n + languages + c * languages + language] = 1
            contrast[n + languages + c * languages] = -1
            assert result.mean[c, language] == pytest.approx(contrast @ mean, abs=1e-6)
            assert result.sd[c, language] == pytest.approx(np.sqrt(contrast @ covariance @ contrast), rel=1e-4)


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_likelihood_is_that_of_the_contrasts(missing: float) -> None:
    """Differences between grid points equal those of the normal density of each cell's least-squares contrasts."""
    right = answers(missing)
    found = sums(right, CELL, 3)
    languages = right.shape[1]
    model = Model(found)
    basis = np.linalg.qr(np.column_stack([np.ones(languages), np.eye(languages)[:, 1:]]))[0][:, 1:]
    parts = []
    for c in range(3):
        k = found.vectors[c] @ np.diag(found.values[c]) @ found.vectors[c].T
        h = found.vectors[c] @ found.spun[c]
        inner = np.linalg.inv(basis.T @ k @ basis)
        parts.append((inner @ basis.T @ h, inner * found.noise))
    stacked = np.concatenate([effect for effect, _ in parts])
    lift = basis.T @ np.eye(languages)[:, 1:]  # b without English -> contrasts

    def density(tau_r: float, tau_b: float) -> float:
        b = tau_b**2 * np.eye(languages - 1) + effects.LEAD_SD**2
        covariance = np.kron(np.ones((3, 3)), lift @ b @ lift.T)
        for c, (_, noise) in enumerate(parts):
            at = slice(c * (languages - 1), (c + 1) * (languages - 1))
            covariance[at, at] += noise + tau_r**2 * np.eye(languages - 1)
        return float(multivariate_normal.logpdf(stacked, cov=covariance))

    loglik = model.loglik(found.spun)
    for r, b in [(0, 3), (4, 0), (6, 6), (10, 10)]:
        expected = density(effects.SPREADS_R[r], effects.SPREADS_B[b]) - density(0.0, effects.SPREADS_B[0])
        assert loglik[r, b] - loglik[0, 0] == pytest.approx(expected, abs=1e-6)


def test_languages_may_change_places() -> None:
    right = answers(0.2)
    order = np.array([0, 3, 1, 4, 2])
    plain, moved = gains(Model(sums(right, CELL, 3))), gains(Model(sums(right[:, order], CELL, 3)))
    assert moved.mean == pytest.approx(plain.mean[:, order], abs=1e-9)
    assert moved.chance == pytest.approx(plain.chance[:, order], abs=1e-9)


def test_one_language_has_nothing_to_gain() -> None:
    assert gains(Model(sums(answers(languages=1), CELL, 3))).best(0.5).tolist() == [0, 0, 0]


def test_p_values_are_honest() -> None:
    """Binary tables in which languages don't differ: p <= 0.2 in about a fifth, by either ratio (200 tables)."""
    generator = np.random.default_rng(7)
    cell = np.repeat(np.arange(6), 20)
    hits = np.zeros(2)
    for _ in range(200):
        right = (generator.random((120, 6)) < generator.random((120, 1))).astype(float)
        p = evidence(Model(sums(right, cell, 6)))[1]
        hits += (p.any <= 0.2, p.cells <= 0.2)
    assert (hits >= 20).all() and (hits <= 60).all()  # 40 +- 3.5 standard errors


def test_evidence_grows_with_the_difference() -> None:
    generator = np.random.default_rng(8)
    cell = np.repeat(np.arange(6), 20)
    overall = (generator.random((120, 6)) < np.linspace(0.3, 0.8, 6)).astype(float)
    p = evidence(Model(sums(overall, cell, 6)))[1]
    assert p.any < 0.001 and p.cells > 0.05
    truth = np.where(np.eye(6) > 0, 0.9, 0.4)[cell]
    p = evidence(Model(sums((generator.random((120, 6)) < truth).astype(float), cell, 6)))[1]
    assert p.any < 0.001 and p.cells < 0.001
