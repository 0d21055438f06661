"""What ``cultev lsk fit`` and ``eval`` work on: a model, a suite and a results file, open at once, and their table."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cultev.cli.lsk_words import Words
    from cultev.lsk.ask import Design, Filler
    from cultev.lsk.cells import CellMaker
    from cultev.lsk.gate import Gated, GatedRouter
    from cultev.lsk.languagemap import LanguageMap
    from cultev.lsk.prior import Prior
    from cultev.lsk.table import OutcomeTable
    from cultev.run.journal import Journal
    from cultev.suite.item import Item
    from cultev.suite.store import Suite


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
    from cultev.backend.fit import fit
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
        fitted = fit(path, words.settings, generate=words.mode == "cot", needs=needs)
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
