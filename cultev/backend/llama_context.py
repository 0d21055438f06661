"""llama.cpp's contexts: a cache of token cells, sequences in it, and batches that are decoded into it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.llama_log import EngineLog
from cultev.errors import EngineError

Array = NDArray[np.float32]

BATCH_TOKENS = 512
"""Tokens per decode call: what llama.cpp computes at full speed, and what one pack holds."""

CELLS = 256
"""llama.cpp's step: caches are made in multiples of it."""


class LlamaContext:
    """One context of a loaded model, whose sequences share one cache.

    Args:
        api: the module llama_cpp.
        log: catches what llama.cpp writes.
        model: the loaded model's pointer.
        n_vocab: width of the logits.
        cells: tokens that all sequences may hold together; rounded up to a multiple of CELLS.
        sequences: sequence ids, 0 to ``sequences`` - 1.
        batch: most tokens of one decode call.
        outputs: most rows of logits that one decode call gives.
        threads: of the processor.
        pooling: llama.cpp's pooling type; a context that pools gives embeddings, no logits.

    Raises:
        EngineError: llama.cpp can't make it (memory, mostly).
    """

    def __init__(
        self,
        api: Any,
        log: EngineLog,
        model: Any,
        n_vocab: int,
        *,
        cells: int,
        sequences: int,
        batch: int,
        outputs: int,
        threads: int,
        pooling: int | None = None,
    ) -> None:
        self._api, self._log, self._n_vocab = api, log, n_vocab
        self.cells = -(-cells // CELLS) * CELLS
        self.sequences, self.batch, self.outputs = sequences, batch, min(outputs, batch)
        self.threads = threads
        params = api.llama_context_default_params()
        params.n_ctx = self.cells
        params.n_batch = params.n_ubatch = max(batch, sequences)  # llama.cpp aborts with less, and with fewer outputs
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True
        params.swa_full = True  # a sliding-window cache drops cells that other branches still need
        params.no_perf = True
        if pooling is not None:
            params.embeddings, params.pooling_type = True, pooling
        elif hasattr(params, "n_outputs_max"):  # older builds make room for a whole batch of logits
            params.n_outputs_max = max(self.outputs, sequences)
        with log.collect() as lines:
            self._context = api.llama_init_from_model(model, params)
        if not self._context:
            raise EngineError(
                f"llama.cpp could not prepare the model: {log.reason(lines) or 'it gave no reason'}.",
                "Free some memory, or use a smaller --n-ctx, model or quantization.",
            )
        self._memory = api.llama_get_memory(self._context)
        self._batch = Batch(api, batch)

    @property
    def has_memory(self) -> bool:
        """Whether the model keeps what it has read; embedding models don't."""
        return bool(self._memory)

    def decode(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        sequences: Sequence[Sequence[int]],
        asked: Sequence[bool],
    ) -> Array:
        """Compute tokens, at most ``batch`` of them and ``outputs`` that are asked.

        Args:
            tokens: their ids.
            positions: where each stands in its sequences.
            sequences: the ids of the sequences to which each belongs.
            asked: whether the logits after it are read.

        Returns:
            (n asked, vocabulary): in the order of the tokens; llama.cpp's own memory, valid until the next call.

        Raises:
            EngineError: llama.cpp failed.
        """
        self._batch.fill(tokens, positions, sequences, asked)
        self._run()
        rows = sum(asked)
        if not rows:
            return np.empty((0, self._n_vocab), np.float32)
        pointer = self._api.llama_get_logits(self._context)
        address = ctypes.cast(pointer, ctypes.c_void_p).value or 0
        kind = ctypes.c_float * (rows * self._n_vocab)
        logits: Array = np.ctypeslib.as_array(kind.from_address(address))
        return logits.reshape(rows, self._n_vocab)

    def hidden(self, tokens: Sequence[int], positions: Sequence[int], ids: Sequence[int], width: int) -> Array:
        """Compute tokens of one sequence each; the last hidden state of every one, (n, width), a copy."""
        self._batch.fill(tokens, positions, [[i] for i in ids], [True] * len(tokens))
        self._run()
        pointer = self._api.llama_get_embeddings(self._context)
        states: Array = np.ctypeslib.as_array(pointer, shape=(len(tokens), width)).copy()
        return states

    def pooled(self, texts: Sequence[Sequence[int]], width: int) -> Array:
        """Compute whole texts, a sequence each; the model's own pooled vector of every one, (n, width), a copy."""
        tokens = [t for text in texts for t in text]
        ids = [[i] for i, text in enumerate(texts) for _ in text]
        self._batch.fill(tokens, [p for text in texts for p in range(len(text))], ids, [True] * len(tokens))
        self._run()
        rows = [self._api.llama_get_embeddings_seq(self._context, i) for i in range(len(texts))]
        return np.stack([np.ctypeslib.as_array(row, shape=(width,)) for row in rows])

    def _run(self) -> None:
        if not self._context:
            raise EngineError("The model was closed while it was at work.", "Load it again.")
        with self._log.collect() as lines:
            code = self._api.llama_decode(self._context, self._batch.struct)
        if code:
            raise EngineError(
                f"llama.cpp failed to compute a batch (code {code}): {self._log.reason(lines) or 'no reason given'}.",
                "Run `cultev doctor` on this model; a smaller model or more free memory may help.",
            )

    # Sequences

    def copy(self, source: int, target: int, length: int = -1) -> None:
        """Let the empty sequence ``target`` share a sequence's first ``length`` tokens; -1: all, and its state."""
        self._api.llama_memory_seq_cp(self._memory, source, target, -1 if length < 0 else 0, length)

    def cut(self, sequence: int, length: int = 0) -> bool:
        """Keep a sequence's first ``length`` tokens; False where the model's memory can't (0 always can)."""
        return bool(self._api.llama_memory_seq_rm(self._memory, sequence, length if length else -1, -1))

    def clear(self, *, data: bool = False) -> None:
        """Empty every sequence: what is computed next lies where it would in a new cache.

        ``data``: overwrite what was held, too. Nothing reads it; it takes time in a large cache.
        """
        if self._memory:
            self._api.llama_memory_clear(self._memory, data)

    def save(self, sequence: int) -> NDArray[np.uint8]:
        """A sequence's whole state."""
        size = self._api.llama_state_seq_get_size(self._context, sequence)
        data = np.empty(size, np.uint8)
        n = self._api.llama_state_seq_get_data(self._context, _bytes(data), size, sequence)
        if n == 0 or n > size:
            raise EngineError("llama.cpp could not save a sequence.", "Run `cultev doctor` on this model.")
        return data[:n]

    def restore(self, sequence: int, data: NDArray[np.uint8]) -> None:
        """Make the empty sequence equal to the one that was saved."""
        with self._log.collect() as lines:
            n = self._api.llama_state_seq_set_data(self._context, _bytes(data), data.size, sequence)
        if n == 0:
            raise EngineError(
                f"llama.cpp could not restore a sequence: {self._log.reason(lines) or 'no reason given'}.",
                "Run `cultev doctor` on this model; a smaller --n-ctx or more free memory may help.",
            )

    def close(self) -> None:
        """Free it."""
        if self._context:
            self._api.llama_free(self._context)
            self._context = self._memory = None


def _bytes(data: NDArray[np.uint8]) -> Any:
    return data.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))


class Batch:
    """A llama_batch over numpy memory: filling 512 entries costs microseconds, not a ctypes call each."""

    def __init__(self, api: Any, capacity: int) -> None:
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.zeros(capacity, np.int32)
        self._asked = np.zeros(capacity, np.int8)
        self._pointers = np.zeros(capacity, np.uintp)
        self._ids = np.zeros(0, np.int32)
        struct = api.llama_batch()
        for name, array in (
            ("token", self._tokens), ("pos", self._positions), ("n_seq_id", self._counts),
            ("seq_id", self._pointers), ("logits", self._asked),
        ):  # fmt: skip
            field_type = dict(struct._fields_)[name]
            setattr(struct, name, ctypes.cast(array.ctypes.data, field_type))
        self.struct = struct

    def fill(
        self,
        tokens: Sequence[int],
        positions: Sequence[int],
        sequences: Sequence[Sequence[int]],
        asked: Sequence[bool],
    ) -> None:
        """Put these tokens in place of the last ones."""
        n = len(tokens)
        counts = [len(s) for s in sequences]
        self._ids = np.fromiter((i for s in sequences for i in s), np.int32, sum(counts))
        offsets = np.concatenate(([0], np.cumsum(counts[:-1]))) * self._ids.itemsize
        self._tokens[:n] = tokens
        self._positions[:n] = positions
        self._counts[:n] = counts
        self._asked[:n] = asked
        self._pointers[:n] = self._ids.ctypes.data + offsets.astype(np.uintp)
        self.struct.n_tokens = n
