"""How every command writes: data on stdout as a table, JSON or CSV, notes on stderr.

A command hands columns and rows to ``emit_table``, or one thing's facts to ``emit_record``. rich is imported
only where a table is drawn, colour appears only on a terminal, and nothing that a file holds can steer one.
"""

from __future__ import annotations

import csv as csv_module
import json as json_module
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import click

from cultev.errors import UsageError
from cultev.report.text import printable

Row: TypeAlias = "Mapping[str, object] | Sequence[object]"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    ``key`` names it in JSON and CSV and finds its value in a row; ``title`` heads it in a drawn table.
    ``show`` turns a value into what the table says. With ``in_table=False`` only JSON and CSV have it;
    ``whole`` never wraps.
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


def emit_table(
    columns: Sequence[Column | str],
    rows: Iterable[Row],
    *,
    json: bool = False,
    csv: bool = False,
    title: str = "",
    headings: bool = True,
) -> None:
    """Write rows to stdout: drawn for people, or as data.

    Args:
        columns: in order; a bare text is a column of that key.
        rows: values in the columns' order, or mappings by column key, where what is missing is null.
        json: as an array with a row on each line, written as the rows come.
        csv: with a header line, written as the rows come. Like JSON it keeps full values: numbers unrounded,
            lists as JSON, null as an empty field.
        title: stands above a drawn table.
        headings: whether a drawn table has a line of headings.

    Raises:
        UsageError: both json and csv.
    """
    chosen = [Column(column) if isinstance(column, str) else column for column in columns]
    if output_form(json, csv) == "json":
        _write_json([column.key for column in chosen], rows)
    elif csv:
        emit_csv([column.key for column in chosen], rows)
    else:
        _draw(chosen, rows, title, headings=headings)


def emit_csv(columns: Sequence[str], rows: Iterable[Row]) -> None:
    """Write rows to stdout as CSV with a header line."""
    writer = csv_module.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_field(plain_value(value)) for value in _values(columns, row)])


def emit_record(facts: Mapping[str, object], *, json: bool = False, csv: bool = False, title: str = "") -> None:
    """Write one thing's facts to stdout: a line each, one JSON object, or CSV of ``key,value``.

    Raises:
        UsageError: both json and csv.
    """
    if output_form(json, csv) == "json":
        sys.stdout.write(json_module.dumps(plain_value(facts), ensure_ascii=False, indent=2) + "\n")
    elif csv:
        emit_csv(["key", "value"], facts.items())
    else:
        columns = [Column("fact", whole=True), Column("value")]
        rows = [(key.replace("_", " "), value) for key, value in facts.items()]
        _draw(columns, rows, title, headings=False)


def note(text: str) -> None:
    """Tell the person something, on stderr."""
    click.echo(wrapped(printable(text)), err=True)


def wrapped(text: str) -> str:
    """Lines of a message on stderr, broken between words for a terminal; whole for a log, where people search."""
    if not sys.stderr.isatty():
        return text
    import shutil
    import textwrap

    width = min(80, shutil.get_terminal_size().columns)
    wrap = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return "\n".join(wrap.fill(line) for line in text.splitlines())


def folded(text: str) -> str:
    """A paragraph folded at the terminal's width, 100 characters at most."""
    import shutil
    import textwrap

    return textwrap.fill(text, min(100, shutil.get_terminal_size().columns))


def output_form(json: bool, csv: bool) -> str:
    """'json', 'csv' or 'table'.

    Raises:
        UsageError: both json and csv.
    """
    if json and csv:
        raise UsageError("--json and --csv can't go together.", "Choose one of them.")
    return "json" if json else "csv" if csv else "table"


def plain_value(value: Any) -> Any:
    """A value as JSON can hold it: sets and tuples as lists, what is not a finite number as null."""
    if isinstance(value, Mapping):
        return {str(key): plain_value(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_value(inner) for inner in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _values(columns: Sequence[str], row: Row) -> Sequence[object]:
    """A row's values in the columns' order."""
    if isinstance(row, Mapping):
        return [row.get(column) for column in columns]
    if len(row) != len(columns):
        raise ValueError(f"a row of {len(row)} values for {len(columns)} columns")
    return row


def _write_json(columns: Sequence[str], rows: Iterable[Row]) -> None:
    before = "[\n  "
    for row in rows:
        picked = dict(zip(columns, map(plain_value, _values(columns, row)), strict=True))
        sys.stdout.write(before + json_module.dumps(picked, ensure_ascii=False))
        before = ",\n  "
    sys.stdout.write("[]\n" if before.startswith("[") else "\n]\n")


def _csv_field(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        return json_module.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value


def _draw(columns: Sequence[Column], rows: Iterable[Row], title: str, *, headings: bool = True) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD if headings else None, show_header=headings, pad_edge=False, show_edge=False)
    keys = [column.key for column in columns]
    for column in (column for column in columns if column.in_table):
        table.add_column(
            Text(column.heading),
            justify=column.align,
            no_wrap=column.whole,
            overflow="fold",
            header_style="bold",
        )
    for row in rows:
        pairs = zip(columns, _values(keys, row), strict=True)
        table.add_row(*(Text(_cell(column, value)) for column, value in pairs if column.in_table))
    if title:
        console.print(Text(printable(title), style="bold"))
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().splitlines():
        click.echo(line.rstrip())


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
