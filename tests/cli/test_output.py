"""Tables, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest

from cultev.cli.output import Column, emit_csv, emit_record, emit_table, note
from cultev.report.text import printable

COLUMNS = [Column("name"), Column("share", align="right"), Column("more", in_table=False)]
ROWS: list[dict[str, object]] = [{"name": "a", "share": 0.123456, "more": ["x", "y"]}, {"name": "b", "share": None}]


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(COLUMNS, ROWS, title="Shares")
    assert capsys.readouterr().out.splitlines() == [
        "Shares",
        "name   share",
        "────────────",
        "a      0.123",
        "b",
    ]


def test_json_keeps_full_values_a_row_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(COLUMNS, ROWS, json=True)
    out = capsys.readouterr().out
    assert json.loads(out) == [ROWS[0], {**ROWS[1], "more": None}]
    assert len(out.splitlines()) == 4


def test_csv_keeps_full_values(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(COLUMNS, ROWS, csv=True)
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["name", "share", "more"], ["a", "0.123456", '["x", "y"]'], ["b", "", ""]]


def test_rows_can_be_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(["run", "n"], [["r1", 1200]])
    emit_table(["run", "n"], [("r1", 1200)], json=True)
    emit_csv(["run", "n"], [["r1", 1200]])
    assert (
        capsys.readouterr().out
        == 'run   n\n───────────\nr1    1,200\n[\n  {"run": "r1", "n": 1200}\n]\nrun,n\nr1,1200\n'
    )


def test_a_row_of_another_length_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="a row of 1 values for 2 columns"):
        emit_table(["a", "b"], [["x"]], csv=True)


def test_no_rows(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(["a"], [], json=True)
    emit_table(["a"], [], csv=True)
    assert capsys.readouterr().out == "[]\na\n"


def test_what_is_not_a_finite_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    emit_table(["a", "b"], [[float("nan"), float("inf")]], json=True)
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": None}]


def test_record(capsys: pytest.CaptureFixture[str]) -> None:
    emit_record({"n_items": 2, "ok": True})
    emit_record({"n_items": 2, "ok": True}, csv=True)
    assert capsys.readouterr().out == "n items  2\nok       yes\nkey,value\nn_items,2\nok,true\n"


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("careful\x1b[31m")
    assert capsys.readouterr() == ("", "careful\ufffd[31m\n")


def test_printable() -> None:
    assert printable("a\nb\x1b\u202ec") == "a\nb\ufffd\ufffdc"
    assert printable("क्\u200dष می\u200cخواهم") == "क्\u200dष می\u200cخواهم"


def test_notes_are_wrapped_for_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "one two three " * 20
    note(text)
    assert capsys.readouterr().err == f"{text}\n"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    note(text)
    lines = capsys.readouterr().err.splitlines()
    assert max(map(len, lines)) <= 40 and " ".join(lines).split() == text.split()
