"""Keys and values kept on the host in pieces, and rows of a batch put together from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from cultev.backend.onnx_binding import Binding, Value


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of tokens' keys and values. Never written to again, so that sequences share it by reference."""

    arrays: list[NDArray[Any]]
    """One per cache: ... heads x slots x numbers."""
    n: int
    """How many slots count, from the first."""


def length_of(pieces: Sequence[Piece]) -> int:
    """Tokens in pieces one after the other."""
    return sum(p.n for p in pieces)


def cut(pieces: Sequence[Piece], length: int) -> list[Piece]:
    """The first ``length`` tokens."""
    kept = []
    for piece in pieces:
        if length <= 0:
            break
        kept.append(Piece(piece.arrays, min(piece.n, length)))
        length -= piece.n
    return kept


def copy_row(presents: Sequence[NDArray[Any]], row: int, start: int, end: int) -> Piece:
    """Slots start to end of one row of a run's presents, in memory of their own."""
    return Piece([np.array(p[..., row, :, start:end, :]) for p in presents], end - start)


GROWTH = 32
"""Slots that memory has to spare when it is made."""


LINE = 64
"""Bytes of a processor's cache line."""


class Memory:
    """Memory for one batch's keys and values, kept for wider tensors than the ones in it.

    Two of them that take turns hold the past and what a run makes of it. Left to itself, onnxruntime would find room
    for ever wider tensors beside the ones before.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self._caches = binding.ports.caches
        self._buffers = [np.empty(0, c.dtype) for c in self._caches]

    def values(self, rows: int, slots: int) -> list[Value]:
        """Tensors on those arrays."""
        return [self._binding.value(a) for a in self.arrays(rows, slots)]

    def arrays(self, rows: int, slots: int) -> list[NDArray[Any]]:
        """An array for each cache, of any content."""
        found = []
        for c, cache in enumerate(self._caches):
            size = math.prod(cache.shape(rows, slots))
            if self._buffers[c].size < size:
                self._buffers[c] = np.empty(0, cache.dtype)  # what was there goes first
                self._buffers[c] = _aligned(math.prod(cache.shape(rows, slots + GROWTH)), cache.dtype)
            found.append(self._buffers[c][:size].reshape(cache.shape(rows, slots)))
        return found


def _aligned(size: int, dtype: DTypeLike) -> NDArray[Any]:
    """An array of any content on a border of the processor's cache lines, where vectors are read fastest."""
    n_bytes = size * np.dtype(dtype).itemsize
    memory = np.empty(n_bytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + n_bytes].view(dtype)


class PastBuffers:
    """Memory for a run's past, kept between runs: fresh memory costs more than filling it.

    Args:
        binding: whose caches the rows are for.
    """

    def __init__(self, binding: Binding) -> None:
        self._binding = binding
        self.gap = 0.0
        """What masked gaps are filled with: any number would do, yet a stray NaN would spread."""
        self._buffers: list[NDArray[Any]] = [np.empty(0, c.dtype) for c in binding.ports.caches]

    def gather(self, rows: Sequence[Sequence[Piece]], slots: int, common: Sequence[Piece] = ()) -> list[Value]:
        """The past of rows that each continue ``common`` and their own pieces; the rest up to ``slots`` is gap.

        Valid until the next call.
        """
        past = []
        for c, cache in enumerate(self._binding.ports.caches):
            shape = cache.shape(len(rows), slots)
            size = math.prod(shape)
            if self._buffers[c].size < size:
                self._buffers[c] = _aligned(size, cache.dtype)
            view = self._buffers[c][:size].reshape(shape)
            fill(view, c, rows, common, self.gap)
            past.append(self._binding.value(view))
        return past


def fill(
    view: NDArray[Any], c: int, rows: Sequence[Sequence[Piece]], common: Sequence[Piece] = (), gap: float = 0.0
) -> None:
    """Write rows' pieces of cache ``c`` into one tensor of past, ``common`` before all of them."""
    start = 0
    for piece in common:
        view[..., start : start + piece.n, :] = np.expand_dims(piece.arrays[c][..., : piece.n, :], -4)
        start += piece.n
    for i, pieces in enumerate(rows):
        target, at = view[..., i, :, :, :], start
        for piece in pieces:
            target[..., at : at + piece.n, :] = piece.arrays[c][..., : piece.n, :]
            at += piece.n
        target[..., at:, :] = gap
