"""Showing a run: shared by ``cultev run`` and ``cultev runs show``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cultev.run.store import explained, open_results

FULL = ("suite", "culture", "language", "context")


def show_run(
    db: Path,
    run: str,
    *,
    by: Sequence[str] = (),
    norm: str | None = None,
    noted: bool = False,
    as_json: bool = False,
    as_csv: bool = False,
) -> None:
    """Print a run's tables, or its cells as JSON or CSV.

    ``noted``: the suites' content notes have just been shown.

    Raises:
        ResultsError: the file can't be read.
        UsageError: no such run or dimension.
    """
    from cultev.cli.harm_pairs import show_pairs
    from cultev.cli.harm_show import show_harm

    connection = open_results(db, write=False)
    try:
        with explained(db):
            head = run_head(connection, run)
            if head["mode"] == "harm":
                return show_harm(db, head["id"], by=by, as_json=as_json, as_csv=as_csv)
            if head["mode"] == "pairs":
                return show_pairs(db, head["id"], None, by=by, as_json=as_json, as_csv=as_csv)
            if not noted:
                note_contents(connection, head["id"])
            head.update(notes := run_notes(connection, head))
            if as_json or as_csv:
                _print_plain(connection, head, by or FULL, norm, as_json)
            else:
                _print_tables(connection, head, by, norm)
                _print_notes(notes)
    finally:
        connection.close()


def run_head(connection: sqlite3.Connection, run: str) -> dict[str, Any]:
    """A run's own row with its model's, by id or the beginning of one.

    Raises:
        UsageError: none, or several, begin so.
    """
    from cultev.errors import UsageError

    cursor = connection.execute(
        "SELECT r.*, m.name AS model_name, m.format, m.quantization, m.architecture, m.n_params, m.reference"
        " FROM runs r JOIN models m ON m.sha256 = r.model WHERE r.id LIKE ? || '%' ORDER BY r.started_at",
        [run],
    )
    names = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    if len(rows) != 1:
        raise UsageError(
            f"{'No run begins' if not rows else 'Several runs begin'} with '{run}'.",
            "See them: cultev runs list",
        )
    return dict(zip(names, rows[0], strict=True))


def note_contents(connection: sqlite3.Connection, run: str) -> None:
    """Warn, on stderr, of what a run's suites say, before anything of it is shown."""
    from cultev.cli.output import note
    from cultev.run.content import content_notes

    for name, text in content_notes(connection, run).items():
        note(f"Content note ({name}): {text}")


def run_notes(connection: sqlite3.Connection, head: dict[str, Any]) -> dict[str, Any]:
    """What must be known beside a run's figures.

    ``engine_errors``: questions without an answer because the engine died of them. ``moves_per_token``: nats a token
    by which what else is in a batch may move log-probabilities; 0 for a strict run, None when no doctor said.
    """
    query = "SELECT count(*) FROM answers WHERE run = ? AND outcome = 'engine_error'"
    (errors,) = connection.execute(query, [head["id"]]).fetchone()
    moves = None
    if json.loads(head["protocol"]).get("strict"):
        moves = 0.0
    elif connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'proofs'").fetchone():  # none in older files
        row = connection.execute(
            "SELECT max(noise_per_token, worst_per_token) FROM proofs WHERE model = ?"
            " ORDER BY engine = ? DESC, checked_at DESC",
            [head["model"], head["engine"]],
        ).fetchone()
        moves = row[0] if row else None
    return {"engine_errors": errors, "moves_per_token": moves}


def _print_notes(notes: dict[str, Any]) -> None:
    if notes["engine_errors"]:
        n = notes["engine_errors"]
        click.echo(
            f"{n} question{'s have' if n > 1 else ' has'} no answer: the engine died of {'them' if n > 1 else 'it'}"
            " (engine_error). `cultev run ... --retry` asks again."
        )
    if notes["moves_per_token"]:
        click.echo(
            f"Log-probabilities may move by up to {notes['moves_per_token']:.2g} nats a token with what else is in a"
            " batch (cultev doctor)."
        )


def _print_plain(
    connection: sqlite3.Connection, head: dict[str, Any], by: Sequence[str], norm: str | None, as_json: bool
) -> None:
    from cultev.report.tables import cell_row
    from cultev.stats.summary import cells

    rows = [{"model": head["model_name"], **cell_row(cell)} for cell in cells(connection, head["id"], by, norm)]
    if as_json:
        total = [cell_row(cell) for cell in cells(connection, head["id"], ("suite",), norm)]
        head = {**head, "protocol": json.loads(head["protocol"]), "reference": bool(head["reference"])}
        if norm:
            head["norm"] = norm
        click.echo(json.dumps({"run": head, "suites": total, "cells": rows}, ensure_ascii=False, indent=2))
        return
    from cultev.cli.output import emit_csv

    emit_csv(list(rows[0]) if rows else list(by), [list(row.values()) for row in rows])


def _print_tables(connection: sqlite3.Connection, head: dict[str, Any], by: Sequence[str], norm: str | None) -> None:
    from rich.console import Console
    from rich.markup import escape

    from cultev.cli.output import note
    from cultev.report.tables import LEGEND, accuracy_table, matrix
    from cultev.report.text import printable
    from cultev.stats.summary import cells

    console = Console(highlight=False)
    run = head["id"]
    model, quantization = (escape(printable(head[key])) for key in ("model_name", "quantization"))
    console.print(f"[bold]{model}[/] {quantization} ({head['format']}), run {run}")
    console.print(_how(head, norm))
    if head["reference"]:
        console.print("[yellow]A reference model for checking cultev: it knows an invented world only.[/]")
    if by:
        console.print(accuracy_table(cells(connection, run, by, norm), by))
        return
    for suite in cells(connection, run, ("suite",), norm):
        if suite.set_aside.get("too_long") and not suite.accuracy.n:
            note("Every question is longer than the context: see --n-ctx, or use a model with a longer one.")
        name = suite.place["suite"]
        heading = escape(printable(name))
        console.print()
        console.print(accuracy_table([suite], ("suite",)))
        for dimension in ("context", "language", "region", "culture"):
            some = [c for c in cells(connection, run, ("suite", dimension), norm) if c.place["suite"] == name]
            if len(some) > 1:
                console.print(f"\n[bold]{heading} by {dimension}[/]")
                console.print(accuracy_table(some, (dimension,)))
        both = [c for c in cells(connection, run, ("suite", "culture", "language"), norm) if c.place["suite"] == name]
        if len({c.place["language"] for c in both}) > 1:
            console.print(f"\n[bold]{heading}: right, in %, by culture and language[/]")
            console.print(matrix(both, "culture", "language"))
    console.print()
    console.print(LEGEND, style="dim")


def _how(head: dict[str, Any], norm: str | None) -> str:
    mode = {
        "text": "the options' texts",
        "letters": "the options' letters",
        "cot": "the options' texts after the model's own reasoning",
        "json": "",
    }[head["mode"]]
    status = "" if head["status"] == "done" else f"; [yellow]{head['status']}, not complete[/]"
    if not mode:
        return f"By what the model's JSON forms say{status}"
    return f"By the log-likelihood of {mode}, normalised by {norm or head['norm']}{status}"
