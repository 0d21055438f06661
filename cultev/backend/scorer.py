"""The scoring loop both engines share: windows -> packs -> token trees -> log-probabilities.

An engine says how to hold a trunk and how to compute a tree; everything that decides what is shared with what
is here and in ``prefix``, once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cultev.backend.prefix import Limits, Pack, TokenTree, build_tree, plan, windows
from cultev.backend.types import Continuation, ContinuationScore, Message, ScoreRequest, ScoreResult
from cultev.errors import EngineError
from cultev.prompt.chat import ChatTemplate, render_plain

Wanted = list[tuple[int, int]]
"""(node, token): the log-probability of ``token`` right after tree node ``node``."""

LOGITS_BUDGET = 64 * 2**20
"""Bytes of logits that one pack may ask for; bounds ``Limits.reads`` for large vocabularies."""


def logits_limit(n_vocab: int) -> int:
    """How many float32 rows of logits fit the budget: between 32 and 512."""
    return max(32, min(512, LOGITS_BUDGET // (4 * max(1, n_vocab))))


def gather_logprobs(
    logits: NDArray[np.float32], rows: NDArray[np.intp], tokens: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Log-softmax of ``logits`` (rows x vocabulary) at (rows[i], tokens[i]), without building it whole.

    Works row by row in blocks of a few MB, so that large vocabularies stay in the processor's cache.
    Every sum is in float32 pairwise order per row, hence independent of how many rows there are.
    """
    n, vocabulary = logits.shape
    normaliser = np.empty(n, dtype=np.float64)
    block = max(1, (1 << 20) // max(1, vocabulary))
    for start in range(0, n, block):
        part = logits[start : start + block]
        top = part.max(axis=1, keepdims=True)
        normaliser[start : start + block] = top[:, 0] + np.log(np.exp(part - top).sum(axis=1, dtype=np.float32))
    picked = logits[rows, tokens].astype(np.float64)
    result: NDArray[np.float64] = picked - normaliser[rows]
    return result


def require_finite(logprobs: NDArray[np.float64]) -> None:
    """Refuse scores that are no numbers.

    Raises:
        EngineError: one is NaN or infinite.
    """
    if not np.isfinite(logprobs).all():
        raise EngineError(
            "The model's answers are not finite numbers (NaN or infinity).",
            "The file may be damaged, or a half-precision export that overflows: try another quantization.",
        )


class TreeScorer(ABC):
    """What engines share: ``Backend.score`` over two primitive steps of theirs, and the chat template."""

    limits: Limits
    _template: ChatTemplate | None

    @property
    def has_template(self) -> bool:
        """See ``Backend.has_template``."""
        return self._template is not None

    def render(self, messages: Sequence[Message]) -> str:
        """See ``Backend.render``."""
        return self._template.render(messages) if self._template else render_plain(messages)

    @abstractmethod
    def _hold(self, trunk: tuple[int, ...]) -> None:
        """Make ``trunk`` the state that trees continue.

        Its state must not depend on what was computed before: either kept from the last ``_hold`` of the very
        same tokens, or computed alone from nothing.
        """

    @abstractmethod
    def _compute(self, tree: TokenTree, trunk: int, wanted: Wanted) -> NDArray[np.float64]:
        """Compute a tree after the held trunk of ``trunk`` tokens; log-probabilities in ``wanted``'s order.

        Must leave the trunk held and nothing else behind.
        """

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        """See ``Backend.score``."""
        for window in windows(requests):
            for pack in plan(window, self.limits):
                # Whole or not at all: what else is in a batch can move a quantized score.
                if any(r.key not in skip for r in pack.requests):
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
        wanted: Wanted = []
        place: dict[tuple[int, int], int] = {}
        for request, rows in zip(requests, tree.reads, strict=True):
            for continuation, nodes in zip(request.continuations, rows, strict=True):
                for pair in zip(nodes, continuation.tokens, strict=True):
                    if pair not in place:
                        place[pair] = len(wanted)
                        wanted.append(pair)
        logprobs = self._compute(tree, trunk, wanted)
        require_finite(logprobs)
        results = []
        for request, rows in zip(requests, tree.reads, strict=True):
            scores = tuple(
                _score(continuation, [logprobs[place[p]] for p in zip(nodes, continuation.tokens, strict=True)])
                for continuation, nodes in zip(request.continuations, rows, strict=True)
            )
            results.append(ScoreResult(request.key, scores))
        return results


def _score(continuation: Continuation, logprobs: Sequence[float]) -> ContinuationScore:
    return ContinuationScore(float(sum(logprobs)), len(continuation.tokens), continuation.n_bytes, continuation.n_chars)


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
