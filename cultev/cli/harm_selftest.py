"""``cultev harm selftest``: planted respondents, each of whom must land in its own outcome."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import limit_option, suites_option, table_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cultev.harm.selftest import Report
    from cultev.suite.store import Suite

LABELS = 200
"""Replies that people label in a file made with --keep."""


@click.command()
@suites_option("A suite with dialogues", "one about invented peoples, in every language")
@limit_option("items of each suite")
@click.option(
    "--judge-errs",
    type=click.FloatRange(0.0, 0.5),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Share of the planted judge's verdicts that are turned round.",
)
@click.option(
    "--keep",
    "kept",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a results file to learn the tables on instead: a respondent that now refuses, now goes along, now"
    " answers; a judge that errs; 200 people's labels.",
)
@table_options
def selftest(
    suite_names: tuple[str, ...],
    limit: int | None,
    judge_errs: float,
    kept: Path | None,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Show that the harm test tells kinds of replies apart, without any model.

    Planted respondents refuse, go along with the premise, stray into another language, go in circles, or answer well.
    Each must land in its own outcome in every language, and no bad one may look as good as the one that answers.
    """
    from cultev.cli.output import note, output_form
    from cultev.cli.run import open_suites
    from cultev.errors import CultevError
    from cultev.harm.selftest import invented_suite, self_test

    output_form(as_json, as_csv)
    with contextlib.ExitStack() as stack:
        suites = (
            stack.enter_context(open_suites(suite_names)) if suite_names else [stack.enter_context(invented_suite())]
        )
        if kept is not None:
            _demonstrate(kept, suites, judge_errs)
            return
        report = self_test(suites, errs=judge_errs, limit=limit, tell=lambda name: note(f"The one that {name} ..."))
    _print(report, as_json, as_csv, judged_well=not judge_errs)
    if report.flattered or (not judge_errs and report.misplaced):
        raise CultevError(
            "The harm test does not tell these respondents apart.", "This is a fault of cultev's: report it."
        )


def _demonstrate(file: Path, suites: Sequence[Suite], errs: float) -> None:
    from cultev.cli.output import note
    from cultev.harm.demonstration import demonstrate

    done = demonstrate(file, suites, errs=errs, labels=LABELS)
    note(
        f"Run {done.run} is in {file}: {done.n:,} replies for judges, {done.labelled} of them labelled by people."
        f" The truth: {100 * done.harmful:.1f} % of those to loaded questions are harmful,"
        f" and {100 * done.good:.1f} % of all replies are good."
    )
    note(f"Read it: cultev harm show --db {file}; cultev harm calibrate --db {file} --reading loose")


def _print(report: Report, as_json: bool, as_csv: bool, *, judged_well: bool) -> None:
    from cultev.cli.output import Column, emit_table, note

    if judged_well and (as_json or as_csv):
        rows = [
            {"respondent": s.respondent, "language": s.language, "outcome": s.expected, "n": s.n, "share": s.value}
            for s in report.shares
        ]
        emit_table(["respondent", "language", "outcome", "n", "share"], rows, json=as_json, csv=as_csv)
        return
    lines = []
    for name, summary in report.overall.items():
        own = [s for s in report.shares if s.respondent == name]
        worst = min(own, key=lambda s: s.value)
        lines.append(
            {
                "respondent": name, "replies": summary.n, "outcome": own[0].expected,
                "least": worst.value, "worst": worst.language, "good": summary.good.value,
                "harm": summary.harm.value, "harm_answered": summary.harm_answered.value,
                "refused": summary.refusal.value, "over_refused": summary.over_refusal.value,
                "broken": summary.degenerate.value, "off_language": summary.off_language.value,
            }
        )  # fmt: skip
    titles = {
        "good": "good", "harm": "harm", "harm_answered": "answ.", "refused": "ref.", "over_refused": "over",
        "broken": "brk.", "off_language": "off",
    }  # fmt: skip
    columns = [
        Column("respondent", title="who", whole=True),
        Column("replies", in_table=False),
        Column("outcome", title="lands in", whole=True),
        Column("least", align="right", show=_in_percent, whole=True),
        Column("worst", in_table=False),
        *(Column(rate, title, align="right", show=_in_percent, whole=True) for rate, title in titles.items()),
    ]
    emit_table(columns, lines, json=as_json, csv=as_csv)
    if not (as_json or as_csv):
        languages = len({s.language for s in report.shares})
        note(
            f"In %. least: land where they belong, in the worst of {languages} languages. good: what the question calls"
            " for."
            " harm: of loaded questions. answ.: harm of coherent answers. ref.: refused; over: refused, of harmless"
            " questions. brk.: broken. off: in another language."
        )


def _in_percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.0f}"
