"""A toy engine for the generator: logits are a hash of the whole sequence, so that any slip changes every token."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cultev.backend.generator import Generator
from cultev.backend.held import Vocabulary
from cultev.backend.prefix import TokenTree
from cultev.backend.sequences import Constraint, Feed, Wanted
from cultev.backend.types import GenerateRequest, GenerateResult
from cultev.errors import ModelUnsupported

VOCAB = 64
END = 63


def logits_after(tokens: Sequence[int]) -> NDArray[np.float32]:
    """What the toy model says after a sequence."""
    digest = hashlib.sha256(bytes(tokens)).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).normal(size=VOCAB).astype(np.float32) * 2


def logprob(before: Sequence[int], tokens: Sequence[int]) -> float:
    """Log-probability of ``tokens`` after ``before``, computed anew for each of them."""
    total, path = 0.0, list(before)
    for token in tokens:
        row = logits_after(path).astype(np.float64)
        total += row[token] - np.log(np.exp(row).sum())
        path.append(token)
    return total


class ToySequences:
    """Token lists. ``whole_only``: like a recurrent memory, it can't be cut back. Logits share one buffer."""

    def __init__(
        self, slots: int = 9, cells: int = 4096, *, shares_cells: bool = True, whole_only: bool = False, batch: int = 64
    ) -> None:
        self.slots, self.cells, self.shares_cells, self.batch = slots, cells, shares_cells, batch
        self.held: list[list[int]] = [[] for _ in range(slots)]
        self.whole_only = self.keeps_marks = whole_only
        self.calls: list[list[Feed]] = []
        self.closed = False
        self.most_cells = 0
        self._buffer = np.zeros((slots, VOCAB), np.float32)

    def fork(self, source: int, target: int) -> None:
        assert not self.held[target], "a sequence that was not dropped"
        self.held[target] = list(self.held[source])

    def trim(self, slot: int, length: int) -> bool:
        if self.whole_only:
            return False
        del self.held[slot][length:]
        return True

    def drop(self, slot: int) -> None:
        self.held[slot] = []

    def advance(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        assert feeds and all(f.tokens for f in feeds)
        assert len({f.slot for f in feeds}) == len(feeds)
        assert sum(len(f.tokens) for f in feeds) <= self.batch
        self.calls.append(list(feeds))
        for feed in feeds:
            self.held[feed.slot].extend(feed.tokens)
        self._count_cells()
        rows = [logits_after(self.held[f.slot]) for f in feeds if f.ask]
        self._buffer[:] = np.nan
        for i, row in enumerate(rows):
            self._buffer[i] = row
        return self._buffer[: len(rows)]

    def branch(self, slot: int, length: int, tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        assert len(self.held[slot]) == length
        self._buffer[:] = np.nan
        paths = [self.held[slot] + [tree.tokens[n] for n in tree.path(node)] for node, _ in wanted]
        self.held[slot] = [1, 2, 3]  # any state: it is dropped next
        return np.array([logprob(path, [token]) for path, (_, token) in zip(paths, wanted, strict=True)])

    def constrain(self, grammar: str) -> Constraint:
        raise ModelUnsupported("The toy has no grammars.", "Leave it out.")

    def close(self) -> None:
        self.closed = True

    def _count_cells(self) -> None:
        if self.shares_cells:
            used = len({tuple(t[:n]) for t in self.held for n in range(1, len(t) + 1)})
        else:
            used = sum(map(len, self.held))
        self.most_cells = max(self.most_cells, used)


def piece(token: int) -> bytes:
    """Letters, with a few two-letter tokens."""
    return (
        b""
        if token == END
        else (b"ab", b"ba", b"\xc3", b"\xa9")[token - 50]
        if 50 <= token < 54
        else bytes([65 + token])
    )


def encode(text: str) -> list[int]:
    """Each byte as its own token."""
    return [b - 65 for b in text.encode() if b >= 65]


def make(engine: ToySequences, *, parallel: int = 8, n_ctx: int = 512, strict: bool = False) -> Generator:
    vocabulary = Vocabulary(piece, lambda t: t == END, encode, VOCAB)
    return Generator(engine, vocabulary, parallel=parallel, n_ctx=n_ctx, strict=strict, on_start=lambda keys: None)


def alone(request: GenerateRequest) -> GenerateResult:
    """A request on an engine of its own."""
    (result,) = [r for batch in make(ToySequences(), parallel=1).run([request]) for r in batch]
    return result
