"""From logits to the next token."""

from __future__ import annotations

import hashlib
from array import array

import numpy as np
from numpy.typing import NDArray

from cultev.backend.types import GenerateRequest

BLOCK = 512
"""Tokens whose weights are summed before any of them is looked at."""


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
        weights = logits - logits.max()
        weights /= np.float32(self._temperature)
        np.exp(weights, out=weights)
        return drawn(weights, self._random.random())


def drawn(weights: NDArray[np.float32], chance: float) -> int:
    """The index that a number in [0, 1) falls on where each has a share by its weight; never one without weight.

    Sums of blocks first, then within one: a running sum of a large vocabulary takes as long as a step of a small model.
    """
    whole = len(weights) // BLOCK * BLOCK
    sums = [weights[:whole].reshape(-1, BLOCK).sum(axis=1), weights[whole:].sum(keepdims=True)]
    ends = np.concatenate(sums).cumsum(dtype=np.float64)
    target = chance * ends[-1]
    block = min(int(np.searchsorted(ends, target, side="right")), int(np.searchsorted(ends, ends[-1])))
    before = ends[block - 1] if block else 0.0
    part = weights[block * BLOCK : (block + 1) * BLOCK]
    within = part.cumsum(dtype=np.float64)
    # The block's own sum is rounded otherwise: the last that has any weight takes what is left over.
    at = min(np.searchsorted(within, target - before, side="right"), np.searchsorted(within, within[-1]))
    return block * BLOCK + int(at)
