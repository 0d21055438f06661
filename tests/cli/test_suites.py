"""``cultev suites``."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cultev.cli.suites import suites
from cultev.errors import NotASuite, SuiteError, SuiteSourceError, UsageError
from cultev.suite import build_suite
from tests.suite.sources import ITEMS, SUITE, changed, in_english, write_source


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return build_suite(write_source(tmp_path / "tiny"), tmp_path / "tiny.db").path


def run(*args: object) -> Result:
    return CliRunner().invoke(suites, [str(arg) for arg in args], env={"COLUMNS": "80"}, catch_exceptions=True)


def output(*args: object) -> str:
    result = run(*args)
    assert result.exception is None, result.exception
    return result.stdout


@pytest.mark.parametrize("args", [["-h"], ["list", "-h"], ["show", "-h"], ["build", "-h"], ["check", "-h"]])
def test_help(args: list[str]) -> None:
    assert "Usage:" in output(*args)


def test_list(monkeypatch: pytest.MonkeyPatch) -> None:
    text = output("list")
    assert "planted" in text
    assert "norms-core" in text
    rows = json.loads(output("list", "--json"))
    assert {"name", "version", "items", "license", "status", "languages", "content_hash"} <= rows[0].keys()
    assert [row["name"] for row in csv.DictReader(io.StringIO(output("list", "--csv")))] == [
        row["name"] for row in rows
    ]


def test_list_goes_on_after_a_broken_suite(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    (tiny.parent / "x.db").write_text("nonsense")
    names = (str(tiny.parent / "x.db"), str(tiny))
    monkeypatch.setattr("cultev.suite.builtin_names", lambda: names)
    result = run("list")
    assert isinstance(result.exception, SuiteError)
    assert "no SQLite file" in result.stderr
    assert "tiny" in result.stdout


def test_show(tiny: Path) -> None:
    text = output("show", tiny)
    for words in (
        "A tiny suite",
        "CC-BY-4.0",
        "Kelmori",
        "Elsewhere",
        "acceptability: no",
        "reviewed",
        "content hash",
    ):
        assert words in text
    assert "\x1b" not in text, "no colour where there is no terminal"


def test_show_as_data(tiny: Path) -> None:
    facts = json.loads(output("show", tiny, "--json"))
    assert (facts["name"], facts["items"], facts["groups"]) == ("tiny", 2, 1)
    assert facts["counts"]["status"] == {"drafted": 1, "rejected": 1, "reviewed": 1}
    rows = list(csv.DictReader(io.StringIO(output("show", tiny, "--csv"))))
    assert {"by": "topic", "value": "food", "items": "2"} in rows


def test_show_items(tiny: Path) -> None:
    assert "What is offered to guests?" in output("show", tiny, "--items")
    rows = json.loads(output("show", tiny, "--items", "--json"))
    choice = next(row for row in rows if row["kind"] == "choice")
    assert choice["answers"] == ["milk"]
    assert choice["languages"] == ["hi", "en"]
    assert len(list(csv.reader(io.StringIO(output("show", tiny, "--items", "--csv"))))) == 3


@pytest.mark.parametrize("name", ["lsk-core", "norms-core", "planted"])
@pytest.mark.parametrize("more", [[], ["--items"]])
def test_tables_fit_80_columns(name: str, more: list[str]) -> None:
    assert max(len(line) for line in output("show", name, *more).splitlines()) <= 80


def test_build_and_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_source(tmp_path / "src" / "tiny")
    monkeypatch.chdir(tmp_path)
    built = json.loads(output("build", "src/tiny", "--json"))
    assert (built["path"], built["items"]) == ("tiny.db", 3)
    assert built["content_hash"] in output("check", "tiny.db")
    checked = json.loads(output("check", "tiny.db", "--json"))
    assert (checked["ok"], checked["items"], checked["content_hash"]) == (True, 2, built["content_hash"])
    monkeypatch.chdir(tmp_path / "src" / "tiny")
    output("build", ".", "-o", tmp_path / "b.db")
    assert (tmp_path / "b.db").read_bytes() == (tmp_path / "tiny.db").read_bytes()


def test_build_tells_of_normalised_text(tmp_path: Path) -> None:
    write_source(tmp_path / "tiny", [in_english(ITEMS[0], question="Cafe\u0301?")])
    result = run("build", tmp_path / "tiny", "-o", tmp_path / "t.db")
    assert "1 texts were not in Unicode NFC" in result.stderr


def test_errors_reach_the_main_function(tmp_path: Path) -> None:
    write_source(tmp_path / "tiny", [changed(ITEMS[0], topic="war")])
    assert isinstance(run("build", tmp_path / "tiny", "-o", tmp_path / "t.db").exception, SuiteSourceError)
    assert isinstance(run("check", tmp_path).exception, NotASuite)
    assert isinstance(run("show", tmp_path / "tiny", "--items").exception, NotASuite)


@pytest.mark.parametrize("command", ["list", "show", "check"])
def test_json_and_csv_exclude_each_other(command: str, tiny: Path) -> None:
    args = [command, "--json", "--csv"] if command == "list" else [command, tiny, "--json", "--csv"]
    assert isinstance(run(*args).exception, UsageError)


def test_a_suite_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """Not even one that was hashed by whoever wrote the escape sequence into it."""
    import sqlite3

    from cultev.suite import schema

    path = build_suite(write_source(tmp_path / "tiny", suite=SUITE), tmp_path / "t.db").path
    db = sqlite3.connect(path)
    db.execute("UPDATE suite SET value = ? WHERE key = 'title'", ("\x1b[2J[red]gone[/red]",))
    db.execute("UPDATE suite SET value = ? WHERE key = 'content_hash'", (schema.content_hash(db),))
    db.commit()
    db.close()
    text = output("show", path)
    assert "\x1b" not in text
    assert "[red]gone[/red]" in text


def test_the_shell_completes_names() -> None:
    import click

    from cultev.cli.suites import SuiteName

    found = SuiteName().shell_complete(click.Context(suites), click.Argument(["name"]), "plan")
    assert [(item.value, item.type) for item in found] == [("planted", "plain"), ("plan", "file")]
