"""How much it matters how one asks: the same question in other frames of words, with and without a system prompt.

Loaded questions and their harmless twins are told apart, since a model may well go along with one wording more and
refuse its twin more in the same. Whatever is compared is of the same questions, asked each way.

Every share of changes stands beside what simulated respondents get on the same questions: one whose kind of reply never
changes, and one that draws its kind of reply anew each time, as often as the model itself gives each.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cultev.harm.summary import NOT_ASKED, Judged, Summary
from cultev.stats.estimate import Estimate, proportion

WORDING = "second wording"
"""The change between two items of one group that ask the same thing in other words."""

FIRST_WORDING = "first wording"


@dataclass(frozen=True, slots=True)
class Change:
    """One variant against the first: how often the same question got another kind of reply.

    ``loaded`` says of which questions: the loaded ones, or their harmless twins. ``consistent`` and ``random`` are the
    flip rates of respondents that never change, and that draw each reply's outcome from the model's own shares.
    """

    variant: str
    loaded: bool
    flips: Estimate
    consistent: float
    random: float


@dataclass(frozen=True, slots=True)
class Spread:
    """A rate's smallest and largest value over ways of asking the same ``n`` questions."""

    measure: str
    low: float
    high: float
    n: int


def changes(found: Sequence[Judged], variants: Sequence[str]) -> list[Change]:
    """Every variant but the first against the first, on the questions that both were asked; then other wordings.

    Each first of loaded questions, then of harmless ones; what was asked of neither is left out. The random
    respondent's rate is 1 - sum over outcomes of p q, p and q being the outcomes' shares on the two sides: the chance
    that two independent draws differ.
    """
    asked = _asked(found)
    told: list[tuple[str, list[tuple[Judged, Judged]]]] = []
    for variant in variants[1:]:
        both = [ways for ways in asked if {variants[0], variant} <= ways.keys()]
        told.append((variant, [(ways[variants[0]], ways[variant]) for ways in both]))
    told.append((WORDING, list(_wordings(asked, variants[0]))))
    result = []
    for name, pairs in told:
        for loaded in (True, False):
            some = [pair for pair in pairs if pair[0].reply.loaded is loaded]
            if some:
                result.append(_change(name, loaded, some))
    return result


def same_questions(found: Sequence[Judged], variants: Sequence[str]) -> list[Summary]:
    """One summary per variant, all over the questions that were asked in every one of them; [] with one variant."""
    if len(variants) < 2:
        return []
    every = [ways for ways in _asked(found) if ways.keys() >= set(variants)]
    return [_summary(variant, [ways[variant] for ways in every]) for variant in variants]


def left_out(found: Sequence[Judged], variants: Sequence[str]) -> int:
    """Questions that ``same_questions`` leaves out: they came to no end in some variant."""
    places = {_place(one) for one in found}
    return len(places) - sum(ways.keys() >= set(variants) for ways in _asked(found))


def both_wordings(found: Sequence[Judged], variant: str) -> list[Summary]:
    """Two summaries over the questions that stand in a suite in two wordings, put in one variant; [] if none does."""
    pairs = list(_wordings(_asked(found), variant))
    if not pairs:
        return []
    return [_summary(name, [pair[side] for pair in pairs]) for side, name in enumerate((FIRST_WORDING, WORDING))]


def spreads(ways: Sequence[Summary], measures: Sequence[str]) -> list[Spread]:
    """Each rate's range over ways of asking the same questions; rates that nothing is known of are left out."""
    found = []
    for measure in measures:
        rates: list[Estimate] = [getattr(summary, measure) for summary in ways]
        values = [e.value for e in rates if e.n and not math.isnan(e.value)]
        if len(values) == len(ways) > 1:
            found.append(Spread(measure, min(values), max(values), min(e.n for e in rates)))
    return found


def _place(one: Judged) -> tuple[str, str, str, int]:
    return one.reply.suite, one.reply.item, one.reply.language, one.reply.sample


def _asked(found: Sequence[Judged]) -> list[dict[str, Judged]]:
    """Every question that got a reply: variant -> reply."""
    outcomes: dict[tuple[str, str, str, int], dict[str, Judged]] = {}
    for one in found:
        if one.outcome not in NOT_ASKED:
            outcomes.setdefault(_place(one), {})[one.reply.variant] = one
    return list(outcomes.values())


def _wordings(asked: Sequence[dict[str, Judged]], variant: str) -> Iterator[tuple[Judged, Judged]]:
    """Pairs of a first wording and another one.

    Two items are two wordings of one question when all but their words is the same: culture, group, form, and what a
    good reply does.
    """
    alike: dict[tuple[object, ...], Judged] = {}
    for one in (ways[variant] for ways in asked if variant in ways):
        reply = one.reply
        kind = (reply.suite, reply.culture, reply.group, reply.form, reply.expected, reply.n_turns)
        first = alike.setdefault((*kind, reply.language, reply.sample), one)
        if first is not one:
            yield first, one


def _summary(name: str, replies: Sequence[Judged]) -> Summary:
    summary = Summary({"asked": name})
    for one in replies:
        summary.add(one)
    return summary


def _change(name: str, loaded: bool, pairs: Sequence[tuple[Judged, Judged]]) -> Change:
    groups: dict[str, list[int]] = {}
    for first, other in pairs:
        counted = groups.setdefault(f"{first.reply.suite}/{first.reply.group}", [0, 0])
        counted[0] += first.outcome != other.outcome
        counted[1] += 1
    table = np.array(list(groups.values()), float).reshape(-1, 2)
    p, q = (Counter(pair[side].outcome for pair in pairs) for side in (0, 1))
    same = sum(p[outcome] * q[outcome] for outcome in p) / len(pairs) ** 2
    return Change(name, loaded, proportion(table[:, 0], table[:, 1]), 0.0, 1.0 - same)
