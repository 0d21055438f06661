"""Ask a suite's questions and keep the answers, as far as they are not kept already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from cultev.backend.types import Backend, Fault
from cultev.errors import Interrupted, ResultsError
from cultev.run.journal import Journal, RunId
from cultev.run.plan import Ask, Asking, Wanted, asks
from cultev.run.protocol import Protocol
from cultev.run.window import answer_window, windows
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
                keep = partial(journal.add, run, suite, protocol, backend.info, failed=failed)
                for window in windows(asking(suite, protocol, backend, wanted)):
                    backend.on_fault = partial(_tell, note, window)
                    todo = journal.unanswered(run, suite, window)
                    answer_window(backend, journal.has_response, window, todo, keep, failed, advance, stop)
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
