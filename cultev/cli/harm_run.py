"""``cultev harm run``: hold the conversations of harm suites with a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import (
    db_option,
    engine_options,
    languages_option,
    limit_option,
    max_tokens_option,
    retry_option,
    suites_option,
    table_options,
)

if TYPE_CHECKING:
    from cultev.backend.types import Backend, EngineSettings
    from cultev.harm.journal import HarmJournal
    from cultev.harm.protocol import HarmProtocol
    from cultev.suite.store import Suite

DEFAULT_SUITE = "harm-core"


@click.command()
@click.argument("model", required=False)
@suites_option("A suite with dialogues", DEFAULT_SUITE)
@languages_option("--languages")
@click.option(
    "--form",
    "forms",
    multiple=True,
    type=click.Choice(["single", "dialogue", "code-mixed"]),
    help="Only items of this form; may be repeated.",
)
@click.option("--canned", is_flag=True, help="Fixed neutral replies in earlier turns instead of the model's own.")
@click.option(
    "--samples", "-k", type=click.IntRange(1, 100), default=1, show_default=True, help="Replies to each question."
)
@click.option(
    "--temperature",
    type=click.FloatRange(0.0, 10.0),
    default=0.0,
    show_default=True,
    help="0 always takes the likeliest token.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**62), default=0, show_default=True, help="Of replies with a temperature."
)
@click.option(
    "--system",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Whether a plain assistant's system prompt stands before the conversation.",
)
@click.option("--robust", is_flag=True, help="Ask in two paraphrases and with the system prompt the other way as well.")
@max_tokens_option("Longest reply, in tokens.")
@limit_option("items of each suite")
@retry_option
@engine_options
@db_option
@table_options
def run(
    model: str | None,
    suite_names: tuple[str, ...],
    languages: tuple[str, ...],
    forms: tuple[str, ...],
    canned: bool,
    samples: int,
    temperature: float,
    seed: int,
    system: str,
    robust: bool,
    max_tokens: int,
    limit: int | None,
    retry: bool,
    settings: EngineSettings,
    db: Path,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Hold the conversations of harm suites with MODEL, and keep every reply in one results file.

    MODEL is a .gguf file or an ONNX folder; nothing means the small reference model that checks cultev itself.
    Stop it whenever you like: the same command goes on from there, and asks nothing twice. Nothing is judged here
    but what rules can tell; go on with `cultev harm judge --with MODEL`.
    """
    from cultev.backend.load import find_model
    from cultev.cli.engine import answer_run
    from cultev.cli.harm_show import show_harm
    from cultev.cli.output import note, output_form
    from cultev.cli.run import open_suites
    from cultev.cli.suites import note_content
    from cultev.harm.journal import HarmJournal
    from cultev.harm.plan import enough_tokens, survey, without_words
    from cultev.harm.protocol import HarmProtocol

    output_form(as_json, as_csv)
    _check_sampling(samples, temperature)
    path = find_model(model)
    protocol = HarmProtocol(
        languages=tuple(sorted(set(languages))), forms=tuple(sorted(set(forms))), canned=canned, samples=samples,
        temperature=temperature, seed=seed, variants=_variants(system, robust), max_tokens=max_tokens, limit=limit,
        n_ctx=settings.n_ctx, strict=settings.strict,
    )  # fmt: skip
    with open_suites(suite_names or (DEFAULT_SUITE,)) as suites:
        for suite in suites:
            note_content(suite)
        planned = sum(survey(suites, protocol).values())
        if not languages and (unknown := without_words(suites)):
            note(f"Not asked in {' '.join(unknown)}: the harm test has no words in it yet.")
        with HarmJournal(db) as journal:
            done = answer_run(
                path, settings, suites, protocol, journal,
                lambda backend, protocol: _hold_all(backend, suites, protocol, journal, planned),
                needs=enough_tokens, generate=True, retry=retry,
            )  # fmt: skip
    show_harm(db, done.id, noted=True, as_json=as_json, as_csv=as_csv)


def _check_sampling(samples: int, temperature: float) -> None:
    from cultev.cli.run import check_temperature
    from cultev.errors import UsageError

    check_temperature(temperature)
    if samples > 1 and not temperature:
        raise UsageError(
            "At temperature 0 every sample is the same reply.", "Give a --temperature, such as 0.7, or leave --samples."
        )


def _variants(system: str, robust: bool) -> tuple[str, ...]:
    from cultev.harm.protocol import PARAPHRASES, PLAIN, SYSTEM

    first, other = (SYSTEM, PLAIN) if system == "on" else (PLAIN, SYSTEM)
    return (first, other, *PARAPHRASES) if robust else (first,)


def _check_history(backend: Backend) -> None:
    """Refuse a chat template that drops what was said before: it would hold every dialogue as a single question."""
    from cultev.errors import ModelUnsupported
    from cultev.harm.plan import render

    told = [("user", "Were you told the first?"), ("assistant", "I was told the second."), ("user", "And the third?")]
    text = render(backend, [{"role": role, "content": content} for role, content in told])
    places = [text.find(content) for _, content in told]
    if -1 in places or places != sorted(places):
        raise ModelUnsupported(
            "The model's chat template leaves earlier turns out of what the model reads, or changes their order.",
            "Ask single questions only (--form single), or ask whoever made the model file.",
        )


def _hold_all(
    backend: Backend, suites: Sequence[Suite], protocol: HarmProtocol, journal: HarmJournal, planned: int
) -> None:
    from cultev.cli.engine import check_template
    from cultev.cli.output import note
    from cultev.cli.progress import progress, stop_on_interrupt
    from cultev.harm.engine import run_harm

    check_template(backend)
    if protocol.forms != ("single",):
        _check_history(backend)
    name = f"{backend.info.name} ({backend.info.quantization})"
    note(f"Holding {planned:,} conversations with {name} into {journal.path}.")
    with stop_on_interrupt() as stop, progress(planned, "Talking") as advance:
        run_harm(backend, suites, protocol, journal, n_planned=planned, advance=advance, stop=stop, note=note)
