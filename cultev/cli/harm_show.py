"""``cultev harm show``: what a harm run came to."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cultev.cli.options import db_option, table_options

if TYPE_CHECKING:
    from rich.console import Console

    from cultev.harm.calibrate import Calibration, Evidence
    from cultev.harm.summary import Judged, Summary, Verdict
    from cultev.report.heatmap import HeatMap
    from cultev.stats.estimate import Estimate

TABLES = (("scope", "turns"), ("language",), ("culture",), ("area",))

OWN = "judge's own"
"""What a figure is that nobody has corrected, where the run's judge is calibrated."""

RANKED = 12
"""Pairs of cultures whose order is told before the rest is left out."""


@dataclass(frozen=True)
class Told:
    """All that is known of a run."""

    head: dict[str, Any]
    found: list[Judged]
    verdicts: Mapping[str, Verdict]
    evidence: Evidence | None
    """The judge and people on replies to loaded questions; None where nothing is judged."""
    calibration: Calibration | None
    """The judge against people over all of these."""
    good: Estimate | None
    """The share of good replies as people correct it; None where they can't."""
    notes: dict[str, str]
    """Suite -> content note."""

    @property
    def plain(self) -> list[Judged]:
        """Replies to questions put the first way."""
        first = self.head["protocol"]["variants"][0]
        return [one for one in self.found if one.reply.variant == first]

    @property
    def stamp(self) -> str:
        """What must stand beside figures of the whole run that are judged: 'uncalibrated judge', or '' where people
        have corrected the judge.
        """
        return self.calibration.stamp if self.calibration else ""

    def corrected(self, rows: Sequence[Summary], by: Sequence[str]) -> list[Estimate | None]:
        """Each row's harm rate as people correct it by the row's own labels; None where they can't."""
        return self.evidence.corrected(rows, by) if self.evidence else [None] * len(rows)

    def stamps(self, corrected: Sequence[Estimate | None]) -> list[str]:
        """What must stand beside each row's judged figures."""
        return ["uncalibrated judge" if self.calibration and not known else "" for known in corrected]


@click.command()
@click.argument("run", required=False)
@click.option(
    "--by",
    multiple=True,
    metavar="DIMENSION",
    help="Group by culture, region, area, scope, turns, language, form, severity, stance, variant or sample instead;"
    " may be repeated.",
)
@click.option("--replies", metavar="OUTCOME", help="Print conversations whose reply has this outcome instead ('all').")
@click.option(
    "--map", "map_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the heat map as SVG to this file."
)
@click.option("--judge", metavar="NAME", help="Whose verdicts to count. [default: the only judge's, or the majority's]")
@db_option
@table_options
def show(
    run: str | None,
    by: tuple[str, ...],
    replies: str | None,
    map_file: Path | None,
    judge: str | None,
    db: Path,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show the tables of RUN (its id, or the beginning of it; nothing means the newest harm run)."""
    show_harm(db, run, by=by, judge=judge, replies=replies, map_file=map_file, as_json=as_json, as_csv=as_csv)


def show_harm(
    db: Path,
    run: str | None,
    *,
    by: Sequence[str] = (),
    judge: str | None = None,
    replies: str | None = None,
    map_file: Path | None = None,
    noted: bool = False,
    as_json: bool = False,
    as_csv: bool = False,
) -> None:
    """Print a harm run's tables, its cells as JSON or CSV, or its conversations.

    ``noted``: the suites' content notes have just been shown.

    Raises:
        ResultsError: the file can't be read.
        UsageError: no such run, dimension or outcome.
    """
    from cultev.cli.output import note, output_form
    from cultev.harm.summary import check_dimensions
    from cultev.run.store import explained, open_results

    form = output_form(as_json, as_csv)
    check_dimensions(by)
    _check_outcome(replies)
    connection = open_results(db, write=False)
    try:
        with explained(db):
            head = harm_head(connection, run)
            told = _read(connection, head, judge)
    finally:
        connection.close()
    for name, text in () if noted else told.notes.items():
        note(f"Content note ({name}): {text}")
    if map_file is not None:
        _write_map(map_file, told)
    if replies is not None:
        _print_replies(told, replies, as_json=as_json, as_csv=as_csv)
    elif form == "table":
        _print_tables(told, by)
    else:
        _print_plain(told, by, form)


def harm_head(connection: sqlite3.Connection, run: str | None) -> dict[str, Any]:
    """A harm run's own row with its model's, its protocol read; the newest harm run's for None.

    Raises:
        UsageError: there is none, or it is a run of another kind.
    """
    from cultev.cli.harm_judge import harm_run

    head: dict[str, Any] = dict(harm_run(connection, run))
    head["protocol"] = json.loads(head["protocol"])
    return head


def _read(connection: sqlite3.Connection, head: dict[str, Any], judge: str | None) -> Told:
    from cultev.harm.calibrate import evidence
    from cultev.harm.good import good_by_people
    from cultev.harm.summary import judged
    from cultev.harm.verdicts import of_run

    run = head["id"]
    verdicts = of_run(connection, run, judge)
    known = evidence(connection, run, judge=judge) if verdicts else None
    calibrations = known.cells((), "loose") if known else []
    notes = connection.execute(
        "SELECT s.name, s.content_note FROM run_suites r JOIN suites s ON s.content_hash = r.suite"
        " WHERE r.run = ? AND s.content_note <> ''",
        [run],
    )
    found = list(judged(connection, run, verdicts))
    good = good_by_people(connection, run, found) if verdicts else None
    return Told(head, found, verdicts, known, calibrations[0] if calibrations else None, good, dict(notes.fetchall()))


def _check_outcome(outcome: str | None) -> None:
    from cultev.errors import UsageError
    from cultev.harm.outcomes import OUTCOMES

    if outcome is not None and outcome not in (*OUTCOMES, "all"):
        raise UsageError(f"'{outcome}' is no outcome.", f"Choose from: {', '.join(OUTCOMES)}, all")


def _print_tables(told: Told, by: Sequence[str]) -> None:
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
        _print_cells(console, told, summarise(told.found if "variant" in by else plain, by), by)
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
        console.print(heat_lines(_heat(told), console.width))
    if told.verdicts:
        _print_means(console, told)
    _print_robustness(console, told)
    console.print()
    console.print(LEGEND, style="dim")


def _judge_words(told: Told) -> Iterator[str]:
    """What must be known of the judge before any figure of its is read."""
    from cultev.harm.summary import summarise
    from cultev.report.harm import judged_words

    calibration = told.calibration
    if told.verdicts:
        for overall in summarise(told.plain):
            yield judged_words(overall)
    if calibration is None:
        yield "Not judged: nothing is known about harm yet. Go on with `cultev harm judge`."
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


def _print_replies(told: Told, outcome: str, *, as_json: bool, as_csv: bool) -> None:
    """Conversations, for reading: what was said, and what the reply was taken for."""
    from cultev.cli.output import emit_table
    from cultev.report.text import printable

    chosen = [one for one in told.found if outcome in (one.outcome, "all")]
    if as_json or as_csv:
        fields = ("item", "culture", "area", "scope", "form", "expected", "language", "variant", "sample")
        rows = [
            {
                **{name: getattr(one.reply, name) for name in fields}, "outcome": one.outcome, "why": one.why,
                "turns": [m["content"] for m in one.reply.messages], "reply": one.reply.response,
                "finish": one.reply.finish, "response_sha256": one.reply.response_sha256, "key": one.reply.key,
            }
            for one in chosen
        ]  # fmt: skip
        columns = [*fields, "outcome", "why", "turns", "reply", "finish", "response_sha256", "key"]
        emit_table(columns, rows, json=as_json, csv=as_csv)
        return
    for one in chosen:
        reply = one.reply
        where = f"{reply.item} {reply.language} {reply.variant}" + (f" sample {reply.sample}" if reply.sample else "")
        why = f" ({one.why})" if one.why else ""
        click.echo(click.style(f"== {where}: {one.outcome}{why}", bold=True))
        for message in reply.messages:
            click.echo(f"{'>' if message['role'] == 'user' else '<'} {printable(message['content'])}")
        click.echo(f"< {printable(reply.response)}\n")
    click.echo(f"{len(chosen):,} of {len(told.found):,} conversations.", err=True)


def _mapped(told: Told) -> str:
    """What the heat map shows: harm where there are verdicts, otherwise what rules can tell."""
    return "harm" if told.verdicts else "refusal"


def _heat(told: Told) -> HeatMap:
    """The heat map, with what its cells' own labels say about the judge there."""
    from cultev.report.harm import harm_map_of

    return harm_map_of(told.plain, _mapped(told), lambda rows, by: told.stamps(told.corrected(rows, by)))


def _write_map(file: Path, told: Told) -> None:
    from cultev.cli.output import note
    from cultev.errors import UsageError
    from cultev.report.heatmap_svg import heat_svg

    drawn = heat_svg(_heat(told))
    try:
        file.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The heat map can't be written to {file}: {error.strerror}.", "Choose another place."
        ) from None
    note(f"The heat map is in {file}.")


def _print_plain(told: Told, by: Sequence[str], form: str) -> None:
    from cultev.cli.output import emit_csv, plain_value
    from cultev.harm.means import PUBLISHED_NAME, any_of_samples, macro, published
    from cultev.harm.robustness import changes
    from cultev.harm.summary import summarise
    from cultev.report.harm import change_row, corrected_row, mean_row, summary_row

    head, plain = told.head, told.plain
    by = by or ("culture", "area", "scope", "turns", "language")
    among = told.found if "variant" in by else plain
    cells = summarise(among, by)
    corrected = told.corrected(cells, by)
    rows = [
        {"model": head["model_name"], **summary_row(s), **corrected_row(c), "judge": stamp}
        for s, c, stamp in zip(cells, corrected, told.stamps(corrected), strict=True)
    ]
    if form == "csv":
        emit_csv(list(rows[0]) if rows else [*by], [list(row.values()) for row in rows])
        return
    variants, calibration = head["protocol"]["variants"], told.calibration
    record: dict[str, Any] = {
        "run": {**head, "reference": bool(head["reference"])},
        "judged": bool(told.verdicts),
        "judge": told.stamp,
        "overall": [summary_row(s) for s in summarise(plain)],
        "macro_harm": None,
        "any_of_samples": None,
        "published": None,
        "corrected_harm": None,
        "corrected_good": None,
        "robustness": {
            "changes": [change_row(c) for c in changes(told.found, variants)],
            **_ways_rows(told),
        },
        "cells": rows,
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
    click.echo(json.dumps(plain_value(record), ensure_ascii=False, indent=2))


def _ways_rows(told: Told) -> dict[str, Any]:
    """The same questions asked each way, and how far each rate moves over them."""
    from cultev.harm.robustness import both_wordings, left_out, same_questions, spreads
    from cultev.harm.summary import MEASURES
    from cultev.report.harm import summary_row

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


def _how(head: dict[str, Any]) -> str:
    protocol = head["protocol"]
    turns = "fixed replies in earlier turns" if protocol["canned"] else "the model's own replies in earlier turns"
    how = f"{protocol['samples']} samples at {protocol['temperature']}" if protocol["temperature"] else "greedy"
    system = "a system prompt" if protocol["variants"][0] == "system" else "no system prompt"
    status = "" if head["status"] == "done" else f"; [yellow]{head['status']}, not complete[/]"
    return f"{how}, up to {protocol['max_tokens']} tokens, {system}, {turns}{status}"
