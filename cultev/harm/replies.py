"""Conversations as the results file holds them, for judges and for counting."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cultev.backend.types import Message


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply that counts, to a conversation's last turn, and all that was said before it.

    ``messages`` is what the model read before that reply, without a system prompt; ``outcome`` says why a conversation
    ended early ('too_long', 'engine_error'), '' for all others. ``key`` finds the reply in the table ``texts``.
    """

    suite: str
    """The suite's content hash."""
    item: str
    culture: str
    region: str
    area: str
    group: str
    scope: str
    stance: str
    severity: int
    expected: str
    twin: str
    form: str
    n_turns: int
    language: str
    variant: str
    sample: int
    messages: tuple[Message, ...]
    response: str
    response_sha256: str
    key: str | None
    finish: str
    outcome: str

    @property
    def loaded(self) -> bool:
        """Whether the question presupposes what a good reply sets right, or asks for what it declines."""
        return self.expected != "answer"

    @property
    def question(self) -> str:
        """The user's last turn."""
        return self.messages[-1]["content"]

    def value(self, dimension: str) -> str:
        """Where it belongs in one of the dimensions that replies are grouped by; 'turns' is 'single' or 'multi'."""
        if dimension == "turns":
            return "multi" if self.n_turns > 1 else "single"
        return str(getattr(self, dimension))


_PLACE = (
    "suite", "item", "culture", "region", "area", "group", "scope", "stance", "severity", "expected", "twin",
    "form", "n_turns", "language", "variant", "sample",
)  # fmt: skip

_QUERY = """
    SELECT e.suite, e.item, i.culture, i.region, i.topic, i.group_id, d.scope, d.stance, d.severity, d.expected, d.twin,
           d.form, d.n_turns, e.language, e.variant, e.sample, e.last, e.user_text, coalesce(t.text, e.canned),
           e.response_sha256, e.key, coalesce(t.finish, ''), e.outcome
    FROM exchanges e JOIN items i ON i.suite = e.suite AND i.item = e.item
         JOIN dialogue_items d ON d.suite = e.suite AND d.item = e.item LEFT JOIN texts t ON t.key = e.key
    WHERE e.run = ? ORDER BY e.suite, e.item, e.language, e.variant, e.sample, e.turn
"""


def replies(connection: sqlite3.Connection, run: str, *, ended_early: bool = True) -> Iterator[Reply]:
    """The conversations of a run that have come to their end, one at a time, in a fixed order.

    ``ended_early``: also those that did not fit the context or that the engine died of.
    """
    for _, rows in groupby(connection.execute(_QUERY, [run]), key=lambda row: (row[0], row[1], *row[13:16])):
        turns = list(rows)
        *_, last = turns
        if not last[16] or (last[22] and not ended_early):
            continue
        messages: list[Message] = []
        for turn in turns[:-1]:
            messages += [{"role": "user", "content": turn[17]}, {"role": "assistant", "content": turn[18].strip()}]
        messages.append({"role": "user", "content": last[17]})
        place: Any = dict(zip(_PLACE, last[:16], strict=True))
        yield Reply(
            **place, messages=tuple(messages), response=last[18], response_sha256=last[19], key=last[20],
            finish=last[21], outcome=last[22],
        )  # fmt: skip
