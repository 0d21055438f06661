"""The proof of prefix reuse can fail: on leaking questions, turned choices and scores that are no numbers."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from cultev.backend.fake import FakeBackend
from cultev.backend.logprobs import require_finite
from cultev.backend.proof import CEILING, prove_reuse
from cultev.backend.types import Continuation, ContinuationScore, ScoreRequest, ScoreResult
from cultev.errors import EngineError


class Leaky(FakeBackend):
    """Scores move with how many questions are computed together."""

    def __init__(self, leak: float) -> None:
        super().__init__(lambda prompt, text: -1.0 - len(text) / 10)
        self.leak = leak

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        some = list(requests)
        shift = self.leak * (sum(len(r.continuations) for r in some) - 1)
        for batch in super().score(some, skip=skip):
            yield [ScoreResult(r.key, tuple(self._moved(s, i * shift) for i, s in enumerate(r.scores))) for r in batch]

    @staticmethod
    def _moved(s: ContinuationScore, by: float) -> ContinuationScore:
        return ContinuationScore(s.logprob + by, s.n_tokens, s.n_bytes, s.n_chars)


def requests(n: int = 6) -> list[ScoreRequest]:
    options = tuple(Continuation(text, tuple(range(len(text)))) for text in ("a", "bb", "ccc"))
    return [ScoreRequest(str(i), (256, *range(20), i), options) for i in range(n)]


def test_a_faithful_engine_passes() -> None:
    proof = prove_reuse(Leaky(0.0), requests())
    assert proof.holds
    assert proof.worst_per_token == 0
    assert proof.same_choice == 6


@pytest.mark.parametrize("leak", [0.05, 0.3, 2.0])
def test_a_leak_is_found(leak: float) -> None:
    proof = prove_reuse(Leaky(leak), requests())
    assert not proof.holds
    assert proof.tolerance <= CEILING


def test_rounding_that_was_seen_as_the_graph_was_tried_out_is_allowed() -> None:
    engine = Leaky(0.01)
    moved = prove_reuse(engine, requests())
    assert not moved.holds and moved.noise_per_token < 0.05
    engine.info = replace(engine.info, extra={**engine.info.extra, "rounding": "0.05"})
    told = prove_reuse(engine, requests())
    assert told.holds and told.noise_per_token == 0.05 and told.worst_per_token == moved.worst_per_token
    assert told.tolerance == pytest.approx(0.3)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_no_score(bad: float) -> None:
    require_finite(np.array([-1.0, -2.0]))
    with pytest.raises(EngineError, match="not finite"):
        require_finite(np.array([-1.0, bad]))
