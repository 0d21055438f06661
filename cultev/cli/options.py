"""Options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click

F = TypeVar("F", bound=Callable[..., Any])


def db_option(function: F) -> F:
    """--db: the results file."""
    return click.option(
        "--db",
        type=click.Path(path_type=Path),
        default=Path("cultev.db"),
        show_default=True,
        help="Results file (SQLite); made when there is none.",
    )(function)


def table_options(function: F) -> F:
    """--json and --csv, for every command that prints a table."""
    function = click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")(function)


def suites_option(what: str, default: str) -> Callable[[F], F]:
    """--suite, as often as wanted; the command gets ``suite_names``, () where none is named.

    Args:
        what: kind of suite, as in 'A suite with pairs'.
        default: what is taken where none is named, in words.
    """
    return click.option(
        "--suite", "-s", "suite_names", multiple=True, metavar="NAME|FILE",
        help=f"{what}; may be repeated. [default: {default}]",
    )  # fmt: skip


def suite_option(what_for: str, *, required: bool = False) -> Callable[[F], F]:
    """--suite, a single one; the command gets ``suite_name``. ``what_for`` is its help."""
    return click.option("--suite", "-s", "suite_name", required=required, metavar="NAME|FILE", help=what_for)


def languages_option(*spellings: str) -> Callable[[F], F]:
    """--language, as often as wanted; the command gets ``languages``. ``spellings``: other names of the option."""
    return click.option(
        "--language", *spellings, "-l", "languages", multiple=True, metavar="CODE",
        help="Ask in this language only; may be repeated.",
    )  # fmt: skip


def limit_option(what: str) -> Callable[[F], F]:
    """--limit: a sample of what is asked, the same every time. ``what`` it counts, as in 'pairs of each suite'."""
    return click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help=f"N {what}, a fixed random sample."
    )  # fmt: skip


def max_tokens_option(what: str) -> Callable[[F], F]:
    """--max-tokens: the longest text. ``what`` is its help."""
    return click.option("--max-tokens", type=click.IntRange(1, 8192), default=256, show_default=True, help=what)


def retry_option(function: F) -> F:
    """--retry, for every command whose answers stay answered when an engine died of them."""
    return click.option("--retry", is_flag=True, help="Ask again what the engine died of before (engine_error).")(
        function
    )


def engine_options(function: F) -> F:
    """--threads, --n-ctx, --device and --strict, for every command that loads a model.

    The command gets them as one ``EngineSettings``, called ``settings``.
    """

    @functools.wraps(function)
    def command(*args: Any, threads: int | None, n_ctx: int | None, device: str, strict: bool, **kwargs: Any) -> Any:
        from cultev.backend.types import EngineSettings

        _check_threads(threads)
        settings = EngineSettings(n_ctx=n_ctx, threads=threads, device=device, strict=strict)
        return function(*args, settings=settings, **kwargs)

    wrapped: Any = command
    for option in (
        click.option("--strict", is_flag=True, help="Fixed shapes: the same bits whatever is asked together; slower."),
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "gpu"]),
            default="auto",
            show_default=True,
            help="Where to compute.",
        ),
        click.option(
            "--n-ctx",
            type=click.IntRange(min=16),
            help="Longest prompt and answer, in tokens. [default: model's, at most 4096]",
        ),
        click.option("--threads", type=click.IntRange(min=1), help="Compute threads. [default: all cores]"),
    ):
        wrapped = option(wrapped)
    return cast("F", wrapped)


def _check_threads(threads: int | None) -> None:
    """Refuse more threads than there are cores: they only wait for each other, and engines die of very many."""
    import os

    from cultev.errors import UsageError

    cores = os.cpu_count()
    if threads and cores and threads > cores:
        raise UsageError(
            f"--threads {threads} is more than this machine has cores: {cores}.",
            f"Use at most {cores}, or leave it out.",
        )
