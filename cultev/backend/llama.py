"""GGUF models through llama.cpp's batch calls (llama-cpp-python's low-level interface)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.gguf_header import GgufHeader
from cultev.backend.gguf_read import gguf_sha256, read_gguf
from cultev.backend.held import Vocabulary
from cultev.backend.llama_context import BATCH_TOKENS, LlamaContext
from cultev.backend.llama_embed import embed
from cultev.backend.llama_grammar import Candidates, Grammar
from cultev.backend.llama_log import EngineLog
from cultev.backend.llama_rates import decode_rate, prompt_rate
from cultev.backend.llama_reuse import COPY, RESTORE, WAYS, CopyReuse, RecomputeReuse, RestoreReuse, Reuse
from cultev.backend.llama_sequences import LlamaSequences, StrictSequences
from cultev.backend.llama_sizes import PARALLEL, Sizes, generating_sizes, scoring_sizes
from cultev.backend.llama_tokens import LlamaTokens
from cultev.backend.llama_trunk import Trunk
from cultev.backend.logprobs import logits_limit
from cultev.backend.machine import physical_cores
from cultev.backend.prefix import STRICT_SLICE, Limits, TokenTree
from cultev.backend.scorer import TreeScorer
from cultev.backend.sequences import Sequences, Wanted
from cultev.backend.text_generator import TextGenerator
from cultev.backend.types import CONTEXT_CAP, EngineSettings, ModelInfo
from cultev.errors import EngineError, MissingExtra, ModelDamaged, ModelUnsupported
from cultev.prompt.chat import ChatTemplate


class LlamaBackend(TreeScorer, TextGenerator):
    """A ``Backend`` for one GGUF file.

    Scoring and generating have a context each, made when first needed; the one that is idle gives way to the other.

    Args:
        path: the GGUF file.
        settings: n_ctx is the model's own limit or CONTEXT_CAP where that is less, threads one per physical core.

    Raises:
        MissingExtra: llama-cpp-python is not installed.
        ModelNotFound, NotAModel, ModelDamaged: the file.
        ModelUnsupported: llama.cpp can't run it, or not as the settings ask.
        EngineError: too little memory.
    """

    def __init__(self, path: str | Path, settings: EngineSettings | None = None) -> None:
        settings = settings or EngineSettings()
        self._header = header = read_gguf(Path(path))
        try:
            import llama_cpp
        except ImportError as error:
            raise MissingExtra("gguf", "A GGUF model") from error
        self._api: Any = llama_cpp
        self._log = EngineLog(llama_cpp)
        self._model: Any = None
        self._scoring: LlamaContext | None = None
        self._generating: LlamaContext | None = None
        self._leases = 0
        """Generators that use the generating context."""
        self._threads = settings.threads or physical_cores()
        self.strict = settings.strict
        self._batch = max(settings.batch or BATCH_TOKENS, STRICT_SLICE if self.strict else 1)
        self._load(Path(path), settings.device)
        try:
            self._prepare(Path(path), header, settings)
        except BaseException:
            self.close()
            raise

    def _load(self, path: Path, device: str) -> None:
        api = self._api
        api.llama_backend_init()
        gpu = bool(api.llama_supports_gpu_offload())
        if device == "gpu" and not gpu:
            raise EngineError(
                "This build of llama-cpp-python has no GPU support, or finds no GPU.",
                "With an NVIDIA GPU: CMAKE_ARGS=-DGGML_CUDA=on pip install --force-reinstall --no-cache-dir"
                " llama-cpp-python; without one leave out --device gpu.",
            )
        self._device = "gpu" if gpu and device != "cpu" else "cpu"
        params = api.llama_model_default_params()
        params.n_gpu_layers = 999 if self._device == "gpu" else 0
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

    def _prepare(self, path: Path, header: GgufHeader, settings: EngineSettings) -> None:
        api = self._api
        if api.llama_model_has_encoder(self._model) or api.llama_model_is_diffusion(self._model):
            raise ModelUnsupported(
                f"{path.name} is not a model that continues a text (its architecture is {header.architecture}).",
                "Use a decoder-only language model.",
            )
        self._tokens = LlamaTokens(api, api.llama_model_get_vocab(self._model))
        trained = api.llama_model_n_ctx_train(self._model)
        self.n_ctx = min(settings.n_ctx or CONTEXT_CAP, trained or CONTEXT_CAP)
        self.parallel = settings.parallel or PARALLEL
        self._whole_states = bool(api.llama_model_is_recurrent(self._model) or api.llama_model_is_hybrid(self._model))
        self._way = self._choose_way(path, settings.reuse)
        self._candidates: Candidates | None = None
        self._state_bytes = self._measure_state() if self._whole_states and self._way == RESTORE else 0
        sizes = self._scoring_sizes()
        reads = logits_limit(self._tokens.n_vocab)
        self.limits = Limits(tokens=self._batch, leaves=max(1, sizes.spare), reads=min(reads, self._batch))
        # Now, and not with the first question: too little memory should show while the model is loaded.
        self._scoring = self._open(sizes)
        self._answers = self._scoring.has_memory
        self._trunk = Trunk(self._scoring, self._way, strict=self.strict)
        self._reuse = self._reuse_in(self._scoring, sizes)
        template = header.chat_template
        tokens = self._tokens
        self._template = ChatTemplate(template, tokens.begin_text, tokens.end_text) if template else None
        self.info = self._describe(path, header)

    def _choose_way(self, path: Path, asked: str) -> str:
        best = RESTORE if self._whole_states else COPY
        if asked == "auto":
            return best
        if asked not in WAYS:
            raise EngineError(f"There is no way of reuse named '{asked}'.", f"Use auto, {', '.join(WAYS)}.")
        if asked == COPY and best != COPY:
            raise ModelUnsupported(
                f"{path.name} can't copy parts of a sequence: its memory is a state ({self._header.architecture}).",
                "Set reuse to auto, restore or recompute.",
            )
        return asked

    def _describe(self, path: Path, header: GgufHeader) -> ModelInfo:
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
            n_vocab=self._tokens.n_vocab,
            file_bytes=header.file_bytes,
            template_sha256=self._template.sha256 if self._template else "",
            reference=bool(header.metadata.get("cultev.reference", False)),
            extra={
                "engine": f"llama-cpp-python {api.__version__}",
                "threads": str(self._threads),
                "device": self._device,
                "reuse": self._way if self._answers else "none",
            },
        )

    # Contexts

    def _open(self, sizes: Sizes) -> LlamaContext:
        return LlamaContext(
            self._api, self._log, self._model, self._tokens.n_vocab,
            cells=sizes.cells, sequences=sizes.sequences, batch=self._batch, outputs=sizes.outputs,
            threads=self._threads,
        )  # fmt: skip

    def _measure_state(self) -> int:
        """Bytes of one sequence's state in a recurrent or hybrid model."""
        context = self._open(Sizes(cells=256, slots=1, spare=0, outputs=1))
        try:
            context.decode([0], [0], [[0]], [False])
            return context.save(0).nbytes
        finally:
            context.close()

    def _scoring_sizes(self) -> Sizes:
        return scoring_sizes(
            self._way, n_ctx=self.n_ctx, batch=self._batch, outputs=logits_limit(self._tokens.n_vocab),
            state_bytes=self._state_bytes, moves_states=not self._whole_states,
        )  # fmt: skip

    def _generating_sizes(self, parallel: int) -> Sizes:
        return generating_sizes(
            self._way, n_ctx=self.n_ctx, batch=self._batch, parallel=1 if self.strict else parallel,
            outputs=logits_limit(self._tokens.n_vocab), kv_bytes=self._header.kv_bytes_per_token,
            state_bytes=self._state_bytes, most=self._api.llama_max_parallel_sequences(),
        )  # fmt: skip

    def _reuse_in(self, context: LlamaContext, sizes: Sizes) -> Reuse:
        spare = range(sizes.slots, sizes.sequences)
        if self._way == COPY:
            return CopyReuse(context, spare)
        if self._way == RESTORE:
            return RestoreReuse(context, spare, transfer=not self._whole_states)
        return RecomputeReuse(context, spare)

    @property
    def _shares_cells(self) -> bool:
        """See ``Sequences.shares_cells``."""
        return self._way == COPY or (self._way == RESTORE and self._whole_states)

    def _use_scoring(self) -> LlamaContext:
        """The context for scoring, made anew after generating."""
        self._require_answers()
        if self._scoring is None:
            if self._generating is not None and not self._leases:
                self._generating.close()
                self._generating = None
            sizes = self._scoring_sizes()
            self._scoring = self._open(sizes)
            self._trunk = Trunk(self._scoring, self._way, strict=self.strict)
            self._reuse = self._reuse_in(self._scoring, sizes)
        return self._scoring

    def _use_generating(self) -> LlamaContext:
        """The context for generating; scoring's is given up for it."""
        self._require_answers()
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None
        if self._generating is None:
            self._generating = self._open(self._generating_sizes(self.parallel))
        return self._generating

    def _require_answers(self) -> None:
        if not self._answers:
            raise ModelUnsupported(
                f"{Path(self.info.path).name} is an embedding model ({self.info.architecture}): it gives no answers.",
                "Use a language model; this one can serve where texts are compared.",
            )

    # Text

    def encode(self, text: str) -> list[int]:
        """See ``Backend.encode``."""
        return self._tokens.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """See ``Backend.decode``."""
        return self._tokens.decode(tokens)

    def token_text(self, token: int) -> str:
        """See ``Backend.token_text``."""
        return self._tokens.token_text(token)

    # Scoring

    def _hold(self, trunk: tuple[int, ...]) -> None:
        self._use_scoring()
        self._trunk.hold(trunk)

    def _compute(self, tree: TokenTree, trunk: int, wanted: Wanted) -> NDArray[np.float64]:
        held, self._trunk.tokens = self._trunk.tokens, None  # until all has gone well
        assert held is not None and len(held) == trunk
        scores = self._reuse.compute(0, held, tree, wanted)
        self._trunk.tokens = held
        return scores

    # Generating

    def _sequences(self) -> Sequences:
        if self._leases:
            raise EngineError("The model is generating already.", "Finish one run of texts before the next.")
        context = self._use_generating()
        self._leases += 1
        sizes = self._generating_sizes(self.parallel)
        kind = StrictSequences if self.strict else LlamaSequences
        return kind(
            context, self._reuse_in(context, sizes), self._way,
            slots=sizes.slots, cells=context.cells - sizes.kept_free, shares_cells=self._shares_cells,
            grammar=self._grammar, release=self._release,
        )  # fmt: skip

    def _release(self) -> None:
        self._leases -= 1

    def _grammar(self, text: str) -> Grammar:
        if self._candidates is None:
            self._candidates = Candidates(self._api, self._tokens.n_vocab)
        return Grammar(self._api, self._log, self._tokens.vocab, self._tokens.end_ids, self._candidates, text)

    def _vocabulary(self) -> Vocabulary:
        return Vocabulary(self._tokens.piece, self._tokens.ends, self._tokens.encode_on, self._tokens.n_vocab)

    # Embedding

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Backend.embed``."""
        pooling = self._header.number(f"{self._header.architecture}.pooling_type")
        return embed(
            self._api, self._log, self._model, self._tokens, texts,
            own_pooling=pooling > 0, n_ctx=self.n_ctx, batch=self._batch, threads=self._threads,
        )  # fmt: skip

    # Plain speed

    def raw_prompt_rate(self, n_tokens: int = 512, read_share: float = 0.0) -> float:
        """See ``Backend.raw_prompt_rate``."""
        context = self._use_scoring()
        self._trunk.tokens = None
        return prompt_rate(context, max(1, min(n_tokens, self.n_ctx)), self._tokens.n_vocab, read_share=read_share)

    def raw_decode_rate(self, prompts: Sequence[Sequence[int]], n_tokens: int = 32) -> float:
        """See ``Backend.raw_decode_rate``."""
        context = self._use_generating()
        n, cells = len(prompts), sum(map(len, prompts)) + len(prompts) * n_tokens
        own = self._leases > 0 or n > context.sequences or cells > context.cells
        if own:
            sizes = self._generating_sizes(n)
            context = self._open(Sizes(max(sizes.cells, cells), n, sizes.spare, max(sizes.outputs, n)))
        try:
            return decode_rate(context, prompts, n_tokens, self._tokens.n_vocab, shared=self._shares_cells)
        finally:
            context.close() if own else context.clear()

    def close(self) -> None:
        """Free the contexts and the model."""
        for context in (self._scoring, self._generating):
            if context is not None:
                context.close()
        self._scoring = self._generating = None
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None
