"""Settings that fit into memory: chosen before a model is loaded, without any engine.

What the user set stays as it is. The rest is made smaller only as far as needed, in the order of what it costs: first
context that no question needs (nothing), then texts that grow at once and tokens of a batch (speed), last context
that questions may need (these are then counted as ``too_long``), which strict mode never takes: its answers must not
depend on how much memory happens to be free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cultev.backend.gguf_header import GgufHeader
from cultev.backend.gguf_read import read_gguf
from cultev.backend.llama_context import BATCH_TOKENS
from cultev.backend.llama_sizes import PARALLEL
from cultev.backend.load import model_format
from cultev.backend.memory import LIMIT_VARIABLE, gpu_memory, usable_memory
from cultev.backend.memory_plan import MemoryPlan, plan_gguf, plan_onnx
from cultev.backend.onnx import PACK_TOKENS
from cultev.backend.onnx_folder import OnnxFolder, read_folder
from cultev.backend.types import CONTEXT_CAP, EngineSettings
from cultev.errors import NotEnoughMemory

LEAST_CONTEXT = 512
"""Tokens below which a context is not made smaller unless no question needs more."""

LEAST_BATCH = 64
"""Tokens below which a batch is not made smaller."""

STEP = 256
"""Contexts are chosen in multiples of it, as llama.cpp makes its caches."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a model is to be opened with."""

    settings: EngineSettings
    """With n_ctx, batch and parallel decided."""
    plan: MemoryPlan
    available: int | None
    """Bytes that may be used, None where unknown."""
    notes: tuple[str, ...]
    """Sentences for the user about what was made smaller."""
    shortened: bool = False
    """Whether the context is shorter than it would be with memory to spare, and than questions may need: what is
    ``too_long`` then depends on this machine's memory at this moment."""


@dataclass(frozen=True, slots=True)
class _Model:
    """One model, as far as plans go."""

    name: str
    n_ctx: int
    """The longest context it was made for; 0 where it doesn't say."""
    batch: int
    """Tokens of a batch unless asked otherwise."""
    plan: Callable[[EngineSettings], MemoryPlan]
    """For settings with n_ctx, batch and parallel."""


def plan_for(path: Path, settings: EngineSettings, *, generate: bool = False) -> MemoryPlan:
    """The memory that a model takes with these settings, engines' defaults where they leave a choice.

    Args:
        path: a GGUF file or an ONNX folder.
        settings: nothing in them is made smaller.
        generate: whether texts are generated as well as scored.

    Raises:
        ModelError: the file or folder is no model, or damaged.
    """
    model = _read(path, generate)
    return model.plan(_concrete(model, settings))


def concrete(path: Path, settings: EngineSettings) -> EngineSettings:
    """The settings with n_ctx, batch and parallel as the model's engine would choose them with memory to spare.

    Raises:
        ModelError: the file or folder is no model, or damaged.
    """
    return _concrete(_read(path, False), settings)


def fit(
    path: Path,
    settings: EngineSettings,
    *,
    generate: bool = False,
    needs: Callable[[], int] | None = None,
    available: int | None = None,
    longer: str = "Longer questions count as too_long.",
) -> Fitted:
    """Decide the settings that a model is opened with, so that it fits into memory.

    Args:
        path: a GGUF file or an ONNX folder.
        settings: what is not None stays.
        generate: whether texts are generated as well as scored.
        needs: tokens that suffice for every question; only asked when memory is short.
        available: bytes that may be used; None: ``usable_memory`` says.
        longer: what becomes of what a shortened context doesn't hold, in a sentence for the user.

    Raises:
        NotEnoughMemory: no settings fit. Says how many MB are missing.
        ModelError: the file or folder is no model, or damaged.
    """
    model = _read(path, generate)
    wanted = _concrete(model, settings)
    if available is None:
        available = usable_memory()
    on_gpu = gpu_memory() if settings.device == "gpu" else None

    def lacks(chosen: EngineSettings) -> int:
        """Bytes that are missing, in main memory or on the GPU, whichever is worse; 0: it fits."""
        plan = model.plan(chosen)
        short = 0 if available is None else plan.needed - available
        return max(0, short, 0 if on_gpu is None else plan.device - on_gpu)

    chosen, bound = wanted, 0
    if lacks(chosen):
        bound = needs() if needs is not None and settings.n_ctx is None else 0
        chosen = _smaller(chosen, settings, lacks, bound, generate)
    if lacks(chosen):
        raise _refusal(model, settings, chosen, lacks, available)
    shortened = chosen.n_ctx != wanted.n_ctx and not 0 < bound <= (chosen.n_ctx or 0)
    notes = _notes(wanted, chosen, model.plan(wanted), available, longer if shortened else "")
    return Fitted(chosen, model.plan(chosen), available, notes, shortened)


def _read(path: Path, generate: bool) -> _Model:
    if model_format(path) == "onnx":
        return _onnx(read_folder(path), generate)
    return _gguf(read_gguf(path), generate)


def _gguf(header: GgufHeader, generate: bool) -> _Model:
    def plan(settings: EngineSettings) -> MemoryPlan:
        return plan_gguf(
            header, n_ctx=settings.n_ctx or CONTEXT_CAP, batch=settings.batch or BATCH_TOKENS,
            parallel=settings.parallel or PARALLEL, generate=generate, strict=settings.strict, reuse=settings.reuse,
            gpu=settings.device == "gpu",
        )  # fmt: skip

    return _Model(header.path.name, header.n_ctx, BATCH_TOKENS, plan)


def _onnx(folder: OnnxFolder, generate: bool) -> _Model:
    def plan(settings: EngineSettings) -> MemoryPlan:
        return plan_onnx(
            folder.n_bytes, folder.n_layers, folder.n_kv_heads, folder.head_dim, folder.n_vocab,
            n_ctx=settings.n_ctx or CONTEXT_CAP, heads=folder.n_heads, n_embd=folder.n_embd, ffn=folder.ffn,
            tokenizer_bytes=folder.tokenizer.stat().st_size, kv_bytes=2 if folder.quantization == "fp16" else 4,
            picks=folder.picks, fused="GroupQueryAttention" in folder.facts.operators,
            batch=settings.batch or PACK_TOKENS, parallel=settings.parallel or PARALLEL, generate=generate,
            gpu=settings.device == "gpu", halves=folder.facts.halves, blocks=folder.facts.blocks,
        )  # fmt: skip

    return _Model(folder.path.resolve().name, folder.n_ctx, PACK_TOKENS, plan)


def _concrete(model: _Model, settings: EngineSettings) -> EngineSettings:
    """The settings with the engine's defaults in the place of what is left open."""
    return replace(
        settings,
        n_ctx=min(settings.n_ctx or CONTEXT_CAP, model.n_ctx or settings.n_ctx or CONTEXT_CAP),
        batch=settings.batch or model.batch,
        parallel=settings.parallel or PARALLEL,
    )


Lacks = Callable[[EngineSettings], int]


def _smaller(chosen: EngineSettings, asked: EngineSettings, lacks: Lacks, bound: int, generate: bool) -> EngineSettings:
    """Settings with as little taken away as makes them fit; the smallest there are when none do."""
    if bound:
        chosen = _shorter(chosen, lacks, _rounded(bound))
    if generate and asked.parallel is None:
        chosen = _halved(chosen, lacks, "parallel", 1)
    # Strict answers must not depend on how much memory happens to be free.
    if asked.batch is None and not asked.strict:
        chosen = _halved(chosen, lacks, "batch", LEAST_BATCH)
    if asked.n_ctx is None and not asked.strict:
        chosen = _shorter(chosen, lacks, LEAST_CONTEXT)
    return chosen


def _halved(chosen: EngineSettings, lacks: Lacks, name: str, least: int) -> EngineSettings:
    while lacks(chosen) and getattr(chosen, name) > least:
        chosen = replace(chosen, **{name: max(least, getattr(chosen, name) // 2)})
    return chosen


def _shorter(chosen: EngineSettings, lacks: Lacks, least: int) -> EngineSettings:
    """The longest context that fits, but not below ``least`` tokens."""
    most = chosen.n_ctx or 0
    if not lacks(chosen) or most <= least:
        return chosen
    low, high = -(-least // STEP), most // STEP
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if lacks(replace(chosen, n_ctx=middle * STEP)) else (middle, high)
    return replace(chosen, n_ctx=min(most, max(least, low * STEP)))


def _rounded(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def _notes(
    wanted: EngineSettings, chosen: EngineSettings, plan: MemoryPlan, available: int | None, longer: str
) -> tuple[str, ...]:
    """What was made smaller, in one sentence, and what comes of it: ``longer``, '' for nothing."""
    smaller = []
    if wanted.n_ctx != chosen.n_ctx:
        smaller.append(f"a context of {chosen.n_ctx:,} tokens instead of {wanted.n_ctx:,}")
    if wanted.parallel != chosen.parallel:
        texts = "text" if chosen.parallel == 1 else "texts"
        smaller.append(f"{chosen.parallel} {texts} at once instead of {wanted.parallel}")
    if wanted.batch != chosen.batch:
        smaller.append(f"batches of {chosen.batch} tokens instead of {wanted.batch}")
    if not smaller:
        return ()
    have = "" if available is None else f", {available / 1e6:,.0f} MB may be used"
    said = f"To fit into memory ({plan.needed / 1e6:,.0f} MB would be needed{have}): {', '.join(smaller)}."
    return (f"{said} {longer}".rstrip(),)


def _refusal(
    model: _Model, asked: EngineSettings, least: EngineSettings, lacks: Lacks, available: int | None
) -> NotEnoughMemory:
    missing = -(-lacks(least) // 1_000_000)
    plan = model.plan(least)
    where = "of memory" if available is not None and plan.needed > available else "of GPU memory"
    with_what = f" with --n-ctx {asked.n_ctx}" if asked.n_ctx else ""
    said = f"{model.name}{with_what} does not fit: {missing:,} MB {where} are missing"
    if available is not None:
        said += f" ({-(-plan.needed // 1_000_000):,} needed, {available // 1_000_000:,} may be used)"
    if asked.n_ctx or asked.strict:
        shorter = _shorter(least, lacks, STEP)
        if not lacks(shorter):
            return NotEnoughMemory(f"{said}.", f"It fits with --n-ctx {shorter.n_ctx}.")
    return NotEnoughMemory(
        f"{said}.",
        f"Use a smaller model or quantization, or free some memory ({LIMIT_VARIABLE} sets what may be used).",
    )
