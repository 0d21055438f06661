"""A GGUF model's vocabulary: text to token ids and back."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.onward import tokens_onward

_SPACED = (1, 4)
"""llama.cpp's vocabulary types (SPM, UGM) that may put a space before a text."""


class LlamaTokens:
    """Text and tokens by llama.cpp's own tokenizer."""

    def __init__(self, api: Any, vocab: Any) -> None:
        self._api, self.vocab = api, vocab
        self.n_vocab: int = api.llama_vocab_n_tokens(vocab)
        self._pieces: dict[int, bytes] = {}
        self._end_ids: NDArray[np.intp] | None = None

    def encode(self, text: str) -> list[int]:
        """See ``Backend.encode``."""
        tokens = self._tokenize(text, special=True)
        bos = self._api.llama_vocab_bos(self.vocab)
        if self._api.llama_vocab_get_add_bos(self.vocab) and bos >= 0 and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def encode_whole(self, text: str) -> list[int]:
        """A text with whatever the model wants around it (BERT's [CLS] and [SEP]); nothing in it is special."""
        return self._tokenize(text, special=False, around=True)

    def encode_on(self, text: str) -> list[int]:
        """A text that goes on from another one: no BOS, no space put before it, nothing in it is special."""
        plain = partial(self._tokenize, special=False)
        spaced = self._api.llama_vocab_type(self.vocab) in _SPACED
        onward = tokens_onward(plain, text) if spaced else None
        return plain(text) if onward is None else onward

    def _tokenize(self, text: str, *, special: bool, around: bool = False) -> list[int]:
        data = text.encode()
        size = len(data) + 16
        while True:
            buffer = (ctypes.c_int32 * size)()
            n = self._api.llama_tokenize(self.vocab, data, len(data), buffer, size, around, special)
            if n >= 0:
                return list(buffer[:n])
            size = -n

    def piece(self, token: int) -> bytes:
        """A token's bytes, b'' for special ones."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._bytes(token, special=False)
        return found

    def decode(self, tokens: Sequence[int]) -> str:
        """See ``Backend.decode``."""
        return b"".join(map(self.piece, tokens)).decode(errors="replace")

    def token_text(self, token: int) -> str:
        """See ``Backend.token_text``."""
        return self._bytes(token, special=True).decode(errors="backslashreplace")

    def _bytes(self, token: int, *, special: bool) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = self._api.llama_token_to_piece(self.vocab, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def ends(self, token: int) -> bool:
        """Whether a token ends the model's turn."""
        return bool(self._api.llama_vocab_is_eog(self.vocab, token))

    @property
    def end_ids(self) -> NDArray[np.intp]:
        """All tokens that end the model's turn."""
        if self._end_ids is None:
            self._end_ids = np.array([t for t in range(self.n_vocab) if self.ends(t)], np.intp)
        return self._end_ids

    def special_text(self, token: int) -> str:
        """How the vocabulary spells a token; '' for none (below 0)."""
        if token < 0:
            return ""
        text: bytes = self._api.llama_vocab_get_text(self.vocab, token)
        return text.decode(errors="replace")

    @property
    def begin_text(self) -> str:
        """How the vocabulary spells its BOS token; '' for none."""
        return self.special_text(self._api.llama_vocab_bos(self.vocab))

    @property
    def end_text(self) -> str:
        """How the vocabulary spells its EOS token; '' for none."""
        return self.special_text(self._api.llama_vocab_eos(self.vocab))
