"""``cultev models pull``: model files from a hub."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import table_options
from cultev.cli.output import Column, emit_table, note, output_form
from cultev.errors import Interrupted

if TYPE_CHECKING:
    from cultev.models.pull import Progress

_PLAIN_SECONDS = 30.0


@click.command()
@click.argument("repo")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder. [default: named after REPO, here]")
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit.")
@click.option("--sha256", metavar="HEX", default="", help="What the one FILE's SHA-256 must be.")
@click.option("--endpoint", help="Another hub. [default: HF_ENDPOINT, or Hugging Face]")
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
@table_options
def pull(
    repo: str, files: tuple[str, ...], output: Path | None, revision: str, sha256: str, endpoint: str | None,
    force: bool, as_json: bool, as_csv: bool,
) -> None:  # fmt: skip
    """Fetch files of REPO (OWNER/NAME); without FILE, list the model files it has. Uses the network.

    FILE may be a pattern: '*q4_k_m.gguf', 'onnx/model_q4.onnx'. An ONNX graph brings its weights, tokenizer and
    configuration. What was cut goes on where it stopped; checksums are verified. A gated repository needs an access
    token in HF_TOKEN, which is sent to the hub alone.
    """
    from cultev.models.http import Client, Retries
    from cultev.models.pull import ENDPOINT, choose, model_files, open_repository
    from cultev.models.pull import pull as fetch

    output_form(as_json, as_csv)
    address = endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT
    client = Client(address, os.environ.get("HF_TOKEN", "").strip())
    retries = Retries()
    repository = open_repository(client, repo, revision, retries)
    if not files:
        found = [(file.name, file.size, file.sha256) for file in model_files(repository)]
        columns = [Column("file"), Column("bytes", "MB", "right", _mb, whole=True), Column("sha256", in_table=False)]
        emit_table(columns, found, json=as_json, csv=as_csv)
        note("Name what to fetch: cultev models pull REPO FILE")
        return
    chosen = choose(repository, files)
    folder = output or Path(repo.rsplit("/", 1)[-1])
    try:
        with _bytes() as progress:
            done = fetch(repository, chosen, folder, sha256=sha256, force=force, retries=retries, progress=progress)
    except KeyboardInterrupt:
        raise Interrupted("Interrupted. What came is kept.", "Run it again: it goes on where it stopped.") from None
    rows = [(str(pulled.path), pulled.size, pulled.sha256, pulled.fetched) for pulled in done]
    columns = [
        Column("path", "file"),
        Column("bytes", "MB", "right", _mb, whole=True),
        Column("sha256", show=lambda text: f"{text[:12]}..." if text else "", whole=True),
        Column("fetched", "state", show=lambda fetched: "fetched" if fetched else "was there", whole=True),
    ]
    emit_table(columns, rows, json=as_json, csv=as_csv)


def _mb(size: int | None) -> str:
    return "?" if size is None else f"{size / 1e6:,.1f}"


@contextmanager
def _bytes() -> Iterator[Progress]:
    """A bar for each file on a terminal, a line now and then elsewhere."""
    if sys.stderr.isatty():
        with _bars() as progress:
            yield progress
        return
    last = time.monotonic()

    def plain(name: str, done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last >= _PLAIN_SECONDS:
            last = time.monotonic()
            note(f"{name}: {_mb(done)} of {_mb(total)} MB")

    yield plain


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        tasks: dict[str, int] = {}

        def update(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)  # type: ignore[arg-type]
                tasks[name] = bar.add_task(name.rsplit("/", 1)[-1], total=total)
            bar.update(tasks[name], completed=done, total=total)  # type: ignore[arg-type]

        yield update
