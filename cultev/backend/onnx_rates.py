"""What a graph does by itself, with next to nothing of cultev's around it: the rates that ours are compared with."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from cultev.backend.onnx_binding import Binding
from cultev.backend.onnx_past import Memory
from cultev.backend.prefix import spread

ROUNDS = 3
"""Prompts that are timed; the median counts."""


def prompt_rate(binding: Binding, n_tokens: int, n_vocab: int, *, read_share: float = 0.0) -> float:
    """Tokens per second of one prompt a run; logits after a share of its tokens, or all if the graph has no choice."""
    draw = np.random.default_rng(0)
    positions, mask = np.arange(n_tokens)[None], np.ones((1, n_tokens), np.bool_)
    seconds = []
    for _ in range(ROUNDS + 1):  # the first warms up
        ids = draw.integers(0, n_vocab, (1, n_tokens))
        began = time.perf_counter()
        reads = [(0, i) for i, asked in enumerate(spread(n_tokens, read_share)) if asked]
        binding.run(ids, positions, mask, binding.empty_past(1), reads=reads, presents=bool(binding.ports.caches))
        seconds.append(time.perf_counter() - began)
    return n_tokens / float(np.median(seconds[1:]))


def decode_rate(binding: Binding, lengths: Sequence[int], n_tokens: int, n_vocab: int) -> float:
    """Tokens per second of rows that each decode ``n_tokens``, the presents of a run the past of the next.

    Rows begin with pasts of ``lengths`` tokens, filled up to the longest as any batch of them must be. Where the graph
    takes one row only, they go one after the other; where it keeps no state, whole sequences are computed.
    """
    ports = binding.ports
    groups = [[n] for n in lengths] if ports.one_row else [list(lengths)]
    return len(lengths) * n_tokens / sum(_decode_seconds(binding, group, n_tokens, n_vocab) for group in groups)


def _decode_seconds(binding: Binding, lengths: Sequence[int], n_tokens: int, n_vocab: int) -> float:
    ports, rows, width = binding.ports, len(lengths), max(lengths)
    ids = np.random.default_rng(0).integers(0, n_vocab, (rows, width + n_tokens))
    memory = [Memory(binding), Memory(binding)]
    for array in memory[1].arrays(rows, width):
        array.fill(0.1)  # what stands in the past costs the same whatever it is
    past = memory[1].values(rows, width)
    ends = np.array(lengths)[:, None]
    mask = np.arange(width) < ends
    seconds = 0.0
    for step in range(n_tokens):
        mask = np.concatenate([mask, np.ones((rows, 1), np.bool_)], axis=1)
        start = width + step if ports.caches else 0
        fed = ids[:, start : width + step + 1]
        positions = ends + step if ports.caches else np.tile(np.arange(fed.shape[1]), (rows, 1))
        reads = [(row, fed.shape[1] - 1) for row in range(rows)]
        into = memory[0].values(rows, width + step + 1) if binding.device == "cpu" else []
        memory.reverse()
        began = time.perf_counter()
        given = binding.run(fed, positions, mask, past, reads=reads, presents=bool(ports.caches), into=into)
        seconds += time.perf_counter() - began
        past = given.presents
    return seconds
