"""Making a model smaller, whatever its format."""

from __future__ import annotations

import re
from pathlib import Path

from cultev.backend.load import is_reference, model_format
from cultev.backend.onnx_folder import read_folder
from cultev.errors import UsageError
from cultev.models.gguf_quantize import Progress, find_type, quantize_gguf
from cultev.models.onnx_quantize import BITS, quantize_onnx

_TYPE_IN_NAME = re.compile(r"[-._](?:fp?32|fp?16|bf16|int[48]|I?Q\d(?:_\w+)?|TQ\d_\d)$", re.IGNORECASE)


def default_output(source: Path, to: str) -> Path:
    """Where a quantized model goes unless told: beside its source, with the type in its name.

    What is made of cultev's own reference model goes into the current folder.

    Raises:
        MissingExtra, UsageError, ModelError: the type or the model isn't possible; see ``cultev.errors``.
    """
    if model_format(source) == "onnx":
        if to.lower() not in BITS:
            raise UsageError(f"An ONNX model can't become '{to}'.", f"Name {' or '.join(BITS)}; others are GGUF's.")
        home = read_folder(source).config_file.parent.resolve()
        name = f"{_stem(home.name)}-{to.lower()}"
    else:
        kind = find_type(to)
        home = source.resolve()
        name = f"{_stem(home.stem)}-{kind}.gguf"
    return (Path() if is_reference(source) else home.parent) / name


def _stem(name: str) -> str:
    """A model's name without the type at its end."""
    return _TYPE_IN_NAME.sub("", name) or name


def quantize(
    source: Path,
    target: Path,
    to: str,
    *,
    force: bool = False,
    allow_requantize: bool = False,
    block_size: int | None = None,
    threads: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write ``target``, a file or a folder like ``source``, whole or not at all.

    Args:
        source: a .gguf file, an ONNX folder or one graph of it.
        target: where to.
        to: a type of llama.cpp's for GGUF ('q4_k_m'), 'int8' or 'int4' for ONNX.
        force: replace what is there.
        allow_requantize: GGUF only: quantize what is quantized already.
        block_size: ONNX only: weights that share a scale; 32 when None.
        threads: GGUF only; 0 takes every core.
        progress: GGUF only: called with (tensors done, tensors in all).

    Raises:
        MissingExtra, ModelError, UsageError, NoRoom, EngineError: see ``cultev.errors``.
    """
    if model_format(source) == "onnx":
        if allow_requantize:
            raise UsageError("An ONNX model can't be quantized twice.", "Start from its fp32 or fp16 graph.")
        quantize_onnx(source, target, to, block_size=block_size or 32, force=force)
        return
    if block_size is not None:
        raise UsageError("--block-size is for ONNX models.", "A GGUF type says itself how large its blocks are.")
    quantize_gguf(
        source, target, to, force=force, allow_requantize=allow_requantize, threads=threads, progress=progress
    )
