"""What a run's questions got, with every figure that lies behind an answer, read back from the results file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from cultev.backend.types import ContinuationScore


@dataclass(frozen=True, slots=True)
class Reply:
    """One question's reply: an item in a language, context and option order.

    ``picked`` is the option that this order alone would choose, '' where there is none. ``options`` are option ids in
    the order shown and ``scores`` theirs, () where there was no answer; ``prior`` are the scores after the content-free
    question, () where none was asked. ``text`` is the reasoning, None without one, and ``finish`` how it ended.
    ``tokens`` counts what the engine had to read and write for it: prompt, reasoning and options, those of the
    content-free question included.
    """

    item: str
    language: str
    context: str
    order: int
    outcome: str
    picked: str
    options: tuple[str, ...]
    scores: tuple[ContinuationScore, ...]
    prior: tuple[ContinuationScore, ...]
    text: str | None
    finish: str
    tokens: int


_REPLIES = """
SELECT a.item, a.language, a.context, a.option_order, a.outcome, a.picked, a.options, a.key, a.prior_key,
       t.text, t.finish,
       coalesce(r.n_prompt_tokens, 0) + coalesce(t.n_tokens, 0) + coalesce(p.n_prompt_tokens, 0)
FROM answers a LEFT JOIN responses r ON r.key = a.key LEFT JOIN responses p ON p.key = a.prior_key
     LEFT JOIN texts t ON t.key = a.key
WHERE a.run = ? AND a.suite = ? ORDER BY a.item, a.language, a.context, a.option_order
"""


def replies(connection: sqlite3.Connection, run: str, suite: str) -> Iterator[Reply]:
    """All replies of a run to a suite's questions, by item, language, context and order.

    Args:
        connection: an open results file.
        run: the run's id.
        suite: the suite's content hash.
    """
    known: dict[str, tuple[ContinuationScore, ...]] = {}
    for row in connection.execute(_REPLIES, [run, suite]):
        item, language, context, order, outcome, picked, options, key, prior, text, finish, tokens = row
        scores = scores_of(connection, key) if key else ()
        if prior and prior not in known:  # priors are few and shared by many
            known[prior] = scores_of(connection, prior)
        free = known[prior] if prior else ()
        yield Reply(
            item, language, context, order, outcome, picked or "", tuple(json.loads(options)), scores, free, text,
            finish or "", int(tokens) + sum(s.n_tokens for s in (*scores, *free)),
        )  # fmt: skip


def scores_of(connection: sqlite3.Connection, key: str) -> tuple[ContinuationScore, ...]:
    """The scores kept under a response's key, in the order of its continuations; () when there is none."""
    rows = connection.execute(
        "SELECT logprob, n_tokens, n_bytes, n_chars FROM scores WHERE key = ? ORDER BY seq", [key]
    )
    return tuple(ContinuationScore(*row) for row in rows)
