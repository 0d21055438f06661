"""Loads a graph into onnxruntime, on CUDA where that is asked for and works."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cultev.backend.onnx_binding import first_line
from cultev.backend.onnx_edit import Edit, edited
from cultev.errors import EngineError, MissingExtra, ModelDamaged, ModelUnsupported

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

_UNSUPPORTED = ("not a registered", "no op registered", "not_implemented", "ir version", "opset")


class Opened(NamedTuple):
    """A session, where it computes ('cpu' or 'cuda'), and why not on CUDA although that is offered ('' else)."""

    session: Any
    device: str
    why: str


def open_edited(
    onnxruntime: Any, graph: Path, threads: int, device: str, edits: Sequence[Edit], *, beside: bool
) -> Opened | None:
    """Load a graph with some edits (see ``onnx_edit``); None where that fails.

    Args:
        onnxruntime, graph, threads, device: as ``open_session``'s.
        edits: found in it.
        beside: whether weights lie in files of their own.
    """
    # As it came it may load; and if not, what is said of that is what helps.
    with contextlib.suppress(Exception), edited(graph, edits, in_memory=beside) as source:
        return _open(onnxruntime, source, graph, threads, device)
    return None


def open_session(onnxruntime: Any, graph: Path, threads: int, device: str) -> Opened:
    """Load a graph as it came.

    Args:
        onnxruntime: the package.
        graph: the .onnx file.
        threads: of one operator.
        device: 'auto', 'cpu' or 'gpu' (see ``EngineSettings``).

    Raises:
        MissingExtra: a GPU is asked for, and this onnxruntime has no CUDA.
        EngineError: a GPU is asked for, and CUDA doesn't start.
        ModelUnsupported, ModelDamaged: the graph.
    """
    return _open(onnxruntime, graph, graph, threads, device)


def trim() -> None:
    """Give memory back that loading has used and freed: malloc keeps it, up to half of a file's size.

    glibc only; elsewhere nothing happens.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):  # a C library without it, such as musl
        ctypes.CDLL(None).malloc_trim(0)


def _open(onnxruntime: Any, source: Path | bytes, graph: Path, threads: int, device: str) -> Opened:
    offered = CUDA in onnxruntime.get_available_providers()
    if device == "gpu" and not offered:
        raise MissingExtra("gpu", "Running an ONNX model on a GPU")
    why = ""
    if offered and device != "cpu":
        try:
            session = _load(onnxruntime, source, graph.parent, threads, [CUDA, CPU])
            if session.get_providers()[0] == CUDA:
                return Opened(session, "cuda", "")
            why = "onnxruntime offers CUDA, but could not start it: its driver or libraries are missing"
        except Exception as error:  # onnxruntime's errors share no class of their own
            why = f"onnxruntime offers CUDA, but failed there: {first_line(error)}"
        if device == "gpu":
            raise EngineError(
                f"The GPU can't be used: {why}.",
                "Look whether nvidia-smi lists it and the CUDA and cuDNN versions fit onnxruntime-gpu, or use the CPU.",
            )
    try:
        return Opened(_load(onnxruntime, source, graph.parent, threads, [CPU]), "cpu", why)
    except Exception as error:
        reason = first_line(error)
        if any(word in reason.lower() for word in _UNSUPPORTED):
            raise ModelUnsupported(
                f"onnxruntime can't run {graph.name}: {reason}",
                "A newer onnxruntime may: pip install -U onnxruntime",
            ) from error
        raise ModelDamaged(
            f"onnxruntime can't load {graph.name}: {reason}",
            "Compare its size and checksum with the place it came from.",
        ) from error


def _load(onnxruntime: Any, source: Path | bytes, folder: Path, threads: int, providers: list[str]) -> Any:
    """A session of a file, or of a graph's bytes whose weights lie in ``folder``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    if isinstance(source, bytes):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
        return onnxruntime.InferenceSession(source, options, providers=providers)
    return onnxruntime.InferenceSession(str(source), options, providers=providers)
