"""What a model file or folder is, and what it will take to run it, without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cultev.backend.gguf_header import GgufHeader
from cultev.backend.gguf_read import read_gguf
from cultev.backend.load import model_format
from cultev.backend.logprobs import LOGITS_BUDGET
from cultev.backend.memory import MemoryPlan, plan_gguf, plan_onnx
from cultev.backend.onnx_folder import OnnxFolder, read_folder

CONTEXT_CAP = 4096
"""Longest prompt + answer that engines make room for unless asked otherwise."""


@dataclass(frozen=True, slots=True)
class Description:
    """Facts of a model in the order in which people ask for them, and its memory plan."""

    facts: dict[str, object]
    plan: MemoryPlan
    n_ctx: int
    """The context that the plan is for, in tokens."""


def describe(path: Path, n_ctx: int | None = None) -> Description:
    """Read a model's header or folder and plan its memory for a context of ``n_ctx`` tokens.

    Raises:
        ModelError: the file or folder is no model, or damaged.
    """
    if model_format(path) == "onnx":
        return _describe_onnx(read_folder(path), n_ctx)
    return _describe_gguf(read_gguf(path), n_ctx)


def _used(asked: int | None, trained: int) -> int:
    wanted = asked or CONTEXT_CAP
    return min(wanted, trained) if trained else wanted


def _describe_gguf(header: GgufHeader, n_ctx: int | None) -> Description:
    used = _used(n_ctx, header.n_ctx)
    types = sorted(header.tensor_types.items(), key=lambda pair: -pair[1][1])
    facts: dict[str, object] = {
        "name": header.name or header.path.stem,
        "format": f"GGUF version {header.version}",
        "architecture": header.architecture,
        "quantization": header.quantization,
        "parameters": header.n_params,
        "file_mb": f"{header.file_bytes / 1e6:,.1f}",
        "context": header.n_ctx,
        "vocabulary": header.n_vocab,
        "layers": header.n_layers,
        "width": header.n_embd,
        "heads": f"{header.n_heads}, {header.n_kv_heads} for keys and values",
        "tensors": ", ".join(f"{count} {kind} ({size / 1e6:,.1f} MB)" for kind, (count, size) in types),
        "chat_template": "its own" if header.chat_template else "none: asked in plain text",
        "license": header.license or "not said",
    }
    return Description(facts, plan_gguf(header, n_ctx=used), used)


def _describe_onnx(folder: OnnxFolder, n_ctx: int | None) -> Description:
    used = _used(n_ctx, folder.n_ctx)
    facts: dict[str, object] = {
        "name": "cultev reference" if folder.reference else folder.path.name,
        "format": "ONNX",
        "architecture": folder.architecture,
        "quantization": folder.quantization,
        "file_mb": f"{folder.n_bytes / 1e6:,.1f}",
        "context": folder.n_ctx,
        "vocabulary": folder.n_vocab,
        "layers": folder.n_layers,
        "heads": f"{folder.n_heads}, {folder.n_kv_heads} for keys and values",
        "graph": folder.graph.name,
        "chat_template": "its own" if folder.template else "none: asked in plain text",
    }
    plan = plan_onnx(
        folder.n_bytes, folder.n_layers, folder.n_kv_heads, folder.head_dim, folder.n_vocab,
        n_ctx=used, logits_budget=LOGITS_BUDGET,
    )  # fmt: skip
    return Description(facts, plan, used)
