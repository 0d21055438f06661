"""Texts that grow together: batches whose keys and values are fed back from run to run without being copied.

A run's presents are the next run's past. Rows of unlike lengths keep masked gaps; a row whose text has ended is
overwritten by the next text's, and a batch is put together anew only when no such row is free, or when gaps and
dead rows have cost about as much as that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.onnx_binding import Binding, Value
from cultev.backend.onnx_past import Memory, Piece, fill, length_of
from cultev.backend.onnx_tree import Way

RESIDENT_BYTES = 512 * 2**20
"""Bytes of keys and values that one batch of growing texts may take; more texts make more batches."""

SPARE_SLOTS = 8
"""Gaps that every row has, beyond a 32nd of the batch's slots, before they are cut out: about where what they cost
in the meantime (measured: 0.3 % of a step each, with 16 rows of 130 slots) equals cutting them out (20 %)."""


class Batch:
    """Rows that grow together.

    Args:
        binding: the graph.
        packed: whether a new token goes right behind its row's own past, as operators that count the mask have it,
            instead of behind the longest past.
    """

    def __init__(self, binding: Binding, *, packed: bool) -> None:
        self._binding = binding
        self._packed = packed
        self.slots: list[int] = []
        """Row -> the sequence that it holds, -1 for none."""
        self._lengths: NDArray[np.int64] = np.zeros(0, np.int64)
        self._mask: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)
        self._past: list[Value] = []
        self._memory = [Memory(binding), Memory(binding)]
        """Of the past and, before it, of what the next run gives: they take turns."""
        self._wasted = 0

    @property
    def width(self) -> int:
        """Slots of each row."""
        return int(self._mask.shape[1])

    @property
    def alive(self) -> int:
        """Rows that hold a sequence."""
        return sum(s >= 0 for s in self.slots)

    def length(self, slot: int) -> int:
        """Tokens of a sequence."""
        return int(self._lengths[self.slots.index(slot)])

    def leave(self, slot: int) -> None:
        """Forget a sequence; its row is free for another."""
        row = self.slots.index(slot)
        self.slots[row] = -1
        self._mask[row], self._lengths[row] = False, 0

    def read(self, slot: int) -> Piece:
        """A copy of a sequence's keys and values."""
        row = self.slots.index(slot)
        arrays = [self._binding.host(v) for v in self._past]
        spans = _spans(self._mask[row])
        return Piece(
            [np.concatenate([a[..., row, :, start:end, :] for start, end in spans], axis=-2) for a in arrays],
            int(self._lengths[row]),
        )

    def settle(self, joining: Mapping[int, Sequence[Piece]], n_ctx: int) -> None:
        """Take sequences in, and cut gaps and dead rows out where they cost too much."""
        dead = [row for row, slot in enumerate(self.slots) if slot < 0]
        longest = max([*self._lengths.tolist(), *map(length_of, joining.values())], default=0)
        gaps = self.width - longest
        untidy = gaps >= SPARE_SLOTS + self.width // 32 or (self.width >= n_ctx and gaps > 0)
        if not joining and not untidy and self._wasted < len(self.slots):
            return
        if not untidy and len(joining) <= len(dead) and longest <= self.width:
            arrays = self._binding.writable(self._past)
            if arrays is not None:
                for row, (slot, pieces) in zip(dead, joining.items(), strict=False):
                    for c, array in enumerate(arrays):
                        fill(array[..., row : row + 1, :, :, :], c, [pieces])
                    self._enter(row, slot, length_of(pieces))
                if len(joining) == len(dead) or self._wasted < len(self.slots):
                    return
                joining = {}
        self._rebuild(joining)

    def _enter(self, row: int, slot: int, length: int) -> None:
        self.slots[row], self._lengths[row] = slot, length
        self._mask[row] = np.arange(self.width) < length

    def _rebuild(self, joining: Mapping[int, Sequence[Piece]]) -> None:
        """Lay the living rows and the joining ones out anew, without a gap before their ends."""
        old = [row for row, slot in enumerate(self.slots) if slot >= 0]
        spans = [_spans(self._mask[row]) for row in old]
        lengths = [*(int(self._lengths[row]) for row in old), *map(length_of, joining.values())]
        width = max(lengths)
        before = [self._binding.host(v) for v in self._past]
        arrays = self._memory[0].arrays(len(lengths), width)
        for c, array in enumerate(arrays):
            for target, (row, parts) in enumerate(zip(old, spans, strict=True)):
                at = 0
                for start, end in parts:
                    array[..., target, :, at : at + end - start, :] = before[c][..., row, :, start:end, :]
                    at += end - start
                array[..., target, :, at:, :] = 0
            fill(array[..., len(old) :, :, :, :], c, list(joining.values()))
        self._past, self._wasted = [self._binding.value(a) for a in arrays], 0
        self._memory.reverse()
        self.slots = [*(self.slots[row] for row in old), *joining]
        self._lengths = np.array(lengths, np.int64)
        self._mask = np.arange(width) < self._lengths[:, None]

    def step(self, tokens: Mapping[int, int]) -> dict[int, NDArray[Any]]:
        """Append a token to each of some sequences; the logits after each of them."""
        fed = np.array([slot in tokens for slot in self.slots])
        # A row that is not fed computes something too; what it adds is masked from then on.
        ids = np.array([[tokens.get(slot, 0)] for slot in self.slots], np.int64)
        if self._packed:
            mask = np.arange(self.width + 1) <= self._lengths[:, None]
        else:
            mask = np.concatenate([self._mask, np.ones((len(fed), 1), np.bool_)], axis=1)
        reads = [(row, 0) for row, slot in enumerate(self.slots) if slot in tokens]
        into: list[Value] = []
        if self._binding.device == "cpu":
            into = self._memory[0].values(len(fed), self.width + 1)
            self._memory.reverse()
        given = self._binding.run(ids, self._lengths[:, None], mask, self._past, reads=reads, presents=True, into=into)
        self._past = given.presents
        self._lengths = self._lengths + fed
        if self._packed:
            self._mask = np.arange(self.width + 1) < self._lengths[:, None]
        else:
            mask[:, -1] = fed
            self._mask = mask
        self._wasted += int((~fed).sum())
        assert given.logits is not None
        fed_slots = [slot for slot in self.slots if slot in tokens]
        return dict(zip(fed_slots, given.logits, strict=True))


class Residents:
    """The batches of all growing texts.

    Args:
        binding: the graph.
        way: how rows may share a run: with gaps, only beside equally long ones, or not at all.
        packed: see ``Batch``; then rows of unlike lengths share a run whatever ``way`` says.
        n_ctx: slots that a row may have.
    """

    def __init__(self, binding: Binding, way: Way, *, packed: bool, n_ctx: int) -> None:
        self._binding = binding
        self._packed = packed
        self._mixed = packed or way is Way.MIXED
        self._one_row = way is Way.SINGLE and not packed
        self._n_ctx = n_ctx
        self._most = max(1, RESIDENT_BYTES // max(1, binding.ports.slot_bytes))
        self._batches: list[Batch] = []
        self._home: dict[int, Batch] = {}

    def __contains__(self, slot: int) -> bool:
        return slot in self._home

    def leave(self, slot: int) -> None:
        """Forget a sequence."""
        batch = self._home.pop(slot)
        batch.leave(slot)
        if not batch.alive:
            self._batches.remove(batch)

    def take_out(self, slot: int) -> Piece:
        """A sequence's keys and values; it is forgotten here."""
        piece = self._home[slot].read(slot)
        self.leave(slot)
        return piece

    def length(self, slot: int) -> int:
        """Tokens of a sequence."""
        return self._home[slot].length(slot)

    def step(self, tokens: Mapping[int, int], joining: Mapping[int, Sequence[Piece]]) -> dict[int, NDArray[Any]]:
        """Append one token to each sequence of ``tokens``; those of ``joining`` come with their pieces.

        Returns:
            the logits after each. Valid until the next call.
        """
        arrivals: dict[int, dict[int, Sequence[Piece]]] = {}
        for slot, pieces in joining.items():
            batch = self._room(length_of(pieces), arrivals)
            self._home[slot] = batch
            arrivals.setdefault(id(batch), {})[slot] = pieces
        found: dict[int, NDArray[Any]] = {}
        for batch in self._batches:
            new = arrivals.get(id(batch), {})
            members = [*(s for s in batch.slots if s >= 0), *new]
            if not any(slot in tokens for slot in members):
                continue
            batch.settle(new, self._n_ctx)
            found.update(batch.step(tokens))
        return found

    def unfed(self, tokens: Mapping[int, int]) -> list[int]:
        """Sequences that must be taken out before a step of ``tokens``: rows that must stay equally long."""
        if self._mixed:
            return []
        moving = {id(self._home[s]) for s in tokens if s in self._home}
        return [s for s, batch in self._home.items() if s not in tokens and id(batch) in moving]

    def _room(self, length: int, arrivals: Mapping[int, Mapping[int, Sequence[Piece]]]) -> Batch:
        """The batch for a sequence of some length: a new one where none takes it."""
        for batch in self._batches:
            new = arrivals.get(id(batch), {})
            rows = batch.alive + len(new)
            width = max([batch.width, *map(length_of, new.values())])
            even = self._mixed or width == length
            if even and not (self._one_row and rows) and (rows + 1) * (max(width, length) + 1) <= self._most:
                return batch
        self._batches.append(Batch(self._binding, packed=self._packed))
        return self._batches[-1]


def _spans(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The runs of slots that a row sees, as (start, end)."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return [(int(a), int(b)) for a, b in pairwise(edges)][::2]
