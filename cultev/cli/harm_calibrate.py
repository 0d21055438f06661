"""``cultev harm calibrate``: a judge against people, and the rate that is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import db_option, table_options

if TYPE_CHECKING:
    import sqlite3

    from cultev.cli.output import Column
    from cultev.harm.calibrate import Calibration
    from cultev.stats.estimate import Estimate


LEGEND = (
    "judge: the share it calls harmful, of what it could read. corrected: that rate, put right by people's labels,"
    " with its interval. R-G: corrected by error rates instead (Rogan and Gladen). sensitivity: how many of the"
    " harmful replies it finds; specificity: how many of the others it leaves alone. kappa: agreement with people"
    " beyond chance. !: uncalibrated judge: with fewer than 20 labels on either side of its verdicts, or saying little"
    " more than a coin would. More: cultev guide harm"
)


@click.command("calibrate")
@click.argument("run", required=False)
@click.option("--judge", metavar="NAME", help="One judge, by name or id. [default: all machines, as a jury]")
@click.option(
    "--reading",
    type=click.Choice(["strict", "loose"]),
    default="strict",
    show_default=True,
    help="Whether borderline counts as harm.",
)
@click.option(
    "--by", multiple=True, metavar="DIMENSION", help="Cells by culture, language, area, scope, form, region; repeat."
)
@click.option("--twins", is_flag=True, help="Replies to the harmless twins instead of the loaded questions.")
@db_option
@table_options
def calibrate(
    run: str | None, judge: str | None, reading: str, by: tuple[str, ...], twins: bool, db: Path, as_json: bool,
    as_csv: bool,
) -> None:  # fmt: skip
    """Compare a judge with the people who labelled replies of RUN, and correct its rate of harm by them.

    The corrected rate is the judge's own plus what people found it to be wrong by (prediction-powered inference, taken
    verdict by verdict); its interval holds for few labels and rates near 0 too. Rogan and Gladen's, which rests on the
    judge's error rates, stands beside it. Without labels the judge's rate is only its opinion.
    """
    from cultev.cli.harm_judge import harm_run
    from cultev.cli.output import emit_table, folded, note, output_form
    from cultev.cli.show import note_contents
    from cultev.errors import JudgeError
    from cultev.harm.calibrate import LEAST_LABELS
    from cultev.harm.calibrate import calibrate as compute
    from cultev.run.store import explained, open_results

    output_form(as_json, as_csv)
    connection = open_results(db, write=False)
    try:
        with explained(db):
            head = harm_run(connection, run)
            note_contents(connection, head["id"])
            whole = compute(connection, head["id"], judge=judge, reading=reading, loaded=not twins)
            cells = whole + (
                compute(connection, head["id"], judge=judge, reading=reading, by=by, loaded=not twins) if by else []
            )
            _show_jury(connection, head["id"], judge)
    finally:
        connection.close()
    if not cells:
        raise JudgeError(
            f"Nobody has judged replies of run {head['id']} yet.", "Judge them: cultev harm judge --with MODEL"
        )
    rows = [_row(cell, by) for cell in cells]
    if as_json or as_csv:
        emit_table(_columns(by), rows, json=as_json, csv=as_csv)
    else:
        emit_table(_rates(by), rows, title=f"Harm in run {head['id']}")
        click.echo()
        emit_table(_errors(by), rows, title="The judge against people")
        click.echo("\n" + folded(LEGEND))
    (all_of_it,) = whole
    if all_of_it.stamp:
        why = (
            "nobody has labelled any of these replies"
            if not all_of_it.labelled
            else f"{all_of_it.labelled} labels are too few, {LEAST_LABELS} are needed on each side of its verdicts"
            if not all_of_it.enough and all_of_it.errors.calibrated
            else f"sensitivity + specificity - 1 is {all_of_it.errors.informed:.2f}: it says little more than a coin"
            if not math.isnan(all_of_it.errors.informed)
            else "people's labels are all alike"
        )
        note(f"Uncalibrated judge: {why}. Draw a sheet for people: cultev harm queue")
    elif all_of_it.people_alone:
        note("No machine has judged these replies: the rate is that of people's sample.")
    if not math.isnan(all_of_it.agreement.people_alpha):
        note(f"People agree among themselves with Krippendorff's alpha {all_of_it.agreement.people_alpha:.2f}.")


def _show_jury(connection: sqlite3.Connection, run: str, judge: str | None) -> None:
    from cultev.cli.output import note
    from cultev.harm.jury import jury
    from cultev.harm.verdicts import judges_of, verdicts_by

    seats = [s for s in judges_of(connection, run) if s.decides or judge in (s.name, s.id)]
    for seat in seats:
        if seat.unread and judge in (None, seat.name, seat.id):
            note(f"{seat.name} gave no verdict on {seat.unread:,} of {seat.n:,} replies ({seat.unread / seat.n:.1%}).")
    if judge is None and len(seats) > 1:
        found = jury([verdicts_by(connection, run, s.id) for s in seats])
        names = ", ".join(s.name for s in seats)
        note(
            f"A jury of {len(seats)} ({names}): they differ on {found.disagreement:.1%} of {found.n:,} replies"
            f" (Krippendorff's alpha {found.alpha:.2f})."
        )


def _share(value: float) -> str:
    from cultev.report.tables import percent

    return percent(value)


def _rates(by: tuple[str, ...]) -> list[Column | str]:
    """What a terminal shows first."""
    from cultev.cli.output import Column

    columns: list[Column | str] = [Column(name) for name in by]
    columns += [Column("judged", title="replies", align="right", whole=True)]
    columns += [Column("labelled", title="labels", align="right", whole=True)]
    columns += [Column("raw_marked", title="judge", align="right", whole=True)]
    columns += [
        Column("corrected", align="right", show=_share, whole=True),
        Column("corrected_interval", "95 % interval", whole=True),
    ]
    return [*columns, Column("rogan_gladen", title="R-G", align="right", show=_share, whole=True)]


def _errors(by: tuple[str, ...]) -> list[Column | str]:
    """What a terminal shows beneath."""
    from cultev.cli.output import Column

    def number(value: object) -> str:
        return "" if not isinstance(value, float) or math.isnan(value) else f"{value:.2f}"

    columns: list[Column | str] = [Column(name) for name in by]
    for name in ("sensitivity", "specificity"):
        columns += [
            Column(name, align="right", show=_share, whole=True),
            Column(f"{name}_interval", "95 % interval", whole=True),
        ]
    return [*columns, Column("kappa", align="right", show=number, whole=True)]


def _columns(by: tuple[str, ...]) -> list[Column | str]:
    """Everything, for JSON and CSV."""
    names = ("raw", "corrected", "rogan_gladen", "sensitivity", "specificity", "kappa")
    ends = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    return [*by, "judged", "labelled", "unread", *ends, "agreement", "people_alpha", "groups", "method", "note"]


def _row(cell: Calibration, by: tuple[str, ...]) -> dict[str, object]:
    from cultev.report.harm import STAMPED

    row: dict[str, object] = {name: cell.place.get(name, "all") for name in by}
    row |= {"judged": cell.judged, "labelled": cell.labelled, "unread": cell.unread}
    estimates: Iterator[tuple[str, Estimate]] = iter(
        (
            ("raw", cell.raw),
            ("corrected", cell.corrected),
            ("rogan_gladen", cell.rogan_gladen),
            ("sensitivity", cell.errors.sensitivity),
            ("specificity", cell.errors.specificity),
        )
    )
    for name, estimate in estimates:
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        known = not math.isnan(estimate.value)
        row[f"{name}_interval"] = f"{_share(estimate.low)} - {_share(estimate.high)}" if known else ""
    agreement = cell.agreement
    return row | {
        "kappa": agreement.kappa,
        "kappa_low": agreement.kappa_low,
        "kappa_high": agreement.kappa_high,
        "agreement": agreement.raw,
        "people_alpha": agreement.people_alpha,
        "groups": cell.corrected.groups,
        "method": cell.corrected.method,
        "note": cell.stamp,
        "raw_marked": _share(cell.raw.value) + (STAMPED if cell.stamp else ""),
    }
