"""Prove that sharing prefixes changes nothing: score some questions shared, and again each on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cultev.backend.types import Backend, ContinuationScore, ScoreRequest, ScoreResult

TOLERANCE = {"fp32": 1e-3, "f32": 1e-3, "fp16": 0.02, "f16": 0.02}
"""Nats per token that shared and separate scores may differ by, for weights that are not quantized."""

QUANTIZED_TOLERANCE = 0.1
"""The same for quantized weights, whose kernels round differently for batches of different shape."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How far scores with shared prefixes lie from scores without."""

    n_requests: int
    n_options: int
    worst_per_token: float
    """Largest difference of a log-probability, in nats per token of its continuation."""
    worst_total: float
    """Largest difference of a whole continuation's log-probability, in nats."""
    same_choice: int
    """Requests whose most probable continuation is the same one."""
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether sharing may be trusted on this model."""
        return self.worst_per_token <= self.tolerance


def prove_reuse(backend: Backend, requests: Sequence[ScoreRequest]) -> Proof:
    """Compare one pass over all requests with one pass per continuation of each."""
    shared = {r.key: r.scores for batch in backend.score(requests) for r in batch}
    per_token, total, same = 0.0, 0.0, 0
    for request in requests:
        alone = [_alone(backend, request, i) for i in range(len(request.continuations))]
        for a, b in zip(shared[request.key], alone, strict=True):
            total = max(total, abs(a.logprob - b.logprob))
            per_token = max(per_token, abs(a.logprob - b.logprob) / a.n_tokens)
        same += _best(shared[request.key]) == _best(alone)
    options = sum(len(r.continuations) for r in requests)
    tolerance = TOLERANCE.get(backend.info.quantization.lower(), QUANTIZED_TOLERANCE)
    return Proof(len(requests), options, per_token, total, same, tolerance)


def _alone(backend: Backend, request: ScoreRequest, i: int) -> ContinuationScore:
    single = ScoreRequest(f"{request.key}/{i}", request.prompt, (request.continuations[i],))
    results: list[ScoreResult] = [r for batch in backend.score([single]) for r in batch]
    return results[0].scores[0]


def _best(scores: Sequence[ContinuationScore]) -> int:
    return max(range(len(scores)), key=lambda i: scores[i].logprob)
