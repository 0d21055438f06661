"""Scores of one model file, to compare two by."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from cultev.backend.load import open_backend
from cultev.backend.types import Continuation, EngineSettings, ScoreRequest


def scores(path: Path, vocab: int, n: int = 8) -> np.ndarray:
    """Log-probabilities of three tokens after fixed prompts, shape (n, 4)."""
    rng = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(rng.randrange(vocab) for _ in range(count))

    requests = [
        ScoreRequest(str(i), tokens(12), tuple(Continuation("x", tokens(3)) for _ in range(4))) for i in range(n)
    ]
    backend = open_backend(path, EngineSettings(threads=1))
    try:
        found = {r.key: [s.logprob for s in r.scores] for batch in backend.score(requests) for r in batch}
    finally:
        backend.close()
    return np.array([found[str(i)] for i in range(n)])
