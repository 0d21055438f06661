"""GGUF files made smaller by llama.cpp's own quantizer.

It runs in a process of its own: native code can abort, and a long call into it can't be interrupted otherwise.
"""

from __future__ import annotations

import ctypes
import importlib.util
import multiprocessing
import re
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from cultev.backend.gguf_header import GgufHeader
from cultev.backend.gguf_read import read_gguf
from cultev.errors import EngineError, MissingExtra, ModelUnsupported, UsageError
from cultev.models.files import require_new, require_room, whole
from cultev.models.sizes import BITS_PER_WEIGHT

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}
"""Short names that llama.cpp's command takes too."""

NEEDS_IMATRIX = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S")
"""Types that llama.cpp refuses without an importance matrix, which cultev has no text to make from."""

PLAIN = ("F32", "F16", "BF16")
"""Types that are not quantized."""

_PREFIX = "LLAMA_FTYPE_MOSTLY_"
_STEP = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")


def type_names() -> tuple[str, ...]:
    """The types that the installed llama.cpp can quantize to, such as 'Q4_K_M'.

    Raises:
        MissingExtra: llama-cpp-python is not installed.
    """
    if not importlib.util.find_spec("llama_cpp"):
        raise MissingExtra("gguf", "Quantizing a GGUF file")
    import llama_cpp

    found = {
        name.removeprefix(_PREFIX): getattr(llama_cpp, name) for name in dir(llama_cpp) if name.startswith(_PREFIX)
    }
    found["F32"] = llama_cpp.LLAMA_FTYPE_ALL_F32
    return tuple(sorted(found, key=found.__getitem__))


def find_type(name: str) -> str:
    """The type that a user names, in whatever case.

    Raises:
        MissingExtra: llama-cpp-python is not installed.
        UsageError: llama.cpp has no such type, or can't make it here.
    """
    names = type_names()
    wanted = name.upper().replace("-", "_")
    wanted = ALIASES.get(wanted, wanted)
    usable = [known for known in names if known not in NEEDS_IMATRIX]
    if wanted in NEEDS_IMATRIX:
        raise UsageError(
            f"llama.cpp makes {wanted} only with an importance matrix, measured on text of the model's kind.",
            "Take a type that needs none: Q3_K_M, Q2_K, IQ4_XS.",
        )
    if wanted not in usable:
        raise UsageError(f"llama.cpp has no type '{name}'.", f"Name one of: {', '.join(usable)}.")
    return wanted


def quantize_gguf(
    source: Path,
    target: Path,
    to: str,
    *,
    force: bool = False,
    allow_requantize: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> None:
    """Write ``target``, whole or not at all.

    Args:
        source: a .gguf file; of a split model, any part.
        target: the file to write.
        to: as ``find_type`` takes it.
        force: replace an existing ``target``.
        allow_requantize: quantize what is quantized already.
        threads: 0 takes every core.
        progress: told of each tensor.

    Raises:
        MissingExtra, ModelError, UsageError, NoRoom, EngineError: see ``cultev.errors``.
    """
    kind = find_type(to)
    header = read_gguf(source)
    if header.quantization not in PLAIN and not allow_requantize:
        raise ModelUnsupported(
            f"{source} is quantized already ({header.quantization}): doing it again adds the second rounding to "
            "the first, so that the result is worse than the same type made of the original.",
            "Start from the F16 or BF16 file, or insist with --allow-requantize.",
        )
    if target.exists() and any(target.samefile(part) for part in header.parts):
        raise UsageError("The result would replace its own source.", "Name another file with -o.")
    require_new(target, force=force)
    require_room(target.parent, expected_bytes(header, kind))
    with whole(target) as part:
        _in_own_process(header.parts[0], part, kind, threads, allow_requantize, progress)


def expected_bytes(header: GgufHeader, kind: str) -> int:
    """At most about how many bytes a file of this type will have.

    Half more than bits per weight say, where the type is a quantized one: tensors that it doesn't fit (columns no
    multiple of 256) and the vocabulary are kept finer, which weighs most in small models.
    """
    bits = BITS_PER_WEIGHT.get(kind, 8.5) * (1.0 if kind in PLAIN else 1.5)
    metadata = max(0, header.expected_bytes - sum(tensor.n_bytes for tensor in header.tensors))
    return int(header.n_params * bits / 8) + metadata


def _in_own_process(
    source: Path, target: Path, kind: str, threads: int, again: bool, progress: Progress | None
) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, str(source), str(target), kind, threads, again), daemon=True)
    child.start()
    theirs.close()
    reason: str | None = None
    try:
        while True:
            try:
                message = ours.recv()
            except EOFError:
                break
            if isinstance(message, str):
                reason = message
            elif progress is not None:
                progress(*message)
        child.join()
    finally:
        ours.close()
        if child.is_alive():
            child.terminate()
        child.join()
    if child.exitcode != 0 or reason:
        reason = reason or f"its process ended with code {child.exitcode}"
        raise EngineError(
            f"llama.cpp could not quantize {source} to {kind}: {reason}.",
            "Try another type: --to q8_0 fits every model.",
        )


def _child(pipe: Connection, source: str, target: str, kind: str, threads: int, again: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C too, and ends this process

    def line(text: str) -> None:
        found = _STEP.search(text)
        if found:
            pipe.send((int(found[1]), int(found[2])))

    try:
        run_quantizer(Path(source), Path(target), kind, threads=threads, allow_requantize=again, line=line)
    except RuntimeError as error:
        pipe.send(str(error))
    pipe.close()


def run_quantizer(
    source: Path,
    target: Path,
    kind: str,
    *,
    threads: int = 0,
    allow_requantize: bool = False,
    line: Callable[[str], None] = lambda text: None,
) -> None:
    """Call llama.cpp's quantizer in this process. ``line`` gets each line of its log, which is shown nowhere.

    Raises:
        RuntimeError: it failed; the text is the reason that it gave.
    """
    import llama_cpp

    log: list[str] = []

    @llama_cpp.llama_log_callback  # type: ignore[untyped-decorator, unused-ignore]
    def keep(level: int, text: bytes, user_data: ctypes.c_void_p) -> None:
        log.append(text.decode(errors="replace"))
        line(log[-1])

    before, user_data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(before), ctypes.byref(user_data))
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.allow_requantize = allow_requantize
    name = "LLAMA_FTYPE_ALL_F32" if kind.upper() == "F32" else f"{_PREFIX}{kind.upper()}"
    parameters.ftype = getattr(llama_cpp, name)
    llama_cpp.llama_log_set(keep, None)
    try:
        failed = llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))
    finally:
        llama_cpp.llama_log_set(before, user_data)  # llama.cpp must not call what Python frees
    if failed:
        raise RuntimeError(_reason("".join(log)))


def _reason(log: str) -> str:
    """What llama.cpp's log says about why it failed."""
    lines = [text.strip() for text in log.splitlines() if text.strip()]
    telling = [text for text in lines if "failed" in text or "error" in text.lower()]
    return (telling or lines or ["it gave no reason"])[-1].split("failed to quantize: ")[-1].rstrip(".!")
