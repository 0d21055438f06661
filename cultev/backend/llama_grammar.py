"""Grammars (GBNF) by llama.cpp's own sampler."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.llama_log import EngineLog
from cultev.errors import ModelUnsupported


class Candidates:
    """One row of logits as llama.cpp's samplers take it: (id, logit, probability) for each token."""

    def __init__(self, api: Any, n_vocab: int) -> None:
        self._data = np.zeros(n_vocab, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)]))
        self._data["id"] = np.arange(n_vocab)
        data = ctypes.cast(self._data.ctypes.data, ctypes.POINTER(api.llama_token_data))
        self._array = api.llama_token_data_array(data, n_vocab, -1, False)
        self._apply = api.llama_sampler_apply

    def masked(self, sampler: Any, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of the logits after the sampler has had its say."""
        self._data["logit"] = logits
        self._array.size, self._array.selected, self._array.sorted = len(self._data), -1, False
        self._apply(sampler, ctypes.byref(self._array))
        masked: NDArray[np.float32] = self._data["logit"].copy()
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

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``Constraint.mask``."""
        masked = self._candidates.masked(self._sampler, logits)
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
