"""What ships: the simplest policy that the training items can't tell from the best.

Three rungs: English; one language for everything; a language for each cell. A rung is climbed on two conditions.

1. Evidence. Languages differ by more than chance makes them differ (restricted likelihood ratios against a simulated
   null, see ``effects.evidence``). One language for everything needs p <= ``single_level`` that languages differ at
   all; a language for each cell needs p <= ``any_level`` for that, and p <= ``cells_level`` that they differ by cell
   beyond their overall differences. Where no language differs from any other, a language for each cell therefore ships
   in at most ``any_level`` of cases. One language for everything is let through more easily, since the mistakes weigh
   differently: where languages don't differ it is as good as English, while a map claims knowledge that isn't there.
   On either rung English stays wherever the expected gain is below ``least``.
2. Validation doesn't object. Everything is learned anew without one fold of the items and tried on it, fold by
   fold. A policy that does worse than a simpler one by more than OBJECTION standard errors of their paired difference,
   over groups, is not shipped. This is what guards against a model of the data that is wrong.

Why not validation alone: with 200 items the standard error of a paired difference is about 3 points, more
than most languages gain. Comparing one chosen language with English throws away what the other languages and cells say
about how much languages differ; the likelihood uses all of it. ``tools/simulate_lsk.py --validation-alone`` measures
what this is worth. It also shows what the levels trade: with 200 items and languages that differ overall by 3 points, a
``single_level`` of 0.05 would keep about 65 % of the gain of the best single language, 0.2 keeps 70 to 80 %.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.cells import ByMetadata, CellMaker, Everything
from cultev.lsk.effects import Evidence, evidence
from cultev.lsk.policies import Fitted, fit_gains
from cultev.lsk.prior import Prior
from cultev.lsk.router import ByCell, Constant, Router, answers
from cultev.lsk.splits import fold_of
from cultev.lsk.table import Items, OutcomeTable

RUNGS = ("english", "single", "cells")
"""From simple to rich."""

OBJECTION = 2.0
"""Standard errors by which a policy must do worse in validation to be struck out."""


@dataclass(frozen=True, slots=True)
class Check:
    """Validation's verdict on a policy against a simpler one: paired gain and its standard error, as shares."""

    policy: str
    against: str
    gain: float
    error: float

    @property
    def objects(self) -> bool:
        """Whether the policy is worse beyond doubt."""
        return self.gain < -OBJECTION * self.error


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What a cell is asked in, and the language that looks best there, be it sent there or not.

    ``language`` and ``best`` index the table's languages; ``best`` is the one with the largest expected gain that isn't
    English. ``gain``, ``error`` (posterior standard deviation) and ``chance`` (P(gain > 0)) are of ``best``, as shares;
    ``n`` counts the training items of the cell.
    """

    cell: str
    language: int
    best: int
    gain: float
    error: float
    chance: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class GatedRouter:
    """A router and what it rests on: likelihood ratios, their p values, and what validation said."""

    router: Constant | ByCell
    shipped: str
    """One of RUNGS."""
    reason: str
    ratio: Evidence
    p: Evidence
    checks: tuple[Check, ...]
    fitted: Fitted
    """The posterior by cell, whichever rung ships."""

    def route(self, items: Items) -> NDArray[np.intp]:
        """The language each item is asked in, shape (items,)."""
        return self.router.route(items)

    def panel(self, items: Items) -> NDArray[np.intp]:
        """The same as a column."""
        return self.router.panel(items)

    def recommendations(self) -> list[Recommendation]:
        """One for each cell, in the cells' order; empty where English is the only language."""
        gains, names = self.fitted.gains, self.fitted.cells.names
        if gains.mean.shape[1] < 2:
            return []
        best = gains.mean[:, 1:].argmax(axis=1) + 1
        if isinstance(self.router, ByCell):
            sent = self.router.languages
        else:
            sent = np.full(len(names), self.router.language, dtype=np.intp)
        return [
            Recommendation(
                name,
                int(sent[c]),
                int(best[c]),
                float(gains.mean[c, best[c]]),
                float(gains.sd[c, best[c]]),
                float(gains.chance[c, best[c]]),
                int(gains.counts[c]),
            )
            for c, name in enumerate(names)
        ]


@dataclass(frozen=True, slots=True)
class Gated:
    """See the module's docstring. Levels are p values, ``least`` a share of answers."""

    cells: CellMaker = field(default_factory=ByMetadata)
    any_level: float = 0.05
    cells_level: float = 0.2
    single_level: float = 0.2
    least: float = 0.005
    folds: int = 5
    prior: Prior | None = None
    """Another model's map to shrink towards. It is no evidence: what the rungs ask for comes from this table alone."""
    name: str = "gated"

    def fit(self, table: OutcomeTable) -> GatedRouter:
        """Climb while there is evidence, then step down while validation objects."""
        fitted = fit_gains(table, self.cells, self.prior)
        ratio, p = evidence(fitted.model)
        if p.any <= self.any_level and p.cells <= self.cells_level:
            rung, reason = 2, "languages differ from cell to cell"
        elif p.any <= self.single_level:
            rung, reason = 1, "languages differ, but not by cell"
        else:
            rung, reason = 0, "languages can't be told apart"
        routers: list[Constant | ByCell] = [Constant(0), self._single(table)]
        routers.append(fitted.router(0.0, self.least))
        # A rung that sends every item where a simpler one does is that simpler one.
        alike = next(low for low in range(rung + 1) if _same(routers[low], routers[rung], table.items))
        if alike < rung:
            rung, reason = (
                alike,
                ("no language is likely enough to be better", "one language is best in every cell")[alike],
            )
        checks = self.checks(table, rung)
        while rung and any(c.objects for c in checks if c.policy == RUNGS[rung]):
            rung -= 1
            reason = f"validation found '{RUNGS[rung + 1]}' worse than something simpler"
        return GatedRouter(routers[rung], RUNGS[rung], reason, ratio, p, checks, fitted)

    def _single(self, table: OutcomeTable) -> Constant:
        return Constant(int(fit_gains(table, Everything(), self.prior).gains.best(0.0, self.least)[0]))

    def checks(self, table: OutcomeTable, rung: int) -> tuple[Check, ...]:
        """Every rung up to ``rung`` against every simpler one, on items left out when it was learned."""
        if rung == 0:
            return ()
        fold = fold_of(table.items, self.folds)
        right = np.full((rung + 1, len(table)), np.nan)
        for held in range(self.folds):
            out = fold == held
            if not out.any() or out.all():
                continue
            train, test = table.take(~out), table.take(out)
            routers: list[Router] = [Constant(0), self._single(train)]
            if rung == 2:
                routers.append(fit_gains(train, self.cells, self.prior).router(0.0, self.least))
            for row, router in enumerate(routers):
                right[row, out] = answers(router, test)
        member = np.unique(table.items.groups, return_inverse=True)[1]
        return tuple(
            Check(RUNGS[high], RUNGS[low], *paired_gain(right[high], right[low], member))
            for high in range(1, rung + 1)
            for low in range(high)
        )


def paired_gain(
    ours: NDArray[np.float64], theirs: NDArray[np.float64], member: NDArray[np.intp]
) -> tuple[float, float]:
    """Mean of ours - theirs over items that both have, and its standard error when whole groups are the sample.

    The error is the linearised one of a ratio of sums over groups (Cochran 1977, Sampling Techniques, section 2.11);
    infinite with fewer than two groups.
    """
    both = ~(np.isnan(ours) | np.isnan(theirs))
    difference, group = (ours - theirs)[both], member[both]
    if not len(difference):
        return 0.0, float("inf")
    gain = float(difference.mean())
    sizes = np.bincount(group)
    scatter = np.bincount(group, weights=difference) - gain * sizes
    groups = int((sizes > 0).sum())
    if groups < 2:
        return gain, float("inf")
    return gain, float(np.sqrt(groups / (groups - 1) * (scatter**2).sum()) / len(difference))


def _same(one: Router, other: Router, items: Items) -> bool:
    return bool((one.route(items) == other.route(items)).all())
