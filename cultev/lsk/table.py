"""What one model answered: items x languages, joined by item id and never by position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.errors import UsageError

ENGLISH = "en"

INCORRECT, CORRECT = 0, 1
OUTCOMES = (
    "incorrect",
    "correct",
    "off_language",
    "unparsed",
    "refused",
    "degenerate",
    "too_long",
    "engine_error",
    "not_asked",
)
"""What an entry of the table can be; an entry holds an index into this."""

UNSEEN = tuple(OUTCOMES.index(name) for name in ("engine_error", "not_asked"))
"""Outcomes that say nothing about the language. All other missing ones say: who is routed there gets no answer."""


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """What a router may know of items: everything but the answers. All arrays have one entry per item.

    ``groups`` name siblings (variants of one question), which are never parted by a split; ``embeddings`` has shape
    (items, dimensions) and rows of length one, or is None.
    """

    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    cultures: NDArray[np.str_]
    topics: NDArray[np.str_]
    embeddings: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        n = len(self.ids)
        if any(len(column) != n for column in (self.groups, self.cultures, self.topics)):
            raise ValueError("every column of the items needs one entry per item")
        if self.embeddings is not None and self.embeddings.shape[0] != n:
            raise ValueError("embeddings need one row per item")

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> Items:
        """The items at ``index``, in that order; a mask works too."""
        embeddings = None if self.embeddings is None else self.embeddings[index]
        return Items(self.ids[index], self.groups[index], self.cultures[index], self.topics[index], embeddings)


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer: an item asked in a language.

    ``score`` is the probability the model gave to the right answer, None where there is none; ``picked`` the index of
    the option it chose, in the item's own order of options; ``tokens`` what the answer cost, prompt and output.
    """

    item: str
    language: str
    outcome: str
    score: float | None = None
    picked: int | None = None
    tokens: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeTable:
    """One model's answers. ``languages`` are BCP-47 codes, English first; other arrays have shape (items, languages).

    ``outcome`` indexes OUTCOMES; ``score`` is NaN and ``picked`` -1 where there is none; ``options`` counts each item's
    options, shape (items,); ``tokens`` counts prompt and output tokens.
    """

    items: Items
    languages: tuple[str, ...]
    outcome: NDArray[np.int8]
    score: NDArray[np.float64]
    picked: NDArray[np.int16]
    options: NDArray[np.int16]
    tokens: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not self.languages or self.languages[0] != ENGLISH:
            raise UsageError(
                "English is missing: every other language is compared with it.", "Add it: --languages en,..."
            )
        if len(set(self.languages)) != len(self.languages):
            raise UsageError("A language stands twice among the languages.", "Name each language once.")
        shape = (len(self.items), len(self.languages))
        if any(a.shape != shape for a in (self.outcome, self.score, self.picked, self.tokens)):
            raise ValueError(f"every array of the table needs the shape {shape}")
        if self.options.shape != shape[:1]:
            raise ValueError("options need one count per item")

    def __len__(self) -> int:
        return len(self.items)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> OutcomeTable:
        """The rows at ``index``, in that order; a mask works too."""
        return OutcomeTable(
            self.items.take(index),
            self.languages,
            self.outcome[index],
            self.score[index],
            self.picked[index],
            self.options[index],
            self.tokens[index],
        )

    def right(self) -> NDArray[np.float64]:
        """1 for a right answer, NaN where nothing was seen (not asked, engine error), otherwise 0.

        An answer in another language than the one asked for, unreadable or too long is 0: a router that sends a
        question there gets nothing it can use. Dropping such entries would favour the languages that fail most.
        """
        right: NDArray[np.float64] = (self.outcome == CORRECT).astype(float)
        unseen = (self.outcome == UNSEEN[0]) | (self.outcome == UNSEEN[1])
        if unseen.any():
            right[unseen] = np.nan
        return right

    def shares(self, outcome: str) -> dict[str, float]:
        """Language -> the share of its answers that were ``outcome``, among those asked; NaN where none was."""
        asked = self.outcome != OUTCOMES.index("not_asked")
        counts = (self.outcome == OUTCOMES.index(outcome)).sum(axis=0)
        totals = asked.sum(axis=0)
        return {
            language: float(counts[i] / totals[i]) if totals[i] else float("nan")
            for i, language in enumerate(self.languages)
        }

    @classmethod
    def of_right(cls, items: Items, languages: Sequence[str], right: NDArray[np.generic]) -> OutcomeTable:
        """A table that knows only which answers were right: 1 or True, 0 or False, NaN for not asked."""
        values = np.asarray(right, dtype=float)
        outcome = np.where(np.isnan(values), OUTCOMES.index("not_asked"), values > 0.5).astype(np.int8)
        return cls(
            items,
            tuple(languages),
            outcome,
            np.full(values.shape, np.nan),
            np.full(values.shape, -1, dtype=np.int16),
            np.zeros(len(items), dtype=np.int16),
            np.zeros(values.shape, dtype=np.int64),
        )

    @classmethod
    def build(
        cls, items: Items, languages: Sequence[str], entries: Iterable[Entry], options: Mapping[str, int] | None = None
    ) -> OutcomeTable:
        """Put entries where their item and language stand; what has no entry is 'not_asked'.

        Args:
            items: the rows, ids unique.
            languages: the columns, English first.
            entries: in any order, at most one per item and language.
            options: item id -> number of options, where known.

        Raises:
            ValueError: an id or entry twice, or an unknown item, language or outcome.
        """
        row = {name: i for i, name in enumerate(items.ids.tolist())}
        if len(row) != len(items):
            raise ValueError("item ids are not unique")
        column = {name: i for i, name in enumerate(languages)}
        code = {name: i for i, name in enumerate(OUTCOMES)}
        shape = (len(items), len(languages))
        outcome = np.full(shape, code["not_asked"], dtype=np.int8)
        score, picked = np.full(shape, np.nan), np.full(shape, -1, dtype=np.int16)
        tokens, seen = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
        for entry in entries:
            if entry.item not in row or entry.language not in column or entry.outcome not in code:
                raise ValueError(f"no place for {entry.item} in {entry.language} with outcome {entry.outcome}")
            at = row[entry.item], column[entry.language]
            if seen[at]:
                raise ValueError(f"{entry.item} in {entry.language} stands there twice")
            seen[at], outcome[at], tokens[at] = True, code[entry.outcome], entry.tokens
            score[at] = np.nan if entry.score is None else entry.score
            picked[at] = -1 if entry.picked is None else entry.picked
        counts = np.array([(options or {}).get(name, 0) for name in row], dtype=np.int16)
        return cls(items, tuple(languages), outcome, score, picked, counts, tokens)
