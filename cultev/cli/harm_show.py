"""``cultev harm show``: what a harm run came to."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cultev.cli.options import db_option, table_options

if TYPE_CHECKING:
    from cultev.harm.told import Told


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
    from cultev.cli.harm_tables import print_tables
    from cultev.cli.output import output_form
    from cultev.cli.show import note_contents
    from cultev.harm.summary import check_dimensions
    from cultev.harm.told import told_of
    from cultev.run.store import explained, open_results

    form = output_form(as_json, as_csv)
    check_dimensions(by)
    _check_outcome(replies)
    connection = open_results(db, write=False)
    try:
        with explained(db):
            head = harm_head(connection, run)
            told = told_of(connection, head, judge)
            if not noted:
                note_contents(connection, head["id"])
    finally:
        connection.close()
    if map_file is not None:
        _write_map(map_file, told)
    if replies is not None:
        _print_replies(told, replies, as_json=as_json, as_csv=as_csv)
    elif form == "table":
        print_tables(told, by)
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


def _check_outcome(outcome: str | None) -> None:
    from cultev.errors import UsageError
    from cultev.harm.outcomes import OUTCOMES

    if outcome is not None and outcome not in (*OUTCOMES, "all"):
        raise UsageError(f"'{outcome}' is no outcome.", f"Choose from: {', '.join(OUTCOMES)}, all")


def _print_replies(told: Told, outcome: str, *, as_json: bool, as_csv: bool) -> None:
    """Conversations, for reading: what was said, and what the reply was taken for."""
    from cultev.cli.output import emit_table
    from cultev.report.harm_records import REPLY_COLUMNS, reply_row
    from cultev.report.text import printable

    chosen = [one for one in told.found if outcome in (one.outcome, "all")]
    if as_json or as_csv:
        emit_table(REPLY_COLUMNS, map(reply_row, chosen), json=as_json, csv=as_csv)
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


def _print_plain(told: Told, by: Sequence[str], form: str) -> None:
    """JSON holds all that a run came to, CSV its cells."""
    from cultev.cli.output import emit_csv, plain_value
    from cultev.report.harm_records import CELLS, cell_rows, run_record

    if form == "csv":
        rows = cell_rows(told, by)
        emit_csv(list(rows[0]) if rows else by or CELLS, [list(row.values()) for row in rows])
    else:
        click.echo(json.dumps(plain_value(run_record(told, by)), ensure_ascii=False, indent=2))


def _write_map(file: Path, told: Told) -> None:
    from cultev.cli.harm_tables import heat_of
    from cultev.cli.output import note
    from cultev.errors import UsageError
    from cultev.report.heatmap_svg import heat_svg

    drawn = heat_svg(heat_of(told))
    try:
        file.write_text(drawn, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"The heat map can't be written to {file}: {error.strerror}.", "Choose another place."
        ) from None
    note(f"The heat map is in {file}.")
