"""What a harm run came to as plain values, for JSON and CSV: the figures of ``cultev.report.harm``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cultev.harm.means import PUBLISHED_NAME, Mean, any_of_samples, macro, published
from cultev.harm.outcomes import OUTCOMES
from cultev.harm.robustness import Change, both_wordings, changes, left_out, same_questions, spreads
from cultev.harm.summary import MEASURES, Judged, Share, Summary, summarise
from cultev.harm.told import Told
from cultev.stats.estimate import Estimate

CELLS = ("culture", "area", "scope", "turns", "language")
"""What cells are told by unless asked otherwise: the finest."""

_OF_REPLY = ("item", "culture", "area", "scope", "form", "expected", "language", "variant", "sample")

REPLY_COLUMNS = (*_OF_REPLY, "outcome", "why", "turns", "reply", "finish", "response_sha256", "key")
"""What ``reply_row`` holds, in order."""


def cell_rows(told: Told, by: Sequence[str] = ()) -> list[dict[str, object]]:
    """A run's cells, each corrected by its own labels or stamped. ``by``: () means CELLS.

    Raises:
        UsageError: an unknown dimension.
    """
    by = by or CELLS
    cells = summarise(told.found if "variant" in by else told.plain, by)
    corrected = told.corrected(cells, by)
    return [
        {"model": told.head["model_name"], **summary_row(s), **corrected_row(c), "judge": stamp}
        for s, c, stamp in zip(cells, corrected, told.stamps(corrected), strict=True)
    ]


def run_record(told: Told, by: Sequence[str] = ()) -> dict[str, Any]:
    """All that a run came to, its cells included; see ``cell_rows``."""
    head, plain, calibration = told.head, told.plain, told.calibration
    record: dict[str, Any] = {
        "run": {**head, "reference": bool(head["reference"])},
        "judged": bool(told.verdicts),
        "judge": told.stamp,
        "overall": [summary_row(s) for s in summarise(plain)],
        "macro_harm": None,
        "any_of_samples": None,
        "published": None,
        "failed_self_test": told.failed,
        "corrected_harm": None,
        "corrected_good": None,
        "robustness": {
            "changes": [change_row(c) for c in changes(told.found, head["protocol"]["variants"])],
            **_ways_rows(told),
        },
        "cells": cell_rows(told, by),
    }
    if told.verdicts:
        means = published(plain).items()
        record["macro_harm"] = mean_row(macro(plain))
        worst = any_of_samples(plain)
        record["any_of_samples"] = {"harm": worst.value, "low": worst.low, "high": worst.high, "n": worst.n}
        record["published"] = {
            "name": PUBLISHED_NAME,
            "cells": [{"scope": scope, "turns": turns, **mean_row(mean)} for (scope, turns), mean in means],
        }
    c = next(iter(told.corrected(summarise(plain), ())), None)
    if calibration and c:
        record["corrected_harm"] = {
            "value": c.value, "low": c.low, "high": c.high, "n": c.n, "labelled": calibration.labelled,
        }  # fmt: skip
    if g := told.good:
        record["corrected_good"] = {"value": g.value, "low": g.low, "high": g.high, "n": g.n}
    return record


def reply_row(one: Judged) -> dict[str, object]:
    """A conversation: what was said, and what the reply was taken for."""
    reply = one.reply
    return {
        **{name: getattr(reply, name) for name in _OF_REPLY}, "outcome": one.outcome, "why": one.why,
        "turns": [message["content"] for message in reply.messages], "reply": reply.response, "finish": reply.finish,
        "response_sha256": reply.response_sha256, "key": reply.key,
    }  # fmt: skip


def summary_row(summary: Summary) -> dict[str, object]:
    """A summary as plain values, for JSON and CSV. Shares are between 0 and 1; unknown ones are None."""
    row: dict[str, object] = {**summary.place, "n": summary.n, "n_loaded": sum(summary.loaded.values())}
    row["n_harmless"] = sum(summary.harmless.values())
    row["not_asked"], row["unjudged"] = summary.not_asked, summary.needs_judge
    row["asks_judge"] = summary.asks_judge
    for measure in MEASURES:
        row.update(_estimate(measure, getattr(summary, measure)))
    row.update({f"loaded_{outcome}": summary.loaded[outcome] for outcome in OUTCOMES})
    row.update({f"harmless_{outcome}": summary.harmless[outcome] for outcome in OUTCOMES})
    return row


def corrected_row(corrected: Estimate | None) -> dict[str, object]:
    """A harm rate corrected by people as plain values, None where there is none."""
    names = ("corrected_harm", "corrected_harm_low", "corrected_harm_high")
    if corrected is None:
        return dict.fromkeys(names)
    return dict(zip(names, (round(x, 6) for x in (corrected.value, corrected.low, corrected.high)), strict=True))


def mean_row(mean: Mean) -> dict[str, object]:
    """A mean over cultures as plain values."""
    plain = {"value": mean.value, "low": mean.low, "high": mean.high}
    return {
        **{k: None if math.isnan(v) else round(v, 6) for k, v in plain.items()},
        "n": mean.n,
        "cultures": mean.cultures,
    }


def change_row(change: Change) -> dict[str, object]:
    """A change as plain values."""
    e = change.flips
    return {
        "asked": change.variant, "questions": "loaded" if change.loaded else "harmless", "n": e.n, "changed": e.value,
        "low": e.low, "high": e.high, "consistent": change.consistent, "random": change.random,
    }  # fmt: skip


def _ways_rows(told: Told) -> dict[str, Any]:
    """The same questions asked each way, and how far each rate moves over them."""
    variants = told.head["protocol"]["variants"]
    same, wordings = same_questions(told.found, variants), both_wordings(told.found, variants[0])
    return {
        "left_out": left_out(told.found, variants),
        "ways": [summary_row(s) for s in (*same, *wordings)],
        "spreads": [
            {"over": over, "measure": s.measure, "low": s.low, "high": s.high, "n": s.n}
            for over, ways in (("variants", same), ("wordings", wordings))
            for s in spreads(ways, MEASURES)
        ],
    }


def _estimate(name: str, e: Estimate) -> dict[str, object]:
    value = None if math.isnan(e.value) else round(e.value, 6)
    known = {f"{name}_low": round(e.low, 6), f"{name}_high": round(e.high, 6), f"{name}_interval": e.method}
    row = {name: value, f"{name}_n": e.n, **(known if e.n else dict.fromkeys(known))}
    if isinstance(e, Share):
        row |= {f"{name}_least": round(e.least, 6) if e.n else None, f"{name}_most": round(e.most, 6) if e.n else None}
    return row
