"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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


def engine_options(function: F) -> F:
    """--threads and --n-ctx, for every command that loads a model."""
    function = click.option(
        "--n-ctx",
        type=click.IntRange(min=16),
        help="Longest prompt and answer, in tokens. [default: model's, at most 4096]",
    )(function)
    return click.option("--threads", type=click.IntRange(min=1), help="Compute threads. [default: all cores]")(function)
