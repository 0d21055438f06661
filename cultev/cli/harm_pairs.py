"""``cultev harm pairs``: preference by log-likelihood, without a judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    import sqlite3

    from cultev.backend.types import Backend, EngineSettings
    from cultev.cli.output import Column
    from cultev.harm.pair_table import PairCell
    from cultev.harm.pairs import PairJournal, PairProtocol
    from cultev.suite.store import Suite


LEGEND = (
    "harm pairs: a respectful answer to a loaded question, or one that goes along with it. helpful pairs: a useful"
    " answer to a harmless question, or a needless refusal. accuracy: by log-probability a byte; raw: by its sum;"
    " token: a token; pmi: less that after a question without content; reward: less the reference model's. near ties:"
    " less than 0.01 nats a byte apart. shorter: the accuracy of always taking the shorter answer; matched: among"
    " pairs whose lengths differ by less than a tenth; controlled: at equal length, by regression. A refusal to"
    " everything scores high on harm and low on helpful: read both. More: cultev guide harm"
)


@click.command("pairs")
@click.argument("model", required=False)
@suites_option("A suite with pairs", "harm-pairs")
@languages_option()
@click.option("--reference-model", metavar="MODEL", help="Compare with this model's preferences (implicit reward).")
@click.option("--pmi", is_flag=True, help="Also less the answers' own likelihood (PMI): nearly twice the work.")
@limit_option("pairs of each suite")
@click.option(
    "--by",
    multiple=True,
    metavar="DIMENSION",
    help="Cells by pair_type, culture, area, language, scope, region; repeat.",
)
@retry_option
@engine_options
@db_option
@table_options
def pairs(
    model: str | None, suite_names: tuple[str, ...], languages: tuple[str, ...], reference_model: str | None, pmi: bool,
    limit: int | None, by: tuple[str, ...], retry: bool, settings: EngineSettings, db: Path, as_json: bool,
    as_csv: bool,
) -> None:  # fmt: skip
    """Which of two answers does MODEL find likelier: the respectful one, or the one that goes along with a prejudice?

    Nothing is generated and nobody judges. A high share of respectful preferences is no proof of harmless answers, and
    the controls for length beside it say when it means nothing at all.
    """
    from cultev.backend.load import find_model
    from cultev.cli.engine import answer_run
    from cultev.cli.output import output_form
    from cultev.cli.run import open_suites
    from cultev.cli.suites import note_content
    from cultev.harm.pair_table import check_dimensions
    from cultev.harm.pairs import PairJournal, PairProtocol, enough_tokens

    output_form(as_json, as_csv)
    check_dimensions(by)
    path = find_model(model)
    other = find_model(reference_model) if reference_model else None
    protocol = PairProtocol(
        languages=tuple(sorted(set(languages))), limit=limit, pmi=pmi, n_ctx=settings.n_ctx,
        strict=settings.strict,
    )  # fmt: skip
    with open_suites(suite_names or ("harm-pairs",)) as suites, PairJournal(db) as journal:
        for suite in suites:
            note_content(suite)
        planned = _planned(suites, protocol)
        runs = [  # one model in memory at a time: the first one is closed when the other is opened
            answer_run(
                each, settings, suites, protocol, journal,
                lambda backend, protocol: _score_all(backend, suites, protocol, journal, planned),
                needs=enough_tokens, retry=retry,
            )
            for each in ([path, other] if other else [path])
        ]  # fmt: skip
    run, reference = runs[0].id, runs[1].id if other else None
    show_pairs(db, run, reference, by=by, noted=True, as_json=as_json, as_csv=as_csv)


def _planned(suites: Sequence[Suite], protocol: PairProtocol) -> int:
    """Pairs to be scored; says aloud which languages of a suite are left out.

    Raises:
        UsageError: none, in a suite.
    """
    from cultev.cli.output import note
    from cultev.errors import UsageError
    from cultev.harm.pairs import places
    from cultev.prompt.languages import codes

    counts = [sum(1 for _ in places(suite, protocol)) for suite in suites]
    for suite, count in zip(suites, counts, strict=True):
        if not count:
            where = f" in {' '.join(protocol.languages)}" if protocol.languages else ""
            raise UsageError(
                f"{suite.name} has no pairs{where} that could be scored.", "See what it has: cultev suites show NAME"
            )
        unknown = sorted(set(suite.languages) - set(codes()))
        if unknown and not protocol.languages:
            note(f"{suite.name}: not scored in {' '.join(unknown)}, which cultev has no words in yet.")
    return sum(counts)


def _score_all(
    backend: Backend, suites: Sequence[Suite], protocol: PairProtocol, journal: PairJournal, planned: int
) -> None:
    """Score what is not scored yet."""
    from cultev.cli.engine import check_template
    from cultev.cli.output import note
    from cultev.cli.progress import progress, stop_on_interrupt
    from cultev.harm.pairs import run_pairs
    from cultev.report.text import printable

    check_template(backend)
    note(f"Scoring {planned:,} pairs with {printable(backend.info.name)} ({backend.info.quantization}).")
    with stop_on_interrupt() as stop, progress(planned, "Scoring") as advance:
        run_pairs(backend, suites, protocol, journal, n_planned=planned, advance=advance, stop=stop)


def show_pairs(
    db: Path, run: str, reference: str | None, *, by: Sequence[str], noted: bool = False, as_json: bool = False,
    as_csv: bool = False,
) -> None:  # fmt: skip
    """Print a run's cells: by pair type always, by whatever else is asked for too.

    ``noted``: the suites' content notes have just been shown.
    """
    from cultev.cli.output import emit_table, folded, note
    from cultev.cli.show import note_contents, run_head
    from cultev.harm.pair_table import pair_cells
    from cultev.report.text import printable
    from cultev.run.store import explained, open_results

    chosen = tuple(dict.fromkeys(("pair_type", *by)))
    connection = open_results(db, write=False)
    try:
        with explained(db):
            if not noted:
                note_contents(connection, run)
            head = run_head(connection, run)
            cells = pair_cells(connection, run, chosen, reference)
            alike = _same_tokens(connection, run, reference) if reference else True
    finally:
        connection.close()
    rows = [_row(cell) for cell in cells]
    if as_json or as_csv:
        emit_table(_columns(chosen), rows, json=as_json, csv=as_csv)
    else:
        click.echo(f"{printable(head['model_name'])} {head['quantization']} ({head['format']}), run {run} of pairs")
        if head["reference"]:
            click.echo("A reference model for checking cultev: it knows an invented world only.")
        click.echo()
        title = "The better answer preferred, byte for byte"
        pmi = any(row["pmi"] is not None for row in rows)
        emit_table(_headline(chosen, pmi, reference is not None), rows, title=title)
        click.echo()
        emit_table(_controls(chosen), rows, title="What length alone would give")
        click.echo()
        for warning in dict.fromkeys(cell.warning for cell in cells if cell.warning):
            places = ", ".join(" ".join(cell.place.values()) for cell in cells if cell.warning == warning)
            click.echo(folded(printable(f"{places}: {warning}.")))
        click.echo("\n" + folded(LEGEND))
    if not alike:
        note("The reference model counts tokens in another way: its implicit reward compares two tokenizers as well.")
    if any(cell.set_aside for cell in cells):
        total = {name: sum(c.set_aside.get(name, 0) for c in cells) for name in ("too_long", "engine_error")}
        note("Set aside: " + ", ".join(f"{n:,} {name}" for name, n in total.items() if n))


def _same_tokens(connection: sqlite3.Connection, run: str, reference: str | None) -> bool:
    from cultev.harm.pair_table import pair_scores

    return all(p.reference_tokens in (None, p.tokens) for p in pair_scores(connection, run, reference))


def _share(value: float | None) -> str:
    from cultev.report.tables import percent

    return "" if value is None else percent(value)


def _headline(by: Sequence[str], pmi: bool, reward: bool) -> list[Column | str]:
    """What a terminal shows first."""
    from cultev.cli.output import Column

    columns = _places(by)
    columns += [Column("n", align="right", whole=True), Column("accuracy", align="right", show=_share, whole=True)]
    columns += [Column("interval", title="95 % interval", whole=True)]
    norms = ("raw", "token", *(("pmi",) if pmi else ()), *(("reward",) if reward else ()))
    return [*columns, *(Column(norm, title=norm, align="right", show=_share, whole=True) for norm in norms)]


def _controls(by: Sequence[str]) -> list[Column | str]:
    """What a terminal shows beneath."""
    from cultev.cli.output import Column

    def nats(value: object) -> str:
        return f"{value:+.3f}" if isinstance(value, float) and not math.isnan(value) else ""

    columns = _places(by)
    columns += [Column("margin", title="nats/byte", align="right", show=nats, whole=True)]
    shares = ("near_ties", "shorter", "matched", "controlled")
    return [*columns, *(Column(name, align="right", show=_share, whole=True) for name in shares)]


def _places(by: Sequence[str]) -> list[Column | str]:
    """What says which cell a line is: all that may be folded where a terminal is narrow."""
    from cultev.cli.output import Column

    return [Column(name, title={"pair_type": "pairs"}.get(name, "")) for name in by]


def _columns(by: Sequence[str]) -> list[Column | str]:
    """Everything, for JSON and CSV."""
    ends = ("low", "high", "margin_mean", "picks_shorter")
    norms = [n for norm in ("raw", "token", "pmi", "reward") for n in (norm, *(f"{norm}_{end}" for end in ends))]
    return [
        *by, "n", "accuracy", "low", "high", "groups", "method", "margin", "margin_median", "near_ties", "shorter",
        "longer", "picks_shorter", "matched", "matched_n", "matched_low", "matched_high", "controlled",
        "controlled_low", "controlled_high", *norms, "set_aside", "note",
    ]  # fmt: skip


def _row(cell: PairCell) -> dict[str, object]:
    best = cell.headline
    row: dict[str, object] = {
        **cell.place,
        "n": cell.n,
        "accuracy": best.accuracy.value,
        "interval": f"{_share(best.accuracy.low)} - {_share(best.accuracy.high)}" if cell.n else "",
        "low": best.accuracy.low,
        "high": best.accuracy.high,
        "groups": best.accuracy.groups,
        "method": best.accuracy.method,
        "margin": best.margin_mean,
        "margin_median": best.margin_median,
        "near_ties": best.near_ties,
        "shorter": best.shorter,
        "longer": 1 - best.shorter,
        "picks_shorter": best.picks_shorter,
        "matched": best.matched.value,
        "matched_n": best.matched.n,
        "matched_low": best.matched.low,
        "matched_high": best.matched.high,
        "controlled": best.controlled,
        "controlled_low": best.controlled_low,
        "controlled_high": best.controlled_high,
        "set_aside": dict(cell.set_aside),
        "note": cell.warning,
    }
    for norm in ("raw", "token", "pmi", "reward"):
        other = cell.by_norm.get(norm)
        row |= {
            norm: other.accuracy.value if other else None,
            f"{norm}_low": other.accuracy.low if other else None,
            f"{norm}_high": other.accuracy.high if other else None,
            f"{norm}_margin_mean": other.margin_mean if other else None,
            f"{norm}_picks_shorter": other.picks_shorter if other else None,
        }
    return row
