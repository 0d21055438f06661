"""From logits to the next token."""

from __future__ import annotations

import hashlib
from array import array

import numpy as np
from numpy.typing import NDArray

from cultev.backend.types import GenerateRequest


class Sampler:
    """Picks one request's tokens: the most probable (of equals, the lowest id), or by its temperature.

    The random numbers depend on the request's seed and prompt only, so that a text is the same whatever else
    is generated beside it.
    """

    def __init__(self, request: GenerateRequest) -> None:
        self._temperature = request.temperature
        digest = hashlib.sha256(array("q", (request.seed, *request.prompt)).tobytes()).digest()
        self._random = np.random.default_rng(int.from_bytes(digest[:16], "little"))

    def pick(self, logits: NDArray[np.float32]) -> int:
        """A token id by one row of logits, the width of the vocabulary."""
        if self._temperature <= 0:
            return int(logits.argmax())
        scaled = (logits - logits.max()) / np.float32(self._temperature)
        total = np.cumsum(np.exp(scaled), dtype=np.float64)
        return int(np.searchsorted(total, self._random.random() * total[-1], side="right"))
