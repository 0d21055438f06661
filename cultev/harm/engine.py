"""Hold a suite's conversations with a model and keep every reply, as far as they are not kept already.

Conversations go in rounds: all that are open get their next turn at once, so that the engine always has many texts to
write together. A reply is in the file before the next turn is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from cultev.backend.types import Backend, Fault, GenerateRequest
from cultev.errors import EngineError, Interrupted
from cultev.harm.journal import HarmJournal, Said
from cultev.harm.plan import Conversation, Turn, conversations, next_turns
from cultev.harm.protocol import HarmProtocol
from cultev.run.engine import fault_sentence, interruption_noted
from cultev.run.journal import RunId
from cultev.score.choice import ENGINE_ERROR, TOO_LONG
from cultev.suite.store import Suite

CHUNK = 2048
"""Conversations that are open at the same time."""


def run_harm(
    backend: Backend,
    suites: Sequence[Suite],
    protocol: HarmProtocol,
    journal: HarmJournal,
    *,
    n_planned: int,
    advance: Callable[[int, int], None] = lambda conversations, replies: None,
    stop: Callable[[], bool] = lambda: False,
    note: Callable[[str], None] = lambda text: None,
) -> RunId:
    """Hold every conversation that has not ended yet, suite by suite.

    Args:
        advance: told (conversations that have ended, replies just written) after each batch is safely stored.
        stop: asked between batches; True ends the run with what is stored.
        note: told when the engine died, of which items, and what is done about it.

    Raises:
        Interrupted: ``stop`` said so, or Ctrl-C.
        ResultsError: the file can't be written; what was stored before is kept.
    """
    run = RunId.of(backend.info.sha256, suites, protocol)
    journal.begin(run, backend.info, suites, protocol, n_planned)
    before = backend.on_fault
    try:
        with interruption_noted(journal, run, "reply"):
            for suite in suites:
                stream = conversations(suite, protocol)
                while chunk := list(islice(stream, CHUNK)):
                    _Chunk(run, backend, suite, protocol, journal, advance, stop, note).hold(chunk)
    finally:
        backend.on_fault = before
    journal.finish(run, "done")
    return run


class _Chunk:
    """Conversations that are held at the same time."""

    def __init__(
        self,
        run: RunId,
        backend: Backend,
        suite: Suite,
        protocol: HarmProtocol,
        journal: HarmJournal,
        advance: Callable[[int, int], None],
        stop: Callable[[], bool],
        note: Callable[[str], None],
    ) -> None:
        self._run, self._backend, self._suite, self._protocol = run, backend, suite, protocol
        self._journal, self._advance, self._stop, self._note = journal, advance, stop, note
        self._open: list[tuple[Conversation, list[str]]] = []

    def hold(self, chunk: Sequence[Conversation]) -> None:
        """Round after round until all have ended."""
        for conversation in chunk:
            standing = self._journal.standing(self._run, self._suite, conversation)
            if standing.ended:
                self._advance(1, 0)
                continue
            replies = [reply.strip() for reply in standing.replies]
            if conversation.canned:
                replies = [conversation.canned] * (len(conversation.turns) - 1)
            self._open.append((conversation, replies))
        while self._open:
            self._round()

    def _round(self) -> None:
        # In a fixed order, whichever came first: what is computed together then depends on the suite only.
        open_ones, self._open = sorted(self._open, key=lambda one: one[0].place), []
        waiting: dict[str, list[tuple[Turn, list[str]]]] = {}
        requests: dict[str, GenerateRequest] = {}
        known: list[tuple[Said, list[str]]] = []
        for turn, (_, replies) in zip(next_turns(self._backend, self._protocol, open_ones), open_ones, strict=True):
            if turn.request is None:
                error = f"{turn.n_tokens} tokens, the context holds {self._backend.n_ctx}"
                known.append((Said(turn, outcome=TOO_LONG, error=error), replies))
                continue
            text = self._journal.reply(turn.request.key)
            if text is not None:  # another conversation, or another run, has asked the same
                known.append((Said(turn, text), replies))
                continue
            requests[turn.request.key] = turn.request
            waiting.setdefault(turn.request.key, []).append((turn, replies))
        if known:
            self._journal.keep(self._run, self._suite, self._backend.info, [], {}, [said for said, _ in known])
            self._go_on(known, 0)
        if self._stop():
            raise Interrupted("")
        self._backend.on_fault = partial(self._tell, {key: [t for t, _ in turns] for key, turns in waiting.items()})
        began = time.perf_counter()
        for batch in self._backend.generate(list(requests.values())) if requests else ():
            came = [
                (Said(turn, result.text, ENGINE_ERROR if result.error else "", result.error), replies)
                for result in batch
                for turn, replies in waiting.pop(result.key, ())
            ]
            seconds, began = time.perf_counter() - began, time.perf_counter()
            info, said = self._backend.info, [said for said, _ in came]
            self._journal.keep(self._run, self._suite, info, batch, requests, said, seconds)
            self._go_on(came, len(batch))
            if self._stop():
                raise Interrupted("")
        if waiting:
            raise EngineError(
                f"The engine left {len(waiting)} turns without a reply.", "Run `cultev doctor` on this model."
            )

    def _go_on(self, came: Sequence[tuple[Said, list[str]]], computed: int) -> None:
        """Put aside the conversations that have ended, and have the others asked their next turn."""
        ended = 0
        for said, replies in came:
            if said.ends:
                ended += 1
            else:
                self._open.append((said.turn.conversation, [*replies, said.text.strip()]))
        self._advance(ended, computed)

    def _tell(self, waiting: dict[str, list[Turn]], fault: Fault) -> None:
        """Say what an engine died of, in the names of items."""
        self._note(fault_sentence(fault, _items(waiting, fault)))


def _items(waiting: dict[str, list[Turn]], fault: Fault) -> Iterator[str]:
    for key in fault.keys:
        for turn in waiting.get(key, ()):
            yield turn.conversation.item.id
