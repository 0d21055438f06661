"""Preference without a judge: which of two answers does a model find likelier?

Nothing is generated and nobody judges: the log-probability of a respectful and of a prejudiced answer to the same
question, after the model's own chat template, and of the same two after a question without content (for PMI). No end
mark is scored with either. The engine computes every question once for both answers.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice

from cultev.backend.prefix import WINDOW
from cultev.backend.types import Backend, ModelInfo, ScoreRequest, ScoreResult
from cultev.errors import EngineError, Interrupted
from cultev.prompt.languages import codes, language
from cultev.prompt.render import PROMPT_VERSION, Question
from cultev.run.engine import interruption_noted
from cultev.run.journal import Journal, RunId, item_row, keep_responses, now_text
from cultev.run.plan import TEMPLATE_TOKENS, longest, to_request
from cultev.run.store import explained
from cultev.score.choice import ENGINE_ERROR, TOO_LONG
from cultev.suite.item import Pair
from cultev.suite.store import Suite

PAIR_PROMPTS = f"{PROMPT_VERSION}.1"
"""Raised where pairs alone are put in other words: Pidgin ones stood beside English words before it had its own."""


@dataclass(frozen=True, slots=True)
class PairProtocol:
    """What is asked of pairs. ``languages``: () means every one that a pair has; ``limit``: pairs per suite."""

    languages: tuple[str, ...] = ()
    limit: int | None = None
    pmi: bool = True
    n_ctx: int | None = None
    strict: bool = False
    prompts: str = PAIR_PROMPTS

    @property
    def mode(self) -> str:
        """What ``runs.mode`` says of such a run."""
        return "pairs"

    @property
    def norm(self) -> str:
        """What decides in the headline; the others come from the same scores."""
        return "byte"

    def canonical(self) -> str:
        """JSON with sorted keys: what is hashed and stored."""
        return json.dumps({"mode": self.mode, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class PairAsk:
    """One pair in one language. ``request`` is None when it does not fit the context."""

    item: Pair
    language: str
    request: ScoreRequest | None
    prior: ScoreRequest | None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the responses it rests on."""
        return tuple(r.key for r in (self.request, self.prior) if r is not None)


def places(suite: Suite, protocol: PairProtocol) -> Iterator[tuple[Pair, str]]:
    """Every pair and language that is asked, in the suite's own random order: languages that cultev has words in."""
    for item in suite.items(limit=protocol.limit, kinds=("pair",)):
        assert isinstance(item, Pair)
        for code in item.texts:
            if code in codes() and (not protocol.languages or code in protocol.languages):
                yield item, code


def question_of(item: Pair, code: str, *, free: bool = False) -> Question:
    """A pair as a question with two answers; ``free``: after a question without content instead."""
    text, words = item.texts[code], language(code)
    message = {"role": "user", "content": words.content_free if free else text.question}
    return Question((message,), item.option_ids, (text.preferred, text.dispreferred), words.answer_lead)


def pair_asks(suite: Suite, protocol: PairProtocol, backend: Backend) -> Iterator[PairAsk]:
    """What a run asks, rendered and tokenized for the model at hand."""
    for item, code in places(suite, protocol):
        request = to_request(backend, question_of(item, code), strict=protocol.strict)
        prior = None
        if protocol.pmi:
            prior = to_request(backend, question_of(item, code, free=True), strict=protocol.strict)
        fits = max(longest(request), longest(prior) if prior else 0) <= backend.n_ctx
        yield PairAsk(item, code, request if fits else None, prior if fits else None)


def enough_tokens(suites: Iterable[Suite], protocol: PairProtocol) -> int:
    """Tokens that suffice for each pair, found without a tokenizer."""
    most = 0
    for suite in suites:
        for item, code in places(suite, protocol):
            text = item.texts[code]
            answer = max(len(text.preferred.encode()), len(text.dispreferred.encode()))
            most = max(most, len(text.question.encode()) + answer)
    return most + TEMPLATE_TOKENS


class PairJournal(Journal):
    """One writer's hold on a results file, for pairs."""

    def __enter__(self) -> PairJournal:
        return self

    def answered_pairs(self, run: RunId, suite: Suite) -> set[tuple[str, str]]:
        """Pairs and languages of a suite that have their answer in this run."""
        query = "SELECT item, language FROM pair_answers WHERE run = ? AND suite = ?"
        with explained(self.path):
            return {(i, code) for i, code in self._connection.execute(query, [run.id, suite.content_hash])}

    def keep_pairs(
        self,
        run: RunId,
        suite: Suite,
        info: ModelInfo,
        results: Iterable[ScoreResult],
        requests: Mapping[str, ScoreRequest],
        complete: Sequence[PairAsk],
        failed: Mapping[str, str],
        seconds: float = 0.0,
    ) -> None:
        """Keep a batch of scores and the pairs that are complete with it. All or nothing."""
        now = now_text()
        with self.transaction() as db:
            keep_responses(db, info, results, requests, now)
            db.executemany(
                f"INSERT INTO items VALUES ({','.join('?' * 10)}) ON CONFLICT DO NOTHING",
                [item_row(suite, ask.item) for ask in complete],
            )
            db.executemany(
                "INSERT INTO pair_items VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                [
                    (suite.content_hash, a.item.id, a.item.pair_type, a.item.scope, a.item.stance, a.item.severity)
                    for a in complete
                ],
            )
            db.executemany(
                "INSERT INTO pair_answers VALUES (?,?,?,?,?,?,?,?) ON CONFLICT DO NOTHING",
                [_answer(run, suite, ask, failed) for ask in complete],
            )
            db.execute("UPDATE runs SET updated_at = ?, seconds = seconds + ? WHERE id = ?", [now, seconds, run.id])

    def engine_errors(self, run: RunId) -> int:
        """Pairs of a run that the engine died of."""
        with explained(self.path):
            row = self._connection.execute(
                "SELECT count(*) FROM pair_answers WHERE run = ? AND outcome = ?", [run.id, ENGINE_ERROR]
            ).fetchone()
        return int(row[0])

    def forget_errors(self, run: RunId) -> None:
        """Have the pairs that the engine died of asked again."""
        with self.transaction() as db:
            db.execute("DELETE FROM pair_answers WHERE run = ? AND outcome = ?", [run.id, ENGINE_ERROR])


def _answer(run: RunId, suite: Suite, ask: PairAsk, failed: Mapping[str, str]) -> tuple[object, ...]:
    place = (run.id, suite.content_hash, ask.item.id, ask.language)
    if ask.request is None:
        return (*place, None, None, TOO_LONG, "")
    errors = [failed[key] for key in ask.keys if key in failed]
    if errors:
        return (*place, None, None, ENGINE_ERROR, errors[0].encode("utf-8", "backslashreplace").decode())
    return (*place, ask.request.key, ask.prior.key if ask.prior else None, "", "")


def run_pairs(
    backend: Backend,
    suites: Sequence[Suite],
    protocol: PairProtocol,
    journal: PairJournal,
    *,
    n_planned: int,
    advance: Callable[[int, int], None] = lambda pairs, computed: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunId:
    """Score every pair that has no score yet, window by window; what is stored is never asked again.

    Args:
        n_planned: pairs in all, for the record.
        advance: told (pairs now complete, responses just computed) after each batch is safely stored.
        stop: asked between batches; True ends the run with what is stored.

    Raises:
        Interrupted: ``stop`` said so, or Ctrl-C.
        ResultsError: the file can't be written; what was stored before is kept.
    """
    run = RunId.of(backend.info.sha256, suites, protocol)
    journal.begin(run, backend.info, suites, protocol, n_planned)
    with interruption_noted(journal, run, "pair"):
        for suite in suites:
            stream = pair_asks(suite, protocol, backend)
            while window := list(islice(stream, WINDOW // 2)):
                _run_window(run, backend, suite, journal, window, advance, stop)
    journal.finish(run, "done")
    return run


def _run_window(
    run: RunId,
    backend: Backend,
    suite: Suite,
    journal: PairJournal,
    window: Sequence[PairAsk],
    advance: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> None:
    known = journal.answered_pairs(run, suite)
    todo = [ask for ask in window if (ask.item.id, ask.language) not in known]
    advance(len(window) - len(todo), 0)
    if not todo:
        return
    requests = {r.key: r for ask in window for r in (ask.request, ask.prior) if r is not None}
    have = {key for key in requests if journal.has_response(key)}
    failed: dict[str, str] = {}
    missing = {id(ask): set(ask.keys) - have for ask in todo}
    waiting: dict[str, list[PairAsk]] = {}
    for ask in todo:
        for key in missing[id(ask)]:
            waiting.setdefault(key, []).append(ask)
    ready = [ask for ask in todo if not missing[id(ask)]]
    if ready:
        journal.keep_pairs(run, suite, backend.info, [], {}, ready, failed)
        advance(len(ready), 0)
    planned = [r for key, r in requests.items() if key in waiting or key in have]
    if stop():
        raise Interrupted("")
    began = time.perf_counter()
    for batch in backend.score(planned, skip=have) if waiting else ():
        complete = []
        for result in batch:
            if result.error:
                failed[result.key] = result.error
            for ask in waiting.pop(result.key, ()):
                missing[id(ask)].discard(result.key)
                if not missing[id(ask)]:
                    complete.append(ask)
        seconds, began = time.perf_counter() - began, time.perf_counter()
        journal.keep_pairs(run, suite, backend.info, batch, requests, complete, failed, seconds)
        advance(len(complete), len(batch))
        if stop():
            raise Interrupted("")
    if waiting:
        raise EngineError(f"The engine left {len(waiting)} questions without an answer.", "Run `cultev doctor` on it.")
