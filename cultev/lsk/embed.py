"""Vectors of questions for clusters: character n-grams, the model's own hidden states, or an embedding model's.

An *embedder* turns texts into rows of length one. Its ``name`` goes into the map, since centres mean something only
beside vectors of the same kind: 'ngrams/1', or the sha256 of the model that embeds.

n-grams need no model and are the same to the bit on every machine. Each n-gram of a text is hashed into one of a few
hundred dimensions with a sign of its own, so that collisions cancel on average (feature hashing: Weinberger et al.
2009, Feature Hashing for Large Scale Multitask Learning); counts enter as 1 + log(count).
"""

from __future__ import annotations

import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cultev.backend.load import identify, open_backend
from cultev.backend.types import Backend, EngineSettings
from cultev.errors import ModelNotFound
from cultev.lsk.table import Items

DIMENSIONS = 256
"""Of n-gram vectors: cosines are off by 1 / sqrt(256), some 6 points, and twelve centres fit into a few kB."""

NGRAMS = "ngrams/1"
"""Name of the n-gram vectors; raised when the same text would get another one."""

SELF = "self"


@dataclass(slots=True)
class Embedder:
    """Texts -> (n, d) float64, rows of length one. Close it, or use it as a context manager."""

    name: str
    embed: Callable[[Sequence[str]], NDArray[np.float64]]
    close: Callable[[], None] = lambda: None

    def __enter__(self) -> Embedder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_embedder(word: str, backend: Backend | None = None, settings: EngineSettings | None = None) -> Embedder:
    """What ``--embedder`` names.

    Args:
        word: 'ngrams'; 'self', the hidden states of the model that is studied; or the path of an embedding model, a
            GGUF file or an ONNX folder.
        backend: the open model, for 'self'. It stays open.
        settings: how to run an embedding model.

    Raises:
        ModelNotFound: neither of the words and no path.
        CultevError: the model can't be opened, or (when it is used) gives no hidden states.
    """
    if word == "ngrams":
        return Embedder(NGRAMS, ngrams)
    if word == SELF:
        if backend is None:
            raise ValueError("the model's own embeddings need the model")
        return Embedder(backend.info.sha256, lambda texts: unit(backend.embed(texts)))
    path = Path(word)
    if not path.exists():
        raise ModelNotFound(
            f"There is no embedding model at {word}.", "Give --embedder ngrams, self, or the path of a model."
        )
    opened = open_backend(path, settings)
    return Embedder(opened.info.sha256, lambda texts: unit(opened.embed(texts)), opened.close)


def embedder_name(word: str, model: Path) -> str:
    """The name that ``open_embedder`` will give, without loading anything.

    Args:
        word: as for ``open_embedder``.
        model: the model that is studied.
    """
    return NGRAMS if word == "ngrams" else identify(model if word == SELF else Path(word))


def with_embeddings(items: Items, texts: Sequence[str], embedder: Embedder) -> Items:
    """The items with vectors of these texts, one an item in the items' order."""
    if len(texts) != len(items):
        raise ValueError("one text per item")
    return replace(items, embeddings=embedder.embed(texts))


def ngrams(texts: Sequence[str], dimensions: int = DIMENSIONS) -> NDArray[np.float64]:
    """Vectors of character n-grams, shape (texts, dimensions), rows of length one (all 0 for a text without any)."""
    rows = np.zeros((len(texts), dimensions))
    for row, text in zip(rows, texts, strict=True):
        for gram, count in Counter(grams(text)).items():
            code = zlib.crc32(gram.encode())
            row[code % dimensions] += (1.0 if code & 0x80000000 else -1.0) * (1.0 + np.log(count))
    return unit(rows)


def grams(text: str) -> Iterator[str]:
    """The n-grams of a text's words: of 3 to 5 characters, borders included, or 1 to 3 where a script has no spaces."""
    for word in unicodedata.normalize("NFKC", text).casefold().split():
        kept = "".join(char for char in word if char.isalnum() or unicodedata.category(char).startswith("M"))
        if not kept:
            continue
        dense = any(_dense(char) for char in kept)
        padded, sizes = (kept, (1, 2, 3)) if dense else (f" {kept} ", (3, 4, 5))
        for size in sizes:
            yield from (padded[i : i + size] for i in range(max(1, len(padded) - size + 1)))


def _dense(char: str) -> bool:
    """Whether a script is written without spaces: Han, kana, Thai, Lao, Khmer, Burmese."""
    return (
        "\u0e00" <= char <= "\u0eff"
        or "\u1000" <= char <= "\u109f"
        or "\u1780" <= char <= "\u17ff"
        or ("\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff")
    )


def unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows divided by their length; those of length 0 stay 0."""
    values = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(np.divide(values, length, out=np.zeros_like(values), where=length > 0))


class Nearest:
    """Which of many texts are most like a question: cosine of n-gram counts, rare ones counting more.

    Weights are tf-idf (Salton & Buckley 1988: 1 + log tf, times log((1 + N) / (1 + df)) + 1).
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._n = len(texts)
        counts = [Counter(grams(text)) for text in texts]
        seen = Counter(gram for count in counts for gram in count)
        self._idf = {gram: np.log((1 + len(texts)) / (1 + df)) + 1.0 for gram, df in seen.items()}
        self._rows: dict[str, list[tuple[int, float]]] = {}
        for i, count in enumerate(counts):
            for gram, value in self._weights(count).items():
                self._rows.setdefault(gram, []).append((i, value))

    def similarity(self, question: str) -> NDArray[np.float64]:
        """Cosine of the question with each text, shape (texts,)."""
        found = np.zeros(self._n)
        for gram, value in self._weights(Counter(grams(question))).items():
            for i, other in self._rows.get(gram, ()):
                found[i] += value * other
        return found

    def _weights(self, count: Counter[str]) -> dict[str, float]:
        most = float(np.log(1 + self._n) + 1.0)  # of what no text has
        raw = {gram: (1.0 + np.log(n)) * self._idf.get(gram, most) for gram, n in count.items()}
        length = float(np.sqrt(sum(value * value for value in raw.values())))
        return {gram: value / length for gram, value in raw.items()} if length else {}
