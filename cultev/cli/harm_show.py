"""``cultev harm show``: what a harm run came to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cultev.cli.options import db_option, table_options

if TYPE_CHECKING:
    from rich.console import Console

    from cultev.harm.summary import Judged, Verdict

UNCALIBRATED = "uncalibrated judge"
"""Stamped on every judged figure for which no people's labels correct the judge."""

TABLES = (("scope", "turns"), ("language",), ("culture",), ("area",))


@click.command()
@click.argument("run", required=False)
@click.option(
    "--by",
    multiple=True,
    metavar="DIMENSION",
    help="Group by culture, region, area, scope, turns, language, form, severity, stance, variant or sample instead;"
    " may be repeated.",
)
@click.option("--judge", metavar="NAME", help="Whose verdicts to count. [default: the only judge's, or the majority's]")
@db_option
@table_options
def show(run: str | None, by: tuple[str, ...], judge: str | None, db: Path, as_json: bool, as_csv: bool) -> None:
    """Show the tables of RUN (its id, or the beginning of it; nothing means the newest harm run)."""
    show_harm(db, run, by=by, judge=judge, as_json=as_json, as_csv=as_csv)


def show_harm(
    db: Path,
    run: str | None,
    *,
    by: Sequence[str] = (),
    judge: str | None = None,
    as_json: bool = False,
    as_csv: bool = False,
) -> None:
    """Print a harm run's tables, or its cells as JSON or CSV.

    Raises:
        ResultsError: the file can't be read.
        UsageError: no such run or dimension.
    """
    from cultev.cli.output import output_form
    from cultev.harm.summary import check_dimensions, judged
    from cultev.run.store import explained, open_results

    form = output_form(as_json, as_csv)
    check_dimensions(by)
    connection = open_results(db, write=False)
    try:
        with explained(db):
            head = harm_head(connection, run)
            verdicts = verdicts_of(connection, head["id"], judge)
            found = list(judged(connection, head["id"], verdicts))
    finally:
        connection.close()
    if form == "table":
        _print_tables(head, found, by, verdicts)
    else:
        _print_plain(head, found, by, verdicts, form)


def harm_head(connection: sqlite3.Connection, run: str | None) -> dict[str, Any]:
    """A harm run's own row with its model's; the newest harm run's for None.

    Raises:
        UsageError: there is none, or it is a run of another kind.
    """
    from cultev.cli.harm_judge import harm_run

    head: dict[str, Any] = dict(harm_run(connection, run))
    head["protocol"] = json.loads(head["protocol"])
    return head


def verdicts_of(connection: sqlite3.Connection, run: str, judge: str | None) -> Mapping[str, Verdict]:
    """What judges said of a run's replies, by key."""
    from cultev.harm.verdicts import of_run

    return of_run(connection, run, judge)


def _print_tables(
    head: dict[str, Any], found: Sequence[Judged], by: Sequence[str], verdicts: Mapping[str, Verdict]
) -> None:
    from rich.console import Console
    from rich.markup import escape

    from cultev.harm.summary import summarise
    from cultev.report.harm import LEGEND, outcome_table, overall_table, summary_table
    from cultev.report.text import printable

    console = Console(highlight=False)
    model, quantization = (escape(printable(head[key])) for key in ("model_name", "quantization"))
    console.print(f"[bold]{model}[/] {quantization} ({head['format']}), harm run {head['id']}")
    console.print(_how(head))
    if head["reference"]:
        console.print("[yellow]A reference model for checking cultev: it knows an invented world only.[/]")
    console.print(f"[yellow]{_stamp(verdicts)}[/]")
    plain = _of_first_variant(head, found)
    if by:
        console.print(summary_table(summarise(found if "variant" in by else plain, by), by))
        console.print(LEGEND, style="dim")
        return
    for overall in summarise(plain):
        console.print()
        console.print(overall_table(overall))
        console.print()
        console.print(outcome_table(overall))
    for dimensions in TABLES:
        cells = summarise(plain, dimensions)
        if len(cells) > 1:
            console.print(f"\n[bold]By {' and '.join(dimensions)}[/]")
            console.print(summary_table(cells, dimensions))
    if verdicts:
        _print_means(console, plain)
    _print_robustness(console, head, found)
    console.print()
    console.print(LEGEND, style="dim")


def _print_means(console: Console, plain: Sequence[Judged]) -> None:
    """Macro and micro means, the published number, and which cultures may be ranked."""
    from cultev.harm.means import PUBLISHED_NAME, borne_out, macro, published
    from cultev.harm.summary import summarise
    from cultev.report.harm import published_table
    from cultev.report.tables import percent
    from cultev.stats.summary import ENOUGH

    mean, micro = macro(plain), next(iter(summarise(plain))).harm
    console.print(f"\nHarm rate: macro {percent(mean.value)} (every culture alike), micro {percent(micro.value)}"
                  f" (every reply alike) [{UNCALIBRATED}]", markup=False)  # fmt: skip
    pairs = borne_out(summarise(plain, ("culture",)), "harm", "culture", ENOUGH)
    if pairs:
        told = "; ".join(f"{low} below {high}" for low, high in pairs[:12]) + ("; ..." if len(pairs) > 12 else "")
        console.print(f"Intervals that don't overlap: {told}. All other cultures are in no order.", markup=False)
    else:
        console.print(
            "No two cultures' harm rates can be ranked: their intervals overlap, or they rest on few replies."
        )
    console.print(f"\n[bold]{PUBLISHED_NAME}[/]")
    console.print(published_table(published(plain)))


def _print_robustness(console: Console, head: dict[str, Any], found: Sequence[Judged]) -> None:
    from cultev.harm.robustness import changes, spreads
    from cultev.harm.summary import MEASURES, summarise
    from cultev.report.harm import change_table, spread_words

    variants = head["protocol"]["variants"]
    if len(variants) < 2:
        return
    console.print("\n[bold]Asked otherwise: how often the kind of reply changes[/]")
    console.print(change_table(changes(found, variants)))
    words = spread_words(spreads(summarise(found, ("variant",)), MEASURES))
    if words:
        console.print(f"Over {len(variants)} ways of asking: {words}.")


def _print_plain(
    head: dict[str, Any], found: Sequence[Judged], by: Sequence[str], verdicts: Mapping[str, Verdict], form: str
) -> None:
    from cultev.cli.output import emit_csv, plain_value
    from cultev.harm.means import PUBLISHED_NAME, macro, published
    from cultev.harm.robustness import changes, spreads
    from cultev.harm.summary import MEASURES, summarise
    from cultev.report.harm import mean_row, summary_row

    plain = _of_first_variant(head, found)
    by = by or ("culture", "area", "scope", "turns", "language")
    stamp = "" if not verdicts else UNCALIBRATED
    among = found if "variant" in by else plain
    rows = [{"model": head["model_name"], **summary_row(s), "judge": stamp} for s in summarise(among, by)]
    if form == "csv":
        emit_csv(list(rows[0]) if rows else [*by], [list(row.values()) for row in rows])
        return
    variants = head["protocol"]["variants"]
    told = {
        "run": {**head, "reference": bool(head["reference"])},
        "judged": bool(verdicts),
        "judge": stamp,
        "overall": [summary_row(s) for s in summarise(plain)],
        "macro_harm": mean_row(macro(plain)) if verdicts else None,
        "published": {
            "name": PUBLISHED_NAME,
            "cells": [
                {"scope": scope, "turns": turns, **mean_row(mean)} for (scope, turns), mean in published(plain).items()
            ],
        } if verdicts else None,
        "robustness": {
            "changes": [
                {"variant": c.variant, "n": c.flips.n, "changed": c.flips.value, "low": c.flips.low,
                 "high": c.flips.high, "consistent": c.consistent, "random": c.random}
                for c in changes(found, variants)
            ],
            "spreads": [
                {"measure": s.measure, "low": s.low, "high": s.high}
                for s in spreads(summarise(found, ("variant",)), MEASURES)
            ],
        },
        "cells": rows,
    }  # fmt: skip
    click.echo(json.dumps(plain_value(told), ensure_ascii=False, indent=2))


def _of_first_variant(head: dict[str, Any], found: Sequence[Judged]) -> list[Judged]:
    first = head["protocol"]["variants"][0]
    return [one for one in found if one.reply.variant == first]


def _stamp(verdicts: Mapping[str, Verdict]) -> str:
    if not verdicts:
        return "Not judged: nothing is known about harm yet. Go on with `cultev harm judge`."
    return f"Every judged figure: {UNCALIBRATED}. People's labels would correct it: cultev guide harm"


def _how(head: dict[str, Any]) -> str:
    protocol = head["protocol"]
    turns = "fixed replies in earlier turns" if protocol["canned"] else "the model's own replies in earlier turns"
    how = f"{protocol['samples']} samples at {protocol['temperature']}" if protocol["temperature"] else "greedy"
    system = "a system prompt" if protocol["variants"][0] == "system" else "no system prompt"
    status = "" if head["status"] == "done" else f"; [yellow]{head['status']}, not complete[/]"
    return f"{how}, up to {protocol['max_tokens']} tokens, {system}, {turns}{status}"
