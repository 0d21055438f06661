"""Continuous batching: many texts grow together, prompts share prefixes, finished ones make room for the next.

Requests are taken in sorted order, a window at a time. A prefix that the next prompts have in common becomes a
*trunk*: a sequence of its own that is computed once and forked by all of them, nested as the prompts' tree is.
Every step feeds all that is at hand to the engine at once: one new token of each growing text, and a share of
the prompts that are still being read. A finished text's follow-up is scored on its own cache.

What is computed depends on the requests only, never on time: the same requests give the same bytes. In strict
mode one text grows at a time, and prompts are read in slices whose borders are fixed, so that each text depends
on its own request alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import islice, pairwise

from cultev.backend.follow_ups import FollowUps
from cultev.backend.generated import Growing
from cultev.backend.held import Held, Vocabulary
from cultev.backend.logprobs import require_finite
from cultev.backend.prefix import STRICT_SLICE, WINDOW, common_prefix
from cultev.backend.sampling import Sampler
from cultev.backend.sequences import Feed, Sequences
from cultev.backend.text_requests import follow_cells, follow_length, reason_against
from cultev.backend.types import ContinuationScore, GenerateRequest, GenerateResult

TRUNK_GAIN = 4
"""Tokens that a trunk must save for each prompt that forks it before it is worth a sequence of its own.

Reading a trunk is a decode call that the prompts after it wait for, and one call costs more than a few tokens again in
a batch that is computed anyway: up to 3 a prompt."""


class Generator:
    """Runs requests through an engine's sequences.

    Args:
        sequences: the engine's.
        vocabulary: the model's tokens.
        parallel: most texts that grow at once.
        n_ctx: tokens that prompt + text + follow-up may have.
        strict: see ``EngineSettings``.
        on_start: told the keys of requests as work on them begins.
    """

    def __init__(
        self,
        sequences: Sequences,
        vocabulary: Vocabulary,
        *,
        parallel: int,
        n_ctx: int,
        strict: bool,
        on_start: Callable[[Sequence[str]], None],
    ) -> None:
        self._engine = sequences
        self._vocabulary = vocabulary
        self._parallel = 1 if strict else max(1, min(parallel, sequences.slots - 1))
        self._n_ctx = n_ctx
        self._strict = strict
        self._on_start = on_start
        self._queue: deque[GenerateRequest] = deque()
        self._refused: list[GenerateResult] = []
        """Requests that can't be answered, still to be told of."""
        self._live: list[Held] = []
        self._trunks: list[Held] = []
        """From the outermost to the innermost; each begins with the one before."""
        self._free = list(range(sequences.slots))[::-1]
        self._follow_ups = FollowUps(sequences, vocabulary, self._free, strict=strict)
        self._fed = 0

    @property
    def computed(self) -> int:
        """Tokens that were given to the engine, follow-ups' options aside: what sharing saves shows there."""
        return self._fed + self._follow_ups.computed

    def run(self, requests: Iterable[GenerateRequest], skip: Container[str] = ()) -> Iterator[list[GenerateResult]]:
        """Generate them all; see ``Backend.generate``."""
        stream = (r for r in requests if r.key not in skip)
        try:
            while True:
                self._take_in(stream)
                finished, self._refused = self._refused, []
                working = bool(self._queue or self._live)
                if working:
                    self._admit()
                    finished += self._step()
                if finished:
                    yield finished
                if not working:
                    return
        finally:
            for held in self._live:
                if held.constraint is not None:
                    held.constraint.close()
            self._engine.close()

    def _take_in(self, stream: Iterator[GenerateRequest]) -> None:
        """Keep the queue longer than what can run at once, a sorted window at a time."""
        while len(self._queue) <= 2 * self._parallel:
            window: list[GenerateRequest] = []
            for request in stream:
                window.append(request)
                if len(window) >= WINDOW:
                    break
            if not window:
                return
            sound = []
            for request in window:
                reason = reason_against(request, self._n_ctx, self._engine.cells, self._vocabulary.size)
                if reason:  # one bad request must not end all others
                    self._refused.append(GenerateResult(request.key, "", (), "error", error=reason))
                else:
                    sound.append(request)
            self._queue.extend(sorted(sound, key=lambda r: (r.prompt, r.key)))

    # Admission

    def _admit(self) -> None:
        """Begin as many of the queue's requests as there is room for, and the trunk that the next ones share."""
        while self._queue and len(self._live) < self._parallel:
            request = self._queue[0]
            self._forget_trunks(request.prompt)
            if any(t.done < len(t.tokens) for t in self._trunks):
                return  # a trunk of the next prompt is being computed: what follows it waits
            base = self._trunks[-1] if self._trunks else None
            budget = self._budget(request)
            level = self._next_trunk(len(base.tokens) if base else 0)
            whole = budget + len(request.prompt) - (level if self._engine.shares_cells else 0)
            if level and self._fits(request.prompt[:level], whole) and len(self._free) > 1:
                self._trunks.append(self._begin(request.prompt[:level], base))
                return
            if not self._free or not self._fits(request.prompt, budget):
                if self._live:
                    return
                if self._trunks:  # nothing else to give up: the prefix is computed again
                    self._release(self._trunks.pop())
                    continue
                budget = min(budget, self._engine.cells - len(request.prompt))
            self._queue.popleft()
            self._on_start([request.key])
            held = self._begin(request.prompt, base)
            held.request, held.budget = request, budget
            held.limit = max(1, budget - follow_cells(request.follow_up))
            held.sampler, held.text = Sampler(request), Growing(request.stop)
            if request.grammar:
                held.constraint = self._engine.constrain(request.grammar)
            self._live.append(held)

    def _budget(self, request: GenerateRequest) -> int:
        """Cells that a request may add to its prompt's: its text as far as the context allows, and its follow-up.

        The options of a follow-up are branches: each needs cells of its own, and the context only room for the longest.
        """
        room = self._n_ctx - len(request.prompt) - follow_length(request.follow_up)
        return max(1, min(request.max_tokens, room)) + follow_cells(request.follow_up)

    def _begin(self, prompt: Sequence[int], base: Held | None) -> Held:
        held = Held(self._free.pop(), list(prompt), 0)
        if base is not None:
            self._engine.fork(base.slot, held.slot)
            held.done = base.done
        return held

    def _forget_trunks(self, prompt: tuple[int, ...]) -> None:
        """Drop the trunks that the next prompt does not begin with: in sorted order none after it will."""
        while self._trunks:
            tokens = self._trunks[-1].tokens
            if len(tokens) < len(prompt) and list(prompt[: len(tokens)]) == tokens:
                return
            self._release(self._trunks.pop())

    def _next_trunk(self, have: int) -> int:
        """Length of the shortest prefix worth a trunk that the next prompt shares with those behind it; 0: none."""
        prompt = self._queue[0].prompt
        level, shared = 0, len(prompt) - 1
        for other in islice(self._queue, 1, None):
            shared = min(shared, common_prefix(prompt, other.prompt))
            usable = shared // STRICT_SLICE * STRICT_SLICE if self._strict else shared
            if usable < have + (1 if self._strict else TRUNK_GAIN):
                break
            level = usable
        return level

    def _fits(self, tokens: Sequence[int], budget: int) -> bool:
        """Whether the cells hold one more sequence, all texts grown to the end of their budgets."""
        held = [*self._live, *self._trunks]
        used = budget + sum(h.budget for h in held)
        if self._engine.shares_cells:
            paths = sorted([*(h.tokens for h in held), list(tokens)])
            used += sum(len(p) for p in paths) - sum(common_prefix(a, b) for a, b in pairwise(paths))
        else:
            used += len(tokens) + sum(len(h.tokens) for h in held)
        return used <= self._engine.cells

    def _release(self, held: Held) -> None:
        self._follow_ups.unmark(held)
        self._engine.drop(held.slot)
        self._free.append(held.slot)
        if held.constraint is not None:
            held.constraint.close()
            held.constraint = None

    # One step

    def _step(self) -> list[GenerateResult]:
        """Feed the engine once; the results that finished with it."""
        fed = self._feeds()
        logits = self._engine.advance([feed for _, feed in fed])
        self._fed += sum(len(feed.tokens) for _, feed in fed)
        row = 0
        for held, feed in fed:
            held.done += len(feed.tokens)
            if feed.ask:
                held.logits = logits[row]
                row += 1
        ended = [(held, finish) for held, feed in fed if feed.ask and (finish := self._grow(held))]
        for held, _ in ended:
            self._live.remove(held)
            if held.logits is not None:  # scoring a follow-up overwrites the engine's rows
                held.logits = held.logits.copy()
        return [self._finish(held, finish) for held, finish in ended]

    def _feeds(self) -> list[tuple[Held, Feed]]:
        """What the engine is given next: growing texts first, then what is left to read, within one batch."""
        if self._strict:
            return [self._strict_feed()]
        fed = []
        room = self._engine.batch
        growing = [h for h in self._live if len(h.tokens) - h.done == 1]
        reading = [h for h in [*self._trunks, *self._live] if len(h.tokens) - h.done > 1 or h.request is None]
        for held in [*growing, *reading]:
            part = held.tokens[held.done : held.done + room]
            if part:
                ask = held.request is not None and held.done + len(part) == len(held.tokens)
                fed.append((held, Feed(held.slot, tuple(part), ask)))
                room -= len(part)
        return fed

    def _strict_feed(self) -> tuple[Held, Feed]:
        """One sequence alone, up to the next border."""
        held = next(h for h in [*self._trunks, *self._live] if h.done < len(h.tokens))
        end = min(len(held.tokens), (held.done // STRICT_SLICE + 1) * STRICT_SLICE)
        part = tuple(held.tokens[held.done : end])
        return held, Feed(held.slot, part, held.request is not None and end == len(held.tokens))

    def _grow(self, held: Held) -> str:
        """Choose the next token; how the text ended, '' when it goes on."""
        request, sampler = held.request, held.sampler
        assert request is not None and sampler is not None and held.logits is not None
        require_finite(held.logits.max(keepdims=True))  # NaN wins; minus infinity elsewhere is a token ruled out
        greedy = request.temperature <= 0
        logits = held.constraint.mask(held.logits, greedy=greedy) if held.constraint else held.logits
        token = sampler.pick(logits)
        if held.constraint:
            held.constraint.accept(token)
        held.generated.append(token)
        if self._vocabulary.ends(token):
            return "end"
        if held.text.add(self._vocabulary.piece(token)):
            return "stop"
        if len(held.generated) >= request.max_tokens:
            return "length"
        if len(held.generated) >= held.limit:
            return "context"
        if self._engine.keeps_marks and not self._strict and request.follow_up is not None:
            self._follow_ups.mark(held, len(request.prompt))
        held.tokens.append(token)
        held.budget -= 1
        return ""

    # The end of a text

    def _finish(self, held: Held, finish: str) -> GenerateResult:
        request = held.request
        assert request is not None
        scores: tuple[ContinuationScore, ...] = ()
        if request.follow_up is not None and request.follow_up.continuations:
            scores = self._follow_ups.score(held, request, request.follow_up, finish)
        self._release(held)
        return GenerateResult(request.key, held.text.text, tuple(held.generated), finish, scores)
