"""``cultev bench``: how fast is this model on this machine, and what does cultev cost beside the engine?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import db_option, engine_options, table_options

if TYPE_CHECKING:
    from cultev.backend.types import EngineSettings
    from cultev.run.bench_result import Bench


@click.command()
@click.argument("model", required=False)
@click.option(
    "--suite",
    "-s",
    "suite_name",
    default="norms-core",
    show_default=True,
    metavar="NAME|FILE",
    help="The suite to ask.",
)
@click.option(
    "--limit", type=click.IntRange(1, 500), default=12, show_default=True, help="Items of the suite, a random sample."
)
@click.option("--rounds", type=click.IntRange(1, 50), default=3, show_default=True, help="Ratios are their medians.")
@click.option(
    "--generate/--no-generate", "generating", default=True, show_default=True, help="Measure generating as well."
)
@click.option("--tokens", type=click.IntRange(2, 512), default=48, show_default=True, help="Tokens of each text.")
@engine_options
@db_option
@table_options
def bench(
    model: str | None,
    suite_name: str,
    limit: int,
    rounds: int,
    generating: bool,
    tokens: int,
    settings: EngineSettings,
    db: Path,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Measure MODEL's speed and memory here: the engine's own, and what questions and texts reach of it.

    MODEL as in `cultev run`. Takes a minute or more for a model of 0.5 B on two cores; rounds interleave what is
    compared, so that a busy machine moves the ratios least.
    """  # fmt: skip
    from cultev.backend.load import find_model
    from cultev.backend.worker import open_worker
    from cultev.cli.output import emit_record, note, output_form
    from cultev.errors import Interrupted, ResultsError
    from cultev.run.bench import bench as measure
    from cultev.run.bench import end_at_death
    from cultev.run.journal import Journal
    from cultev.suite.store import open_suite

    form = output_form(as_json, as_csv)
    path = find_model(model)
    with open_suite(suite_name) as suite, Journal(db) as journal:
        backend = open_worker(path, settings, end_at_death, generate=generating, note=note)
        try:
            parallel = backend.parallel if generating else 0
            result = measure(
                backend, suite, limit=limit, rounds=rounds, parallel=parallel, n_generate=tokens,
                peak=backend.peak_bytes, say=lambda line: note(f"Measuring: {line}"),
            )  # fmt: skip
            info = backend.info
        except (Interrupted, KeyboardInterrupt):
            raise Interrupted("Stopped. Nothing is kept of a benchmark that is cut short.") from None
        finally:
            backend.close()
        try:  # shown first: minutes of measuring should not depend on a file; kept even if nobody reads to the end
            if form == "table":
                engine = " ".join([info.extra.get("engine", info.format), f"threads={info.extra.get('threads', '?')}"])
                _draw(result, f"{info.name} ({info.quantization}), {engine}")
            else:
                facts = {"model": info.name, "quantization": info.quantization, **result.figures()}
                emit_record(facts, json=as_json, csv=as_csv)
        finally:
            try:
                journal.add_bench(info, result)
            except ResultsError as error:
                said = f"These figures are shown but not kept: {error.message}"
                raise type(error)(said, "Save what is printed, or measure again with --db OTHER.db.") from error
    note(f"Kept in {db} (table benches).")


def _draw(result: Bench, title: str) -> None:
    from cultev.cli.output import Column, emit_table

    rows: list[tuple[str, str, str]] = [
        (
            "plain prompts",
            f"{result.raw_tokens_per_s:,.0f} tokens/s",
            f"the engine alone, {result.raw_prompt_tokens} tokens each",
        ),
        (
            f"{result.suite}, whole run",
            f"{result.unique_tokens_per_s:,.0f} tokens/s",
            f"different tokens, {result.questions} questions",
        ),
        ("ratio to raw", f"{result.ratio_to_raw:.2f}", "of the two"),
        ("outside the engine", f"{100 * result.overhead:.1f} %", "of the run: rendering, tokenizing, keeping"),
        (
            "speed-up",
            f"{result.speedup_over_naive:.1f} times",
            "over one prompt per option *",
        ),
        ("", f"{result.speedup_on_suite:.1f} times", f"the same on {result.suite} itself"),
    ]
    if result.parallel:
        rows += _generating(result)
    peak = "not told by this system" if result.peak_mb is None else f"{result.peak_mb:,.0f} MB"
    rows.append(("peak memory", peak, "of the engine's process"))
    columns = [Column("what", whole=True), Column("figure", align="right", whole=True), Column("of")]
    emit_table(columns, rows, title=title, headings=False)
    click.echo("* four options of 8 tokens after questions of 32 and one instruction of 64")


def _generating(result: Bench) -> list[tuple[str, str, str]]:
    """The rows on texts, as far as they were measured."""
    rows = [
        (
            "plain decoding",
            f"{result.raw_decode_tokens_per_s:,.0f} tokens/s",
            f"the engine alone, {result.parallel} sequences",
        )
    ]
    if result.decode_tokens_per_s is None:
        rows.append(("generating", "not told", "too short to tell, use --tokens, --n-ctx"))
    else:
        rows += [
            ("generating", f"{result.decode_tokens_per_s:,.0f} tokens/s", f"{result.parallel} texts at once"),
            ("ratio to raw", f"{result.ratio_to_raw_decode:.2f}", "of the two"),
        ]
    rows.append(("speed-up", f"{result.speedup_over_one:.1f} times", "over one at a time, prompts included"))
    return rows
