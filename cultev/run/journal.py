"""The results file as a run writes it: responses and answers, a transaction per batch."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cultev import __version__
from cultev.backend.machine import cores, cpu_name
from cultev.backend.proof import Proof
from cultev.backend.types import (
    ContinuationScore,
    GenerateRequest,
    GenerateResult,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
)
from cultev.run.bench_result import Bench
from cultev.run.plan import Ask
from cultev.run.protocol import Described, Protocol
from cultev.run.replies import Reply, replies, scores_of
from cultev.run.store import WriterLock, explained, open_results
from cultev.score.choice import ENGINE_ERROR, TOO_LONG, Choice, choose, said
from cultev.suite.item import Item
from cultev.suite.store import Suite

_Answer = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class RunId:
    """A run: one model, certain suites, one protocol. The same three are the same run, now and later."""

    id: str

    @classmethod
    def of(cls, model_sha256: str, suites: Sequence[Suite], protocol: Described) -> RunId:
        """The first twelve hexadecimal digits of a hash over all three."""
        parts = [model_sha256, *sorted(s.content_hash for s in suites), protocol.sha256]
        return cls(hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12])


class Journal:
    """One writer's hold on a results file. Use as a context manager.

    Raises:
        ResultsError: one of its kinds, from any method.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = WriterLock(path)
        try:
            self._connection = open_results(path, write=True)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others write."""
        try:
            with explained(self.path):
                self._connection.close()
        finally:
            self._lock.release()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A block in which everything is written, or nothing."""
        with explained(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def status(self, run: RunId) -> str | None:
        """'running', 'interrupted', 'partial' or 'done'; None when there was no such run."""
        with explained(self.path):
            row = self._connection.execute("SELECT status FROM runs WHERE id = ?", [run.id]).fetchone()
        return str(row[0]) if row else None

    def begin(self, run: RunId, info: ModelInfo, suites: Sequence[Suite], protocol: Described, n_planned: int) -> None:
        """Write down what is about to be asked, of whom."""
        with self.transaction() as db:
            _add_model(db, info)
            db.executemany(
                "INSERT INTO suites VALUES (?,?,?,?,?,?,?) ON CONFLICT (content_hash) DO UPDATE SET"
                " title = excluded.title, license = excluded.license, value_frame = excluded.value_frame,"
                " content_note = excluded.content_note WHERE suites.title = ''",
                [
                    (s.content_hash, s.name, s.version, s.title, s.license, s.value_frame, s.content_note)
                    for s in suites
                ],
            )
            db.execute(
                "INSERT INTO runs (id, model, protocol, protocol_sha256, mode, norm, n_planned, status,"
                " started_at, updated_at, engine, cultev) VALUES (?,?,?,?,?,?,?,'running',?,?,?,?)"
                " ON CONFLICT (id) DO UPDATE SET status = 'running', updated_at = excluded.updated_at,"
                " n_planned = max(n_planned, excluded.n_planned)",
                [
                    run.id, info.sha256, protocol.canonical(), protocol.sha256, protocol.mode, protocol.norm,
                    n_planned, now_text(), now_text(), _engine(info), __version__,
                ],
            )  # fmt: skip
            db.executemany(
                "INSERT INTO run_suites VALUES (?,?) ON CONFLICT DO NOTHING", [(run.id, s.content_hash) for s in suites]
            )

    def has_response(self, key: str) -> bool:
        """Whether this very question was answered by this very model before."""
        with explained(self.path):
            return self._connection.execute("SELECT 1 FROM responses WHERE key = ?", [key]).fetchone() is not None

    def answered(self, run: RunId, suite: Suite) -> dict[tuple[str, str], int]:
        """How many answers a run has by item id and language."""
        query = "SELECT item, language, count(*) FROM answers WHERE run = ? AND suite = ? GROUP BY item, language"
        with explained(self.path):
            rows = self._connection.execute(query, [run.id, suite.content_hash]).fetchall()
        return {(item, language): count for item, language, count in rows}

    def replies(self, run: RunId, suite: Suite) -> list[Reply]:
        """What a run's questions of a suite got so far."""
        with explained(self.path):
            return list(replies(self._connection, run.id, suite.content_hash))

    def scores(self, key: str) -> tuple[ContinuationScore, ...]:
        """The scores kept under a key; () when there is none."""
        with explained(self.path):
            return scores_of(self._connection, key)

    def unanswered(self, run: RunId, suite: Suite, window: Sequence[Ask]) -> list[Ask]:
        """Those of a window that have no answer in this run yet."""
        query = (
            "SELECT 1 FROM answers WHERE run = ? AND suite = ? AND item = ? AND language = ? AND context = ?"
            " AND option_order = ?"
        )
        with explained(self.path):
            return [
                a
                for a in window
                if self._connection.execute(
                    query,
                    [run.id, suite.content_hash, a.item.id, a.language, a.variant.context, a.variant.order],
                ).fetchone()
                is None
            ]

    def add(
        self,
        run: RunId,
        suite: Suite,
        protocol: Protocol,
        info: ModelInfo,
        results: Iterable[ScoreResult | GenerateResult],
        requests: Mapping[str, ScoreRequest | GenerateRequest],
        answered: Sequence[Ask],
        seconds: float = 0.0,
        failed: Mapping[str, str] | None = None,
    ) -> None:
        """Keep a batch: what was computed, and the answers that are complete with it. All or nothing.

        ``failed`` says for keys that have no response why the engine gave none. Nothing is kept under such a key:
        another run asks again.
        """
        now = now_text()
        with self.transaction() as db:
            keep_responses(db, info, results, requests, now)
            db.executemany(
                "INSERT INTO items VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                [item_row(suite, a.item) for a in answered],
            )
            db.executemany(
                f"INSERT INTO answers VALUES ({','.join('?' * 18)}) ON CONFLICT DO NOTHING",
                [self._answer_row(run, suite, protocol, a, failed or {}) for a in answered],
            )
            db.execute("UPDATE runs SET updated_at = ?, seconds = seconds + ? WHERE id = ?", [now, seconds, run.id])

    def add_bench(self, info: ModelInfo, bench: Bench) -> None:
        """Keep a benchmark's figures."""
        with self.transaction() as db:
            _add_model(db, info)
            db.execute(
                "INSERT INTO benches (model, measured_at, machine, engine, cultev, suite, raw_tokens_per_s,"
                " unique_tokens_per_s, ratio_to_raw, speedup_over_naive, peak_mb, figures)"
                " VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                [
                    info.sha256, now_text(), f"{cpu_name()}, {cores()} cores", _engine(info), __version__, bench.suite,
                    bench.raw_tokens_per_s, bench.unique_tokens_per_s, bench.ratio_to_raw, bench.speedup_over_naive,
                    bench.peak_mb, json.dumps(bench.figures()),
                ],
            )  # fmt: skip

    def is_complete(self, run: RunId) -> bool:
        """Whether a run has as many answers as it planned."""
        query = "SELECT n_planned <= (SELECT count(*) FROM answers WHERE run = id) FROM runs WHERE id = ?"
        with explained(self.path):
            row = self._connection.execute(query, [run.id]).fetchone()
        return bool(row and row[0])

    def finish(self, run: RunId, status: str) -> None:
        """Write down how a run ended: 'done', 'interrupted', or 'partial' where only a part was wanted."""
        with self.transaction() as db:
            finished = now_text() if status == "done" else None
            db.execute("UPDATE runs SET status = ?, finished_at = ? WHERE id = ?", [status, finished, run.id])

    def engine_errors(self, run: RunId) -> int:
        """Questions of a run that the engine died of."""
        with explained(self.path):
            row = self._connection.execute(
                "SELECT count(*) FROM answers WHERE run = ? AND outcome = ?", [run.id, ENGINE_ERROR]
            ).fetchone()
        return int(row[0])

    def forget_errors(self, run: RunId) -> None:
        """Have the questions that the engine died of asked again."""
        with self.transaction() as db:
            db.execute("DELETE FROM answers WHERE run = ? AND outcome = ?", [run.id, ENGINE_ERROR])

    def keep_proof(self, info: ModelInfo, proof: Proof) -> None:
        """Write down what ``cultev doctor`` measured, in the place of what it measured before."""
        with self.transaction() as db:
            _add_model(db, info)
            db.execute(
                "INSERT OR REPLACE INTO proofs VALUES (?,?,?,?,?,?,?,?,?,?)",
                [
                    info.sha256, _engine(info), proof.n_requests, proof.n_options, proof.noise_per_token,
                    proof.worst_per_token, proof.worst_total, proof.tolerance, int(proof.holds), now_text(),
                ],
            )  # fmt: skip

    def _answer_row(self, run: RunId, suite: Suite, protocol: Protocol, ask: Ask, failed: Mapping[str, str]) -> _Answer:
        place = (
            run.id,
            suite.content_hash,
            ask.item.id,
            ask.language,
            ask.variant.context,
            ask.variant.order,
        )
        options = json.dumps(ask.options)
        if ask.request is None:
            return (*place, None, None, options, TOO_LONG, None, 0, *[None] * 5, "")
        errors = [failed[key] for key in ask.keys if key in failed]
        if errors:
            return (*place, None, None, options, ENGINE_ERROR, None, 0, *[None] * 5, _text(errors[0]))
        choice = self._choose(protocol, ask)
        picked = [choice.by_norm.get(norm) for norm in ("sum", "token", "byte", "char", "pmi")]
        prior = ask.prior.key if ask.prior else None
        return (
            *place, ask.request.key, prior, options, choice.outcome, choice.picked or None, int(choice.tied),
            *picked, "",
        )  # fmt: skip

    def _choose(self, protocol: Protocol, ask: Ask) -> Choice:
        assert ask.request is not None
        if ask.read is not None:
            return said(ask.options, ask.item.answers, ask.read(self._text_of(ask.request.key)))
        prior = self._scores(ask.prior.key) if ask.prior else None
        return choose(ask.options, ask.item.answers, self._scores(ask.request.key), prior, protocol.norm)

    def _text_of(self, key: str) -> str:
        row = self._connection.execute("SELECT text FROM texts WHERE key = ?", [key]).fetchone()
        return str(row[0]) if row else ""

    def _scores(self, key: str) -> Sequence[ContinuationScore]:
        return scores_of(self._connection, key)


def _engine(info: ModelInfo) -> str:
    """What computes, in words."""
    return " ".join([info.format, *(f"{k}={v}" for k, v in sorted(info.extra.items()))])


def _add_model(db: sqlite3.Connection, info: ModelInfo) -> None:
    db.execute(
        "INSERT INTO models VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (sha256) DO UPDATE SET path = excluded.path,"
        " architecture = excluded.architecture, n_params = excluded.n_params, n_ctx = excluded.n_ctx,"
        " n_vocab = excluded.n_vocab, file_bytes = excluded.file_bytes, template_sha256 = excluded.template_sha256,"
        " reference = excluded.reference WHERE models.file_bytes = 0",  # known until now from an imported map only
        [
            info.sha256, _text(info.name), _text(info.path), info.format, info.architecture, info.quantization,
            info.n_params, info.n_ctx, info.n_vocab, info.file_bytes, info.template_sha256, int(info.reference),
        ],
    )  # fmt: skip


def keep_responses(
    db: sqlite3.Connection,
    info: ModelInfo,
    results: Iterable[ScoreResult | GenerateResult],
    requests: Mapping[str, ScoreRequest | GenerateRequest],
    now: str,
) -> None:
    """Write down what was computed, within a transaction; what the engine died of leaves nothing behind."""
    for result in results:
        if result.error:
            continue
        request = requests[result.key]
        db.execute(
            "INSERT INTO responses VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING",
            [result.key, info.sha256, len(request.prompt), info.format, now],
        )
        if isinstance(result, GenerateResult) and isinstance(request, GenerateRequest):
            db.execute(
                "INSERT INTO texts VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                [
                    result.key, result.text, result.finish, len(result.tokens), request.max_tokens,
                    request.temperature, request.seed, json.dumps(request.stop, ensure_ascii=False),
                    request.grammar,
                ],
            )  # fmt: skip
        db.executemany(
            "INSERT INTO scores VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING",
            [(result.key, seq, s.logprob, s.n_tokens, s.n_bytes, s.n_chars) for seq, s in enumerate(result.scores)],
        )


def item_row(suite: Suite, item: Item) -> _Answer:
    """A row of the table ``items``."""
    culture = suite.cultures.get(item.culture)
    return (
        suite.content_hash, item.id, item.kind, item.culture, culture.region if culture else "", item.topic,
        item.group, item.status, len(item.option_ids), json.dumps(item.answers),
    )  # fmt: skip


def _text(value: str) -> str:
    """A file's name or what a file says, as SQLite can hold it: bytes that are no UTF-8 are escaped."""
    return value.encode("utf-8", "backslashreplace").decode()


def now_text() -> str:
    """The time as the file writes it: UTC, in seconds."""
    return datetime.fromtimestamp(time.time(), timezone.utc).isoformat(timespec="seconds")
