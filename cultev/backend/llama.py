"""GGUF models through llama.cpp's batch calls (llama-cpp-python's low-level interface).

A token tree is one batch: every node carries the sequence ids of the leaves below it, so that in the unified KV
cache each leaf sees its own path and nothing else, and a shared token is computed once. The trunk lives in
sequence 0. Models whose memory can't be shared this way (recurrent, hybrid) are computed path by path.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.describe import CONTEXT_CAP
from cultev.backend.gguf_header import GgufHeader
from cultev.backend.gguf_read import gguf_sha256, read_gguf
from cultev.backend.llama_log import EngineLog
from cultev.backend.logprobs import gather_logprobs, logits_limit
from cultev.backend.machine import physical_cores
from cultev.backend.prefix import Limits, TokenTree
from cultev.backend.scorer import TreeScorer
from cultev.backend.sequences import Wanted
from cultev.backend.types import EngineSettings, ModelInfo
from cultev.errors import EngineError, MissingExtra, ModelDamaged, ModelUnsupported
from cultev.prompt.chat import ChatTemplate

BATCH_TOKENS = 512
"""Tokens per decode call: what llama.cpp computes at full speed, and what one pack holds."""

LEAVES = 63
"""Branches per pack; with the trunk, 64 sequences, the least that llama.cpp builds allow."""


class LlamaBackend(TreeScorer):
    """A ``Backend`` for one GGUF file.

    Args:
        path: the GGUF file.
        settings: n_ctx is the model's own limit or CONTEXT_CAP where that is less, threads one per physical core.

    Raises:
        MissingExtra: llama-cpp-python is not installed.
        ModelNotFound, NotAModel, ModelDamaged, ModelUnsupported: the file.
    """

    def __init__(self, path: str | Path, settings: EngineSettings | None = None) -> None:
        settings = settings or EngineSettings()
        header = read_gguf(Path(path))
        try:
            import llama_cpp
        except ImportError as error:
            raise MissingExtra("gguf", "A GGUF model") from error
        self._api: Any = llama_cpp
        self._log = EngineLog(llama_cpp)
        self._model: Any = None
        self._context: Any = None
        self._threads = settings.threads or physical_cores()
        self._load(Path(path), header)
        trained = llama_cpp.llama_model_n_ctx_train(self._model)
        self.n_ctx = min(settings.n_ctx or CONTEXT_CAP, trained or CONTEXT_CAP)
        n_vocab = llama_cpp.llama_vocab_n_tokens(self._vocab)
        self.limits = Limits(tokens=BATCH_TOKENS, leaves=LEAVES, reads=logits_limit(n_vocab))
        self._open_context(path)
        self._template = self._read_template(header)
        self.info = self._describe(Path(path), header, n_vocab)
        self._held: tuple[int, ...] | None = None

    def _load(self, path: Path, header: GgufHeader) -> None:
        api = self._api
        api.llama_backend_init()
        params = api.llama_model_default_params()
        params.n_gpu_layers = 999 if api.llama_supports_gpu_offload() else 0
        with self._log.collect() as lines:
            self._model = api.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            reason = self._log.reason(lines)
            if "unknown model architecture" in reason or "unknown pre-tokenizer" in reason:
                raise ModelUnsupported(
                    f"llama.cpp can't run {path.name}: {reason}.",
                    "A newer llama-cpp-python may: pip install -U llama-cpp-python",
                )
            raise ModelDamaged(
                f"llama.cpp can't load {path.name}: {reason or 'it gave no reason'}.",
                "Compare its size and checksum with the place it came from.",
            )
        self._vocab = api.llama_model_get_vocab(self._model)
        self._can_share = not (api.llama_model_is_recurrent(self._model) or api.llama_model_is_hybrid(self._model))

    def _open_context(self, path: str | Path) -> None:
        api = self._api
        params = api.llama_context_default_params()
        # Room for the longest sequence as trunk and a full pack after it, in llama.cpp's steps of 256 cells.
        cells = self.n_ctx + self.limits.tokens + 64
        params.n_ctx = -(-cells // 256) * 256
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_seq_max = LEAVES + 1 if self._can_share else 1
        params.n_threads = params.n_threads_batch = self._threads
        params.kv_unified = True
        params.swa_full = True  # a sliding-window cache drops cells that other branches still need
        params.no_perf = True
        with self._log.collect() as lines:
            self._context = api.llama_init_from_model(self._model, params)
        if not self._context:
            raise EngineError(
                f"llama.cpp could not prepare {Path(path).name}: {self._log.reason(lines) or 'it gave no reason'}.",
                "Free some memory, or use a smaller model or quantization.",
            )
        self._memory = api.llama_get_memory(self._context)
        self._batch = _Batch(api, BATCH_TOKENS)

    def _read_template(self, header: GgufHeader) -> ChatTemplate | None:
        if not header.chat_template:
            return None
        api = self._api
        bos, eos = api.llama_vocab_bos(self._vocab), api.llama_vocab_eos(self._vocab)
        return ChatTemplate(header.chat_template, self._special_text(bos), self._special_text(eos))

    def _special_text(self, token: int) -> str:
        if token < 0:
            return ""
        text: bytes = self._api.llama_vocab_get_text(self._vocab, token)
        return text.decode(errors="replace")

    def _describe(self, path: Path, header: GgufHeader, n_vocab: int) -> ModelInfo:
        api = self._api
        return ModelInfo(
            path=str(path),
            name=header.name or path.stem,
            format="gguf",
            sha256=gguf_sha256(header),
            architecture=header.architecture,
            quantization=header.quantization,
            n_params=header.n_params,
            n_ctx=api.llama_model_n_ctx_train(self._model),
            n_vocab=n_vocab,
            file_bytes=header.file_bytes,
            template_sha256=self._template.sha256 if self._template else "",
            reference=bool(header.metadata.get("cultev.reference", False)),
            extra={
                "engine": f"llama-cpp-python {api.__version__}",
                "threads": str(self._threads),
                "device": "gpu" if api.llama_supports_gpu_offload() else "cpu",
                "reuse": "copy" if self._can_share else "recompute",
            },
        )

    def encode(self, text: str) -> list[int]:
        """See ``Backend.encode``."""
        data = text.encode()
        size = len(data) + 16
        while True:
            buffer = (ctypes.c_int32 * size)()
            n = self._api.llama_tokenize(self._vocab, data, len(data), buffer, size, False, True)
            if n >= 0:
                break
            size = -n
        tokens = list(buffer[:n])
        bos = self._api.llama_vocab_bos(self._vocab)
        if self._api.llama_vocab_get_add_bos(self._vocab) and bos >= 0 and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def token_text(self, token: int) -> str:
        """See ``Backend.token_text``."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            if n >= 0:
                return buffer.raw[:n].decode(errors="backslashreplace")
            size = -n

    def _hold(self, trunk: tuple[int, ...]) -> None:
        if not self._can_share:
            self._held = trunk
            return
        if trunk == self._held:
            return
        self._held = None
        self._api.llama_memory_clear(self._memory, False)
        for start in range(0, len(trunk), BATCH_TOKENS):
            part = trunk[start : start + BATCH_TOKENS]
            self._batch.fill(part, range(start, start + len(part)), [[0]] * len(part), [False] * len(part))
            self._decode()
        self._held = trunk

    def _compute(self, tree: TokenTree, trunk: int, wanted: Wanted) -> NDArray[np.float64]:
        out = np.empty(len(wanted), dtype=np.float64)
        by_node: dict[int, list[int]] = {}
        for place, (node, _) in enumerate(wanted):
            by_node.setdefault(node, []).append(place)
        if self._can_share:
            self._compute_shared(tree, trunk, wanted, by_node, out)
        else:
            self._compute_paths(tree, wanted, by_node, out)
        return out

    def _compute_shared(
        self,
        tree: TokenTree,
        trunk: int,
        wanted: Wanted,
        by_node: dict[int, list[int]],
        out: NDArray[np.float64],
    ) -> None:
        api, n = self._api, len(tree.tokens)
        below: list[list[int]] = [[] for _ in range(n)]
        for sequence, leaf in enumerate(tree.leaves, start=1):
            for node in tree.path(leaf):
                below[node].append(sequence)
            if trunk:
                api.llama_memory_seq_cp(self._memory, 0, sequence, 0, trunk)
        for start in range(0, n, BATCH_TOKENS):
            end = min(n, start + BATCH_TOKENS)
            asked = [node in by_node for node in range(start, end)]
            self._batch.fill(tree.tokens[start:end], tree.depths[start:end], below[start:end], asked)
            self._decode()
            self._read([node for node in range(start, end) if node in by_node], wanted, by_node, out)
        for sequence in range(1, len(tree.leaves) + 1):
            api.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def _compute_paths(
        self, tree: TokenTree, wanted: Wanted, by_node: dict[int, list[int]], out: NDArray[np.float64]
    ) -> None:
        left = set(by_node)
        for leaf in tree.leaves:
            path = tree.path(leaf)
            nodes = [-1] * len(self._held or ()) + path
            tokens = [*(self._held or ()), *(tree.tokens[node] for node in path)]
            self._api.llama_memory_clear(self._memory, True)
            for start in range(0, len(tokens), BATCH_TOKENS):
                part = nodes[start : start + BATCH_TOKENS]
                asked = [node in left for node in part]
                places = range(start, start + len(part))
                self._batch.fill(tokens[start : start + BATCH_TOKENS], places, [[0]] * len(part), asked)
                self._decode()
                self._read([node for node in part if node in left], wanted, by_node, out)
                left.difference_update(part)

    def _read(
        self, nodes: Sequence[int], wanted: Wanted, by_node: dict[int, list[int]], out: NDArray[np.float64]
    ) -> None:
        """Log-probabilities from the last decode's logits, whose rows belong to ``nodes`` in order."""
        if not nodes:
            return
        pointer = self._api.llama_get_logits(self._context)
        logits = np.ctypeslib.as_array(pointer, shape=(len(nodes), self.info.n_vocab))
        places = [place for node in nodes for place in by_node[node]]
        rows = [row for row, node in enumerate(nodes) for _ in by_node[node]]
        tokens = [wanted[place][1] for place in places]
        out[places] = gather_logprobs(logits, np.asarray(rows, np.intp), np.asarray(tokens, np.intp))

    def _decode(self) -> None:
        with self._log.collect() as lines:
            code = self._api.llama_decode(self._context, self._batch.struct)
        if code:
            self._held = None
            raise EngineError(
                f"llama.cpp failed to compute a batch (code {code}): {self._log.reason(lines) or 'no reason given'}.",
                "Run `cultev doctor` on this model; a smaller model or more free memory may help.",
            )

    def close(self) -> None:
        """Free the context and the model."""
        if self._context:
            self._api.llama_free(self._context)
            self._context = None
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None


class _Batch:
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
