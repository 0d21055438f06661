"""Tables from files that people have, CSV or XLSX, row by row, with columns found by name.

What is wrong with a file is said with the line it is in. XLSX is read with the standard library: the cells' values of
one sheet, as text.
"""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from cultev.errors import TableError, UsageError

MOST_BYTES = 2_000_000_000
"""What one part of an XLSX file may unpack to."""

_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"

Row = tuple[int, dict[str, str]]
"""A line number, from 1 for the heading, and the cells by column."""


@dataclass(frozen=True)
class Table:
    """A file's columns, and its rows as they are read."""

    path: Path
    columns: tuple[str, ...]
    rows: Iterator[Row]


def read_table(path: Path, sheet: str = "") -> Table:
    """Open a table by its file's ending: .xlsx, or CSV with commas, semicolons or tabs.

    Raises:
        TableError: no such file, no table, or a row that doesn't fit its heading, with its line.
    """
    if not path.is_file():
        raise TableError(f"There is no file {path}.", "Check the path.")
    lines = _read_xlsx(path, sheet) if path.suffix.lower() == ".xlsx" else _read_csv(path)
    first = next(lines, None)
    if first is None:
        raise TableError(f"{path} is empty.", "The first line must name the columns.")
    columns = tuple(cell.strip() for cell in first[1])
    while columns and not columns[-1]:
        columns = columns[:-1]
    doubled = sorted({c for c in columns if columns.count(c) > 1})
    if not columns or "" in columns or doubled:
        what = f"names the column '{doubled[0]}' twice" if doubled and doubled[0] else "has a column without a name"
        raise TableError(f"The first line of {path} {what}.", "The first line must name every column, each once.")
    return Table(path, columns, _rows(path, columns, lines))


def _rows(path: Path, columns: Sequence[str], lines: Iterator[tuple[int, list[str]]]) -> Iterator[Row]:
    for number, cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(columns):
            raise TableError(
                f"Line {number} of {path} has {len(cells)} of {len(columns)} cells: half a row.",
                "Complete the line, or leave it out.",
            )
        if any(cell.strip() for cell in cells[len(columns) :]):
            raise TableError(
                f"Line {number} of {path} has {len(cells)} cells, the heading names {len(columns)}.",
                "Put cells with a comma in them in quotation marks.",
            )
        yield number, dict(zip(columns, cells, strict=False))


def find_columns(
    table: Table,
    wanted: Mapping[str, Sequence[str]],
    given: Mapping[str, str],
    *,
    needed: Sequence[str] = (),
    ignored: Sequence[str] | None = None,
) -> dict[str, str]:
    """Which column holds which field.

    Args:
        table: the file.
        wanted: field -> names its column may have; letters' case, blanks, '-' and '_' don't matter.
        given: field -> column, as the user maps them; these come first.
        needed: fields that must be found.
        ignored: columns that may be there unread. Others make an error; None lets all be there.

    Raises:
        UsageError: a map that names no field or no column.
        TableError: a needed field is not there, or a column is not known.
    """
    listed = ", ".join(f"'{c}'" for c in table.columns)
    for field, column in given.items():
        if field not in wanted:
            raise UsageError(f"There is no field '{field}' to map a column to.", f"Fields: {', '.join(wanted)}")
        if column not in table.columns:
            raise UsageError(f"{table.path} has no column '{column}'.", f"It has: {listed}")
    plain = {_plain(column): column for column in table.columns}
    found = dict(given)
    for field, names in wanted.items():
        for name in (field, *names):
            if field not in found and _plain(name) in plain and plain[_plain(name)] not in given.values():
                found[field] = plain[_plain(name)]
    for field in needed:
        if field not in found:
            raise TableError(
                f"{table.path} has no column for the {field}; it has {listed}.",
                f"Say which it is: --map {field}=COLUMN",
            )
    if ignored is not None:
        unknown = [c for c in table.columns if c not in found.values() and _plain(c) not in map(_plain, ignored)]
        if unknown:
            raise TableError(
                f"{table.path} has columns that mean nothing here: {', '.join(repr(c) for c in unknown)}.",
                f"Say what each is (--map FIELD=COLUMN; fields: {', '.join(wanted)}), or --ignore COLUMN.",
            )
    return found


def parse_map(words: Sequence[str]) -> dict[str, str]:
    """``FIELD=COLUMN`` words as a mapping.

    Raises:
        UsageError: a word of another form, or a field twice.
    """
    found: dict[str, str] = {}
    for word in words:
        field, mark, column = word.partition("=")
        if not mark or not field.strip() or not column.strip() or field.strip() in found:
            raise UsageError(
                f"'{word}' doesn't say which column a field is in.", "Write --map FIELD=COLUMN, each once."
            )
        found[field.strip()] = column.strip()
    return found


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()


def _read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(50_000_000)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            if "\0" in head:
                raise TableError(f"{path} is no table in text.", "Give a CSV file, or an .xlsx file.")
            mark = max(",;\t", key=head.count)
            reader = csv.reader(file, delimiter=mark, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise TableError(f"{path} is not written in UTF-8.", "Save it again as 'CSV UTF-8'.") from error
    except csv.Error as error:
        raise TableError(
            f"Line {reader.line_num} of {path} can't be read: {error}.", "Check its quotation marks."
        ) from error
    except OSError as error:
        raise TableError(f"{path} can't be read: {error.strerror}.", "Check the file.") from error


def _read_xlsx(path: Path, sheet: str) -> Iterator[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(path) as book:
            shared = _shared_texts(book)
            for row in _xml(book, _sheet_path(book, path, sheet)).iter(f"{_SHEET}row"):
                cells: list[str] = []
                for cell in row.iter(f"{_SHEET}c"):
                    at = _column_number(cell.get("r", ""), len(cells))
                    cells += [""] * (at - len(cells))
                    cells.append(_cell_text(cell, shared))
                yield int(row.get("r", 0)), cells
    except (zipfile.BadZipFile, ElementTree.ParseError, KeyError, ValueError, IndexError, OSError) as error:
        raise TableError(f"{path} is no sound .xlsx file: {error}.", "Save it again, or as 'CSV UTF-8'.") from error


def _xml(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    if book.getinfo(name).file_size > MOST_BYTES:
        raise ValueError(f"{name} is too large")
    data = book.read(name)
    if b"<!DOCTYPE" in data[:2000]:
        raise ValueError(f"{name} declares what no spreadsheet does")
    return ElementTree.fromstring(data)


def _shared_texts(book: zipfile.ZipFile) -> list[str]:
    if "xl/sharedStrings.xml" not in book.namelist():
        return []
    return ["".join(t.text or "" for t in si.iter(f"{_SHEET}t")) for si in _xml(book, "xl/sharedStrings.xml")]


def _sheet_path(book: zipfile.ZipFile, path: Path, wanted: str) -> str:
    sheets = {s.get("name", ""): s.get(_RELATION, "") for s in _xml(book, "xl/workbook.xml").iter(f"{_SHEET}sheet")}
    if wanted and wanted not in sheets:
        raise TableError(f"{path} has no sheet '{wanted}'.", f"It has: {', '.join(sheets)}")
    relation = sheets[wanted] if wanted else next(iter(sheets.values()))
    targets = {r.get("Id"): r.get("Target", "") for r in _xml(book, "xl/_rels/workbook.xml.rels")}
    target = targets[relation]
    return target.lstrip("/") if target.startswith("/") else f"xl/{target}"


def _column_number(reference: str, default: int) -> int:
    letters = re.match(r"[A-Z]+", reference)
    if not letters:
        return default
    number = 0
    for letter in letters[0]:
        number = number * 26 + ord(letter) - 64
    return number - 1


def _cell_text(cell: ElementTree.Element, shared: Sequence[str]) -> str:
    kind, value = cell.get("t", "n"), cell.find(f"{_SHEET}v")
    if kind == "inlineStr":
        return "".join(t.text or "" for t in cell.iter(f"{_SHEET}t"))
    text = "" if value is None else value.text or ""
    if kind == "s":
        return shared[int(text)]
    if kind == "b":
        return {"1": "true", "0": "false"}.get(text, text)
    return text
