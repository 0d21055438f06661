"""What a table says about languages once every item's own difficulty is taken out: sums per cell.

Within a cell, the answers follow a two-way layout: y[i, l] = item i + language l + noise. Items differ in difficulty
far more than languages differ in knowledge, so items are fixed effects and only contrasts between languages remain:
with every language asked everywhere, these are exactly the paired differences from English. With entries missing,
every pair of languages that an item has in common still counts, once, with its right weight.

For cell c with item i's seen languages m_i (0/1, shape (L,)) and their number k_i:

    information  K_c = sum_i diag(m_i) - m_i m_i' / k_i        (L, L), a graph Laplacian: rows sum to 0
    scores       h_c = sum_i m_i * (y_i - mean of y_i)         (L,)

The least-squares language effects are K_c^+ h_c with covariance noise * K_c^+ (Searle 1971, Linear Models, chapter 7:
the reduced normal equations of a two-way layout).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PRIOR_WEIGHT = 5.0
"""Entries' worth of the largest variance a right/wrong answer can have (1/4), mixed into the noise: a table
without a single surprise would otherwise be certain of everything."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sufficient statistics of a table, per cell. See the module's docstring for the symbols.

    ``values`` (C, L) and ``vectors`` (C, L, L) are the eigenvalues and eigenvectors (columns) of K_c; eigenvalues of
    0 are exactly 0. ``spun`` (C, L) is h_c in those axes. ``noise`` is the variance of one answer's contrast, inflated
    where siblings agree with each other; ``noise_df`` its degrees of freedom; ``counts`` (C,) the items of each cell.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    spun: NDArray[np.float64]
    counts: NDArray[np.int64]
    noise: float
    noise_df: float
    balanced: bool
    """Every language was seen on every item."""

    @property
    def languages(self) -> int:
        """Number of languages, L."""
        return int(self.values.shape[1])

    def between(self) -> tuple[float, int]:
        """Sum of squares between languages within cells, and its degrees of freedom."""
        return float(_over(self.spun**2, self.values).sum()), int((self.values > 0).sum())


def sums(
    right: NDArray[np.float64], cell: NDArray[np.intp], cells: int, groups: NDArray[np.intp] | None = None
) -> Sums:
    """Add up a table.

    Args:
        right: (items, languages) in [0, 1]; NaN was not seen.
        cell: (items,) each item's cell, 0 to ``cells`` - 1.
        cells: number of cells, C.
        groups: (items,) each item's group as a number; None: no siblings.
    """
    n, languages = right.shape
    counts = np.bincount(cell, minlength=cells)
    seen = ~np.isnan(right)
    if seen.all():
        centred = right - right.mean(axis=1, keepdims=True)
        # K_c = n_c (I - J / L): one basis serves every cell, its first axis the one without information.
        values = np.repeat(counts[:, None].astype(float), languages, axis=1)
        values[:, 0] = 0.0
        vectors = np.broadcast_to(_helmert(languages), (cells, languages, languages))
        entries = n * (languages - 1)
    else:
        per_item = np.maximum(seen.sum(axis=1), 1)
        filled = np.where(seen, right, 0.0)
        centred = np.where(seen, filled - (filled.sum(axis=1) / per_item)[:, None], 0.0)
        information = _information(seen, cell, cells)
        values, vectors = np.linalg.eigh(information)
        values = np.where(values > 1e-9 * max(1, n), values, 0.0)
        entries = int((seen.sum(axis=1) - seen.any(axis=1)).sum())
    spun = np.einsum("clk,cl->ck", vectors, sum_by(cell, centred, cells))
    effects = np.einsum("clk,ck->cl", vectors, _over(spun, values))
    fitted = effects[cell]
    if not seen.all():
        mean = np.where(seen, fitted, 0.0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
        fitted = np.where(seen, fitted - mean[:, None], 0.0)
    noise, df = _noise(centred - fitted, entries, int((values > 0).sum()), cell, groups)
    return Sums(values, vectors, spun, counts, noise, df, bool(seen.all()))


def _noise(
    residual: NDArray[np.float64],
    entries: int,
    rank: int,
    cell: NDArray[np.intp],
    groups: NDArray[np.intp] | None,
) -> tuple[float, float]:
    """The variance of one answer's contrast and its degrees of freedom.

    With siblings it is the larger of the plain estimate and the one from sums over groups (the cluster-robust variance
    of Liang & Zeger 1986, pooled over languages and cells, with their G / (G - 1)).
    """
    df = max(entries - rank, 0)
    noise = float(np.einsum("il,il->", residual, residual)) / max(df, 1)
    if groups is not None:
        key = np.unique(np.stack([cell, groups]), axis=1, return_inverse=True)[1].ravel()
        clusters = int(key.max()) + 1 if len(key) else 0
        if clusters < len(key):
            together = sum_by(key, residual, clusters)
            cells = len(np.unique(cell))
            spare = max(clusters - cells, 1)
            grouped = float(np.einsum("il,il->", together, together)) / max(entries, 1) * clusters / spare
            df = min(df, spare * (residual.shape[1] - 1))
            noise = max(noise, grouped)
    return (noise * df + PRIOR_WEIGHT / 4) / (df + PRIOR_WEIGHT), float(max(df, 1))


def _over(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ratio, 0 where bottom is 0."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def _helmert(languages: int) -> NDArray[np.float64]:
    """An orthonormal basis (columns) of R^L whose first axis is the constant one."""
    basis = np.zeros((languages, languages))
    basis[:, 0] = languages**-0.5
    for k in range(1, languages):
        basis[:k, k] = 1.0
        basis[k, k] = -k
        basis[:, k] /= np.sqrt(k * (k + 1))
    return basis


def sum_by(key: NDArray[np.intp], rows: NDArray[np.float64], keys: int) -> NDArray[np.float64]:
    """Sums of rows by key, shape (keys, columns)."""
    order = np.argsort(key, kind="stable")
    sizes = np.bincount(key, minlength=keys)
    found = np.flatnonzero(sizes)
    total = np.zeros((keys, rows.shape[1]))
    if len(found):
        starts = (np.cumsum(sizes) - sizes)[found]
        total[found] = np.add.reduceat(rows[order], starts, axis=0)
    return total


def _information(seen: NDArray[np.bool_], cell: NDArray[np.intp], cells: int) -> NDArray[np.float64]:
    """K_c of every cell, shape (C, L, L)."""
    languages = seen.shape[1]
    information = np.zeros((cells, languages, languages))
    weights = seen / np.sqrt(np.maximum(seen.sum(axis=1), 1))[:, None]
    for c in np.unique(cell):
        inside = cell == c
        information[c] = np.diag(seen[inside].sum(axis=0).astype(float)) - weights[inside].T @ weights[inside]
    return information
