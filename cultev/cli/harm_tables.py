"""A harm run's tables on the terminal, in the order in which they should be read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from cultev.harm.summary import Summary
    from cultev.harm.told import Told
    from cultev.report.heatmap import HeatMap

TABLES = (("scope", "turns"), ("language",), ("culture",), ("area",))

OWN = "judge's own"
"""What a figure is that nobody has corrected, where the run's judge is calibrated."""

RANKED = 12
"""Pairs of cultures whose order is told before the rest is left out."""


def print_tables(told: Told, by: Sequence[str]) -> None:
    """Print what a run came to: all of it, or with ``by`` the cells of these dimensions alone."""
    from rich.console import Console
    from rich.markup import escape

    from cultev.harm.summary import summarise
    from cultev.report.harm import LEGEND, outcome_table, overall_table
    from cultev.report.heatmap import heat_lines
    from cultev.report.text import printable

    console, head, plain = Console(highlight=False), told.head, told.plain
    model, quantization = (escape(printable(head[key])) for key in ("model_name", "quantization"))
    console.print(f"[bold]{model}[/] {quantization} ({head['format']}), harm run {head['id']}")
    console.print(_how(head))
    if head["reference"]:
        console.print("[yellow]A reference model for checking cultev: it knows an invented world only.[/]")
    for line in _judge_words(told):
        console.print(f"[yellow]{line}[/]")
    if by:
        console.print()
        _print_cells(console, told, summarise(told.found if "variant" in by else plain, by), by)
        console.print()
        console.print(LEGEND, style="dim")
        return
    for overall in summarise(plain):
        console.print()
        console.print(overall_table(overall, told.corrected([overall], ())[0], told.good))
        console.print()
        console.print(outcome_table(overall))
    for dimensions in TABLES:
        cells = summarise(plain, dimensions)
        if len(cells) > 1:
            console.print(f"\n[bold]By {' and '.join(dimensions)}[/]")
            _print_cells(console, told, cells, dimensions)
    if len({(one.reply.culture, one.reply.area) for one in plain}) > 1:
        console.print()
        console.print(heat_lines(heat_of(told), console.width))
    if told.verdicts:
        _print_means(console, told)
    _print_robustness(console, told)
    console.print()
    console.print(LEGEND, style="dim")


def _judge_words(told: Told) -> Iterator[str]:
    """What must be known of the judge before any figure of its is read."""
    from cultev.harm.summary import summarise
    from cultev.report.harm import judged_words
    from cultev.report.text import printable

    calibration = told.calibration
    for name, test in told.failed.items():
        yield f"{printable(name)} judged although it fails its self-test, right: {test}. Its figures may mean nothing."
    if told.verdicts:
        for overall in summarise(told.plain):
            yield judged_words(overall)
    if calibration is None:
        asks = sum(overall.asks_judge for overall in summarise(told.plain))
        if not asks:
            yield "No reply needs a judge: the rules know what each of them is."
            return
        yield (
            f"Not judged: {asks:,} {'replies need' if asks > 1 else 'reply needs'} a judge, and nothing is known about"
            " harm yet. Go on with `cultev harm judge --with MODEL`."
        )
        return
    if calibration.stamp:
        yield f"Every judged figure: {calibration.stamp}. People's labels correct it: cultev guide harm"
        return
    yield (
        f"People have labelled {calibration.labelled:,} replies to loaded questions: corrected lines rest on them,"
        " each on its own labels. Every other judged figure is the judge's own, and rows marked ! have too few labels"
        " of their own: uncalibrated judge. See cultev harm calibrate."
    )


def _print_cells(console: Console, told: Told, cells: Sequence[Summary], by: Sequence[str]) -> None:
    """A table of cells, each corrected by its own labels or marked."""
    from cultev.report.harm import summary_table

    corrected = told.corrected(cells, by)
    console.print(summary_table(cells, by, corrected, told.stamps(corrected)))


def _print_means(console: Console, told: Told) -> None:
    """Macro and micro means, the published number, and which cultures may be ranked."""
    from cultev.harm.means import PUBLISHED_NAME, any_of_samples, borne_out, macro, published
    from cultev.harm.summary import summarise
    from cultev.report.harm import mean_words, published_table
    from cultev.report.tables import percent
    from cultev.stats.summary import ENOUGH

    plain, stamp = told.plain, f" [{told.stamp or OWN}]"
    overall = next(iter(summarise(plain)))
    if math.isnan(overall.harm.value):
        console.print("\nMeans over cultures, their order and the published number: too few replies are judged.")
        return
    micro = overall.harm
    console.print(
        f"\nHarm rate: macro {mean_words(macro(plain))} (every culture alike), micro {percent(micro.value)}"
        f" (every reply alike){stamp}",
        markup=False,
    )
    samples = told.head["protocol"]["samples"]
    if samples > 1:
        worst = any_of_samples(plain)
        console.print(
            f"At least one of {samples} samples harmful: {percent(worst.value)} of {worst.n} questions{stamp}",
            markup=False,
        )
    pairs = borne_out(summarise(plain, ("culture",)), "harm", "culture", ENOUGH)
    if pairs:
        ranked = "; ".join(f"{low} below {high}" for low, high in pairs[:RANKED])
        rest = f"; and {len(pairs) - RANKED} more pairs" if len(pairs) > RANKED else ""
        console.print(f"Intervals that don't overlap: {ranked}{rest}. All others are in no order.", markup=False)
    else:
        console.print("No two cultures' harm rates can be ranked: intervals overlap, or there are few replies.")
    console.print(f"\n{PUBLISHED_NAME}{stamp}", style="bold", markup=False)
    console.print(published_table(published(plain)))


def _print_robustness(console: Console, told: Told) -> None:
    from cultev.harm.robustness import both_wordings, changes, left_out, same_questions, spreads
    from cultev.harm.summary import MEASURES
    from cultev.report.harm import change_table, spread_words, ways_table

    variants, stamp = told.head["protocol"]["variants"], f" [{told.stamp or OWN}]" if told.calibration else ""
    changed = changes(told.found, variants)
    if not changed:
        return
    console.print("\n[bold]Asked otherwise: how often the kind of reply changes[/]")
    console.print(change_table(changed))
    for ways in (same_questions(told.found, variants), both_wordings(told.found, variants[0])):
        if not ways:
            continue
        console.print()
        console.print(f"The same questions, each way{stamp}", style="bold", markup=False)
        console.print(ways_table(ways))
        words = spread_words(spreads(ways, MEASURES))
        if words:
            console.print(f"Over {len(ways)} ways of asking: {words}.")
    if len(variants) > 1 and (missing := left_out(told.found, variants)):
        console.print(f"{missing:,} questions got no reply in some way of asking, and are left out of all.")


def _mapped(told: Told) -> str:
    """What the heat map shows: harm where there are verdicts, otherwise what rules can tell."""
    return "harm" if told.verdicts else "refusal"


def heat_of(told: Told) -> HeatMap:
    """The heat map, with what its cells' own labels say about the judge there."""
    from cultev.report.harm import harm_map_of

    return harm_map_of(told.plain, _mapped(told), lambda rows, by: told.stamps(told.corrected(rows, by)))


def _how(head: dict[str, Any]) -> str:
    protocol = head["protocol"]
    turns = "fixed replies in earlier turns" if protocol["canned"] else "the model's own replies in earlier turns"
    how = f"{protocol['samples']} samples at {protocol['temperature']}" if protocol["temperature"] else "greedy"
    system = "a system prompt" if protocol["variants"][0] == "system" else "no system prompt"
    status = "" if head["status"] == "done" else f"; [yellow]{head['status']}, not complete[/]"
    return f"{how}, up to {protocol['max_tokens']} tokens, {system}, {turns}{status}"
