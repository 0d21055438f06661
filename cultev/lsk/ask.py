"""Asking what the table lacks: a run like any other, of all pairs of items and languages or of some.

A table is one run of one protocol. Whether it is filled at once, by halving, or by two commands on two days, the same
pair is asked in the same words under the same key, and what has an answer is never asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cultev.backend.types import Backend, GenerateRequest
from cultev.errors import UsageError
from cultev.lsk import budgets, form
from cultev.lsk.cells import Cells
from cultev.lsk.collect import IsLanguage, items_of, table_of
from cultev.lsk.halving import halve
from cultev.lsk.table import ENGLISH, OutcomeTable
from cultev.prompt.languages import codes
from cultev.prompt.render import PROMPT_VERSION
from cultev.run.engine import run_suites
from cultev.run.journal import Journal, RunId
from cultev.run.plan import Ask, Asking, asks
from cultev.run.protocol import Protocol
from cultev.suite.item import Item
from cultev.suite.store import Suite

SAMPLE = 300
"""Items whose questions are tokenized to say what a full table would have cost; beyond that their mean is taken."""

Advance = Callable[[int, int], None]
Meter = Callable[[int], AbstractContextManager[Advance]]
"""Given a number of questions, something to enter that gives a function to tell of answers."""


def _silent(total: int) -> AbstractContextManager[Advance]:
    return nullcontext(lambda answers, computed: None)


@dataclass(frozen=True, slots=True)
class Design:
    """How languages are compared. ``languages`` are English first, then in the order given.

    ``mode``: 'direct' or 'cot'. ``answer``: 'text', or 'letters' in mode 'direct', or 'json' (the paper's form, read by
    a parser) in mode 'cot'. ``translate``: 'full' or 'cot', see ``Protocol``.
    ``max_tokens`` is the reasoning's budget in English.
    """

    languages: tuple[str, ...]
    mode: str = "direct"
    answer: str = "text"
    translate: str = "full"
    orders: int = 2
    max_tokens: int = 256
    limit: int | None = None
    n_ctx: int | None = None
    strict: bool = False

    def protocol(self, budget: tuple[tuple[str, int], ...] = ()) -> Protocol:
        """What a run asks under this design."""
        reasons, by_form = self.mode == "cot", self.answer == "json"
        return Protocol(
            mode=form.MODE if by_form else "cot" if reasons else self.answer,
            languages=tuple(sorted(self.languages)), contexts=("none",),
            orders=self.orders, limit=self.limit, norm="sum" if reasons else "pmi", pmi=not reasons,
            n_ctx=self.n_ctx, strict=self.strict, max_tokens=self.max_tokens, translate=self.translate,
            budgets=budget, listed=not reasons and self.answer == "text",
            prompts=form.PROMPTS if by_form else PROMPT_VERSION,
        )  # fmt: skip


def languages_for(suite: Suite, asked: Sequence[str], translate: str) -> tuple[str, ...]:
    """The languages of a table: those asked for, or all that the suite has; English is always among them, first.

    Raises:
        UsageError: the suite, or cultev, lacks one of them; or there is none beside English.
    """
    own = [code for code in suite.languages if code in codes()]
    if ENGLISH not in suite.languages:
        raise UsageError(
            f"{suite.name} has no English questions: every other language is compared with English.",
            "Use a suite that has them: cultev suites list",
        )
    wanted = list(dict.fromkeys(asked or own))
    for code in wanted:
        if translate == "full" and code not in suite.languages:
            raise UsageError(
                f"{suite.name} has no questions in '{code}'; it has {' '.join(own)}.",
                "Leave it out, or keep the questions English and change only the reasoning: --translate cot",
            )
        if code not in codes():
            raise UsageError(
                f"cultev has no instructions in the language '{code}' yet.", f"It has: {' '.join(codes())}"
            )
    chosen = (ENGLISH, *(code for code in wanted if code != ENGLISH))
    if len(chosen) < 2:
        raise UsageError(
            "English alone can't be compared with anything.", "Name other languages: --languages en,zh,..."
        )
    return chosen


@dataclass(slots=True)
class Filler:
    """Fills a table: one model, one suite, one design.

    ``items`` are all that the table may come to hold, ``vectors`` their embeddings by id. ``meter`` shows progress;
    ``stop`` and ``note`` are those of ``run_suites``.
    """

    backend: Backend
    suite: Suite
    design: Design
    journal: Journal
    items: Sequence[Item]
    is_language: IsLanguage
    meter: Meter = _silent
    stop: Callable[[], bool] = lambda: False
    note: Callable[[str], None] = lambda text: None
    vectors: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    protocol: Protocol = field(init=False)
    run: RunId = field(init=False)
    _costed: tuple[tuple[str, ...], NDArray[np.float64]] = field(init=False, default=((), np.empty((0, 0))))

    def __post_init__(self) -> None:
        design = self.design
        budget: tuple[tuple[str, int], ...] = ()
        if design.mode == "cot":
            budget = budgets.budgets(self.backend, self.items, design.languages, design.max_tokens, design.translate)
        self.protocol = design.protocol(budget)
        self.run = RunId.of(self.backend.info.sha256, [self.suite], self.protocol)

    @property
    def asking(self) -> Asking:
        """How items become requests."""
        return form.form_asks if self.design.answer == "json" else asks

    def ask(self, pairs: Collection[tuple[str, str]]) -> None:
        """Ask pairs of an item's id and a language that have no answer yet.

        Raises:
            Interrupted, ResultsError: see ``run_suites``.
        """
        chosen = set(pairs)
        have = self.journal.answered(self.run, self.suite)
        needed = {item.id: min(self.protocol.orders, len(item.option_ids)) for item in self.items}
        if all(have.get(pair, 0) >= needed[pair[0]] for pair in chosen):
            if chosen and self.journal.status(self.run) not in ("done", "partial"):  # stopped right after the last
                self.journal.finish(self.run, "done" if self.journal.is_complete(self.run) else "partial")
            return
        # All are given to the run, also those that have answers: what is computed together must not depend on where
        # an earlier session stopped.
        total = sum(needed[item] for item, _ in chosen)
        with self.meter(total) as advance:
            run_suites(
                self.backend, [self.suite], self.protocol, self.journal,
                n_planned=sum(needed.values()) * len(self.design.languages), advance=advance, stop=self.stop,
                note=self.note, wanted=lambda item, code: (item, code) in chosen, asking=self.asking,
            )  # fmt: skip

    def fill(self, items: Sequence[Item]) -> None:
        """Ask items in every language of the design."""
        self.ask([(item.id, code) for item in items for code in self.design.languages])

    def halve(self, items: Sequence[Item], cells: Cells, share: float) -> OutcomeTable:
        """Ask items by successive halving and return the table of what was asked; see ``halving``.

        The table holds the rounds of this halving only, even where the file has more: an earlier full table doesn't
        change what halving finds.
        """
        rows = items_of(items, self.vectors)
        cost = self.costs(items).mean(axis=0)
        so_far: set[tuple[str, str]] = set()

        def ask(pairs: Sequence[tuple[int, int]]) -> OutcomeTable:
            new = {(items[row].id, self.design.languages[column]) for row, column in pairs}
            so_far.update(new)
            self.ask(new)
            return self.table(items, so_far)

        return halve(rows, cells, ask, cost, share).table

    def table(self, items: Sequence[Item], pairs: Collection[tuple[str, str]] | None = None) -> OutcomeTable:
        """The table of items as far as they have answers; ``pairs``: of these only."""
        replies = self.journal.replies(self.run, self.suite)
        if pairs is not None:
            replies = [reply for reply in replies if (reply.item, reply.language) in pairs]
        return table_of(
            items, self.design.languages, replies,
            orders=self.design.orders, is_language=self.is_language, vectors=self.vectors,
        )  # fmt: skip

    def costs(self, items: Sequence[Item]) -> NDArray[np.float64]:
        """Tokens of each item in each language, (items, languages), found by tokenizing; a reasoning counts in full.

        Of more than SAMPLE items the first SAMPLE stand for all, by their mean.
        """
        same = tuple(item.id for item in items)
        if same != self._costed[0]:
            self._costed = same, self._costs(items)
        return self._costed[1]

    def _costs(self, items: Sequence[Item]) -> NDArray[np.float64]:
        row = {item.id: i for i, item in enumerate(items[:SAMPLE])}
        column = {code: i for i, code in enumerate(self.design.languages)}
        found = np.zeros((len(items), len(column)))
        part = replace(self.protocol, limit=None)
        for ask in self.asking(self.suite, part, self.backend, lambda item, code: item in row):
            found[row[ask.item.id], column[ask.language]] += _tokens(ask)
        if len(items) > SAMPLE:
            found[SAMPLE:] = found[:SAMPLE].mean(axis=0)
        return found


def _tokens(ask: Ask) -> int:
    """Tokens that an ask costs, counted as ``Reply.tokens`` are."""
    total = 0
    for request in (ask.request, ask.prior):
        if request is None:
            continue
        total += len(request.prompt)
        if isinstance(request, GenerateRequest):
            total += request.max_tokens
            total += sum(len(c.tokens) for c in request.follow_up.continuations) if request.follow_up else 0
        else:
            total += sum(len(c.tokens) for c in request.continuations)
    return total


def expected_full(table: OutcomeTable, costs: NDArray[np.float64]) -> int:
    """Tokens of the full table: what was counted where it was asked, what is expected elsewhere.

    What is expected of a pair is its cost times how far the costs of its language were off where they were counted:
    a reasoning seldom takes its whole budget.
    """
    asked = table.tokens > 0
    spent = np.where(asked, table.tokens, 0).sum(axis=0)
    guessed = np.where(asked, costs, 0.0).sum(axis=0)
    overall = spent.sum() / max(1.0, guessed.sum())
    factor = np.where(guessed > 0, spent / np.maximum(guessed, 1.0), overall)
    return round(float(spent.sum() + np.where(asked, 0.0, costs * factor).sum()))
