"""The scoring loop both engines share: windows -> packs -> token trees -> log-probabilities.

An engine says how to hold a trunk and how to compute a tree; everything that decides what is shared with what
is here and in ``prefix``, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cultev.backend.logprobs import continuation_score, require_finite, wanted_of
from cultev.backend.machine import peak_memory
from cultev.backend.prefix import Limits, Pack, TokenTree, build_tree, plan, strict_plan, windows
from cultev.backend.sequences import Wanted
from cultev.backend.text_requests import nothing_asked
from cultev.backend.types import (
    Continuation,
    Fault,
    Message,
    ScoreRequest,
    ScoreResult,
    ignore_fault,
    ignore_start,
)
from cultev.prompt.chat import ChatTemplate, render_plain


class TreeScorer(ABC):
    """What engines share: ``Backend.score`` over two primitive steps of theirs, and the chat template."""

    limits: Limits
    strict: bool = False
    """See ``EngineSettings``."""
    on_start: Callable[[Sequence[str]], None] = staticmethod(ignore_start)
    """See ``Backend.on_start``."""
    on_fault: Callable[[Fault], None] = staticmethod(ignore_fault)
    """See ``Backend.on_fault``; an engine in this process takes the process with it instead."""
    _template: ChatTemplate | None

    @property
    def has_template(self) -> bool:
        """See ``Backend.has_template``."""
        return self._template is not None

    def render(self, messages: Sequence[Message]) -> str:
        """See ``Backend.render``."""
        return self._template.render(messages) if self._template else render_plain(messages)

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """See ``Backend.encode``."""

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """See ``Backend.encode_all``."""
        return [self.encode(text) for text in texts]

    def peak_bytes(self) -> int | None:
        """See ``Backend.peak_bytes``."""
        return peak_memory()

    @abstractmethod
    def _hold(self, trunk: tuple[int, ...]) -> None:
        """Make ``trunk`` the state that trees continue.

        Its state must not depend on what was computed before: either kept from the last ``_hold`` of the very
        same tokens, or computed alone from nothing. In strict mode it is computed in slices of STRICT_SLICE tokens,
        and what is held already may stay up to the last border at which both are the same.
        """

    @abstractmethod
    def _compute(self, tree: TokenTree, trunk: int, wanted: Wanted) -> NDArray[np.float64]:
        """Compute a tree after the held trunk of ``trunk`` tokens; log-probabilities in ``wanted``'s order.

        Must leave the trunk held and nothing else behind.
        """

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        """See ``Backend.score``."""
        for given in windows(requests):
            reasons = {r.key: reason for r in given if (reason := nothing_asked(r.prompt, r.continuations))}
            if reasons:  # one bad request must not end all others
                yield [ScoreResult(key, (), reason) for key, reason in reasons.items()]
            window = [r for r in given if r.key not in reasons]
            for pack in strict_plan(window) if self.strict else plan(window, self.limits):
                # Whole or not at all: what else is in a batch can move a quantized score.
                if any(r.key not in skip for r in pack.requests):
                    self.on_start([r.key for r in pack.requests])
                    yield self._score_pack(pack)

    def _score_pack(self, pack: Pack) -> list[ScoreResult]:
        if len(pack.requests) == 1:
            # A lone request may be larger than a pack should be: its prompt becomes the trunk, its
            # continuations follow in slices.
            request = pack.requests[0]
            slices = list(_slices(request, self.limits))
            if len(slices) > 1:
                self._hold(request.prompt[:-1])
                scores = [s for part in slices for s in self._score_tree([part], len(request.prompt) - 1)[0].scores]
                return [ScoreResult(request.key, tuple(scores))]
        self._hold(pack.trunk)
        return self._score_tree(pack.requests, len(pack.trunk))

    def _score_tree(self, requests: Sequence[ScoreRequest], trunk: int) -> list[ScoreResult]:
        tree = build_tree(requests, trunk)
        wanted, places = wanted_of(requests, tree)
        logprobs = self._compute(tree, trunk, wanted)
        require_finite(logprobs)
        results = []
        for request, rows in zip(requests, places, strict=True):
            scores = (
                continuation_score(continuation, [logprobs[i] for i in at])
                for continuation, at in zip(request.continuations, rows, strict=True)
            )
            results.append(ScoreResult(request.key, tuple(scores)))
        return results


def _slices(request: ScoreRequest, limits: Limits) -> Iterator[ScoreRequest]:
    """Cut a request's continuations into runs that keep within the limits (one at least in each)."""
    part: list[Continuation] = []
    used = 0
    for continuation in request.continuations:
        cost = len(continuation.tokens)
        if part and (used + cost > min(limits.tokens, limits.reads) or len(part) >= limits.leaves):
            yield ScoreRequest(request.key, request.prompt, tuple(part))
            part, used = [], 0
        part.append(continuation)
        used += cost
    yield ScoreRequest(request.key, request.prompt, tuple(part))
