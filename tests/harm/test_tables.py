"""CSV and XLSX tables: what they hold, and a clear sentence for what is wrong with them."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

from cultev.errors import TableError, UsageError
from cultev.harm.tables import find_columns, parse_map, read_table


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8"))
    return path


def rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    return list(read_table(path).rows)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_csv_with_any_mark_and_a_byte_order_mark(tmp_path: Path, mark: str) -> None:
    path = table(tmp_path, "\ufeff" + f'a{mark}b\r\n1{mark}"two\nlines"\r\n\r\n3{mark}क\r\n')
    assert rows(path) == [(3, {"a": "1", "b": "two\nlines"}), (5, {"a": "3", "b": "क"})]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("a,a\n1,2\n", "names the column 'a' twice"),
        ("a,,b\n1,2,3\n", "a column without a name"),
        ("a,b,c\n1,2,3\n4,5\n", "Line 3 of .* has 2 of 3 cells: half a row"),
        ("a,b\n1,2,3\n", "Line 2 of .* has 3 cells, the heading names 2"),
        ('a,b\n1,"2\n', "Line 2 of .* can't be read"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TableError, match=words):
        rows(table(tmp_path, text))


def test_other_encodings_and_files(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("a,b\né,1\n".encode("latin-1"))
    with pytest.raises(TableError, match="not written in UTF-8"):
        rows(path)
    with pytest.raises(TableError, match="There is no file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"no sound \.xlsx file"):
        read_table(table(tmp_path, "a,b\n", "false.xlsx"))


def xlsx(path: Path, rows: str, shared: str = "") -> Path:
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "xl/workbook.xml",
            f'<workbook {main} xmlns:r="{relations}"><sheets><sheet name="One" sheetId="1" r:id="rId1"/></sheets>'
            "</workbook>",
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="rId1" Target="worksheets/sheet1.xml"/>'
            "</Relationships>",
        )
        if shared:
            book.writestr("xl/sharedStrings.xml", f"<sst {main}>{shared}</sst>")
        book.writestr("xl/worksheets/sheet1.xml", f"<worksheet {main}><sheetData>{rows}</sheetData></worksheet>")
    return path


def test_xlsx(tmp_path: Path) -> None:
    cells = (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>b</t></is></c></row>'
        '<row r="3"><c r="B3"><v>1.5</v></c></row><row r="4"><c r="A4" t="s"><v>1</v></c><c r="B4" '
        't="b"><v>1</v></c></row>'
    )
    path = xlsx(tmp_path / "t.xlsx", cells, "<si><t>a</t></si><si><r><t>two </t></r><r><t>runs</t></r></si>")
    assert rows(path) == [(3, {"a": "", "b": "1.5"}), (4, {"a": "two runs", "b": "true"})]
    with pytest.raises(TableError, match="has no sheet 'Two'"):
        read_table(path, "Two")


def test_xlsx_with_entities_is_refused(tmp_path: Path) -> None:
    path = xlsx(tmp_path / "t.xlsx", "")
    with zipfile.ZipFile(tmp_path / "evil.xlsx", "w") as evil, zipfile.ZipFile(path) as book:
        for name in book.namelist():
            data = book.read(name)
            evil.writestr(name, b'<!DOCTYPE a [<!ENTITY b "c">]>' + data if "workbook.xml" in name else data)
    with pytest.raises(TableError, match=r"no sound \.xlsx file"):
        read_table(tmp_path / "evil.xlsx")


WANTED = {"question": ("prompt", "input"), "culture": ("country",)}


def columns(folder: Path, head: str, given: dict[str, str], **more: object) -> dict[str, str]:
    return find_columns(read_table(table(folder, f"{head}\n")), WANTED, given, **more)  # type: ignore[arg-type]


def test_columns_by_name_and_by_map(tmp_path: Path) -> None:
    assert columns(tmp_path, "Prompt,COUNTRY", {}) == {"question": "Prompt", "culture": "COUNTRY"}
    assert columns(tmp_path, "text,prompt", {"question": "text"}) == {"question": "text"}
    with pytest.raises(TableError, match="no column for the question; it has 'x', 'y'"):
        columns(tmp_path, "x,y", {}, needed=("question",))
    with pytest.raises(UsageError, match="has no column 'z'"):
        columns(tmp_path, "x,y", {"question": "z"})
    with pytest.raises(UsageError, match="no field 'area'"):
        columns(tmp_path, "x,y", {"area": "x"})
    with pytest.raises(TableError, match=re.escape("columns that mean nothing here: 'wieght'")):
        columns(tmp_path, "prompt,wieght,note", {}, ignored=("note",))


def test_map_words() -> None:
    assert parse_map(["a=b c", "d = e=f"]) == {"a": "b c", "d": "e=f"}
    for wrong in (["a"], ["=b"], ["a="], ["a=b", "a=c"]):
        with pytest.raises(UsageError, match=r"Write --map FIELD=COLUMN|doesn't say which column"):
            parse_map(wrong)
