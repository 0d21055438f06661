"""What a model file or folder is, without loading it."""

from __future__ import annotations

from pathlib import Path

from cultev.backend.gguf_header import GgufHeader
from cultev.backend.gguf_read import read_gguf
from cultev.backend.load import model_format
from cultev.backend.onnx_folder import OnnxFolder, read_folder


def describe(path: Path) -> dict[str, object]:
    """A model's facts by its header or folder, in the order in which people ask for them.

    Raises:
        ModelError: the file or folder is no model, or damaged.
    """
    if model_format(path) == "onnx":
        return _describe_onnx(read_folder(path))
    return _describe_gguf(read_gguf(path))


def _describe_gguf(header: GgufHeader) -> dict[str, object]:
    types = sorted(header.tensor_types.items(), key=lambda pair: -pair[1][1])
    return {
        "name": header.name or header.path.stem,
        "format": f"GGUF version {header.version}",
        "architecture": header.architecture,
        "quantization": header.quantization,
        "parameters": header.n_params,
        "file_mb": round(header.file_bytes / 1e6, 1),
        "context": header.n_ctx,
        "vocabulary": header.n_vocab,
        "layers": header.n_layers,
        "width": header.n_embd,
        "heads": header.n_heads,
        "kv_heads": header.n_kv_heads,
        "tensors": ", ".join(f"{count} {kind} ({size / 1e6:,.1f} MB)" for kind, (count, size) in types),
        "chat_template": "its own" if header.chat_template else "none: asked in plain text",
        "license": header.license or "not said",
    }


def _describe_onnx(folder: OnnxFolder) -> dict[str, object]:
    return {
        "name": "cultev reference" if folder.reference else folder.path.name,
        "format": "ONNX",
        "architecture": folder.architecture,
        "quantization": folder.quantization,
        "file_mb": round(folder.n_bytes / 1e6, 1),
        "context": folder.n_ctx,
        "vocabulary": folder.n_vocab,
        "layers": folder.n_layers,
        "heads": folder.n_heads,
        "kv_heads": folder.n_kv_heads,
        "graph": folder.graph.name,
        "chat_template": "its own" if folder.template else "none: asked in plain text",
    }
