"""``cultev run``: the main job."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
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
    from cultev.backend.types import Backend, Continuation, EngineSettings, GenerateRequest, ScoreRequest
    from cultev.run.journal import Journal
    from cultev.run.protocol import Protocol
    from cultev.suite.store import Suite

CHECKING = ("planted",)
"""Built-in suites about invented worlds: no model but the reference knows them."""

LEAST_TEMPERATURE = 0.01
"""Below it logits divided by it leave what float32 can hold."""

NORMS = ["sum", "token", "byte", "char", "pmi"]


@click.command()
@click.argument("model", required=False)
@suites_option("A suite", "all built-in ones that fit the model")
@languages_option()
@click.option(
    "--context",
    "-c",
    "contexts",
    multiple=True,
    metavar="NAME",
    help="Ask in this context only (none, country, value, rule); may be repeated.",
)
@click.option(
    "--mode",
    type=click.Choice(["text", "letters", "cot"]),
    default="text",
    show_default=True,
    help="Compare the options' texts or letters, or the texts once the model has reasoned (cot).",
)
@click.option(
    "--norm",
    type=click.Choice(NORMS),
    default="sum",
    show_default=True,
    help="What decides between options of different length; the others are stored too.",
)
@click.option("--pmi", is_flag=True, help="Ask for the options' priors as well (--norm pmi implies it).")
@click.option(
    "--orders",
    type=click.IntRange(1, 26),
    default=1,
    show_default=True,
    help="Option orders to ask each item in.",
)
@max_tokens_option("Longest reasoning (--mode cot), in tokens.")
@click.option(
    "--temperature",
    type=click.FloatRange(0.0, 10.0),
    default=0.0,
    show_default=True,
    help="Of the reasoning; 0 always takes the likeliest token.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of a reasoning with a temperature."
)
@limit_option("items of each suite")
@click.option("--by", multiple=True, metavar="DIMENSION", help="Group the table by this instead; may be repeated.")
@click.option(
    "--show",
    "shown",
    metavar="ITEM",
    help="Print the exact text and token ids the model reads for ITEM, and stop.",
)
@retry_option
@engine_options
@db_option
@table_options
def run(
    model: str | None,
    suite_names: tuple[str, ...],
    languages: tuple[str, ...],
    contexts: tuple[str, ...],
    mode: str,
    norm: str,
    pmi: bool,
    orders: int,
    max_tokens: int,
    temperature: float,
    seed: int,
    limit: int | None,
    by: tuple[str, ...],
    shown: str | None,
    retry: bool,
    settings: EngineSettings,
    db: Path,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Ask MODEL the questions of suites, and keep every answer in one results file.

    MODEL is a .gguf file or an ONNX folder; nothing means the small reference model that checks cultev itself.
    Stop it whenever you like: the same command goes on from there, and asks nothing twice.
    """  # fmt: skip
    from cultev.backend.fit import fit
    from cultev.backend.load import find_model, is_reference
    from cultev.cli.engine import answer_run, open_engine
    from cultev.cli.show import show_run
    from cultev.run.journal import Journal
    from cultev.run.plan import check_languages
    from cultev.run.protocol import Protocol

    _check_words(by, as_json, as_csv)
    _check_mode(mode, pmi or norm == "pmi", temperature)
    path = find_model(model)
    # The same words twice or in another order are the same run.
    languages, contexts = tuple(sorted(set(languages))), tuple(sorted(set(contexts)))
    protocol = Protocol(
        mode=mode, languages=languages, contexts=contexts, orders=orders, limit=limit, norm=norm,
        pmi=pmi or norm == "pmi", n_ctx=settings.n_ctx, strict=settings.strict,
        max_tokens=max_tokens, temperature=temperature, seed=seed,
    )  # fmt: skip
    with open_suites(suite_names or _default_suites(is_reference(path))) as suites:
        suites = _with_options(suites, named=bool(suite_names))
        check_languages(suites, protocol)
        if shown is not None:
            with open_engine(path, fit(path, settings)) as backend:
                _show_item(backend, suites, protocol, shown)
            return
        planned = _count(suites, protocol)
        with Journal(db) as journal:
            done = answer_run(
                path, settings, suites, protocol, journal,
                lambda backend, protocol: ask_all(backend, suites, protocol, journal, planned),
                needs=needed_tokens, generate=mode == "cot", retry=retry,
            )  # fmt: skip
    show_run(db, done.id, by=by, noted=True, as_json=as_json, as_csv=as_csv)


def needed_tokens(suites: Sequence[Suite], protocol: Protocol) -> int:
    """Tokens that suffice for every question."""
    from cultev.run.plan import enough_tokens

    return max((enough_tokens(suite, protocol) for suite in suites), default=0)


def _check_words(by: Sequence[str], as_json: bool, as_csv: bool) -> None:
    """Refuse what could only fail after hours of asking."""
    from cultev.cli.output import output_form
    from cultev.stats.summary import check_dimensions

    check_dimensions(by)
    output_form(as_json, as_csv)


def check_temperature(temperature: float) -> None:
    """Refuse what can't be sampled from.

    Raises:
        UsageError: too near to 0, or no number.
    """
    from cultev.errors import UsageError

    if temperature and not temperature >= LEAST_TEMPERATURE:  # also what is no number
        raise UsageError(
            f"A temperature of {temperature} can't be sampled from.", f"Use 0, or {LEAST_TEMPERATURE} and more."
        )


def _check_mode(mode: str, pmi: bool, temperature: float) -> None:
    from cultev.errors import UsageError

    check_temperature(temperature)
    if mode == "cot" and pmi:
        raise UsageError(
            "After a reasoning there is no content-free prior that PMI could take off.",
            "Use another --norm, or --mode text.",
        )


def _count(suites: Sequence[Suite], protocol: Protocol) -> int:
    """Questions to be asked; says aloud which languages of a suite are left out.

    Raises:
        UsageError: a context that no suite has, or a suite of which nothing would be asked.
    """
    from cultev.cli.output import note
    from cultev.errors import UsageError
    from cultev.prompt.languages import codes
    from cultev.run.plan import survey

    surveys = [survey(suite, protocol) for suite in suites]
    for context in protocol.contexts:
        if not any(context in found for found in surveys):
            raise UsageError(
                f"These suites have no question in the context '{context}' in the languages asked for.",
                "See what a suite has: cultev suites show NAME",
            )
    for suite, found in zip(suites, surveys, strict=True):
        unknown = sorted(set(suite.languages) - set(codes()))
        if unknown and not protocol.languages:
            note(f"{suite.name}: not asked in {' '.join(unknown)}, which cultev has no instructions in yet.")
        if not found:
            raise UsageError(
                f"Nothing of {suite.name} would be asked in the languages and contexts asked for.",
                "Leave it out, or see what it has: cultev suites show NAME",
            )
    return sum(sum(found.values()) for found in surveys)


def ask_all(backend: Backend, suites: Sequence[Suite], protocol: Protocol, journal: Journal, planned: int) -> None:
    """Ask what has no answer yet, with a bar, until all is answered or somebody stops it."""
    from cultev.cli.engine import check_template
    from cultev.cli.output import note
    from cultev.cli.progress import progress, stop_on_interrupt
    from cultev.report.text import printable
    from cultev.run.engine import run_suites

    check_template(backend)
    name = f"{printable(backend.info.name)} ({backend.info.quantization})"
    click.echo(f"Asking {name} {planned:,} questions; answers go into {journal.path}.", err=True)
    with stop_on_interrupt() as stop, progress(planned, "Asking") as advance:
        run_suites(backend, suites, protocol, journal, n_planned=planned, advance=advance, stop=stop, note=note)


@contextlib.contextmanager
def open_suites(names: Sequence[str]) -> Iterator[list[Suite]]:
    """The suites of these names, each once, for as long as the block lasts.

    Raises:
        SuiteError: see ``open_suite``.
        UsageError: two different ones bear the same name.
    """
    from cultev.errors import UsageError
    from cultev.suite.store import open_suite

    with contextlib.ExitStack() as stack:
        suites: dict[str, Suite] = {}
        for name in names:
            suite = stack.enter_context(open_suite(name))
            twin = suites.setdefault(suite.name, suite)
            if twin.content_hash != suite.content_hash:
                raise UsageError(
                    f"Two different suites are both called '{suite.name}': tables could not tell them apart.",
                    "Run them one after the other; each is a run of its own.",
                )
        yield list(suites.values())


def _with_options(suites: list[Suite], *, named: bool) -> list[Suite]:
    """The suites that have questions with right and wrong options; refuses one without that was asked for by name."""
    from cultev.cli.suites import note_content
    from cultev.errors import UsageError
    from cultev.suite.item import OPTION_KINDS

    found = []
    for suite in suites:
        if any(kind in OPTION_KINDS for kind in suite.count("kind")):
            note_content(suite)
            found.append(suite)
        elif named:
            raise UsageError(
                f"{suite.name} has no questions with right and wrong options: its items are open questions or pairs.",
                f"Ask them: cultev harm run MODEL --suite {suite.name}",
            )
    return found


def _default_suites(reference: bool) -> list[str]:
    """All built-in suites; those that only check cultev are for the reference model alone."""
    from cultev.suite import builtin_names

    return [name for name in builtin_names() if reference or name not in CHECKING]


def _show_item(backend: Backend, suites: Sequence[Suite], protocol: Protocol, wanted: str) -> None:
    """Print what the model reads for one item, in each language, context and order asked for."""
    from cultev.cli.output import note
    from cultev.errors import SuiteError
    from cultev.report.text import printable
    from cultev.run.plan import longest, prompt_text, question_of, to_reasoning, to_request, variants

    for suite in suites:
        with contextlib.suppress(SuiteError):
            item = suite.item(wanted)
            break
    else:
        item = suites[-1].item(wanted)  # its own error has the nearest names
    chosen = list(variants(suite, protocol, iter([item])))
    if not chosen:
        note(f"{item.id} is not asked in the languages and contexts asked for.")
    for _, code, variant in chosen:
        question = question_of(suite, protocol, item, code, variant)
        if question.reasons:
            request: ScoreRequest | GenerateRequest = to_reasoning(backend, question, protocol, code)
            text = backend.render(question.messages)
        else:
            request, text = to_request(backend, question, strict=protocol.strict), prompt_text(backend, question)
        continuations = _continuations(request)
        click.echo(click.style(f"== {item.id} {code} context={variant.context} order={variant.order}", bold=True))
        click.echo(printable(text))
        click.echo(click.style(f"-- {len(request.prompt)} tokens", bold=True))
        click.echo(" ".join(f"{t}:{backend.token_text(t)!r}" for t in request.prompt))
        if question.reasons:
            click.echo(click.style(f"-- a reasoning of up to {protocol.budget(code)} tokens, then", bold=True))
            click.echo(repr(question.after_reasoning))
        for option, continuation in zip(question.options, continuations, strict=True):
            gold = "  (right)" if option in item.answers else ""
            click.echo(click.style(f"-- option {option}{gold}: {printable(continuation.text)}", bold=True))
            click.echo(" ".join(f"{t}:{backend.token_text(t)!r}" for t in continuation.tokens))
        if longest(request) > backend.n_ctx:
            click.echo(f"-- too long: {longest(request)} tokens, the context holds {backend.n_ctx}")


def _continuations(request: ScoreRequest | GenerateRequest) -> tuple[Continuation, ...]:
    """The options' texts that are asked for, after the prompt or after a reasoning."""
    from cultev.backend.types import ScoreRequest

    if isinstance(request, ScoreRequest):
        return request.continuations
    return request.follow_up.continuations if request.follow_up else ()
