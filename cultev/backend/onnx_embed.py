"""Vectors of texts, from graphs that give hidden states or whole embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cultev.backend.onnx_binding import Binding

CELLS = 4096
"""Most rows x tokens of one run."""


def embed(binding: Binding, texts: Sequence[Sequence[int]], *, strict: bool) -> NDArray[np.float32]:
    """One L2-normalised vector per text (n x width): the graph's own embedding, or the mean of its hidden states.

    Args:
        binding: a graph with ``hidden``.
        texts: token ids, none empty.
        strict: one text a run, so that each vector depends on its own text alone.

    Raises:
        EngineError: onnxruntime failed.
    """
    order = sorted(range(len(texts)), key=lambda i: (len(texts[i]), tuple(texts[i])))
    vectors: dict[int, NDArray[np.float32]] = {}
    alone = strict or binding.ports.one_row
    while order:
        n, length = 0, 0
        for i in order:
            length = len(texts[i])
            even = binding.ports.mask or length == len(texts[order[0]])
            if n and (alone or not even or (n + 1) * length > CELLS):
                break
            n += 1
        part, order = order[:n], order[n:]
        vectors.update(zip(part, _run(binding, [texts[i] for i in part]), strict=True))
    rows = np.array([vectors[i] for i in range(len(texts))], np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norms, np.finfo(np.float32).tiny)


def _run(binding: Binding, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    length = max(map(len, texts))
    mask = np.array([[1] * len(t) + [0] * (length - len(t)) for t in texts], np.bool_)
    ids = np.array([[*t, *[t[-1]] * (length - len(t))] for t in texts], np.int64)
    positions = np.minimum(np.arange(length), mask.sum(axis=1, keepdims=True) - 1)
    hidden: NDArray[np.float32] = binding.hidden(ids, positions, mask).astype(np.float32, copy=False)
    if hidden.ndim == 2:
        return hidden
    # What fills a row up is cut off: 0 times a NaN would not be 0.
    return np.array([row[: len(t)].mean(axis=0) for row, t in zip(hidden, texts, strict=True)], np.float32)
