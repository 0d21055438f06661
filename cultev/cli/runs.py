"""``cultev runs``: what is in a results file."""

from __future__ import annotations

from pathlib import Path

import click

from cultev.cli.options import db_option, table_options
from cultev.cli.run import NORMS

ANSWERS = (("answers", ""), ("exchanges", " AND a.last"), ("pair_answers", ""))
"""Tables that a run's answers are in, each with what makes a row one answer."""


@click.group()
def runs() -> None:
    """List and show the runs of a results file."""


@runs.command("list")
@db_option
@table_options
def list_runs(db: Path, as_json: bool, as_csv: bool) -> None:
    """List all runs, the newest last."""
    from cultev.cli.output import Column, emit_table
    from cultev.run.store import explained, is_being_written, open_results

    connection = open_results(db, write=False)
    try:
        with explained(db):
            # Older files have not all of these tables.
            have = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            counts = [f"(SELECT count(*) FROM {t} a WHERE a.run = r.id{only})" for t, only in ANSWERS if t in have]
            rows = connection.execute(
                "SELECT r.id, m.name, m.quantization, r.mode,"
                " (SELECT group_concat(s.name, ' ') FROM run_suites x JOIN suites s ON s.content_hash = x.suite"
                f"  WHERE x.run = r.id), {' + '.join(counts)}, r.n_planned,"
                " r.status, r.started_at FROM runs r JOIN models m ON m.sha256 = r.model ORDER BY r.started_at, r.id"
            ).fetchall()
    finally:
        connection.close()
    if any(row[7] == "running" for row in rows) and not is_being_written(db):
        # Killed without a chance to say so: the writer's lock died with it.
        rows = [(*row[:7], "stopped" if row[7] == "running" else row[7], *row[8:]) for row in rows]
    columns = [
        Column("run", whole=True),
        Column("model"),
        Column("quantization", in_table=False),
        Column("mode", in_table=False),
        Column("suites"),
        Column("answers", align="right"),
        Column("planned", title="of", align="right"),
        Column("status"),
        Column("started", whole=True, show=lambda text: str(text)[:16].replace("T", " ")),
    ]
    emit_table(columns, [list(row) for row in rows], title=f"Runs in {db}", json=as_json, csv=as_csv)


@runs.command("show")
@click.argument("run")
@click.option(
    "--by",
    multiple=True,
    metavar="DIMENSION",
    help="Group by suite, culture, region, topic, language, context, option_order or kind; may be repeated.",
)
@click.option("--norm", type=click.Choice(NORMS), help="Decide by this normalisation instead of the run's own.")
@db_option
@table_options
def show(run: str, by: tuple[str, ...], norm: str | None, db: Path, as_json: bool, as_csv: bool) -> None:
    """Show the tables of RUN (its id, or the beginning of it)."""  # fmt: skip
    from cultev.cli.show import show_run

    show_run(db, run, by=by, norm=norm, as_json=as_json, as_csv=as_csv)
