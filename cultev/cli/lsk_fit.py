"""``cultev lsk fit``, and what it shares with ``cultev lsk eval``: words, the open session, the training table."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from cultev.cli.options import (
    db_option,
    engine_options,
    limit_option,
    max_tokens_option,
    retry_option,
    suite_option,
    table_options,
)

if TYPE_CHECKING:
    from cultev.backend.types import EngineSettings
    from cultev.lsk.ask import Design, Filler
    from cultev.lsk.cells import CellMaker
    from cultev.lsk.gate import Gated, GatedRouter
    from cultev.lsk.languagemap import LanguageMap
    from cultev.lsk.prior import Prior
    from cultev.lsk.table import OutcomeTable
    from cultev.run.journal import Journal
    from cultev.suite.item import Item
    from cultev.suite.store import Suite

F = TypeVar("F", bound=Callable[..., Any])

REASONING = "Longest reasoning in English, in tokens; other languages get what the same text takes there."
"""Help of --max-tokens."""


@dataclass(frozen=True, slots=True)
class Words:
    """What fit and eval are asked on the command line, model and files aside."""

    suite_name: str
    languages: tuple[str, ...]
    mode: str
    answer: str
    translate: str
    orders: int
    cells: str
    embedder: str
    max_tokens: int
    limit: int | None
    halving: bool
    share: float
    held_out: float
    retry: bool
    prior: Path | None
    settings: EngineSettings

    def design(self, suite: Suite) -> Design:
        """As the table knows it.

        Raises:
            UsageError: the suite lacks a language; or letters after a reasoning.
        """
        from cultev.errors import UsageError
        from cultev.lsk.ask import Design, languages_for

        if self.answer == {"cot": "letters", "direct": "json"}[self.mode]:
            raise UsageError(
                f"--answer {self.answer} and --mode {self.mode} can't go together: letters are compared at once, and"
                " the JSON form holds a reasoning.",
                "Leave --answer out, or change --mode.",
            )
        codes = [code.strip() for word in self.languages for code in word.split(",") if code.strip()]
        return Design(
            languages_for(suite, codes, self.translate), self.mode, self.answer, self.translate, self.orders,
            self.max_tokens, self.limit, self.settings.n_ctx, self.settings.strict,
        )  # fmt: skip


def table_words(function: F) -> F:
    """The options that decide what is asked and how cells are made, as one ``Words`` called ``words``."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        own = {name: kwargs.pop(name) for name in Words.__dataclass_fields__}
        return function(*args, words=Words(**own), **kwargs)

    wrapped: Any = engine_options(command)
    for option in (
        retry_option,
        click.option(
            "--prior", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
            help="Another model's exported map, to lean on as far as this model's answers bear it out.",
        ),
        click.option(
            "--held-out", type=click.FloatRange(0.0, 0.9), default=0.5, show_default=True, metavar="SHARE",
            help="Share of the items kept for the test; no choice is made on them.",
        ),
        click.option(
            "--share", type=click.FloatRange(0.01, 1.0), default=0.3, show_default=True,
            help="With --halving: most tokens to spend, as a share of the full table's.",
        ),
        click.option(
            "--halving/--full-table", default=False, show_default=True,
            help="Ask round by round, fewer languages each time; or every item in every language.",
        ),
        limit_option("items"),
        max_tokens_option(REASONING),
        click.option(
            "--embedder", default="ngrams", show_default=True, metavar="ngrams|self|MODEL",
            help="What tells which questions are alike: character n-grams, MODEL's own states, an embedding model.",
        ),
        click.option(
            "--cells", type=click.Choice(["topic", "culture", "clusters", "one"]), default="topic", show_default=True,
            help="What may have its own language: culture and topic, culture, clusters of questions, or all as one.",
        ),
        click.option(
            "--orders", type=click.IntRange(1, 26), default=2, show_default=True, help="Option orders to average over.",
        ),
        click.option(
            "--translate", type=click.Choice(["full", "cot"]), default="full", show_default=True,
            help="Put the whole item into the language, or only instruction and reasoning (cot).",
        ),
        click.option(
            "--answer", type=click.Choice(["text", "letters", "json"]), default="text", show_default=True,
            help="Compare the options' texts; their letters (direct); or read the paper's JSON form (cot).",
        ),
        click.option(
            "--mode", type=click.Choice(["direct", "cot"]), default="direct", show_default=True,
            help="Answer at once, or reason first in the language (cot).",
        ),
        click.option(
            "--languages", "--language", "-l", "languages", multiple=True, metavar="CODES",
            help="Such as en,zh,hi; may be repeated. [default: all that the suite has]",
        ),
        suite_option("The suite to learn from.", required=True),
    ):  # fmt: skip
        wrapped = option(wrapped)
    return cast("F", wrapped)


@click.command()
@click.argument("model", required=False)
@table_words
@db_option
@table_options
def fit(model: str | None, words: Words, db: Path, as_json: bool, as_csv: bool) -> None:
    """Ask MODEL a suite in several languages and learn which one suits which culture and topic.

    MODEL is a .gguf file or an ONNX folder; nothing means the small reference model that checks cultev itself.
    Only the items that are not held out for the test are asked. Stop it whenever you like: the same command goes on
    from there, and asks nothing twice. The map goes into the results file.
    """  # fmt: skip
    from cultev.cli.lsk_show import print_map
    from cultev.cli.output import output_form
    from cultev.lsk.keep import keep_map

    output_form(as_json, as_csv)
    with session(model, words, db) as at:
        table = at.learn()
        found = at.make_map(table, at.gate().fit(table))
        name = keep_map(at.journal, found)
    print_map(name, found, as_json=as_json, as_csv=as_csv)


@dataclass(slots=True)
class Session:
    """A model, a suite and a results file, open at once, and what is to be learned from them."""

    words: Words
    suite: Suite
    items: Sequence[Item]
    training: Sequence[Item]
    test: Sequence[Item]
    maker: CellMaker
    filler: Filler
    journal: Journal
    embedder: str
    prior: Prior | None

    def gate(self) -> Gated:
        """The policy that ships."""
        from cultev.lsk.gate import Gated

        return Gated(self.maker, prior=self.prior)

    def learn(self) -> OutcomeTable:
        """Ask the training items, in full or by halving; the table of what was asked.

        Raises:
            EngineError: the model answers nothing in English.
        """
        from cultev.lsk.collect import items_of
        from cultev.lsk.keep import keep_table
        from cultev.lsk.study import cells_before

        if self.words.halving:
            cells = cells_before(items_of(self.training, self.filler.vectors), self.filler.design.languages, self.maker)
            table = self.filler.halve(self.training, cells, self.words.share)
        else:
            self.filler.fill(self.training)
            table = self.filler.table(self.training)
        keep_table(self.journal, self.filler.run.id, self.suite.content_hash, table)
        tell_outcomes(table, self.words)
        return table

    def make_map(self, table: OutcomeTable, router: GatedRouter) -> LanguageMap:
        """The map of what was learned."""
        from cultev.lsk.ask import expected_full
        from cultev.lsk.languagemap import make_map

        info = self.filler.backend.info
        full = int(table.tokens.sum())
        if self.words.halving:
            full = expected_full(table, self.filler.costs(self.training))
        return make_map(
            router, table,
            model={
                "sha256": info.sha256, "name": info.name, "quantization": info.quantization, "format": info.format,
            },
            suite={
                "name": self.suite.name, "version": self.suite.version, "content_hash": self.suite.content_hash,
            },
            run=self.filler.run.id, protocol=self.filler.protocol.canonical(), held_out=self.words.held_out,
            halving=self.words.halving, tokens_full=full, embedder=self.embedder,
            prior=self.prior.lender if self.prior else "",
        )  # fmt: skip


@contextlib.contextmanager
def session(model: str | None, words: Words, db: Path, *, tried: bool = False) -> Iterator[Session]:
    """Open everything, refusing first whatever could only fail after hours of asking.

    ``tried``: something is tried on the test items now, so that they must be enough.

    Raises:
        CultevError: whatever is wrong with model, suite, words or results file.
    """
    from cultev.backend.fit import fit as fit_memory
    from cultev.backend.load import find_model
    from cultev.cli.engine import check_template, open_engine, within_memory
    from cultev.cli.output import note
    from cultev.cli.progress import progress, stop_on_interrupt
    from cultev.errors import UsageError
    from cultev.lsk import budgets
    from cultev.lsk.ask import Filler
    from cultev.lsk.collect import items_of
    from cultev.lsk.embed import open_embedder
    from cultev.lsk.study import MAKERS, test_mask
    from cultev.run.journal import Journal
    from cultev.run.plan import survey
    from cultev.suite.item import OPTION_KINDS
    from cultev.suite.store import open_suite

    path = find_model(model)
    with contextlib.ExitStack() as stack:
        suite = stack.enter_context(open_suite(words.suite_name))
        design = words.design(suite)
        needed = design.languages if design.translate == "full" else ("en",)
        every = list(suite.items(limit=words.limit, kinds=OPTION_KINDS))
        items = [item for item in every if set(needed) <= set(item.texts)]
        if 0 < len(items) < len(every):
            note(f"{len(every) - len(items)} of {len(every)} questions are not in all of {' '.join(needed)}: left out.")
        if not items:
            raise UsageError(
                f"{suite.name} has no question with options to choose from in all of {' '.join(needed)}.",
                "Ask for fewer languages, or take another suite: cultev suites list",
            )
        survey(suite, design.protocol())
        mask = test_mask(items_of(items), words.held_out, tried=tried)
        prior = _prior(words, suite)
        journal = stack.enter_context(Journal(db))
        most = tuple(budgets.most(items, design.languages, words.max_tokens, design.translate).items())
        needs = functools.partial(_needs, suite, design, most)
        fitted = fit_memory(path, words.settings, generate=words.mode == "cot", needs=needs)
        design = within_memory(design, fitted)
        backend = stack.enter_context(open_engine(path, fitted))
        check_template(backend)
        stop = stack.enter_context(stop_on_interrupt())
        with open_embedder(words.embedder, backend, words.settings) as embedder:
            rows = embedder.embed([item.texts["en"].question for item in items])
        vectors = {item.id: row for item, row in zip(items, rows, strict=True)}
        filler = Filler(
            backend, suite, design, journal, items, asked_language, lambda total: progress(total, "Asking"), stop, note,
            vectors,
        )  # fmt: skip
        if words.retry:
            journal.forget_errors(filler.run)
        parts = [[item for item, out in zip(items, mask.tolist(), strict=True) if out == wanted] for wanted in (0, 1)]
        yield Session(
            words, suite, items, parts[0], parts[1], MAKERS[words.cells], filler, journal, embedder.name, prior
        )


def _prior(words: Words, suite: Suite) -> Prior | None:
    """The lender's map, None where none is asked for.

    Raises:
        ResultsError: it is no map.
        UsageError: it has learned from what is kept for the test now.
    """
    from cultev.cli.output import note
    from cultev.lsk.mapfile import read_map_file
    from cultev.lsk.prior import prior_of

    if words.prior is None:
        return None
    here = {"name": suite.name, "version": suite.version, "content_hash": suite.content_hash}
    prior = prior_of(read_map_file(words.prior), here, words.held_out, words.limit)
    for text in (f"Leans on {prior.lender}, as far as this model's answers bear it out.", *prior.notes):
        note(text)
    return prior


FORM_TOKENS = 1024
"""More than the paper's form has beyond an instruction, in bytes, in any language."""


def _needs(suite: Suite, design: Design, most: tuple[tuple[str, int], ...]) -> int:
    """Tokens that suffice for every question; see ``enough_tokens``."""
    from dataclasses import replace

    from cultev.run.plan import enough_tokens

    protocol = design.protocol(most)
    if design.answer == "json":
        return enough_tokens(suite, replace(protocol, mode="cot")) + FORM_TOKENS
    return enough_tokens(suite, protocol)


def asked_language(text: str, code: str) -> bool | None:
    """Whether a reasoning is in the language asked for; None where that can't be told."""
    from cultev.score.language import is_language

    try:
        return is_language(text, code)
    except ValueError:  # a language that nobody can tell yet
        return None


def tell_outcomes(table: OutcomeTable, words: Words) -> None:
    """Say in which languages the model gave no answer at all.

    Raises:
        EngineError: English is among those without any answer.
    """
    from cultev.cli.output import note
    from cultev.errors import EngineError
    from cultev.lsk.study import silent_languages
    from cultev.prompt.languages import language

    why = {
        "degenerate": "every reasoning is empty", "off_language": "every reasoning is in another language",
        "unparsed": "no reply names an option",
        "too_long": "every question is too long for its context", "engine_error": "its engine died of every question",
    }  # fmt: skip
    for code, outcome in silent_languages(table).items():
        text = f"The model answers nothing in {language(code).name} ({code}): {why[outcome]}"
        if code == "en":
            raise EngineError(
                f"{text}. Every other language is compared with English.",
                "Try --mode direct." if words.mode == "cot" else "Try a larger --n-ctx.",
            )
        note(f"{text}; it is recommended nowhere.")
