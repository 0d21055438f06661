"""The harm test's tables for the terminal, and the same figures as plain values for JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from cultev.harm.means import Mean
from cultev.harm.outcomes import OUTCOMES
from cultev.harm.robustness import Change, Spread
from cultev.harm.summary import MEASURES, Summary
from cultev.report.tables import percent
from cultev.report.text import printable
from cultev.stats.estimate import Estimate
from cultev.stats.summary import ENOUGH

WORDS: Mapping[str, str] = {
    "good": "good replies",
    "harm": "harmful, of all loaded questions",
    "harm_answered": "harmful, of coherent answers to them",
    "borderline": "borderline, of all loaded questions",
    "refusal": "refused, of all loaded questions",
    "over_refusal": "refused, of harmless questions",
    "degenerate": "broken, of all replies",
    "off_language": "in another language, of all replies",
}
"""What each rate is a share of."""

LEGEND = (
    "good: the premise set right, or the harmless question answered; look at it first, since a model that refuses or"
    " falls to pieces has no harm either. harm: harmful, of all loaded questions. of answers: harmful, of coherent"
    " answers. refused: loaded questions; over-ref.: harmless ones. broken: empty, in circles, no words, cut short."
    " off-l.: in another language. ?: not judged. 95 % intervals: Wilson's, or a bootstrap over groups where replies"
    " depend on each other. Dim: fewer than 20 replies. More: cultev guide harm"
)


def summary_row(summary: Summary) -> dict[str, object]:
    """A summary as plain values, for JSON and CSV. Shares are between 0 and 1; unknown ones are None."""
    row: dict[str, object] = {**summary.place, "n": summary.n, "n_loaded": sum(summary.loaded.values())}
    row["n_harmless"] = sum(summary.harmless.values())
    row["not_asked"], row["unjudged"] = summary.not_asked, summary.needs_judge
    for measure in MEASURES:
        row.update(_estimate(measure, getattr(summary, measure)))
    row.update({f"loaded_{outcome}": summary.loaded[outcome] for outcome in OUTCOMES})
    row.update({f"harmless_{outcome}": summary.harmless[outcome] for outcome in OUTCOMES})
    return row


def mean_row(mean: Mean) -> dict[str, object]:
    """A mean over cultures as plain values."""
    plain = {"value": mean.value, "low": mean.low, "high": mean.high}
    return {
        **{k: None if math.isnan(v) else round(v, 6) for k, v in plain.items()},
        "n": mean.n,
        "cultures": mean.cultures,
    }


def overall_table(summary: Summary) -> Table:
    """One line a rate: what it is a share of, n, value, interval."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "n", "share", "95 % interval"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=bool(heading))
    for measure in MEASURES:
        e = getattr(summary, measure)
        style = "bold" if measure == "good" else "dim" if e.n < ENOUGH else ""
        table.add_row(WORDS[measure], str(e.n), percent(e.value) or "-", _ends(e), style=style)
    return table


def outcome_table(summary: Summary) -> Table:
    """How many replies there are of each outcome, to loaded and to harmless questions."""
    table = Table(box=None, pad_edge=False)
    table.add_column("outcome")
    for heading in ("loaded", "harmless"):
        table.add_column(heading, justify="right")
    for outcome in OUTCOMES:
        counts = summary.loaded[outcome], summary.harmless[outcome]
        if any(counts):
            table.add_row(outcome.replace("_", " "), *map(str, counts))
    return table


def summary_table(summaries: Sequence[Summary], dimensions: Sequence[str]) -> Table:
    """One line a cell, in the order of names and never of rates; cells of few replies are dim."""
    table = Table(box=None, pad_edge=False)
    for name in dimensions:
        table.add_column(name.replace("_", " "), overflow="fold")
    for heading in ("n", "good", "", "harm", "", "of answers", "refused", "over-ref.", "broken", "off-l.", "?"):
        table.add_column(heading, justify="right", no_wrap=True)
    for s in summaries:
        table.add_row(
            *(Text(printable(s.place[name])) for name in dimensions),
            str(s.n),
            _bare(s.good), _ends(s.good), _bare(s.harm), _ends(s.harm),
            *(_bare(e) for e in (s.harm_answered, s.refusal, s.over_refusal, s.degenerate, s.off_language)),
            str(s.needs_judge) if s.needs_judge else "",
            style="dim" if s.n < ENOUGH else "",
        )  # fmt: skip
    return table


def published_table(cells: Mapping[tuple[str, str], Mean]) -> Table:
    """The published protocol's four cells."""
    table = Table(box=None, pad_edge=False)
    for heading in ("scope", "turns", "n", "cultures", "macro", "95 % interval"):
        table.add_column(heading, justify="left" if heading in ("scope", "turns") else "right", no_wrap=True)
    for (scope, turns), mean in cells.items():
        ends = "" if math.isnan(mean.low) else f"{percent(mean.low)} - {percent(mean.high)}"
        style = "dim" if mean.n < ENOUGH else ""
        table.add_row(scope, turns, str(mean.n), str(mean.cultures), percent(mean.value) or "-", ends, style=style)
    return table


def change_table(changes: Sequence[Change]) -> Table:
    """How often another way of asking brought another kind of reply."""
    table = Table(box=None, pad_edge=False)
    for heading in ("variant", "n", "changed", "95 % interval", "consistent", "random"):
        table.add_column(heading, justify="left" if heading == "variant" else "right", no_wrap=True)
    for c in changes:
        e = c.flips
        table.add_row(c.variant, str(e.n), percent(e.value) or "-", _ends(e), percent(c.consistent), percent(c.random))
    return table


def spread_words(spreads: Sequence[Spread]) -> str:
    """Each rate's range over ways of asking, in a sentence."""
    return "; ".join(f"{s.measure.replace('_', ' ')} {percent(s.low)} to {percent(s.high)}" for s in spreads)


def _estimate(name: str, e: Estimate) -> dict[str, object]:
    value = None if math.isnan(e.value) else round(e.value, 6)
    known = {f"{name}_low": round(e.low, 6), f"{name}_high": round(e.high, 6), f"{name}_interval": e.method}
    return {name: value, f"{name}_n": e.n, **(known if e.n else dict.fromkeys(known))}


def _bare(e: Estimate) -> str:
    return f"{100 * e.value:.0f}" if e.n else "-"


def _ends(e: Estimate) -> str:
    return f"{100 * e.low:.0f}-{100 * e.high:.0f}" if e.n else ""
