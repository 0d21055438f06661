"""Cells of a run: accuracy by any of suite, culture, language, ..., with baselines and warnings."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cultev.errors import UsageError
from cultev.stats.estimate import Estimate, proportion

DIMENSIONS = ("suite", "culture", "region", "topic", "language", "context", "option_order", "kind")
"""What answers can be grouped by."""

ENOUGH = 20
"""Answers below which a cell is shown greyed: its interval spans more than a third of the scale."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of a table."""

    place: dict[str, str]
    """Dimension -> value."""
    accuracy: Estimate
    chance: float
    """Accuracy expected of a respondent who picks any option: mean of right options / options."""
    constant: float
    """Accuracy of the best respondent who always gives one answer (a label, or a position among the options)."""
    tied: int
    """Answers whose best options tie."""
    set_aside: dict[str, int] = field(default_factory=dict)
    """Answers that are neither right nor wrong, by outcome: 'too_long', ..."""

    @property
    def warning(self) -> str:
        """Why the accuracy must not be read as it stands, '' when it may."""
        if self.accuracy.n == 0:
            return "no answers"
        if self.tied == self.accuracy.n:
            return "all options tie"
        if self.tied * 2 > self.accuracy.n:
            return "most options tie"
        if self.accuracy.covers(self.chance):
            return "can't be told from chance"
        if self.accuracy.value < self.chance:
            return "below chance"
        if self.accuracy.low <= self.constant:
            return "no better than one constant answer"
        return ""


class _Sums:
    """What a cell adds up while answers stream by: per group, not per answer."""

    def __init__(self) -> None:
        self.groups: dict[str, list[int]] = {}
        self.chance = 0.0
        self.constant: dict[str, Counter[str]] = {}
        self.tied = 0
        self.set_aside: Counter[str] = Counter()

    def add(self, group: str, outcome: str, tied: int, kind: str, options: list[str], gold: list[str]) -> None:
        if outcome not in ("correct", "incorrect"):
            self.set_aside[outcome] += 1
            return
        pair = self.groups.setdefault(group, [0, 0])
        pair[0] += outcome == "correct"
        pair[1] += 1
        self.chance += len(gold) / len(options)
        self.tied += tied
        # A choice item's options are its own, as a pair's are: what could stay constant over items is the position.
        constant = gold if kind not in ("choice", "pair") else [str(options.index(g)) for g in gold]
        # "Yes" to stories and "true" to statements is one habit: the best answer of each kind counts.
        self.constant.setdefault(kind, Counter()).update(constant)

    def cell(self, place: dict[str, str]) -> Cell:
        pairs = np.array(list(self.groups.values()), dtype=float).reshape(-1, 2)
        estimate = proportion(pairs[:, 0], pairs[:, 1])
        n = max(1, estimate.n)
        constant = sum(max(counts.values()) for counts in self.constant.values()) / n
        return Cell(place, estimate, self.chance / n, constant, self.tied, dict(self.set_aside))


def check_dimensions(by: Sequence[str]) -> None:
    """Refuse what answers can't be grouped by.

    Raises:
        UsageError: an unknown dimension.
    """
    for name in by:
        if name not in DIMENSIONS:
            raise UsageError(f"Answers can't be grouped by '{name}'.", f"Choose from: {', '.join(DIMENSIONS)}")


def cells(connection: sqlite3.Connection, run: str, by: Sequence[str], norm: str | None = None) -> list[Cell]:
    """Summarise a run by the given dimensions; () gives one cell over everything.

    ``norm``: decide by this normalisation instead of the run's own; ties between right and wrong options count as
    wrong, as they do in the run's own.

    Raises:
        UsageError: an unknown dimension, or PMI for a run that asked no priors.
    """
    check_dimensions(by)
    columns = ", ".join(by) if by else "NULL"
    chosen, tied = "outcome", "tied"
    if norm is not None:
        chosen, tied = _outcome_by(norm), f"outcome IN ('correct', 'incorrect') AND picked_{norm} IS NULL"
        if norm == "pmi" and _asked_no_priors(connection, run):
            raise UsageError("This run asked for no priors, which PMI needs.", "Ask for them: cultev run ... --pmi")
    rows = connection.execute(
        f"SELECT suite || '/' || group_id, {chosen}, {tied}, kind, options, gold, {columns} FROM v_answers"
        " WHERE run = ? ORDER BY suite, item, language, context, option_order",
        [run],
    )
    sums: dict[tuple[str, ...], _Sums] = {}
    for group, outcome, tied, kind, options, gold, *values in rows:
        place = tuple(str(v) for v in values) if by else ()
        sums.setdefault(place, _Sums()).add(group, outcome, tied, kind, json.loads(options), json.loads(gold))
    return [s.cell(dict(zip(by, place, strict=True))) for place, s in sorted(sums.items())]


def _asked_no_priors(connection: sqlite3.Connection, run: str) -> bool:
    query = "SELECT 1 FROM answers WHERE run = ? AND prior_key IS NOT NULL LIMIT 1"
    return connection.execute(query, [run]).fetchone() is None


def _outcome_by(norm: str) -> str:
    picked = f"picked_{norm}"
    return (
        "CASE WHEN outcome NOT IN ('correct', 'incorrect') THEN outcome"
        f" WHEN EXISTS (SELECT 1 FROM json_each(gold) g WHERE g.value = {picked}) THEN 'correct'"
        " ELSE 'incorrect' END"
    )
