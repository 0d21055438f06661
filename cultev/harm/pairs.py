"""Preference without a judge: which of two answers does a model find likelier?

Nothing is generated and nobody judges: the log-probability of a respectful and of a prejudiced answer to the same
question, after the model's own chat template, and of the same two after a question without content (for PMI). No end
mark is scored with either. The engine computes every question once for both answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from cultev.backend.types import Backend, ModelInfo, ScoreRequest
from cultev.prompt.languages import codes, language
from cultev.prompt.render import PROMPT_VERSION, Question
from cultev.run.engine import interruption_noted
from cultev.run.journal import Journal, RunId, item_row, keep_responses, now_text
from cultev.run.plan import TEMPLATE_TOKENS, longest, to_request
from cultev.run.store import explained
from cultev.run.window import Request, Result, answer_window, windows
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

    def unanswered_pairs(self, run: RunId, suite: Suite, window: Sequence[PairAsk]) -> list[PairAsk]:
        """Those of a window that have no answer in this run yet."""
        query = "SELECT item, language FROM pair_answers WHERE run = ? AND suite = ?"
        with explained(self.path):
            known = set(self._connection.execute(query, [run.id, suite.content_hash]))
        return [ask for ask in window if (ask.item.id, ask.language) not in known]

    def keep_pairs(
        self,
        run: RunId,
        suite: Suite,
        info: ModelInfo,
        results: Iterable[Result],
        requests: Mapping[str, Request],
        complete: Sequence[PairAsk],
        seconds: float,
        failed: Mapping[str, str],
    ) -> None:
        """Keep a batch of scores and the pairs that are complete with it; see ``Journal.add``. All or nothing."""
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
    failed: dict[str, str] = {}
    with interruption_noted(journal, run, "pair"):
        for suite in suites:
            keep = partial(journal.keep_pairs, run, suite, backend.info, failed=failed)
            for window in windows(pair_asks(suite, protocol, backend)):
                todo = journal.unanswered_pairs(run, suite, window)
                answer_window(backend, journal.has_response, window, todo, keep, failed, advance, stop)
    journal.finish(run, "done")
    return run
