"""What a graph does by itself, with next to nothing of cultev's around it: the rates that ours are compared with."""

from __future__ import annotations

import time

import numpy as np

from cultev.backend.onnx_binding import Binding

ROUNDS = 3
"""Prompts that are timed; the median counts."""


def prompt_rate(binding: Binding, n_tokens: int, n_vocab: int) -> float:
    """Tokens per second of one prompt a run: its last token's logits, or all where the graph gives no choice."""
    draw = np.random.default_rng(0)
    positions, mask = np.arange(n_tokens)[None], np.ones((1, n_tokens), np.bool_)
    seconds = []
    for _ in range(ROUNDS + 1):  # the first warms up
        ids = draw.integers(0, n_vocab, (1, n_tokens))
        began = time.perf_counter()
        binding.run(ids, positions, mask, binding.empty_past(1), presents=bool(binding.ports.caches), keep=1)
        seconds.append(time.perf_counter() - began)
    return n_tokens / float(np.median(seconds[1:]))


def decode_rate(binding: Binding, n_sequences: int, n_tokens: int, n_past: int, n_vocab: int) -> float:
    """Tokens per second of rows that each decode ``n_tokens``, the presents of a run the past of the next.

    Where the graph takes one row only, the rows go one after the other; where it keeps no state, whole sequences.
    """
    ports = binding.ports
    rows = 1 if ports.one_row else n_sequences
    ids = np.random.default_rng(0).integers(0, n_vocab, (rows, n_past + n_tokens))
    seconds = 0.0
    for _ in range(n_sequences // rows):
        past = binding.empty_past(rows)
        start = 0
        if ports.caches and n_past:
            given = binding.run(
                ids[:, :n_past], np.tile(np.arange(n_past), (rows, 1)), np.ones((rows, n_past), np.bool_), past,
                logits=False, presents=True,
            )  # fmt: skip
            past, start = given.presents, n_past
        for end in range(n_past + 1, n_past + n_tokens + 1):
            positions = np.tile(np.arange(start, end), (rows, 1))
            began = time.perf_counter()
            given = binding.run(
                ids[:, start:end], positions, np.ones((rows, end), np.bool_), past,
                presents=bool(ports.caches), keep=1,
            )  # fmt: skip
            seconds += time.perf_counter() - began
            if ports.caches:
                past, start = given.presents, end
    return n_sequences * n_tokens / seconds
