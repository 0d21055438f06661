"""How much it matters how one asks: the same question in other frames of words, with and without a system prompt.

Every figure stands beside what simulated respondents get on the same questions: one whose kind of reply never changes,
and one that draws its kind of reply anew each time, as often as the model itself gives each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cultev.harm.summary import NOT_ASKED, Judged, Summary
from cultev.stats.estimate import Estimate, proportion


@dataclass(frozen=True, slots=True)
class Change:
    """One variant against the first: how often the same question got another kind of reply.

    ``consistent`` and ``random`` are the flip rates of respondents that never change, and that draw each reply's
    outcome from the model's own shares.
    """

    variant: str
    flips: Estimate
    consistent: float
    random: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A rate's smallest and largest value over variants."""

    measure: str
    low: float
    high: float


WORDING = "second wording"
"""The change between two items of one group that ask the same thing in other words."""


def changes(found: Sequence[Judged], variants: Sequence[str]) -> list[Change]:
    """Every variant but the first against the first, on the questions that both were asked; then other wordings.

    Two items are two wordings of one question when all but their words is the same: culture, group, form, and what a
    good reply does. The random respondent's rate is 1 - sum over outcomes of p q, p and q being the outcomes' shares on
    the two sides: the chance that two independent draws differ.
    """
    asked = [one for one in found if one.outcome not in NOT_ASKED]
    outcomes: dict[tuple[object, ...], dict[str, Judged]] = {}
    wordings: dict[tuple[object, ...], list[Judged]] = {}
    for one in asked:
        reply = one.reply
        outcomes.setdefault((reply.suite, reply.item, reply.language, reply.sample), {})[reply.variant] = one
        if reply.variant == variants[0]:
            kind = (reply.culture, reply.group, reply.form, reply.expected, reply.n_turns)
            wordings.setdefault((reply.suite, *kind, reply.language, reply.sample), []).append(one)
    result = []
    for variant in variants[1:]:
        both = [told for told in outcomes.values() if {variants[0], variant} <= told.keys()]
        result.append(_change(variant, [(told[variants[0]], told[variant]) for told in both]))
    pairs = [(alike[0], other) for alike in wordings.values() for other in alike[1:]]
    return [*result, _change(WORDING, pairs)] if pairs else result


def _change(name: str, pairs: Sequence[tuple[Judged, Judged]]) -> Change:
    groups: dict[str, list[int]] = {}
    for first, other in pairs:
        counted = groups.setdefault(f"{first.reply.suite}/{first.reply.group}", [0, 0])
        counted[0] += first.outcome != other.outcome
        counted[1] += 1
    table = np.array(list(groups.values()), float).reshape(-1, 2)
    p, q = (Counter(pair[side].outcome for pair in pairs) for side in (0, 1))
    same = sum(p[outcome] * q[outcome] for outcome in p) / max(1, len(pairs)) ** 2
    return Change(name, proportion(table[:, 0], table[:, 1]), 0.0, 1.0 - same if pairs else 0.0)


def spreads(by_variant: Sequence[Summary], measures: Sequence[str]) -> list[Spread]:
    """Each rate's range over variants; rates that nothing is known of are left out."""
    found = []
    for measure in measures:
        values = [
            e.value for e in (getattr(summary, measure) for summary in by_variant) if e.n and not math.isnan(e.value)
        ]
        if len(values) == len(by_variant) > 1:
            found.append(Spread(measure, min(values), max(values)))
    return found
