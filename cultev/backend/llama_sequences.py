"""What generating asks of an engine (``Sequences``), on llama.cpp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.llama_context import LlamaContext
from cultev.backend.llama_grammar import Grammar
from cultev.backend.llama_reuse import COPY, RECOMPUTE, RESTORE, RestoreReuse, Reuse
from cultev.backend.prefix import STRICT_SLICE, TokenTree
from cultev.backend.sequences import Constraint, Feed, Wanted


class LlamaSequences:
    """Sequences of one context, many computed at once; see ``Sequences``.

    Args:
        context: cleared at first and in the end.
        reuse: computes the trees of ``branch``.
        way: 'copy', 'restore' or 'recompute'; see ``llama_reuse``.
        slots: sequences that the generator may hold; ids above them are ``reuse``'s.
        cells: tokens that they may hold together; the context's other cells are ``reuse``'s.
        shares_cells: see ``Sequences``.
        grammar: makes a constraint.
        release: called once all is closed.
    """

    def __init__(
        self,
        context: LlamaContext,
        reuse: Reuse,
        way: str,
        *,
        slots: int,
        cells: int,
        shares_cells: bool,
        grammar: Callable[[str], Grammar],
        release: Callable[[], None],
    ) -> None:
        self.slots, self.cells, self.batch = slots, cells, context.batch
        self.shares_cells = shares_cells
        self.keeps_marks = shares_cells and way == RESTORE
        self._context, self._reuse, self._way, self._grammar = context, reuse, way, grammar
        self._release: Callable[[], None] | None = release
        self._tokens: list[list[int]] = [[] for _ in range(slots)]
        self._done = [0] * slots
        """Tokens of each that the cache holds; fewer than there are only where forks are recomputed."""
        context.clear()

    def fork(self, source: int, target: int) -> None:
        """See ``Sequences.fork``."""
        self._tokens[target] = list(self._tokens[source])
        if self._way == RECOMPUTE:
            self._done[target] = 0
            return
        if isinstance(self._reuse, RestoreReuse):
            self._reuse.clone(source, target)
        else:
            self._context.copy(source, target)
        self._done[target] = self._done[source]

    def trim(self, slot: int, length: int) -> bool:
        """See ``Sequences.trim``."""
        if self._way != COPY or (self._done[slot] > length and not self._context.cut(slot, length)):
            return False
        del self._tokens[slot][length:]
        self._done[slot] = min(self._done[slot], length)
        return True

    def drop(self, slot: int) -> None:
        """See ``Sequences.drop``."""
        self._context.cut(slot)
        self._tokens[slot], self._done[slot] = [], 0

    def advance(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        """See ``Sequences.advance``."""
        for feed in feeds:
            self._catch_up(feed.slot, feed.slot, self.batch)
        tokens: list[int] = []
        positions: list[int] = []
        ids: list[list[int]] = []
        asked: list[bool] = []
        for feed in feeds:
            start, n = self._done[feed.slot], len(feed.tokens)
            tokens.extend(feed.tokens)
            positions.extend(range(start, start + n))
            ids.extend([[feed.slot]] * n)
            asked.extend([False] * (n - 1) + [feed.ask])
        logits = self._context.decode(tokens, positions, ids, asked)
        for feed in feeds:
            self._tokens[feed.slot].extend(feed.tokens)
            self._done[feed.slot] = len(self._tokens[feed.slot])
        return logits

    def _catch_up(self, slot: int, sequence: int, step: int) -> None:
        """Compute what a forked sequence should hold and doesn't."""
        tokens = self._tokens[slot]
        for start in range(self._done[slot], len(tokens), step):
            part = tokens[start : start + step]
            n = len(part)
            self._context.decode(part, range(start, start + n), [[sequence]] * n, [False] * n)
        self._done[slot] = len(tokens)

    def branch(self, slot: int, length: int, tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """See ``Sequences.branch``."""
        assert len(self._tokens[slot]) == length
        if self._way == RECOMPUTE:
            self._context.cut(slot)
        return self._reuse.compute(slot, self._tokens[slot], tree, wanted)

    def constrain(self, grammar: str) -> Constraint:
        """See ``Sequences.constrain``."""
        return self._grammar(grammar)

    def close(self) -> None:
        """See ``Sequences.close``."""
        if self._release is not None:
            self._context.clear(data=True)
            self._release()
            self._release = None


class StrictSequences(LlamaSequences):
    """Only one sequence is in the cache at a time, in its first cells; the others' states are kept outside.

    What is computed for a sequence then depends on its own history alone, to the bit: neither where its tokens lie
    nor how much of the cache is in use depends on what was computed before or is held beside it.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        # What is kept outside takes no cells: every sequence has the whole context for itself.
        self.cells, self.shares_cells = self.slots * self.cells, False
        self._saved: dict[int, NDArray[np.uint8]] = {}
        self._active = -1
        """The slot whose state the cache holds, in sequence 0."""

    def fork(self, source: int, target: int) -> None:
        """See ``Sequences.fork``."""
        self._tokens[target] = list(self._tokens[source])
        if self._way == RECOMPUTE:
            return
        if source == self._active:
            self._put_away()
        self._done[target] = self._done[source]
        self._saved[target] = self._saved[source]

    def _put_away(self) -> None:
        if self._active >= 0 and self._done[self._active]:
            self._saved[self._active] = self._context.save(0)
        self._active = -1

    def _activate(self, slot: int) -> None:
        if slot == self._active:
            return
        self._put_away()
        self._context.clear()
        state = self._saved.pop(slot, None)
        if state is not None:
            self._context.restore(0, state)
        self._active = slot

    def trim(self, slot: int, length: int) -> bool:
        """See ``Sequences.trim``."""
        if self._way != COPY:
            return False
        self._activate(slot)
        if not self._context.cut(0, length):
            return False
        del self._tokens[slot][length:]
        self._done[slot] = length
        return True

    def drop(self, slot: int) -> None:
        """See ``Sequences.drop``."""
        if slot == self._active:
            self._active = -1
        self._saved.pop(slot, None)
        self._tokens[slot], self._done[slot] = [], 0

    def advance(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        """See ``Sequences.advance``; one feed at a time."""
        rows = []
        for feed in feeds:
            self._activate(feed.slot)
            self._catch_up(feed.slot, 0, STRICT_SLICE)
            start, n = self._done[feed.slot], len(feed.tokens)
            asked = [False] * (n - 1) + [feed.ask]
            logits = self._context.decode(feed.tokens, range(start, start + n), [[0]] * n, asked)
            self._tokens[feed.slot].extend(feed.tokens)
            self._done[feed.slot] += n
            rows.append(logits if len(feeds) == 1 else logits.copy())
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def branch(self, slot: int, length: int, tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """See ``Sequences.branch``."""
        assert len(self._tokens[slot]) == length
        self._activate(slot)
        if self._way == RECOMPUTE:
            self._context.clear()
        return self._reuse.compute(0, self._tokens[slot], tree, wanted)
