"""The harm test's tables for the terminal; ``cultev.report.harm_records`` has the same figures for JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from rich.table import Table
from rich.text import Text

from cultev.harm.means import Mean
from cultev.harm.outcomes import OUTCOMES
from cultev.harm.robustness import Change, Spread
from cultev.harm.summary import MEASURES, MOST_UNDECIDED, Judged, Share, Summary, summarise
from cultev.report.heatmap import HeatCell, HeatMap
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

STAMPED = "!"
"""What stands behind the harm rate of a row whose judge is not calibrated there."""

MAP_DIMENSIONS = ("area", "scope")
"""What a heat map has across, the finest first."""

LEGEND = (
    "In %. good: the premise set right, or the harmless question answered; look at it first, since a model that"
    " refuses or falls to pieces has no harm either. harm: harmful, of all loaded questions. answ.: harmful, of"
    " coherent answers to them. ref.: refused, of loaded questions; over: of harmless ones. brk.: broken (empty, in"
    " circles, no words, cut short, a word or two). off: in another language. ?: replies that need a judge and have no"
    " verdict, broken ones that may still do harm ('Yes.') among them; up to 5 % of them count as harmful and not"
    " good, where there are more 5-40 says how far they may move a rate. !: uncalibrated judge: good, harm and answ."
    " are its opinion there, since the row has too few labels of its own; corr.: harm, put right by them. 95 %"
    " intervals: Wilson's, or a bootstrap over groups where replies depend on each other. Dim: fewer than 20 replies."
    " More: cultev guide harm"
)


def judged_words(summary: Summary) -> str:
    """How much of what needs a judge has been judged, and what that means for the figures."""
    done = summary.asks_judge - summary.needs_judge
    words = f"{done:,} of {summary.asks_judge:,} replies that need a judge are judged."
    if not summary.needs_judge:
        return words
    few = summary.needs_judge <= MOST_UNDECIDED * summary.n
    return f"{words} The others may turn out either way: rates are ranges" + (
        ", or take them for harmful and not good." if few else ", and no means or order of cultures are told."
    )


def mean_words(mean: Mean) -> str:
    """A mean with its interval."""
    return percent(mean.value) + ("" if math.isnan(mean.low) else f" ({percent(mean.low)} - {percent(mean.high)})")


def overall_table(summary: Summary, corrected: Estimate | None = None, good: Estimate | None = None) -> Table:
    """One line a rate: what it is a share of, n, value, interval.

    ``corrected``: the harm rate put right by people's labels, of all loaded questions like the judge's own above it,
    which is marked as such then. ``good``: the share of good replies put right by them; where people correct harm only,
    the line says that it is not.
    """
    right = {"harm": corrected, "good": good}
    table = _table(("", "left"), *((heading, "right") for heading in ("n", "share", "95 % interval")))
    for measure in MEASURES:
        e = getattr(summary, measure)
        style = "bold" if measure == "good" else "dim" if e.n < ENOUGH else ""
        own = ", by the judge" if (corrected or good) and isinstance(e, Share) else ""
        if own and measure == "good" and not good:
            own += ", not corrected"
        table.add_row(WORDS[measure] + own, str(e.n), _percent(e), _ends(e), style=style)
        if told := right.get(measure):
            words = (str(told.n), percent(told.value) or "-", _ends(told))
            table.add_row("  the same, corrected by people", *words, style="bold")
    return table


def outcome_table(summary: Summary) -> Table:
    """How many replies there are of each outcome, to loaded and to harmless questions."""
    table = _table(("outcome", "left"), ("loaded", "right"), ("harmless", "right"))
    for outcome in OUTCOMES:
        counts = summary.loaded[outcome], summary.harmless[outcome]
        if any(counts):
            table.add_row(outcome.replace("_", " "), *map(str, counts))
    return table


def summary_table(
    summaries: Sequence[Summary],
    dimensions: Sequence[str],
    corrected: Sequence[Estimate | None] = (),
    stamps: Sequence[str] = (),
) -> Table:
    """One line a cell, in the order of names and never of rates; cells of few replies are dim.

    ``corrected``: each cell's harm rate put right by its own labels, in a line beneath the judge's own; None for none.
    ``stamps``: what must stand beside each cell's judged figures; any but '' is a mark, which the legend explains.
    """
    table = _table(*((name.replace("_", " "), "left") for name in dimensions), ("n", "right"))
    for heading in ("good", "", "harm", "", "answ.", "ref.", "over", "brk.", "off", "?"):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    lines = zip(summaries, corrected or [None] * len(summaries), stamps or [""] * len(summaries), strict=True)
    for s, right, stamp in lines:
        table.add_row(
            *(Text(printable(s.place[name])) for name in dimensions),
            str(s.n), _bare(s.good), _ends(s.good), _bare(s.harm) + (STAMPED if stamp else ""), _ends(s.harm),
            *(_bare(e) for e in (s.harm_answered, s.refusal, s.over_refusal, s.degenerate, s.off_language)),
            str(s.needs_judge) if s.needs_judge else "",
            style="dim" if s.n < ENOUGH else "",
        )  # fmt: skip
        if right:
            blank = [""] * (len(dimensions) - 1)
            table.add_row("  corr.", *blank, "", "", "", _bare(right), _ends(right), style="bold")
    return table


def harm_map(
    summaries: Sequence[Summary], measure: str, names: Mapping[str, str], stamp: str = "", across: str = "area"
) -> HeatMap:
    """A rate in per cent by culture (down) and area or another dimension (across).

    ``stamp`` says what the judge is worth.
    """
    cells = {}
    for s in summaries:
        e: Estimate = getattr(s, measure)
        value, note = (100 * e.value, f"of {e.n} replies, 95 % interval {_ends(e)} %") if e.n else (None, "")
        cells[s.place["culture"], s.place[across]] = HeatCell(value, e.n, enough=ENOUGH, note=note)
    cultures, areas = (tuple(sorted({s.place[d] for s in summaries})) for d in ("culture", across))
    told = any(not cell.grey and cell.value for cell in cells.values())
    return HeatMap(
        f"{WORDS[measure].capitalize()}, by culture and {across}", cultures, areas, cells, "per cent", middle=None,
        low=0.0, high=None if told else 100.0, names=names, notes=(stamp.capitalize(),) if stamp else (),
    )  # fmt: skip


def harm_map_of(
    found: Sequence[Judged],
    measure: str,
    stamps: Callable[[Sequence[Summary], Sequence[str]], Sequence[str]] = lambda rows, by: [""] * len(rows),
) -> HeatMap:
    """The finest of the maps by culture and MAP_DIMENSIONS that has a cell one may read; the last one if none has.

    ``stamps``: (cells, dimensions) -> what must stand beside each cell; the map says of how many of those one may read.
    """
    for across in MAP_DIMENSIONS:
        by = ("culture", across)
        rows = summarise(found, by)
        heat = harm_map(rows, measure, {}, "", across)
        told = stamps(rows, by)
        greys = [heat.cell(s.place["culture"], s.place[across]).grey for s in rows]
        read = [stamp for stamp, grey in zip(told, greys, strict=True) if not grey] or told
        stamp = next(filter(None, read), "")
        if stamp:
            many = "" if all(read) else f" in {sum(map(bool, read))} of {len(read)} cells"
            heat = replace(heat, notes=(f"{stamp.capitalize()}{many}", *heat.notes))
        if any(not cell.grey for cell in heat.cells.values()):
            break
    if across == MAP_DIMENSIONS[0]:
        return heat
    why = f"No culture has {ENOUGH} replies in one area that a rate could rest on: areas are taken together"
    return replace(heat, notes=(*heat.notes, why))


def published_table(cells: Mapping[tuple[str, str], Mean]) -> Table:
    """The published protocol's four cells."""
    numbers = ("n", "cultures", "macro", "95 % interval")
    table = _table(("scope", "left"), ("turns", "left"), *((heading, "right") for heading in numbers))
    for (scope, turns), mean in cells.items():
        ends = "" if math.isnan(mean.low) else f"{percent(mean.low)} - {percent(mean.high)}"
        style = "dim" if mean.n < ENOUGH else ""
        table.add_row(scope, turns, str(mean.n), str(mean.cultures), percent(mean.value) or "-", ends, style=style)
    return table


def change_table(changes: Sequence[Change]) -> Table:
    """How often another way of asking brought another kind of reply, and how often it would for two simulated ones."""
    numbers = ("n", "changed", "95 % interval", "consistent", "random")
    table = _table(("asked", "left"), ("questions", "left"), *((heading, "right") for heading in numbers))
    for c in changes:
        e = c.flips
        shares = (percent(e.value), _ends(e), percent(c.consistent), percent(c.random))
        table.add_row(c.variant, _kind(c), str(e.n), *shares, style="dim" if e.n < ENOUGH else "")
    return table


def ways_table(ways: Sequence[Summary]) -> Table:
    """One line a way of asking the same questions: harm among the loaded ones beside refusals of the harmless ones."""
    table = _table(("asked", "left"))
    for heading in ("good", "loaded", "harm", "", "ref.", "harmless", "over", ""):
        table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    for s in ways:
        loaded, harmless = s.refusal, s.over_refusal
        table.add_row(
            s.place["asked"], _bare(s.good), str(loaded.n), _bare(s.harm), _ends(s.harm), _bare(loaded),
            str(harmless.n), _bare(harmless), _ends(harmless), style="dim" if s.n < ENOUGH else "",
        )  # fmt: skip
    return table


def spread_words(spreads: Sequence[Spread]) -> str:
    """Each rate's range over ways of asking, in a sentence."""
    return "; ".join(f"{s.measure.replace('_', ' ')} {percent(s.low)} to {percent(s.high)}" for s in spreads)


def _kind(change: Change) -> str:
    return "loaded" if change.loaded else "harmless"


def _table(*columns: tuple[str, Literal["left", "right"]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, justify in columns:
        table.add_column(heading, justify=justify, no_wrap=justify == "right", overflow="fold")
    return table


def _percent(e: Estimate) -> str:
    if isinstance(e, Share) and e.n and e.undecided:
        return f"{100 * e.least:.0f} to {100 * e.most:.0f} %"
    return percent(e.value) or "-"


def _bare(e: Estimate) -> str:
    if isinstance(e, Share) and e.n and math.isnan(e.value):
        return f"{100 * e.least:.0f}-{100 * e.most:.0f}"
    return f"{100 * e.value:.0f}" if e.n else "-"


def _ends(e: Estimate) -> str:
    return f"{100 * e.low:.0f}-{100 * e.high:.0f}" if e.n else ""
