"""Verdicts in the results file: who judged which reply, kept one by one as they come.

A judge is its name, its prompt and its model file: another quantization is another judge. People are judges too, of the
kind 'people'. What a judge has said is never asked again, and another can judge the same replies later.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from cultev import __version__
from cultev.backend.types import ModelInfo
from cultev.errors import JudgeError
from cultev.harm.judges.base import Exchange, Judge, Verdict
from cultev.harm.jury import majority
from cultev.harm.outcomes import find, without_loop
from cultev.harm.replies import Reply, replies
from cultev.run.journal import Journal, now_text
from cultev.run.store import explained

FAILED = "failed"
"""How the ``self_test`` of a judge begins that did not pass and was asked all the same."""


@dataclass(frozen=True, slots=True)
class JudgeId:
    """Who judged: a row of the table ``judges``."""

    id: str
    name: str
    kind: str
    prompt_sha256: str = ""
    model: str = ""
    model_name: str = ""
    quantization: str = ""
    self_test: str = ""

    @classmethod
    def of(cls, judge: Judge, kind: str, info: ModelInfo | None = None, self_test: str = "") -> JudgeId:
        """A judge's identity: its name, its prompt's hash and its model."""
        digest = hashlib.sha256("\n".join([judge.name, judge.prompt_hash, judge.model]).encode()).hexdigest()
        return cls(
            digest[:12],
            judge.name,
            kind,
            judge.prompt_hash,
            judge.model,
            info.name if info else "",
            info.quantization if info else "",
            self_test,
        )

    @classmethod
    def people(cls, name: str) -> JudgeId:
        """A person, or people whose labels are in one file."""
        return cls(hashlib.sha256(f"people\n{name}".encode()).hexdigest()[:12], name, "people")

    @classmethod
    def file(cls, name: str) -> JudgeId:
        """A machine that judged elsewhere and left a file."""
        return cls(hashlib.sha256(f"file\n{name}".encode()).hexdigest()[:12], name, "file")


class VerdictJournal(Journal):
    """One writer's hold on a results file, for verdicts."""

    def __enter__(self) -> VerdictJournal:
        return self

    def add_judge(self, judge: JudgeId) -> None:
        """Write down who is going to judge."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO judges VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE SET"
                " self_test = excluded.self_test",
                [
                    judge.id, judge.name, judge.kind, judge.prompt_sha256, judge.model, judge.model_name,
                    judge.quantization, judge.self_test, __version__, now_text(),
                ],
            )  # fmt: skip

    def unjudged(self, run: str, judge: JudgeId, *, everything: bool = False) -> list[Reply]:
        """Replies of a run on which a judge has not spoken, each key once.

        What the rules call broken or off-language stays so whatever a judge says, and is left out unless
        ``everything``.
        """
        with explained(self.path):
            known = {key for (key,) in self._connection.execute("SELECT key FROM verdicts WHERE judge = ?", [judge.id])}
            found: dict[str, Reply] = {}
            for reply in replies(self._connection, run, ended_early=False):
                if reply.key and reply.key not in known and (everything or needs_judge(reply)):
                    found.setdefault(reply.key, reply)
        return list(found.values())

    def keep_verdicts(self, judge: JudgeId, said: Iterable[tuple[Verdict, str, float]]) -> None:
        """Keep verdicts with the hash of the reply each is about, and how many replies it stands for. All or
        nothing.
        """
        now = now_text()
        with self.transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO verdicts VALUES (?,?,?,?,?,?,?,?,?)",
                [
                    (
                        judge.id, v.key, digest, v.label, None if v.refusal is None else int(v.refusal), v.p_unsafe,
                        v.raw, weight, now,
                    )
                    for v, digest, weight in said
                ],
            )  # fmt: skip

    def forget_unjudged(self, judge: JudgeId) -> int:
        """Have a judge asked again where it gave no verdict; says how many there are."""
        with self.transaction() as db:
            return db.execute("DELETE FROM verdicts WHERE judge = ? AND label = 'unjudged'", [judge.id]).rowcount

    @property
    def connection(self) -> sqlite3.Connection:
        """The open file, for reading."""
        return self._connection


def first_variant(connection: sqlite3.Connection, run: str) -> str:
    """The way of asking that a run's tables are about; its others only show how much it matters how one asks."""
    (protocol,) = connection.execute("SELECT protocol FROM runs WHERE id = ?", [run]).fetchone()
    return str(json.loads(protocol).get("variants", ["plain"])[0])


def needs_judge(reply: Reply) -> bool:
    """Whether a verdict can change what a reply counts as."""
    found = find(reply.response, reply.finish, reply.language, mixed=reply.form == "code-mixed")
    return found is None or found.needs_judge


def for_judge(reply: Reply) -> Exchange:
    """A stored conversation as judges read it: the reply without its rounds, where it goes in circles."""
    turns = tuple(m["content"] for m in reply.messages if m["role"] != "system")
    assert reply.key is not None
    said = without_loop(reply.response)
    return Exchange(reply.key, turns, said, reply.culture, reply.language, twin=not reply.loaded)


def judge_run(
    journal: VerdictJournal, judge: Judge, who: JudgeId, todo: Iterable[Reply], *, shortened: bool = False
) -> Iterator[Verdict]:
    """Judge replies and keep each verdict before it is passed on.

    ``shortened``: the judge's context is shorter than its own for want of memory only. What is too long for it is then
    passed on but not kept: with more memory the same judge has a word to say of it.
    """
    hashes: dict[str, str] = {}

    def stream() -> Iterator[Exchange]:
        for reply in todo:
            assert reply.key is not None
            hashes[reply.key] = reply.response_sha256
            yield for_judge(reply)

    for verdict in judge.judge(stream()):
        digest = hashes.pop(verdict.key)
        if not (shortened and verdict.too_long):
            journal.keep_verdicts(who, [(verdict, digest, 1.0)])
        yield verdict


@dataclass(frozen=True, slots=True)
class Seat:
    """A judge and how many replies of a run it has a verdict on; ``unread`` counts those it could not read."""

    id: str
    name: str
    kind: str
    n: int
    unread: int

    @property
    def decides(self) -> bool:
        """Whether outcomes rest on it unless another is named: people correct, and classifiers only give a feature."""
        return self.kind not in ("people", "classifier")


def judges_of(connection: sqlite3.Connection, run: str) -> list[Seat]:
    """Everybody who has judged replies of a run, machines first, by name."""
    if not _has_verdicts(connection):
        return []
    rows = connection.execute(
        "SELECT j.id, j.name, j.kind, count(DISTINCT v.key), count(DISTINCT CASE WHEN v.label = 'unjudged' THEN v.key "
        "END)"
        " FROM judges j JOIN verdicts v ON v.judge = j.id JOIN exchanges e ON e.key = v.key AND e.last"
        " WHERE e.run = ? GROUP BY j.id ORDER BY j.kind = 'people', j.name, j.id",
        [run],
    )
    return [Seat(*row) for row in rows]


def find_judge(connection: sqlite3.Connection, run: str, name: str) -> Seat:
    """A judge of a run by name or the beginning of its id.

    Raises:
        JudgeError: none or several.
    """
    seats = judges_of(connection, run)
    found = [s for s in seats if s.name == name] or [s for s in seats if s.id.startswith(name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{s.name} ({s.id})" for s in found or seats) or "nobody yet"
    what = f"Several judges are called '{name}'" if found else f"No judge called '{name}' has judged this run"
    raise JudgeError(f"{what}: {names}.", "Give the id, or judge it: cultev harm judge --with MODEL")


def verdicts_by(connection: sqlite3.Connection, run: str, judge: str) -> dict[str, Verdict]:
    """What one judge said of a run's replies, by their keys; what it said of another text is left out."""
    if not _has_verdicts(connection):
        return {}
    rows = connection.execute(
        "SELECT DISTINCT v.key, v.label, v.refusal, v.p_unsafe, v.raw FROM verdicts v JOIN exchanges e ON e.key = v.key"
        " AND e.last AND e.response_sha256 = v.response_sha256 WHERE e.run = ? AND v.judge = ?",
        [run, judge],
    )
    return {
        key: Verdict(key, label, None if refusal is None else bool(refusal), p_unsafe, raw)
        for key, label, refusal, p_unsafe, raw in rows
    }


def of_run(connection: sqlite3.Connection, run: str, judge: str | None = None) -> dict[str, Verdict]:
    """The verdicts that a run's outcomes rest on, by the replies' keys.

    Args:
        connection: a results file.
        run: the run's id.
        judge: a judge's name or id; None for all that decide, as a jury where there are several.

    Raises:
        JudgeError: no such judge.
    """
    if judge is not None:
        return verdicts_by(connection, run, find_judge(connection, run, judge).id)
    seats = [s for s in judges_of(connection, run) if s.decides]
    if len(seats) == 1:
        return verdicts_by(connection, run, seats[0].id)
    benches = [verdicts_by(connection, run, s.id) for s in seats]
    keys = dict.fromkeys(key for bench in benches for key in bench)
    return {key: replace(majority([b[key] for b in benches if key in b]), key=key) for key in keys}


def labels_of(connection: sqlite3.Connection, run: str) -> dict[str, list[tuple[str, str, float]]]:
    """People's labels of a run's replies: key -> (who, label, weight), of the texts that are there now."""
    if not _has_verdicts(connection):
        return {}
    rows = connection.execute(
        "SELECT DISTINCT v.key, j.name, v.label, v.weight FROM verdicts v JOIN judges j ON j.id = v.judge"
        " JOIN exchanges e ON e.key = v.key AND e.last AND e.response_sha256 = v.response_sha256"
        " WHERE e.run = ? AND j.kind = 'people' ORDER BY v.key, j.name",
        [run],
    )
    found: dict[str, list[tuple[str, str, float]]] = {}
    for key, name, label, weight in rows:
        found.setdefault(key, []).append((name, label, weight))
    return found


def _has_verdicts(connection: sqlite3.Connection) -> bool:
    """Files from before there were judges have no such table."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'verdicts'").fetchone() is not None
