"""ONNX folders through onnxruntime: any exported decoder with (or without) past keys and values.

``onnx_folder`` reads the folder, ``onnx_session`` loads its graph, edited on the way (``onnx_edit``) so that it
computes only the logits that are read (``onnx_head``) and takes rows that branch (``onnx_sight``). ``onnx_graph`` reads
the graph's ports and ``onnx_binding`` runs it. ``onnx_rows`` cuts token trees into batches of rows, ``onnx_tree``
scores them and ``onnx_probe`` finds out how this graph may be fed. ``onnx_sequences`` generates: ``onnx_past`` holds
prompts, ``onnx_resident`` the texts that grow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.held import Vocabulary
from cultev.backend.logprobs import logits_limit
from cultev.backend.machine import physical_cores
from cultev.backend.onnx_binding import Binding
from cultev.backend.onnx_edit import Edit, find_edits
from cultev.backend.onnx_embed import embed
from cultev.backend.onnx_folder import OnnxFolder, read_folder
from cultev.backend.onnx_graph import GraphPorts, read_ports
from cultev.backend.onnx_head import find_head
from cultev.backend.onnx_probe import PROBE_TOKENS, choose_way, takes_packed
from cultev.backend.onnx_rates import decode_rate, prompt_rate
from cultev.backend.onnx_sequences import OnnxSequences
from cultev.backend.onnx_session import Opened, open_edited, open_session, trim
from cultev.backend.onnx_sight import find_sight
from cultev.backend.onnx_tokens import OnnxTokens
from cultev.backend.onnx_tree import TreeRunner, Way
from cultev.backend.prefix import Limits, TokenTree
from cultev.backend.scorer import TreeScorer
from cultev.backend.sequences import Sequences, Wanted
from cultev.backend.text_generator import TextGenerator
from cultev.backend.types import EngineSettings, ModelInfo
from cultev.errors import CultevError, EngineError, MissingExtra, ModelUnsupported
from cultev.prompt.chat import ChatTemplate

CONTEXT = 2048
"""Context, in tokens, where neither the user nor the config says one."""

PACK_TOKENS = 1024
PACK_LEAVES = 96
"""What one pack holds: larger than the planner's usual, since each level of a tree is a run of its own."""

PARALLEL = 16
"""Texts that grow at once."""

_ROUNDING = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "QuantizeLinear"}
"""Operators that quantize activations as they run, or may."""


class OnnxBackend(TreeScorer, TextGenerator):
    """A ``Backend`` for one ONNX folder.

    ``info.n_params`` counts the elements of the graph's weights (see ``GraphFacts.n_params``); ``info.extra``
    says the engine's version, device, threads, how rows share a run (``reuse``), by how many nats a log-probability
    was seen to differ from a whole sequence's (``noise``), and by how many without sharing (``rounding``). Graphs that
    quantize activations as they run differ most: a last bit tips a rounding, and where whatever shares a run sets the
    scale (``quantize_dynamic``) that does too.

    Args:
        path: the folder, or one graph in it.
        settings: n_ctx is the model's own limit where that is less, threads one per physical core by default.

    Raises:
        MissingExtra: onnxruntime or tokenizers is not installed.
        ModelNotFound, NotAModel, ModelDamaged, ModelUnsupported: the folder.
    """

    def __init__(self, path: str | Path, settings: EngineSettings | None = None) -> None:
        settings = settings or EngineSettings()
        folder = read_folder(path)
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtra("onnx", "An ONNX model") from error
        self._tokens = OnnxTokens(folder)
        self._template = ChatTemplate(folder.template, folder.bos, folder.eos) if folder.template else None
        threads = settings.threads or physical_cores()
        n_ctx = settings.n_ctx
        self.n_ctx = min(n_ctx or folder.n_ctx or CONTEXT, folder.n_ctx or n_ctx or CONTEXT)
        opened, self._binding = _load(onnxruntime, folder, threads, settings.device, self.n_ctx)
        trim()
        ports = self._binding.ports
        self.strict = settings.strict
        self._batch = max(1, settings.batch or PACK_TOKENS)
        self.parallel = max(1, settings.parallel or PARALLEL)
        self._reuse = settings.reuse
        self._runner: TreeRunner | None = None
        self._noise = self._rounding = 0.0
        n_vocab = self._prepare(folder, threads) if ports.logits else folder.n_vocab or self._tokens.n_vocab
        self.limits = Limits(tokens=self._batch, leaves=PACK_LEAVES, reads=logits_limit(n_vocab))
        self.info = ModelInfo(
            path=str(path),
            name="cultev reference" if folder.reference else folder.path.resolve().name,
            format="onnx",
            sha256=folder.sha256,
            architecture=folder.architecture,
            quantization=folder.quantization,
            n_params=folder.facts.n_params,
            n_ctx=folder.n_ctx or self.n_ctx,
            n_vocab=n_vocab,
            file_bytes=folder.n_bytes,
            template_sha256=self._template.sha256 if self._template else "",
            reference=folder.reference,
            extra={
                "engine": f"onnxruntime {onnxruntime.__version__}",
                "threads": str(threads),
                "device": "gpu" if opened.device == "cuda" else f"cpu ({opened.why})" if opened.why else "cpu",
                "reuse": self._runner.reuse if self._runner else "none: it embeds only",
                "noise": f"{self._noise:.2g}",
                "rounding": f"{self._rounding:.2g}",
            },
        )

    def _prepare(self, folder: OnnxFolder, threads: int) -> int:
        """Try the graph out and choose how to feed it; returns the width of its logits."""
        binding, ports = self._binding, self._binding.ports
        rounds = not folder.facts.operators.isdisjoint(_ROUNDING)
        try:
            n_vocab, last_only = binding.try_out()

            def runner(way: Way, branches: bool, least: int = 0) -> TreeRunner:
                """A runner whose context and batch hold ``least`` tokens."""
                return TreeRunner(
                    binding, way, n_vocab=n_vocab, n_ctx=max(self.n_ctx, least), batch=max(self._batch, least),
                    last_only=last_only, branches=branches, strict=self.strict, threads=threads,
                )  # fmt: skip

            ways = _ways(ports, folder, self.n_ctx) if self._reuse != "recompute" else []
            way, branches, self._noise, self._rounding = choose_way(
                lambda way, branches: runner(way, branches, PROBE_TOKENS), ways, n_vocab, rounds=rounds
            )
            self._runner = runner(way, branches)
            self._packed = way in (Way.EVEN, Way.SINGLE) and takes_packed(
                binding, way, n_vocab, self.n_ctx, rounds=rounds
            )
        except EngineError as error:
            raise ModelUnsupported(
                f"The graph {folder.graph.name} fails at a short text: {error.message}",
                "Export it again, or use its GGUF.",
            ) from error
        return n_vocab

    def _decoder(self) -> TreeRunner:
        if self._runner is None:
            raise ModelUnsupported(
                f"{self.info.name} only embeds texts: it gives no probabilities of tokens.",
                "Use a text-generation model here.",
            )
        return self._runner

    def _sequences(self) -> Sequences:
        return OnnxSequences(self._decoder(), packed=self._packed, parallel=self.parallel, batch=self._batch)

    def _vocabulary(self) -> Vocabulary:
        tokens = self._tokens
        return Vocabulary(tokens.piece, tokens.is_end, tokens.encode_onwards, self.info.n_vocab)

    def raw_prompt_rate(self, n_tokens: int = 512, read_share: float = 0.0) -> float:
        """See ``Backend.raw_prompt_rate``."""
        n_tokens = min(n_tokens, self.n_ctx)
        return prompt_rate(self._decoder().binding, n_tokens, self.info.n_vocab, read_share=read_share)

    def raw_decode_rate(self, prompts: Sequence[Sequence[int]], n_tokens: int = 32) -> float:
        """See ``Backend.raw_decode_rate``; a row has as much past as its prompt has tokens."""
        pasts = [len(prompt) for prompt in prompts]
        return decode_rate(self._decoder().binding, pasts, n_tokens, self.info.n_vocab)

    def decode(self, tokens: Sequence[int]) -> str:
        """See ``Backend.decode``."""
        return self._tokens.decode(tokens)

    def encode(self, text: str) -> list[int]:
        """See ``Backend.encode``."""
        return self._tokens.encode(text)

    def token_text(self, token: int) -> str:
        """See ``Backend.token_text``."""
        return self._tokens.text(token)

    def _hold(self, trunk: tuple[int, ...]) -> None:
        self._decoder().hold(trunk)

    def _compute(self, tree: TokenTree, trunk: int, wanted: Wanted) -> NDArray[np.float64]:
        return self._decoder().compute(tree, wanted)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See ``Backend.embed``. Texts longer than the context are cut."""
        if not self._binding.ports.hidden:
            raise ModelUnsupported(
                f"{self.info.name} gives no hidden states, so that it can't embed texts.",
                "Export it for feature extraction, or use its GGUF.",
            )
        encode = self._tokens.encode if self._runner else self._tokens.encode_whole
        tokens = [encode(text)[: self.n_ctx] or [0] for text in texts]
        return embed(self._binding, tokens, strict=self.strict)

    def close(self) -> None:
        """See ``Backend.close``. Nothing can be answered afterwards."""
        self.__dict__.pop("_runner", None)
        self.__dict__.pop("_binding", None)


def _load(onnxruntime: Any, folder: OnnxFolder, threads: int, device: str, n_ctx: int) -> tuple[Opened, Binding]:
    """The session, of the graph edited as far as such a one works."""
    finders = [find_head] if _windowed(folder, n_ctx) else [find_head, find_sight]
    edits: list[Edit] = []
    with contextlib.suppress(OSError, ValueError):  # what is wrong with a file is said by who loads it
        edits = [edit for edit in find_edits(folder.graph, finders) if edit]
    while edits:
        if found := _load_edited(onnxruntime, folder, threads, device, edits):
            return found
        edits.pop()
    opened = open_session(onnxruntime, folder.graph, threads, device)
    return opened, _binding(opened, folder)


def _load_edited(
    onnxruntime: Any, folder: OnnxFolder, threads: int, device: str, edits: Sequence[Edit]
) -> tuple[Opened, Binding] | None:
    """The session of an edited graph, None where that doesn't work."""
    opened = open_edited(onnxruntime, folder.graph, threads, device, edits, beside=bool(folder.external))
    if opened is None:
        return None
    try:
        binding = _binding(opened, folder)
        binding.try_out()
        if binding.ports.caches:
            binding.try_past()
    except CultevError:  # such as of a graph that gives the last position only: it has fewer to pick from
        return None
    return opened, binding


def _binding(opened: Opened, folder: OnnxFolder) -> Binding:
    inputs, outputs = opened.session.get_inputs(), opened.session.get_outputs()
    ports = read_ports(inputs, outputs, folder.n_kv_heads, folder.head_dim)
    return Binding(opened.session, ports, opened.device)


def _windowed(folder: OnnxFolder, n_ctx: int) -> bool:
    """Whether some layers may see less than the context: a window counts slots, of gaps and other branches too."""
    return folder.has_window and not n_ctx <= folder.window


def _ways(ports: GraphPorts, folder: OnnxFolder, n_ctx: int) -> list[Way]:
    """The ways worth trying, the fastest first."""
    if not ports.caches:
        return []
    if ports.one_row:
        return [Way.SINGLE]
    # Positions that the graph counts itself would count gaps, as windows do.
    gaps = bool(ports.mask and ports.positions) and not _windowed(folder, n_ctx)
    return [Way.MIXED, Way.EVEN, Way.SINGLE] if gaps else [Way.EVEN, Way.SINGLE]
