"""How every command writes: data on stdout as a table, JSON or CSV, notes on stderr.

A command asks for its form with ``@table_options`` and hands columns and rows to ``emit_table``, or one thing's facts to
``emit_record``. rich is imported only where a table is drawn, colour appears only on a terminal, and nothing that a
file holds can send control sequences to one.
"""

from __future__ import annotations

import csv
import json
import math
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TextIO, TypeVar

import click

from cultev.errors import UsageError

Form = Literal["table", "json", "csv"]
Row = Mapping[str, object]
_Command = TypeVar("_Command", bound=Callable[..., Any])

# These reorder the text around them on a terminal; marks such as U+200F and joiners are part of real words.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    ``key`` names it in JSON and CSV and finds its value in a row; ``title`` heads it in a drawn table. ``show`` turns a
    value into what the table says. With ``in_table=False`` only JSON and CSV have it; ``whole`` never wraps.
    """

    key: str
    title: str = ""
    align: Literal["left", "right"] = "left"
    show: Callable[[Any], str] | None = None
    in_table: bool = True
    whole: bool = False

    @property
    def heading(self) -> str:
        """The title, or the key in words."""
        return self.title or self.key.replace("_", " ")


def table_options(command: _Command) -> _Command:
    """Give a command ``--json`` and ``--csv``, which reach it as ``form``."""

    def choose(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        assert parameter.name is not None
        form = parameter.name.removeprefix("as_")
        if value and context.params.get("form", "table") not in ("table", form):
            raise UsageError("--json and --csv can't go together.", "Choose one of them.")
        if value or "form" not in context.params:
            context.params["form"] = form if value else "table"

    options = (
        click.option("--csv", "as_csv", is_flag=True, expose_value=False, callback=choose, help="Write CSV."),
        click.option(
            "--json", "as_json", is_flag=True, expose_value=False, callback=choose, help="Write JSON."
        ),
    )
    for option in options:
        command = option(command)
    return command


def emit_table(
    columns: Sequence[Column | str], rows: Iterable[Row], *, form: Form = "table", title: str = ""
) -> None:
    """Write rows to stdout.

    Args:
        columns: in order; a bare text is a column of that key.
        rows: mappings by column key; what is missing is null. JSON and CSV take them one at a time.
        form: 'table' for people; 'json' is an array with a row on each line; 'csv' has a header line. Both keep full
            values: numbers unrounded, lists as JSON, null as an empty CSV field.
        title: stands above a drawn table.
    """
    chosen = [Column(column) if isinstance(column, str) else column for column in columns]
    if form == "json":
        _write_json(chosen, rows, sys.stdout)
    elif form == "csv":
        _write_csv(chosen, rows, sys.stdout)
    else:
        _draw(chosen, rows, title)


def emit_record(facts: Row, *, form: Form = "table", title: str = "") -> None:
    """Write one thing's facts to stdout: a line each, one JSON object, or CSV of ``key,value``."""
    if form == "json":
        sys.stdout.write(json.dumps(_plain(dict(facts)), ensure_ascii=False, indent=2) + "\n")
    elif form == "csv":
        _write_csv(
            [Column("key"), Column("value")], ({"key": k, "value": v} for k, v in facts.items()), sys.stdout
        )
    else:
        columns = [Column("fact", whole=True), Column("value")]
        rows = [{"fact": key.replace("_", " "), "value": value} for key, value in facts.items()]
        _draw(columns, rows, title, headings=False)


def note(text: str) -> None:
    """Tell the person something, on stderr."""
    click.echo(printable(text), err=True)


def printable(text: str) -> str:
    """A text that can't steer a terminal: control and reordering characters become U+FFFD, line feeds stay."""
    if text.isprintable():
        return text
    return "".join("\ufffd" if _is_unsafe(char) else char for char in text)


def use_utf8() -> None:
    """Make stdout and stderr speak UTF-8 where the system's own encoding can't hold the world's scripts.

    Windows pipes are the case that matters: there, printing Hindi would end in a UnicodeEncodeError.
    """
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or ""
        if encoding.lower().replace("-", "") != "utf8" and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _is_unsafe(char: str) -> bool:
    return char != "\n" and (char in _REORDERING or unicodedata.category(char) in ("Cc", "Cs"))


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: sets and tuples as lists, what is not a finite number as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(inner) for inner in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _write_json(columns: Sequence[Column], rows: Iterable[Row], out: TextIO) -> None:
    before = "[\n  "
    for row in rows:
        picked = {column.key: _plain(row.get(column.key)) for column in columns}
        out.write(before + json.dumps(picked, ensure_ascii=False))
        before = ",\n  "
    out.write("[]\n" if before.startswith("[") else "\n]\n")


def _write_csv(columns: Sequence[Column], rows: Iterable[Row], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow([_csv_field(_plain(row.get(column.key))) for column in columns])


def _csv_field(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value


def _draw(columns: Sequence[Column], rows: Iterable[Row], title: str, *, headings: bool = True) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    table = Table(
        box=box.SIMPLE_HEAD if headings else None, show_header=headings, pad_edge=False, show_edge=False
    )
    shown = [column for column in columns if column.in_table]
    for column in shown:
        table.add_column(
            Text(column.heading),
            justify=column.align,
            no_wrap=column.whole,
            overflow="fold",
            header_style="bold",
        )
    for row in rows:
        table.add_row(*(Text(_cell(column, row.get(column.key))) for column in shown))
    if title:
        console.print(Text(printable(title), style="bold"))
    console.print(table)


def _cell(column: Column, value: object) -> str:
    if column.show is not None:
        return printable(column.show(value))
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else ""
    if isinstance(value, (list, tuple, set, frozenset)):
        return printable(", ".join(map(str, sorted(value) if isinstance(value, (set, frozenset)) else value)))
    return printable(str(value))
