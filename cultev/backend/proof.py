"""Prove that sharing prefixes changes nothing: score some questions shared, and again each on its own.

Quantized kernels round differently for batches of different shape, and some (onnxruntime's dynamic int8) scale
activations by what else is in the batch. That noise has nothing to do with sharing, so it is measured too: each
question once beside an unrelated text with which it shares nothing. An ONNX graph whose products round each row by
itself hides it there, and shows it where a sum is taken in another order: by how much was seen, without any sharing, as
it was tried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cultev.backend.types import Backend, ContinuationScore, ScoreRequest
from cultev.errors import EngineError

FLOOR = 2e-3
"""Nats per token that are always allowed: float32 sums taken in another order, over a deep model."""

HALF_FLOOR = 0.02
"""The same where weights or the cache are half precision (GGUF's cache is)."""

ROUNDED_FLOOR = 0.1
"""The same where an ONNX graph may round activations to integers, row by row: a float's last bit tips a rounding.
llama.cpp does so too, and its Q8_0 moves by as much with what else is in a batch."""

CEILING = 0.5
"""Nats per token that nothing excuses: noise of that size means that questions computed together leak into each other,
or a model whose scores say little."""

NOISE_MARGIN = 3.0
"""How much more than the measured noise sharing may move a score: both are maxima over few questions."""

ROUNDING_MARGIN = 6.0
"""The same for what was seen on opening a graph: on a few dozen tokens, and questions are longer."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How far scores with shared prefixes lie from scores without."""

    n_requests: int
    n_options: int
    worst_per_token: float
    """Largest difference of a log-probability, in nats per token of its continuation."""
    worst_total: float
    """Largest difference of a whole continuation's log-probability, in nats."""
    noise_per_token: float
    """Largest difference, in nats per token, that an unrelated text in the same batch makes, or that an ONNX graph's
    rounding was seen to make when it was opened."""
    same_choice: int
    """Requests whose most probable continuation is the same one."""
    turned: int
    """Requests whose choice differs although it was decided by more than the tolerance allows to move."""
    tolerance: float
    """Nats per token that ``worst_per_token`` may reach."""

    @property
    def holds(self) -> bool:
        """Whether sharing may be trusted on this model: no difference beyond the tolerance, no choice turned."""
        return self.worst_per_token <= self.tolerance and self.turned == 0


def prove_reuse(backend: Backend, requests: Sequence[ScoreRequest]) -> Proof:
    """Compare one pass over all requests with one pass per continuation of each.

    Keys of ``requests`` must differ. Takes as long as scoring everything without sharing, and half as long again.

    Raises:
        EngineError: the engine died of one of them.
    """
    shared = _scores(backend, requests)
    per_token, total, noise, same = 0.0, 0.0, 0.0, 0
    differing: list[float] = []
    for request in requests:
        singles = [
            ScoreRequest(f"{request.key}/{i}", request.prompt, (continuation,))
            for i, continuation in enumerate(request.continuations)
        ]
        alone = [_score(backend, [single]) for single in singles]
        for a, b in zip(shared[request.key], alone, strict=True):
            total = max(total, abs(a.logprob - b.logprob))
            per_token = max(per_token, _distance(a, b))
        if _best(shared[request.key]) == _best(alone):
            same += 1
        else:
            differing.append(_lead(alone))
        unrelated = ScoreRequest("unrelated", request.prompt[::-1], request.continuations[:1])
        noise = max(noise, _distance(_score(backend, [singles[0], unrelated]), alone[0]))
    options = sum(len(r.continuations) for r in requests)
    exact = backend.info.quantization.lower() in ("fp32", "f32") and backend.info.format != "gguf"
    rounded = backend.info.format == "onnx" and backend.info.quantization.startswith("int")
    floor = FLOOR if exact else ROUNDED_FLOOR if rounded else HALF_FLOOR
    rounding = float(backend.info.extra.get("rounding", 0))
    tolerance = min(CEILING, max(floor, NOISE_MARGIN * noise, ROUNDING_MARGIN * rounding))
    turned = sum(lead > 2 * tolerance for lead in differing)
    return Proof(len(requests), options, per_token, total, max(noise, rounding), same, turned, tolerance)


def _scores(backend: Backend, requests: Sequence[ScoreRequest]) -> dict[str, tuple[ContinuationScore, ...]]:
    found = {}
    for batch in backend.score(requests):
        for result in batch:
            if result.error:
                raise EngineError(
                    f"The engine died of a plain question, twice ({result.error}).",
                    "This model can't be trusted here: try another quantization or a newer engine.",
                )
            found[result.key] = result.scores
    return found


def _score(backend: Backend, requests: Sequence[ScoreRequest]) -> ContinuationScore:
    """The first request's first continuation, computed in one call with the others."""
    return _scores(backend, requests)[requests[0].key][0]


def _lead(scores: Sequence[ContinuationScore]) -> float:
    """Nats per token by which the most probable continuation is ahead."""
    first, second, *_ = [*sorted((s.logprob / s.n_tokens for s in scores), reverse=True), float("-inf")]
    return first - second


def _distance(a: ContinuationScore, b: ContinuationScore) -> float:
    return abs(a.logprob - b.logprob) / a.n_tokens


def _best(scores: Sequence[ContinuationScore]) -> int:
    return max(range(len(scores)), key=lambda i: scores[i].logprob)
