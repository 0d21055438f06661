"""``cultev models suggest``: small open models worth testing here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cultev.cli.options import table_options
from cultev.cli.output import Column, emit_record, emit_table, note

if TYPE_CHECKING:
    from cultev.models.catalogue import Fit, Suggestion

_SHOWN_LANGUAGES = 3


@click.command()
@click.argument("model", required=False)
@click.option(
    "--memory", type=click.FloatRange(min=1), metavar="MB", help="Memory to fit. [default: what is free here]"
)
@click.option("--language", metavar="CODE", default="", help="Only models whose card names this language, such as hi.")
@click.option("--max-params", type=click.FloatRange(min=0), metavar="B", help="At most so many billion parameters.")
@click.option(
    "--format", type=click.Choice(["gguf", "onnx"]), default="gguf", show_default=True, help="For its engine."
)
@table_options
def suggest(
    model: str | None, memory: float | None, language: str, max_params: float | None, format: str,
    as_json: bool, as_csv: bool,
) -> None:  # fmt: skip
    """List small open models worth testing that fit into this machine's memory; with MODEL, all about one.

    The list ships with cultev: nothing is downloaded. Sizes are estimates by bits per weight, memory is planned for a
    context of 4,096 tokens. Licences change: read the model's own before use.
    """
    from cultev.backend.memory import available_memory
    from cultev.errors import UsageError
    from cultev.models.catalogue import catalogue, find, speaks
    from cultev.models.catalogue import suggest as choose

    if model:
        emit_record(_facts(find(model), table=not (as_json or as_csv)), json=as_json, csv=as_csv)
        return
    if language and not any(speaks(model, language) for model in catalogue()):
        raise UsageError(
            f"No model's card in the list names the language '{language}'.",
            f"They name: {' '.join(sorted({code for model in catalogue() for code in model.languages}))}",
        )
    limit = int(memory * 1e6) if memory else available_memory()
    fits = choose(memory=limit, language=language, max_params=max_params, format=format)
    if as_json or as_csv:
        emit_table(list(_KEYS), map(_row, fits), json=as_json, csv=as_csv)
        return
    columns = [
        Column("model", whole=True),
        Column("B", align="right", show=lambda value: f"{value:.2f}", whole=True),
        Column("licence"),
        Column("type", whole=True),
        Column("memory", align="right", whole=True),
        Column("languages", whole=True),
    ]
    emit_table(columns, map(_line, fits))
    if not fits:
        note("None fits. Try a larger --memory, another --language, or list all: cultev models suggest --memory 100000")
        return
    room = f"{limit / 1e6:,.0f} MB" if limit else "an unknown amount of memory"
    note(f"{len(fits)} of {len(catalogue())} models, the finest type of each that fits into {room}.")
    note("! has terms to accept first.  ? not every fact was verified.  +5 five more languages, >5 more than five.")
    note("All about one, with its sources: cultev models suggest MODEL")


_KEYS = (
    "name", "repo", "billion_parameters", "license", "quantization", "file_mb", "memory_mb", "languages",
    "more_languages", "gated", "chat", "get", "unverified", "note",
    "license_source", "languages_source", "shape_source",
)  # fmt: skip


def _line(fit: Fit) -> tuple[object, ...]:
    """A model in the drawn table."""
    model = fit.model
    marks = ("!" if model.gated else "") + ("?" if set(model.unverified) - {"gguf", "onnx"} else "")
    return (
        f"{model.short_name} {marks}", model.parameters / 1e9, model.license, fit.quantization,
        f"{fit.memory / 1e6:,.0f}", _languages(model),
    )  # fmt: skip


def _row(fit: Fit) -> dict[str, object]:
    """A model as data."""
    model = fit.model
    form = "onnx" if fit.quantization.startswith("int") else "gguf"
    return {
        "name": model.name,
        "repo": model.repo,
        "billion_parameters": round(model.parameters / 1e9, 3),
        "license": model.license,
        "quantization": fit.quantization,
        "file_mb": round(fit.size / 1e6),
        "memory_mb": round(fit.memory / 1e6),
        "languages": list(model.languages),
        "more_languages": model.more_languages,
        "gated": model.gated,
        "chat": model.chat,
        "get": (model.onnx if form == "onnx" else model.gguf) or model.repo,
        "unverified": list(model.unverified),
        "note": model.note,
        **{f"{fact}_source": model.source_of(fact) for fact in ("license", "languages", "shape")},
    }


def _languages(model: Suggestion) -> str:
    """The first few, and how many more."""
    shown = model.languages[:_SHOWN_LANGUAGES]
    rest = len(model.languages) - len(shown)
    if not rest and not model.more_languages:
        return " ".join(shown)
    return f"{' '.join(shown)} {'>' if model.more_languages else '+'}{rest}"


def _facts(model: Suggestion, *, table: bool) -> dict[str, object]:
    from cultev.models.catalogue import QUANTIZATIONS

    shape = model.shape

    def told(fact: str, value: object) -> object:
        return f"{value}  (not verified)" if table and fact in model.unverified else value

    facts: dict[str, object] = {
        "repository": model.repo,
        "parameters": told("parameters", f"{model.parameters:,}" if table else model.parameters),
        "license": told("license", model.license),
        "languages": told("languages", " ".join(model.languages) + (" and more" if model.more_languages else "")),
        "architecture": model.architecture,
        "layers": told("shape", shape.layers),
        "width": shape.width,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocabulary": shape.vocabulary,
        "gated": told("gated", "yes: accept its terms on its page" if table and model.gated else model.gated),
        "instruction_tuned": model.chat,
    }
    for form, names in QUANTIZATIONS.items():
        for name in names:
            size, needed = model.size(name) / 1e6, model.memory(name).total_mb
            if table:
                told_size = f"{name} about {size:,.0f} MB, needs {needed:,.0f} MB of memory"
                facts[f"{form}_file"] = (
                    f"{facts[f'{form}_file']}; {told_size}" if f"{form}_file" in facts else told_size
                )
            else:
                facts |= {f"{name.lower()}_mb": round(size), f"{name.lower()}_memory_mb": round(needed)}
    facts["gguf"] = told("gguf", model.gguf or "none known: convert it with llama.cpp")
    facts["onnx"] = told("onnx", model.onnx or "none known: cultev models export")
    for fact in ("license", "languages", "shape"):
        facts[f"{fact}_source"] = model.source_of(fact)
    if not table:
        facts["unverified"] = list(model.unverified)
    if model.note:
        facts["note"] = model.note
    return facts
