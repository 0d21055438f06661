"""One window of questions: compute what none of their answers has yet, and keep each answer with what completes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol, TypeVar

from cultev.backend.prefix import WINDOW
from cultev.backend.types import Backend, GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from cultev.errors import EngineError, Interrupted

Request = ScoreRequest | GenerateRequest
Result = ScoreResult | GenerateResult


class Resting(Protocol):
    """A question whose answer rests on one response or two."""

    @property
    def request(self) -> Request | None:
        """The question itself; None when it does not fit the context."""

    @property
    def prior(self) -> ScoreRequest | None:
        """The content-free one, where it is asked."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the responses that the answer rests on."""


Question = TypeVar("Question", bound=Resting)

Keep = Callable[[Sequence[Result], Mapping[str, Request], Sequence[Question], float], None]
"""Keeps what was computed and the answers that are complete with it: results, requests by key, questions, seconds."""


def windows(stream: Iterator[Question]) -> Iterator[list[Question]]:
    """Questions in groups that are put to an engine together."""
    while window := list(islice(stream, WINDOW // 2)):  # half: with a prior a question is two requests
        yield window


def answer_window(
    backend: Backend,
    known: Callable[[str], bool],
    window: Sequence[Question],
    todo: Sequence[Question],
    keep: Keep[Question],
    failed: dict[str, str],
    advance: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> None:
    """Answer the questions of a window that have no answer yet; what the file has a response to is never asked again.

    Args:
        backend: whom to ask.
        known: whether the file has the response to a key.
        window: all of them: what is computed together must not depend on where an earlier session stopped.
        todo: those without an answer.
        keep: see ``Keep``; called before ``advance`` tells of them.
        failed: keys that the engine died of, with its error; what it dies of now is added.
        advance: told (answers now complete, responses just computed).
        stop: asked between batches.

    Raises:
        Interrupted: ``stop`` said so.
        EngineError: the engine left something without an answer.
        ResultsError: the file can't be written.
    """
    requests: dict[str, Request] = {}
    for question in window:
        for request in (question.request, question.prior):
            if request is not None:
                requests.setdefault(request.key, request)
    advance(len(window) - len(todo), 0)
    have = {key for key in requests if key in failed or known(key)}
    ready = [question for question in todo if have.issuperset(question.keys)]
    if ready:
        keep([], {}, ready, 0.0)
        advance(len(ready), 0)
    missing = {id(question): set(question.keys) - have for question in todo}
    waiting: dict[str, list[Question]] = {}
    for question in todo:
        for key in missing[id(question)]:
            waiting.setdefault(key, []).append(question)
    # What the engine died of, now or in an earlier session, is left alone: nothing waits for it.
    planned = [r for key, r in requests.items() if key in waiting or (key in have and key not in failed)]
    if stop():
        raise Interrupted("")
    began = time.perf_counter()
    for batch in _responses(backend, planned, have) if waiting else ():
        complete = []
        for result in batch:
            if result.error:
                failed[result.key] = result.error
            for question in waiting.pop(result.key, ()):
                missing[id(question)].discard(result.key)
                if not missing[id(question)]:
                    complete.append(question)
        seconds, began = time.perf_counter() - began, time.perf_counter()
        keep(batch, requests, complete, seconds)
        advance(len(complete), len(batch))
        if stop():
            raise Interrupted("")
    if waiting:
        raise EngineError(
            f"The engine left {len(waiting)} questions without an answer.", "Run `cultev doctor` on this model."
        )


def _responses(backend: Backend, requests: Sequence[Request], have: set[str]) -> Iterator[Sequence[Result]]:
    """Scores first, then texts; each as batches that were computed together."""
    scores = [r for r in requests if isinstance(r, ScoreRequest)]
    texts = [r for r in requests if isinstance(r, GenerateRequest)]
    if scores:
        yield from backend.score(scores, skip=have)
    if texts:
        yield from backend.generate(texts, skip=have)
