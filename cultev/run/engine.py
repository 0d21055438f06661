"""Ask a suite's questions and keep the answers, as far as they are not kept already."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice

from cultev.backend.prefix import WINDOW
from cultev.backend.types import Backend, Fault, GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from cultev.errors import EngineError, Interrupted, ResultsError
from cultev.run.journal import Journal, RunId
from cultev.run.plan import Ask, Asking, Wanted, asks
from cultev.run.protocol import Protocol
from cultev.suite.store import Suite

NAMED = 8
"""Items that a note names before it counts the rest."""


def run_suites(
    backend: Backend,
    suites: Sequence[Suite],
    protocol: Protocol,
    journal: Journal,
    *,
    n_planned: int,
    advance: Callable[[int, int], None] = lambda answers, computed: None,
    stop: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = lambda text: None,
    wanted: Wanted | None = None,
    asking: Asking = asks,
) -> RunId:
    """Ask everything that has no answer yet, suite by suite, window by window.

    Windows and packs depend on the suites, the protocol and what is wanted only, so that a run that was interrupted,
    however and wherever, ends with the same file as one that was not.

    Args:
        advance: told (answers now complete, responses just computed) after each batch is safely stored.
        stop: asked between batches; True ends the run with what is stored.
        note: told when the engine died, of which items, and what is done about it.
        wanted: which items to ask in which languages this time; None for all. A run that still lacks some of what it
            planned ends as 'partial'.
        asking: how the suites' items become requests.

    Raises:
        Interrupted: ``stop`` said so, or Ctrl-C.
        ResultsError: the file can't be written; what was stored before is kept.
    """
    run = RunId.of(backend.info.sha256, suites, protocol)
    journal.begin(run, backend.info, suites, protocol, n_planned)
    failed: dict[str, str] = {}
    before, backend.on_fault = backend.on_fault, partial(_tell, note, [])
    try:
        with interruption_noted(journal, run, "answer"):
            for suite in suites:
                for window in _windows(asking(suite, protocol, backend, wanted)):
                    backend.on_fault = partial(_tell, note, window)
                    _run_window(run, backend, suite, protocol, journal, window, failed, advance, stop)
    finally:
        backend.on_fault = before
    journal.finish(run, "done" if wanted is None or journal.is_complete(run) else "partial")
    return run


@contextmanager
def interruption_noted(journal: Journal, run: RunId, kept: str) -> Iterator[None]:
    """While a run goes on: write down that it was interrupted, by whatever ends it, and say that every KEPT is there.

    Raises:
        Interrupted: for itself and for Ctrl-C.
        ResultsError: as it came; the file itself is the trouble, so there is no writing down how the run ended.
    """
    try:
        yield
    except ResultsError:
        raise
    except (Interrupted, KeyboardInterrupt):
        journal.finish(run, "interrupted")
        raise Interrupted(f"Stopped. Every {kept} so far is kept.", "The same command goes on from there.") from None
    except BaseException:
        journal.finish(run, "interrupted")
        raise


def _tell(note: Callable[[str], None], window: Sequence[Ask], fault: Fault) -> None:
    """Say what an engine died of, in the names of items."""
    note(fault_sentence(fault, (ask.item.id for ask in window if not set(ask.keys).isdisjoint(fault.keys))))


def fault_sentence(fault: Fault, items: Iterable[str]) -> str:
    """What the engine died of, at which items (the first few are named), and what is done about it."""
    ids = list(dict.fromkeys(items))
    names = ", ".join(ids[:NAMED]) + (f" and {len(ids) - NAMED} more" if len(ids) > NAMED else "")
    return f"The engine died ({fault.reason}){f' while it was at {names}' if names else ''}: {fault.consequence}."


def _windows(stream: Iterator[Ask]) -> Iterator[list[Ask]]:
    while window := list(islice(stream, WINDOW // 2)):  # half: with PMI an ask is two requests
        yield window


def _run_window(
    run: RunId,
    backend: Backend,
    suite: Suite,
    protocol: Protocol,
    journal: Journal,
    window: list[Ask],
    failed: dict[str, str],
    advance: Callable[[int, int], None],
    stop: Callable[[], bool],
) -> None:
    requests: dict[str, ScoreRequest | GenerateRequest] = {}
    for ask in window:
        for request in (ask.request, ask.prior):
            if request is not None:
                requests.setdefault(request.key, request)
    open_asks = journal.unanswered(run, suite, window)
    advance(len(window) - len(open_asks), 0)
    have = {key for key in requests if key in failed or journal.has_response(key)}
    ready = [a for a in open_asks if have.issuperset(a.keys)]
    if ready:
        journal.add(run, suite, protocol, backend.info, [], {}, ready, failed=failed)
        advance(len(ready), 0)
    waiting: dict[str, list[Ask]] = {}
    missing: dict[int, set[str]] = {}
    for ask in open_asks:
        lacks = {key for key in ask.keys if key not in have}
        if lacks:
            missing[id(ask)] = lacks
            for key in lacks:
                waiting.setdefault(key, []).append(ask)
    # What the engine died of, now or in an earlier session, is left alone: nothing waits for it.
    planned = [r for key, r in requests.items() if key in waiting or (key in have and key not in failed)]
    if stop():
        raise Interrupted("")
    began = time.perf_counter()
    for batch in _responses(backend, planned, have):
        complete = []
        for result in batch:
            if result.error:
                failed[result.key] = result.error
            for ask in waiting.pop(result.key, ()):
                missing[id(ask)].discard(result.key)
                if not missing[id(ask)]:
                    complete.append(ask)
        seconds, began = time.perf_counter() - began, time.perf_counter()
        journal.add(run, suite, protocol, backend.info, batch, requests, complete, seconds, failed)
        advance(len(complete), len(batch))
        if stop():
            raise Interrupted("")
    if waiting:
        raise EngineError(
            f"The engine left {len(waiting)} questions without an answer.",
            "Run `cultev doctor` on this model.",
        )


def _responses(
    backend: Backend, requests: Sequence[ScoreRequest | GenerateRequest], have: set[str]
) -> Iterator[Sequence[ScoreResult | GenerateResult]]:
    """Scores first, then texts; each as batches that were computed together."""
    scores = [r for r in requests if isinstance(r, ScoreRequest)]
    texts = [r for r in requests if isinstance(r, GenerateRequest)]
    if scores:
        yield from backend.score(scores, skip=have)
    if texts:
        yield from backend.generate(texts, skip=have)
