"""How large llama.cpp's contexts are made: cells, sequences, rows of logits."""

from __future__ import annotations

from dataclasses import dataclass

from cultev.backend.llama_reuse import COPY, RECOMPUTE, RESTORE

PARALLEL = 16
"""Texts that grow at once unless asked otherwise."""

TRUNKS = 8
"""Prefixes that generating may hold for others, nested in each other."""

LEAVES = 63
"""Branches of one pack; with the trunk, 64 sequences, the least that llama.cpp builds allow."""

FOLLOW_LEAVES = 32
"""Branches of a follow-up."""

MOVED_LEAVES = 3
"""Branches where each keeps a copy of the whole prefix."""

TEXT_TOKENS = 512
"""Cells reckoned for each text that grows, beyond one whole context."""

CACHE_BYTES = 2**30
"""Most bytes of cache for generating, beyond what one text of full length needs."""

STATE_BYTES = 256 * 2**20
"""Most bytes of recurrent states."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The size of one context."""

    cells: int
    """Tokens that all sequences may hold together."""
    slots: int
    """Sequences that are held."""
    spare: int
    """Sequences for the branches of a tree."""
    outputs: int
    """Rows of logits of one decode call."""
    kept_free: int = 0
    """Of the cells: for branches that each copy the whole sequence they continue."""

    @property
    def sequences(self) -> int:
        """Sequences in all."""
        return self.slots + self.spare


def scoring_sizes(
    way: str, *, n_ctx: int, batch: int, outputs: int, state_bytes: int = 0, moves_states: bool = False
) -> Sizes:
    """The context for scoring: one trunk, and a pack after it.

    Args:
        way: of reuse.
        n_ctx: tokens of the longest prompt + continuation.
        batch: tokens of one decode call.
        outputs: rows of logits that may be read at once.
        state_bytes: of one sequence of a recurrent or hybrid model.
        moves_states: whether whole states are copied through memory, cells and all.
    """
    if way == RECOMPUTE:
        return Sizes(n_ctx + 64, 1, 1, outputs)
    if way == COPY:
        return Sizes(n_ctx + batch + LEAVES + 1, 1, LEAVES, outputs)
    if moves_states:
        return Sizes((n_ctx + 64) * (MOVED_LEAVES + 1) + batch, 1, MOVED_LEAVES, outputs)
    return Sizes(n_ctx + batch + LEAVES + 1, 1, max(2, min(LEAVES, _states(state_bytes) - 1)), outputs)


def generating_sizes(
    way: str, *, n_ctx: int, batch: int, parallel: int, outputs: int, kv_bytes: int, most: int, state_bytes: int = 0
) -> Sizes:
    """The context for generating: texts that grow, prefixes for others, the branches of a follow-up.

    Cells are made up front, so there are fewer than texts of full length would need: TEXT_TOKENS for each and one
    whole context, within CACHE_BYTES. A text that finds no room waits. Where states are moved through memory, the
    branches of one follow-up at a time need a whole context each, beyond that.

    Args:
        way: of reuse.
        n_ctx: tokens of the longest prompt + text + follow-up.
        batch: tokens of one decode call.
        parallel: texts that grow at once.
        outputs: rows of logits that may be read at once.
        kv_bytes: of one cell.
        most: sequences that this build of llama.cpp allows.
        state_bytes: of one sequence of a recurrent or hybrid model.
    """
    spare = {COPY: FOLLOW_LEAVES, RECOMPUTE: 1}.get(way, MOVED_LEAVES)
    if state_bytes:
        most = min(most, max(4, _states(state_bytes)))
    spare = min(spare, max(1, most // 4))
    slots = max(2, min(parallel + TRUNKS, most - spare, batch))
    whole = n_ctx + batch
    cells = min(parallel, slots) * min(TEXT_TOKENS, n_ctx) + whole
    if kv_bytes:
        cells = max(whole, min(cells, CACHE_BYTES // kv_bytes))
    copies = spare * n_ctx if way == RESTORE and not state_bytes else 0
    return Sizes(cells + copies, slots, spare, max(min(outputs, 2 * FOLLOW_LEAVES), slots), copies)


def _states(state_bytes: int) -> int:
    return STATE_BYTES // max(1, state_bytes)
