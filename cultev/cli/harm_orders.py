"""``cultev harm orders``: does a model choose between answers or between places?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import (
    db_option,
    engine_options,
    languages_option,
    limit_option,
    retry_option,
    suites_option,
    table_options,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cultev.backend.types import EngineSettings
    from cultev.harm.orders import Both


@click.command()
@click.argument("model", required=False)
@suites_option("A suite with pairs", "harm-pairs")
@languages_option()
@limit_option("pairs of each suite")
@retry_option
@engine_options
@db_option
@table_options
def orders(
    model: str | None,
    suite_names: tuple[str, ...],
    languages: tuple[str, ...],
    limit: int | None,
    retry: bool,
    settings: EngineSettings,
    db: Path,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Have MODEL choose between two answers by letter, in both orders, and see whether the choice stays.

    What the share of changed choices is worth shows beside simulated respondents on the same pairs: one who is
    consistent, one who guesses, one who always takes the first.
    """
    from cultev.backend.load import find_model
    from cultev.cli.engine import answer_run
    from cultev.cli.output import output_form
    from cultev.cli.run import ask_all, needed_tokens, open_suites
    from cultev.cli.show import run_head, run_notes
    from cultev.cli.suites import note_content
    from cultev.errors import UsageError
    from cultev.harm.orders import both_orders, orders_protocol
    from cultev.run.journal import Journal
    from cultev.run.plan import check_languages, count
    from cultev.run.store import explained, open_results

    output_form(as_json, as_csv)
    path = find_model(model)
    protocol = orders_protocol(tuple(sorted(set(languages))), limit, settings.n_ctx, strict=settings.strict)
    with open_suites(suite_names or ("harm-pairs",)) as suites:
        check_languages(suites, protocol)
        for suite in suites:
            note_content(suite)
            if not count(suite, protocol):
                raise UsageError(f"{suite.name} has no pairs to ask.", "See what it has: cultev suites show NAME")
        planned = sum(count(suite, protocol) for suite in suites)
        with Journal(db) as journal:
            run = answer_run(
                path, settings, suites, protocol, journal,
                lambda backend, protocol: ask_all(backend, suites, protocol, journal, planned), needs=needed_tokens,
                retry=retry,
            )  # fmt: skip
    connection = open_results(db, write=False)
    try:
        with explained(db):
            pairs = both_orders(connection, run.id)
            died = run_notes(connection, run_head(connection, run.id))["engine_errors"]
    finally:
        connection.close()
    _print(path.name, pairs, planned // 2, died, as_json=as_json, as_csv=as_csv)


def _print(name: str, pairs: Sequence[Both], asked: int, died: int, *, as_json: bool, as_csv: bool) -> None:
    from cultev.cli.output import Column, emit_table, note
    from cultev.harm.orders import consistency, simulated

    rows = []
    for c in [consistency(name, pairs), *simulated(pairs)]:
        rows.append(
            {
                "respondent": c.who, "n": c.flips.n, "flips": c.flips.value, "flips_low": c.flips.low,
                "flips_high": c.flips.high, "takes_first": c.takes_first.value, "takes_first_low": c.takes_first.low,
                "takes_first_high": c.takes_first.high, "preferred_when_first": c.when_first,
                "preferred_when_second": c.when_second,
            }
        )  # fmt: skip
    columns = [
        Column("respondent", whole=True),
        Column("n", align="right", whole=True),
        Column("flips", title="changed", align="right", show=_percent, whole=True),
        Column("flips_low", title="from", align="right", show=_percent, whole=True),
        Column("flips_high", title="to", align="right", show=_percent, whole=True),
        Column("takes_first", title="1st", align="right", show=_percent, whole=True),
        Column("takes_first_low", in_table=False),
        Column("takes_first_high", in_table=False),
        Column("preferred_when_first", title="good 1st", align="right", show=_percent, whole=True),
        Column("preferred_when_second", title="good 2nd", align="right", show=_percent, whole=True),
    ]
    emit_table(columns, rows, json=as_json, csv=as_csv)
    note(
        "changed: choices that change when the answers change places, with the 95 % interval. 1st: choices that"
        " fall on the first answer. good 1st, 2nd: the better answer chosen where it stands first, and second."
    )
    if len(pairs) < asked:
        note(f"{asked - len(pairs):,} of {asked:,} pairs are left out: tied, longer than the context, or unanswered.")
    if died:
        note(f"The engine died of {died:,} questions (engine_error): the same command with --retry asks them again.")


def _percent(share: float | None) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.0f} %"
