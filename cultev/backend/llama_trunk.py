"""The prefix that scoring holds in sequence 0 of its context, while packs are computed after it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cultev.backend.llama_context import LlamaContext
from cultev.backend.llama_reuse import COPY, RECOMPUTE
from cultev.backend.prefix import STRICT_SLICE, common_prefix

SAVED_BYTES = 256 * 2**20
"""Most bytes of states that strict mode keeps of one prompt, at its borders."""


class Trunk:
    """What ``TreeScorer._hold`` asks, in one context.

    ``tokens`` is what the sequence holds, or what each path begins with where prefixes are recomputed; None after
    a failure.
    """

    def __init__(self, context: LlamaContext, way: str, *, strict: bool) -> None:
        self._context, self._way, self._strict = context, way, strict
        self.tokens: tuple[int, ...] | None = None
        self._saved: list[tuple[int, NDArray[np.uint8]]] = []
        """States at borders of ``tokens``, shortest first: where memory can't be cut back, they are gone back to."""

    def hold(self, tokens: tuple[int, ...]) -> None:
        """See ``TreeScorer._hold``."""
        if self._way == RECOMPUTE:
            self.tokens = tokens
            self._context.clear()
            return
        if tokens == self.tokens and not self._strict:
            return
        held, self.tokens = self.tokens, None
        if self._strict:
            self._hold_strictly(tokens, held or ())
        else:
            self._context.clear()
            self._read(tokens, 0, self._context.batch)
        self.tokens = tokens

    def _read(self, tokens: tuple[int, ...], start: int, step: int) -> None:
        for begin in range(start, len(tokens), step):
            part = tokens[begin : begin + step]
            n = len(part)
            self._context.decode(part, range(begin, begin + n), [[0]] * n, [False] * n)

    def _hold_strictly(self, tokens: tuple[int, ...], held: tuple[int, ...]) -> None:
        same = common_prefix(held, tokens) // STRICT_SLICE * STRICT_SLICE
        if self._way == COPY and same:
            self._context.cut(0, same)
            self._read(tokens, same, STRICT_SLICE)
            return
        self._saved = [(n, state) for n, state in self._saved if n <= same]
        self._context.clear()
        done = 0
        if self._saved:
            done, state = self._saved[-1]
            self._context.restore(0, state)
        while done < len(tokens):
            end = min(len(tokens), done + STRICT_SLICE)
            self._read(tokens[:end], done, STRICT_SLICE)
            done = end
            if self._way != COPY and done % STRICT_SLICE == 0:
                self._save(done)

    def _save(self, length: int) -> None:
        state = self._context.save(0)
        if sum(s.nbytes for _, s in self._saved) + state.nbytes <= SAVED_BYTES:
            self._saved.append((length, state))
