"""``cultev models``: what a model file is, and where model files come from."""

from __future__ import annotations

import click

from cultev.cli.models_make import export, quantize
from cultev.cli.models_pull import pull
from cultev.cli.models_suggest import suggest
from cultev.cli.options import table_options


@click.group()
def models() -> None:
    """Show, suggest, fetch, export and quantize models."""


for command in (suggest, pull, export, quantize):
    models.add_command(command)


@models.command("show")
@click.argument("model")
@click.option("--n-ctx", type=click.IntRange(min=16), help="Context to plan for. [default: model's, at most 4096]")
@table_options
def show(model: str, n_ctx: int | None, as_json: bool, as_csv: bool) -> None:
    """Show MODEL (a .gguf file, an ONNX folder, or 'reference') and the memory it takes, without loading it."""
    from cultev.backend.describe import describe
    from cultev.backend.load import find_model
    from cultev.backend.memory import available_memory
    from cultev.cli.output import emit_record

    description = describe(find_model(model), n_ctx)
    plan, free = description.plan, available_memory()
    facts = dict(description.facts)
    memory = {
        "memory_mb": round(plan.total_mb),
        "of_weights_mb": round(plan.weights / 1e6),
        "of_cache_mb": round(plan.kv_cache / 1e6),
        "of_logits_mb": round(plan.logits / 1e6),
        "of_working_mb": round(plan.working / 1e6),
        "for_context": description.n_ctx,
        "free_memory_mb": round(free / 1e6) if free else "not told by this system",
    }
    facts.update(memory)
    if not (as_json or as_csv):
        fits = plan.fits(free)
        facts["fits"] = {True: "yes", False: "NO: use a smaller model, quantization or --n-ctx", None: "?"}[fits]
    else:
        facts["fits"] = plan.fits(free)
    emit_record(facts, json=as_json, csv=as_csv)
