"""Grammars (GBNF) by llama.cpp's own sampler."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.llama_log import EngineLog
from cultev.errors import ModelUnsupported

Array = NDArray[np.float32]

BEST = 128
"""Tokens that are tried first where only the best is asked for: the whole vocabulary takes tens of milliseconds."""


class Candidates:
    """Tokens and their logits as llama.cpp's samplers take them: (id, logit, probability) for each."""

    def __init__(self, api: Any, n_vocab: int) -> None:
        self._data = np.zeros(n_vocab, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        data = ctypes.cast(self._data.ctypes.data, ctypes.POINTER(api.llama_token_data))
        self._array = api.llama_token_data_array(data, n_vocab, -1, False)
        self._apply = api.llama_sampler_apply

    def masked(self, sampler: Any, logits: Array, ids: NDArray[np.intp]) -> Array:
        """The logits of some tokens after the sampler has had its say; minus infinity for all others."""
        n = len(ids)
        self._data["id"][:n] = ids
        self._data["logit"][:n] = logits[ids]
        self._array.size, self._array.selected, self._array.sorted = n, -1, False
        self._apply(sampler, ctypes.byref(self._array))
        masked = np.full(len(logits), -np.inf, np.float32)
        masked[ids] = self._data["logit"][:n]
        return masked


class Grammar:
    """A ``Constraint`` by a GBNF grammar whose start is the rule 'root'.

    Where the grammar's end is reached, and where it has none but no token can go on, the model's end tokens are
    allowed.

    Raises:
        ModelUnsupported: the grammar can't be read.
    """

    def __init__(
        self, api: Any, log: EngineLog, vocab: Any, ends: NDArray[np.intp], candidates: Candidates, text: str
    ) -> None:
        self._api, self._ends, self._candidates = api, ends, candidates
        with log.collect() as lines:
            self._sampler = api.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not self._sampler:
            reason = log.reason(lines).rstrip(".")
            raise ModelUnsupported(
                f"The grammar can't be read{': ' + reason if reason else ''}.",
                "Check its GBNF: it needs a rule named 'root', and every rule it names.",
            )

    def mask(self, logits: Array, *, greedy: bool = False) -> Array:
        """See ``Constraint.mask``."""
        if greedy:
            for n in (1, BEST):
                if n < len(logits):
                    worst = np.partition(logits, -n)[-n] if n > 1 else logits.max()
                    masked = self._candidates.masked(self._sampler, logits, np.flatnonzero(logits >= worst))
                    if np.isfinite(masked.max()):
                        return masked
        masked = self._candidates.masked(self._sampler, logits, np.arange(len(logits)))
        if not np.isfinite(masked.max()):
            masked[self._ends] = logits[self._ends]
        return masked

    def accept(self, token: int) -> None:
        """See ``Constraint.accept``."""
        if token not in self._ends:  # after an end nothing comes; inside a rule, llama.cpp would abort at one
            self._api.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """See ``Constraint.close``."""
        if self._sampler:
            self._api.llama_sampler_free(self._sampler)
            self._sampler = None
