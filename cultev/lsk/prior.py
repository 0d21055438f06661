"""Another model's map as a prior: what it found is expected here too, as far as this model's own answers bear it out.

For cell c and language l let P[c, l] be the lender's posterior mean of the gain over English and s[c, l] its standard
deviation. The model of ``effects`` is then one of what is left over:

    gain[c, l] = w * P[c, l] + (b[l] + r[c, l]) - (b[English] + r[c, English])

    w = 0 with probability 1/2, and 1/4, 1/2, 3/4 or 1 with probability 1/8 each, before the data;
    after them, in proportion to the restricted likelihood of the training items under each w, with both spreads of b
    and r averaged over as always.

So the weight of the lender is estimated and never assumed: where its languages are not this model's, w goes to 0 and
all is as it would be without. The spreads of b and r are learned anew under every w: they are the inflation of the
lender's certainty, since they say how far this model strays from it. Its own uncertainty is added too: w^2 s[c, l]^2,
times the squared share of the prior that the cell's data leave in the posterior. The result is the mixture over w
(Hoeting et al. 1999, Bayesian Model Averaging).

A lender is no evidence that languages differ: ``gate`` asks this model's answers alone for that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cultev.errors import UsageError
from cultev.lsk.effects import Gains, Model, Target, gains

if TYPE_CHECKING:
    from cultev.lsk.languagemap import LanguageMap

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Values of w."""

BEFORE = (0.5, 0.125, 0.125, 0.125, 0.125)
"""Their probabilities before the data."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A lender's map in a table's cells and languages: means P and variances s^2, (C, L); for unseen cells, (L,)."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    unseen: NDArray[np.float64]
    unseen_variance: NDArray[np.float64]

    def weighed(self, w: float) -> Target:
        """What is expected under a weight."""
        return Target(w * self.mean, w**2 * self.variance, w * self.unseen, w**2 * self.unseen_variance)


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """A lender's posterior: cell -> language -> (mean, standard deviation) of the gain over English.

    ``overall`` is the same over all its cells, for cells that it doesn't know. ``lender`` says whose map it is, and
    ``notes`` what the reader of its recommendations must know.
    """

    lender: str
    cells: Mapping[str, Mapping[str, tuple[float, float]]]
    overall: Mapping[str, tuple[float, float]]
    notes: tuple[str, ...] = ()

    def expects(self, names: Sequence[str], languages: Sequence[str]) -> Expected:
        """What the lender expects of these cells and languages, English first.

        A language that it doesn't know is expected to do as its others on average, as uncertainly as they differ.
        """
        rows = [self._row(self.cells.get(name, self.overall), languages) for name in names]
        mean, variance = (np.array([row[i] for row in rows]).reshape(len(names), len(languages)) for i in (0, 1))
        return Expected(mean, variance, *self._row(self.overall, languages))

    def _row(
        self, known: Mapping[str, tuple[float, float]], languages: Sequence[str]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        others = np.array([mean for code, (mean, _) in known.items() if code != languages[0]])
        usual = (float(others.mean()), float(others.std())) if len(others) else (0.0, 0.0)
        pairs = [(0.0, 0.0), *(known.get(code, usual) for code in languages[1:])]
        return np.array([mean for mean, _ in pairs]), np.array([sd**2 for _, sd in pairs])


def prior_of(lender: LanguageMap, suite: Mapping[str, str], held_out: float, limit: int | None = None) -> Prior:
    """A map as a prior for another model.

    Args:
        lender: the map. Only cells by culture and topic are known by their names elsewhere; of any others, such as
            clusters, what holds overall is taken.
        suite: 'name', 'version' and 'content_hash' of the suite that is learned from now.
        held_out: share of its items that are kept for the test now.
        limit: items that are taken of it now, None for all.

    Raises:
        UsageError: the lender learned from items of this suite that are kept for the test now.
    """
    own, notes = lender.suite, []
    if own["content_hash"] == suite["content_hash"]:
        if held_out and (lender.held_out != held_out or json.loads(lender.protocol).get("limit") != limit):
            raise UsageError(
                "The prior has learned from items that are kept for the test here.",
                f"Lend a map that kept the same items: --held-out {lender.held_out:g}, and the same --limit.",
            )
    elif own["name"] == suite["name"]:
        notes.append(
            f"The prior was learned from version {own['version']} of the suite: it may have seen this one's test items."
        )
    if lender.prior:
        notes.append(f"The prior itself leaned on {lender.prior}: what both say was learned only once.")
    cells = {p.cell: dict(zip(lender.languages, zip(p.gain, p.error, strict=True), strict=True)) for p in lender.picks}
    overall = _overall(lender)
    if lender.cells["by"] != "metadata":
        cells = {}
    of = f"{lender.model['name']} ({lender.model['quantization']}) on {own['name']} {own['version']}"
    return Prior(of, cells, overall, tuple(notes))


def _overall(lender: LanguageMap) -> dict[str, tuple[float, float]]:
    """Mean over the lender's cells, weighted by items, and the standard deviation of a cell drawn from them."""
    if not lender.picks:
        return {}
    n = np.array([max(pick.n, 0) for pick in lender.picks], dtype=float)
    share = n / n.sum() if n.sum() else np.full(len(n), 1.0 / len(n))
    gain, error = (np.array([getattr(p, name) for p in lender.picks], dtype=float) for name in ("gain", "error"))
    mean = share @ gain
    sd = np.sqrt(share @ (error**2 + (gain - mean) ** 2))
    return {code: (float(mean[i]), float(sd[i])) for i, code in enumerate(lender.languages)}


def weights(model: Model, expected: Expected) -> NDArray[np.float64]:
    """Probability of each of WEIGHTS, given the model's data."""
    logs = np.array([model.log_evidence(model.without(expected.weighed(w))) for w in WEIGHTS]) + np.log(BEFORE)
    found = np.exp(logs - logs.max())
    return np.asarray(found / found.sum())


def gains_with(model: Model, expected: Expected) -> Gains:
    """The posterior of gains over English with a lender's map as a prior; see the module's docstring."""
    share = weights(model, expected)
    parts = [gains(model, expected.weighed(w)) for w in WEIGHTS]

    def mixed(name: str) -> NDArray[np.float64]:
        return np.asarray(sum(p * getattr(part, name) for p, part in zip(share, parts, strict=True)))

    mean = mixed("mean")
    second = sum(p * (part.sd**2 + part.mean**2) for p, part in zip(share, parts, strict=True))
    spreads = [float(sum(p * getattr(part, name) for p, part in zip(share, parts, strict=True)))
               for name in ("spread_b", "spread_r")]  # fmt: skip
    return Gains(
        mean, np.sqrt(np.maximum(second - mean**2, 0.0)), mixed("chance"), mixed("unseen_mean"),
        mixed("unseen_chance"), model.sums.counts, spreads[0], spreads[1],
    )  # fmt: skip
