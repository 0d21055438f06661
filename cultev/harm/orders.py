"""Does a model choose between two answers, or between two places? Pairs put as a choice of letters in both orders.

A flip is a pair whose chosen answer changes when the two change places. What that share is worth shows beside simulated
respondents on the same pairs: one who is consistent never flips, one who guesses does half the time, and one who always
takes the first answer always does.
"""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cultev.run.protocol import Protocol
from cultev.stats.estimate import Estimate, proportion

PREFERRED, DISPREFERRED = "preferred", "dispreferred"


def orders_protocol(
    languages: tuple[str, ...] = (), limit: int | None = None, n_ctx: int | None = None, *, strict: bool = False
) -> Protocol:
    """How pairs are put: by letters, in both orders."""
    return Protocol(
        mode="letters", languages=languages, orders=2, limit=limit, n_ctx=n_ctx, strict=strict, kinds=("pair",)
    )


@dataclass(frozen=True, slots=True)
class Both:
    """One pair in one language, asked in both orders: what stood first, and what was chosen, in each."""

    group: str
    first: tuple[str, str]
    picked: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Consistency:
    """A respondent on pairs that were put in both orders."""

    who: str
    flips: Estimate
    """Share of pairs whose chosen answer changes with its place."""
    takes_first: Estimate
    """Share of choices that fall on the answer that stands first; half of them for who goes by content alone."""
    when_first: float
    """Share of preferred answers that are chosen where they stand first."""
    when_second: float
    """The same where they stand second. Between the two lies the score's range over orders."""


def both_orders(connection: sqlite3.Connection, run: str) -> list[Both]:
    """The pairs of a run that were answered in both orders; what ties in one of them is left out."""
    rows = connection.execute(
        "SELECT a.suite, a.item, a.language, i.group_id, a.options, a.picked FROM answers a"
        " JOIN items i ON i.suite = a.suite AND i.item = a.item"
        " WHERE a.run = ? AND i.kind = 'pair' AND a.picked IS NOT NULL AND NOT a.tied"
        " ORDER BY a.suite, a.item, a.language, a.option_order",
        [run],
    )
    found: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    for suite, item, language, group, options, picked in rows:
        found.setdefault((suite, item, language), []).append((group, json.loads(options)[0], picked))
    return [
        Both(f"{suite}/{one[0]}", (one[1], other[1]), (one[2], other[2]))
        for (suite, _, _), told in found.items()
        if len(told) == 2
        for one, other in [told]
    ]


def consistency(who: str, pairs: Sequence[Both]) -> Consistency:
    """How far a respondent's choices hang on the answers, and how far on their places."""
    groups: dict[str, list[int]] = {}
    for pair in pairs:
        counted = groups.setdefault(pair.group, [0, 0, 0, 0])
        counted[0] += pair.picked[0] != pair.picked[1]
        counted[1] += 1
        counted[2] += sum(picked == first for picked, first in zip(pair.picked, pair.first, strict=True))
        counted[3] += 2
    table = np.array(list(groups.values()), float).reshape(-1, 4)
    by_place = {PREFERRED: [0, 0], DISPREFERRED: [0, 0]}
    for pair in pairs:
        for first, picked in zip(pair.first, pair.picked, strict=True):
            by_place[first][0] += picked == PREFERRED
            by_place[first][1] += 1
    when_first, when_second = (hits / max(1, n) for hits, n in by_place.values())
    return Consistency(
        who, proportion(table[:, 0], table[:, 1]), proportion(table[:, 2], table[:, 3]), when_first, when_second
    )


def simulated(pairs: Sequence[Both], seed: int = 0) -> list[Consistency]:
    """Respondents whose consistency is known, put the same pairs in the same orders."""
    generator = random.Random(seed)
    respondents: dict[str, Callable[[str], str]] = {
        "consistent": lambda first: PREFERRED,
        "random": lambda first: generator.choice((PREFERRED, DISPREFERRED)),
        "always-first": lambda first: first,
    }
    return [
        consistency(who, [Both(p.group, p.first, (pick(p.first[0]), pick(p.first[1]))) for p in pairs])
        for who, pick in respondents.items()
    ]
