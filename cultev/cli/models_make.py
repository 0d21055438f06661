"""``cultev models quantize`` and ``export``: a model file made of another."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import table_options
from cultev.cli.output import emit_record, note

if TYPE_CHECKING:
    from cultev.models.gguf_quantize import Progress

_OUT = click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to. [default: beside MODEL]")
_FORCE = click.option("--force", is_flag=True, help="Replace what is at the output.")


@click.command()
@click.argument("model")
@click.option("--to", required=True, help="GGUF: q4_k_m, q8_0 and all of llama.cpp's types. ONNX: int8, int4.")
@_OUT
@_FORCE
@click.option("--allow-requantize", is_flag=True, help="GGUF: quantize what is quantized already (it gets worse).")
@click.option("--block-size", type=int, help="ONNX: weights that share a scale. [default: 32]")
@click.option("--threads", type=click.IntRange(min=1), help="GGUF: compute threads. [default: all cores]")
@table_options
def quantize(
    model: str, to: str, output: Path | None, force: bool, allow_requantize: bool, block_size: int | None,
    threads: int | None, as_json: bool, as_csv: bool,
) -> None:  # fmt: skip
    """Make MODEL smaller: a .gguf file by llama.cpp, an ONNX folder by onnxruntime."""
    from cultev.backend.load import find_model
    from cultev.cli.output import output_form
    from cultev.models.quantize import default_output
    from cultev.models.quantize import quantize as make

    output_form(as_json, as_csv)
    source = find_model(model)
    target = output or default_output(source, to)
    with _steps("Quantizing") as progress:
        make(
            source, target, to, force=force, allow_requantize=allow_requantize, block_size=block_size,
            threads=threads or 0, progress=progress,
        )  # fmt: skip
    _describe(target, {"written": str(target), "size_before_mb": _size_mb(source)}, as_json, as_csv)


@click.command()
@click.argument("folder", metavar="HF_FOLDER")
@_OUT
@click.option("--to", default="fp32", show_default=True, help="fp32, fp16, int8 or int4.")
@_FORCE
@table_options
def export(folder: str, output: Path | None, to: str, force: bool, as_json: bool, as_csv: bool) -> None:
    """Export a Hugging Face folder (config.json, safetensors) to an ONNX folder with a key-value cache.

    Never downloads anything. The graph's logits are compared with torch's, and the largest difference is said.
    """
    from cultev.cli.output import output_form
    from cultev.models.export import check_source, export_folder

    output_form(as_json, as_csv)
    source = check_source(folder)
    target = output or source.resolve().with_name(f"{source.resolve().name}-onnx-{to.lower()}")
    found = export_folder(source, target, to, force=force, say=lambda text: note(f"{text} ..."))
    facts = {
        "written": str(target),
        "compared_tokens": found.prompt_tokens,
        "largest_logits_difference": found.logits_difference,
        "largest_logit": found.largest_logit,
        "same_top_token": found.same_top_token,
    }
    if not (as_json or as_csv):
        facts["largest_logits_difference"] = (
            f"{found.logits_difference:.2g} (logits reach {found.largest_logit:.3g}; {found.prompt_tokens} tokens)"
        )
        facts["same_top_token"] = f"at {found.same_top_token:.0%} of the positions"
        del facts["compared_tokens"], facts["largest_logit"]
    _describe(target, facts, as_json, as_csv)


def _describe(target: Path, facts: dict[str, object], as_json: bool, as_csv: bool) -> None:
    """What was made, as ``models show`` says it."""
    from cultev.backend.describe import describe

    facts = {**facts, "size_after_mb": _size_mb(target), **describe(target)}
    facts.pop("file_mb", None)
    emit_record(facts, json=as_json, csv=as_csv)


def _size_mb(path: Path) -> float:
    """MB of a model: a GGUF file with its other parts, or an ONNX graph with its weights."""
    from cultev.backend.gguf_read import read_gguf
    from cultev.backend.load import model_format
    from cultev.backend.onnx_folder import read_folder

    size = read_folder(path).n_bytes if model_format(path) == "onnx" else read_gguf(path).file_bytes
    return round(size / 1e6, 1)


@contextmanager
def _steps(what: str) -> Iterator[Progress]:
    """A bar of steps on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
