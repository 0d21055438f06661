"""The results file as the harm test writes it: every reply as it comes, and where in which conversation it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cultev.backend.types import GenerateRequest, GenerateResult, ModelInfo
from cultev.harm.plan import Conversation, Turn
from cultev.run.journal import Journal, RunId, item_row, keep_responses, now_text
from cultev.run.store import explained
from cultev.score.choice import ENGINE_ERROR, TOO_LONG
from cultev.suite.store import Suite


@dataclass(frozen=True, slots=True)
class Said:
    """What came of one turn: a reply (``text``), or the reason why the conversation ends here (``outcome``)."""

    turn: Turn
    text: str = ""
    outcome: str = ""
    """'', 'too_long' or 'engine_error'."""
    error: str = ""

    @property
    def ends(self) -> bool:
        """Whether nothing more is asked in this conversation."""
        return self.turn.last or bool(self.outcome)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a conversation has come in the file."""

    replies: tuple[str, ...]
    ended: bool


class HarmJournal(Journal):
    """One writer's hold on a results file, for conversations."""

    def __enter__(self) -> HarmJournal:
        return self

    def reply(self, key: str) -> str | None:
        """What the model said to this very prompt before; None when it was not asked."""
        with explained(self.path):
            row = self._connection.execute("SELECT text FROM texts WHERE key = ?", [key]).fetchone()
        return None if row is None else str(row[0])

    def standing(self, run: RunId, suite: Suite, conversation: Conversation) -> Standing:
        """What was said in a conversation so far."""
        query = (
            "SELECT coalesce(t.text, e.canned), e.last, e.outcome FROM exchanges e LEFT JOIN texts t ON t.key = e.key"
            " WHERE e.run = ? AND e.suite = ? AND e.item = ? AND e.language = ? AND e.variant = ? AND e.sample = ?"
            " ORDER BY e.turn"
        )
        with explained(self.path):
            rows = self._connection.execute(query, [run.id, suite.content_hash, *conversation.place]).fetchall()
        ended = bool(rows) and bool(rows[-1][1] or rows[-1][2])
        return Standing(tuple(str(row[0]) for row in rows), ended)

    def keep(
        self,
        run: RunId,
        suite: Suite,
        info: ModelInfo,
        results: Iterable[GenerateResult],
        requests: Mapping[str, GenerateRequest],
        said: Sequence[Said],
        seconds: float = 0.0,
    ) -> None:
        """Keep a batch of replies and their places. All or nothing."""
        now = now_text()
        items = {s.turn.conversation.item.id: s.turn.conversation.item for s in said}
        with self.transaction() as db:
            keep_responses(db, info, results, requests, now)
            db.executemany(
                f"INSERT INTO items VALUES ({','.join('?' * 10)}) ON CONFLICT DO NOTHING",
                [item_row(suite, item) for item in items.values()],
            )
            db.executemany(
                f"INSERT INTO dialogue_items VALUES ({','.join('?' * 9)}) ON CONFLICT DO NOTHING",
                [
                    (
                        suite.content_hash, item.id, item.scope, item.stance, item.severity, item.expected, item.twin,
                        item.form, len(next(iter(item.texts.values())).turns),
                    )
                    for item in items.values()
                ],
            )  # fmt: skip
            db.executemany(
                f"INSERT INTO exchanges VALUES ({','.join('?' * 15)}) ON CONFLICT DO NOTHING",
                [row for s in said for row in _rows(run, suite, s)],
            )
            db.execute("UPDATE runs SET updated_at = ?, seconds = seconds + ? WHERE id = ?", [now, seconds, run.id])

    def engine_errors(self, run: RunId) -> int:
        """Conversations of a run that ended because the engine died."""
        with explained(self.path):
            row = self._connection.execute(
                "SELECT count(*) FROM exchanges WHERE run = ? AND outcome = ?", [run.id, ENGINE_ERROR]
            ).fetchone()
        return int(row[0])

    def forget_errors(self, run: RunId) -> None:
        """Have the conversations that the engine died of go on."""
        with self.transaction() as db:
            db.execute("DELETE FROM exchanges WHERE run = ? AND outcome = ?", [run.id, ENGINE_ERROR])


def response_sha256(text: str) -> str:
    """The hash by which a judge's verdict and a reply are known to belong together: SHA-256 of its UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _rows(run: RunId, suite: Suite, said: Said) -> Iterable[tuple[object, ...]]:
    """One row for the reply; with canned replies one for each turn before it as well."""
    turn, conversation = said.turn, said.turn.conversation
    place = (run.id, suite.content_hash, *conversation.place)
    if conversation.canned:
        for number in range(turn.number):
            user = conversation.turns[number]
            yield (*place, number, 0, user, conversation.canned, None, "", "", "", "")
    key = turn.request.key if turn.request and not said.outcome else None
    digest = "" if said.outcome else response_sha256(said.text)
    assert said.outcome in ("", TOO_LONG, ENGINE_ERROR)
    user = conversation.turns[turn.number]
    yield (*place, turn.number, int(said.ends), user, "", key, turn.prompt_sha256, digest, said.outcome, said.error)
