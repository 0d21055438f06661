"""Sequences for generating with an ONNX graph: prompts are read in rows, growing texts stay resident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.onnx_binding import Binding
from cultev.backend.onnx_past import Piece, copy_row, cut, length_of
from cultev.backend.onnx_resident import Residents
from cultev.backend.onnx_rows import Row, Shape, batches
from cultev.backend.onnx_tree import PAST_BYTES, TreeRunner, Way
from cultev.backend.prefix import TokenTree
from cultev.backend.sequences import Constraint, Feed, Wanted
from cultev.errors import ModelUnsupported

CACHE_BYTES = 512 * 2**20
"""Bytes of keys and values that all sequences together may hold, where two whole contexts take no more."""


def cells_for(n_ctx: int, slot_bytes: int) -> int:
    """Tokens that all sequences together may hold.

    Args:
        n_ctx: tokens of the longest.
        slot_bytes: bytes of keys and values per token; 0 where none are kept.
    """
    return max(2 * n_ctx, CACHE_BYTES // max(1, slot_bytes))


@dataclass(slots=True)
class _Sequence:
    tokens: list[int] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    """Keys and values of all tokens; nothing while the sequence is resident, or where the graph keeps no state."""


class OnnxSequences:
    """See ``Sequences``. Prefixes are shared by reference until a text grows; then each text has its own copy.

    A prompt's last token is decoded together with the growing texts, so that no logits of a prompt are asked for.

    Args:
        runner: the graph, and how its rows may share a run; its trunk is lost.
        packed: see ``onnx_resident.Batch``.
        parallel: texts that grow at once.
        batch: tokens of one ``advance``.
    """

    shares_cells = keeps_marks = False

    def __init__(self, runner: TreeRunner, *, packed: bool, parallel: int, batch: int) -> None:
        self._runner = runner
        self._binding: Binding = runner.binding
        self._keeps = runner.way is not Way.WHOLE
        self.slots = 2 * parallel + 2
        slot_bytes = self._binding.ports.slot_bytes
        self.cells = cells_for(runner.n_ctx, slot_bytes)
        if not self._keeps:
            self.cells = self.slots * runner.n_ctx
        self.batch = max(batch, parallel)
        self._held = [_Sequence() for _ in range(self.slots)]
        self._residents = Residents(self._binding, runner.way, packed=packed, n_ctx=runner.n_ctx)
        self._reading = Shape(
            mixed_past=runner.way is Way.MIXED,
            mixed_length=True,  # logits are not asked: what fills a row up does not matter
            one_row=self._binding.ports.one_row or runner.way is Way.SINGLE,
            cells=runner.shape.cells,
            slots=max(1, PAST_BYTES // max(1, slot_bytes)),
            n_ctx=runner.n_ctx,
        )

    def fork(self, source: int, target: int) -> None:
        """See ``Sequences.fork``."""
        self._settle(source)
        held = self._held[source]
        self._held[target] = _Sequence(list(held.tokens), list(held.pieces))

    def trim(self, slot: int, length: int) -> bool:
        """See ``Sequences.trim``."""
        self._settle(slot)
        held = self._held[slot]
        self._held[slot] = _Sequence(held.tokens[:length], cut(held.pieces, length))
        return True

    def drop(self, slot: int) -> None:
        """See ``Sequences.drop``."""
        if slot in self._residents:
            self._residents.leave(slot)
        self._held[slot] = _Sequence()

    def advance(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        """See ``Sequences.advance``."""
        reading = {f.slot: f.tokens[:-1] if f.ask else f.tokens for f in feeds}
        if self._keeps:
            self._read({slot: tokens for slot, tokens in reading.items() if tokens})
        for slot, tokens in reading.items():
            self._held[slot].tokens.extend(tokens)
        last = {f.slot: f.tokens[-1] for f in feeds if f.ask}
        for slot, token in last.items():
            self._held[slot].tokens.append(token)
        rows = self._decode(last) if self._keeps else self._whole(list(last))
        if not rows:
            return np.empty((0, 0), np.float32)
        return np.stack([rows[slot] for slot in last]).astype(np.float32, copy=False)

    def _decode(self, last: dict[int, int]) -> dict[int, NDArray[Any]]:
        """One token of each text."""
        if not last:
            return {}
        for slot in self._residents.unfed(last):
            self._settle(slot)
        joining = {slot: self._held[slot].pieces for slot in last if slot not in self._residents}
        rows = self._residents.step(last, joining)
        for slot in joining:
            self._held[slot].pieces = []
        return rows

    def _read(self, parts: dict[int, tuple[int, ...]]) -> None:
        """Compute keys and values of prompts, rows of like lengths together."""
        for slot in parts:
            self._settle(slot)
        while parts:
            rows = []
            for slot, tokens in parts.items():
                part = tokens[: self._runner.slice]
                past = length_of(self._held[slot].pieces)
                rows.append(Row(part, (slot,), past, -1, len(part)))
            for batch in batches(rows, self._reading):
                self._read_batch(batch)
            step = self._runner.slice
            parts = {slot: tokens[step:] for slot, tokens in parts.items() if len(tokens) > step}

    def _read_batch(self, batch: Sequence[Row]) -> None:
        held = [self._held[row.nodes[0]] for row in batch]
        past = max(row.past for row in batch)
        values = self._runner.buffers.gather([h.pieces for h in held], past)
        presents = self._runner.run_rows(batch, past, values, presents=True).presents
        arrays = [self._binding.host(p) for p in presents]
        for i, (row, sequence) in enumerate(zip(batch, held, strict=True)):
            sequence.pieces.append(copy_row(arrays, i, past, past + len(row.tokens)))

    def _whole(self, slots: Sequence[int]) -> dict[int, NDArray[Any]]:
        """The logits after whole sequences, for graphs that keep no state."""
        rows = [Row(tuple(self._held[s].tokens), (s,), 0, -1, 0) for s in slots]
        found: dict[int, NDArray[Any]] = {}
        for batch in batches(rows, self._runner.shape):
            reads = [(i, len(row.tokens) - 1) for i, row in enumerate(batch)]
            given = self._runner.run_rows(batch, 0, self._binding.empty_past(len(batch)), reads=reads)
            assert given.logits is not None
            found.update(zip((row.nodes[0] for row in batch), given.logits, strict=True))
        return found

    def branch(self, slot: int, length: int, tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """See ``Sequences.branch``."""
        self._settle(slot)
        held = self._held[slot]
        self._runner.adopt(tuple(held.tokens[:length]), cut(held.pieces, length))
        try:
            return self._runner.compute(tree, wanted)
        finally:
            self._runner.adopt((), [])

    def _settle(self, slot: int) -> None:
        """Bring a resident sequence's keys and values back into pieces."""
        if slot in self._residents:
            self._held[slot].pieces = [self._residents.take_out(slot)]

    def constrain(self, grammar: str) -> Constraint:
        """See ``Sequences.constrain``."""
        raise ModelUnsupported(
            "An ONNX model can't be held to a grammar.", "Leave the grammar out, or use the model's GGUF."
        )

    def close(self) -> None:
        """See ``Sequences.close``."""
        for slot in range(self.slots):
            self.drop(slot)
        self._runner.adopt((), [])
