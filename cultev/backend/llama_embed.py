"""Texts as vectors, through a context of llama.cpp that gives hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.llama_context import LlamaContext
from cultev.backend.llama_log import EngineLog
from cultev.backend.llama_tokens import LlamaTokens
from cultev.errors import EngineError

TEXTS = 32
"""Texts of one decode call."""

_OWN, _NONE = -1, 0
"""llama.cpp's pooling types: what the model's header says; none."""


def embed(
    api: Any,
    log: EngineLog,
    model: Any,
    vocabulary: LlamaTokens,
    texts: Sequence[str],
    *,
    own_pooling: bool,
    n_ctx: int,
    batch: int,
    threads: int,
) -> NDArray[np.float32]:
    """See ``Backend.embed``.

    Args:
        api: the module llama_cpp.
        log: catches what llama.cpp writes.
        model: the loaded model's pointer.
        vocabulary: its tokens.
        texts: what to embed.
        own_pooling: whether the model says how its hidden states become one vector.
        n_ctx: tokens that a text may have.
        batch: tokens of one decode call; more where the model pools a whole text at once.
        threads: of the processor.

    Raises:
        EngineError: a text is too long.
    """
    width = int(getattr(api, "llama_model_n_embd_out", api.llama_model_n_embd)(model))
    encoded = [vocabulary.encode_whole(text) or [max(0, api.llama_vocab_bos(vocabulary.vocab))] for text in texts]
    longest = max(map(len, encoded), default=0)
    if longest > n_ctx:
        raise EngineError(
            f"A text of {longest} tokens is too long to embed: the model takes {n_ctx}.",
            "Shorten it, or raise --n-ctx where the model allows more.",
        )
    vectors = np.zeros((len(texts), width), np.float32)
    if not encoded:
        return vectors
    size = max(batch, longest)
    context = LlamaContext(
        api, log, model, vocabulary.n_vocab, cells=size, sequences=TEXTS, batch=size if own_pooling else batch,
        outputs=size, threads=threads, pooling=_OWN if own_pooling else _NONE,
    )  # fmt: skip
    try:
        for some in _batches(encoded, size):
            context.clear()
            part = [encoded[i] for i in some]
            vectors[some] = context.pooled(part, width) if own_pooling else _means(context, part, width)
    finally:
        context.close()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return vectors


def _batches(encoded: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Which texts are computed together, the shortest first: in all at most ``size`` tokens, TEXTS texts."""
    some: list[int] = []
    used = 0
    for i in sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i)):
        if some and (used + len(encoded[i]) > size or len(some) >= TEXTS):
            yield some
            some, used = [], 0
        some.append(i)
        used += len(encoded[i])
    if some:
        yield some


def _means(context: LlamaContext, texts: Sequence[Sequence[int]], width: int) -> NDArray[np.float32]:
    """The mean over each text's tokens of the last hidden state."""
    tokens = [t for text in texts for t in text]
    positions = [p for text in texts for p in range(len(text))]
    ids = [i for i, text in enumerate(texts) for _ in text]
    sums = np.zeros((len(texts), width), np.float64)
    for start in range(0, len(tokens), context.batch):
        end = min(len(tokens), start + context.batch)
        states = context.hidden(tokens[start:end], positions[start:end], ids[start:end], width)
        np.add.at(sums, ids[start:end], states)
    means: NDArray[np.float32] = (sums / np.array([[len(text)] for text in texts])).astype(np.float32)
    return means
