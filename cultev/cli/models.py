"""``cultev models``: what a model file is, and where model files come from."""

from __future__ import annotations

from dataclasses import replace

import click

from cultev.cli.models_make import export, quantize
from cultev.cli.models_pull import pull
from cultev.cli.models_suggest import suggest
from cultev.cli.options import table_options

SHORT = 512
"""Tokens of a question that counts as short: those of the built-in suites have fewer."""


@click.group()
def models() -> None:
    """Show, suggest, fetch, export and quantize models."""


for command in (suggest, pull, export, quantize):
    models.add_command(command)


@models.command("show")
@click.argument("model")
@click.option("--n-ctx", type=click.IntRange(min=16), help="Context to plan for. [default: model's, at most 4096]")
@click.option("--parallel", type=click.IntRange(min=1), help="Texts that grow at once. [default: 16]")
@click.option(
    "--device",
    type=click.Choice(["cpu", "gpu"]),
    default="cpu",
    show_default=True,
    help="Where to compute; what lies on a GPU is planned by formula, unverified.",
)
@table_options
def show(model: str, n_ctx: int | None, parallel: int | None, device: str, as_json: bool, as_csv: bool) -> None:
    """Show MODEL (a .gguf file, an ONNX folder, or 'reference') and the memory it takes, without loading it.

    Memory is for questions as long as the context; short questions (512 tokens and less) take less with ONNX.
    CULTEV_MEMORY_MB says how many MB may be used, where that is less than what is free.
    """
    from cultev.backend.describe import describe
    from cultev.backend.fit import concrete, fit, plan_for
    from cultev.backend.load import find_model, model_format
    from cultev.backend.memory import usable_memory
    from cultev.backend.types import EngineSettings
    from cultev.cli.output import emit_record
    from cultev.errors import NotEnoughMemory

    path = find_model(model)
    settings = EngineSettings(n_ctx=n_ctx, parallel=parallel, device=device)
    facts = describe(path)
    plan, generating = plan_for(path, settings), plan_for(path, settings, generate=True)
    used, room = concrete(path, settings), usable_memory()
    # llama.cpp makes its cache before the first question, onnxruntime's grows with them.
    short = used.n_ctx if model_format(path) == "gguf" else min(SHORT, used.n_ctx or SHORT)
    facts |= {
        "memory_mb": round(plan.total_mb),
        "of_process_mb": round(plan.process / 1e6),
        "of_weights_mb": round(plan.weights / 1e6),
        "of_cache_mb": round(plan.kv_cache / 1e6),
        "of_logits_mb": round(plan.logits / 1e6),
        "of_working_mb": round(plan.working / 1e6),
        "on_gpu_mb": round(plan.device / 1e6),
        "droppable_mb": round(plan.droppable / 1e6),
        "generating_mb": round(generating.total_mb),
        "short_questions_mb": round(plan_for(path, replace(settings, n_ctx=short)).total_mb),
        "for_context": used.n_ctx,
        "for_parallel": used.parallel,
        "usable_memory_mb": round(room / 1e6) if room is not None else None,
        "fits": plan.fits(room),
    }
    if not (as_json or as_csv):
        try:
            notes = fit(path, settings).notes
            facts["fits"] = "not told by this system" if room is None else " ".join(notes) or "yes"
        except NotEnoughMemory as error:
            facts["fits"] = f"NO. {error.message} {error.next_step}"
        for name, value in (("on_gpu_mb", plan.device), ("droppable_mb", plan.droppable)):
            if not value:
                del facts[name]
        if room is None:
            facts["usable_memory_mb"] = "not told by this system"
    emit_record(facts, json=as_json, csv=as_csv)
