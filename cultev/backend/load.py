"""From what a user names to an engine: which format a path holds, and who can run it."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from cultev.backend.gguf_read import gguf_sha256, read_gguf
from cultev.backend.hashes import Seen, know
from cultev.backend.onnx_folder import read_folder
from cultev.backend.types import Backend, EngineSettings
from cultev.errors import MissingExtra, ModelNotFound, UsageError
from cultev.locate import reference_model

REFERENCE = "reference"
"""The word for cultev's own reference model; 'reference:gguf' and 'reference:onnx' name one of its formats."""


def find_model(name: str | None) -> Path:
    """The file or folder behind a MODEL argument; None and 'reference' mean the reference model.

    Raises:
        ModelNotFound: no such file or folder.
        MissingExtra: the reference model is asked for and no engine is installed.
    """
    if name is None or name == REFERENCE:
        return reference_model(_engine_at_hand())
    if name.startswith(f"{REFERENCE}:"):
        wanted = name.split(":", 1)[1]
        if wanted not in ("gguf", "onnx"):
            raise UsageError(f"The reference model has no format '{wanted}'.", "Name reference:gguf or reference:onnx.")
        return reference_model(wanted)
    path = Path(name)
    if not path.exists():
        raise ModelNotFound(
            f"There is no model at {name}.",
            "Give the path of a .gguf file or of an ONNX folder, or nothing for the reference model.",
        )
    return path


def model_format(path: Path) -> str:
    """'gguf' or 'onnx'. A folder, or an .onnx file, is ONNX; everything else must prove to be GGUF."""
    if path.is_dir() or path.suffix.lower() == ".onnx":
        return "onnx"
    return "gguf"


def identify(path: Path) -> str:
    """The model's SHA-256, without loading it: the same as ``ModelInfo.sha256``.

    Raises:
        ModelError: the file or folder is no model, or damaged.
    """
    if model_format(path) == "onnx":
        return read_folder(path).sha256
    return gguf_sha256(read_gguf(path))


def is_reference(path: Path) -> bool:
    """Whether a model says that it is cultev's own reference model, without loading it.

    Raises:
        ModelError: the file or folder is no model, or damaged.
    """
    if model_format(path) == "onnx":
        return read_folder(path).reference
    return bool(read_gguf(path).metadata.get("cultev.reference", False))


def open_knowing(path: Path, hashes: Mapping[Seen, str], settings: EngineSettings | None = None) -> Backend:
    """``open_backend`` with the files' hashes as far as another process has computed them (``backend.hashes``)."""
    know(hashes)
    return open_backend(path, settings)


def open_backend(path: Path, settings: EngineSettings | None = None) -> Backend:
    """Load a model with the engine for its format, into this process.

    Raises:
        MissingExtra, ModelError, EngineError: see ``cultev.errors``.
    """
    if model_format(path) == "onnx":
        from cultev.backend.onnx import OnnxBackend

        return OnnxBackend(path, settings)
    from cultev.backend.llama import LlamaBackend

    return LlamaBackend(path, settings)


def _engine_at_hand() -> str:
    """The format that what is installed can run, ONNX first."""
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tokenizers"):
        return "onnx"
    if importlib.util.find_spec("llama_cpp"):
        return "gguf"
    raise MissingExtra("onnx", "Running a model")
