"""From source to file: the same content is the same hash, and nothing half-done appears."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import cultev
from cultev.errors import SuiteError, SuiteSourceError
from cultev.suite import Choice, Item, Label, Source, Text, TrueFalse, build_suite, open_suite, schema
from cultev.suite.build import build_into
from tests.suite.sources import CHOICE, ITEMS, LABEL, changed, write_source

TINY_HASH = "efded335db6d0ac4d843a26f62bb6a3b9c1f09969f1a16c20fb80018d82efb99"
"""The tiny suite's content hash, written down: another machine, Python or SQLite must get the same."""


def build(folder: Path, name: str, items: object = ITEMS) -> Path:
    return build_suite(write_source(folder / name, items), folder / f"{name}.db").path  # type: ignore[arg-type]


def content_hash(path: Path) -> str:
    with open_suite(path) as suite:
        return suite.content_hash


def test_source_to_items_round_trip(tiny: Path) -> None:
    source = Source("A book", "https://example.org/a?b=1")
    expected: list[Item] = [
        Choice(
            id="kelmori-1", culture="kelmori", topic="food", group="guests", answers=("1",),
            sources=(source,), status="reviewed",
            texts={
                "hi": Text("मेहमानों को क्या दिया जाता है?", ("चाय", "दूध", "सूप")),
                "en": Text("What is offered to guests?", ("tea", "milk", "soup")),
            },
        ),
        Label(
            id="zurimo-1", culture="zurimo", topic="food", group="guests", answers=("no",),
            sources=(Source("A second book"),),
            texts={"en": Text("Ada eats alone.\nFine?", (), {"value": "Company.", "rule": "Share."})},
        ),
        TrueFalse(
            id="kelmori-2", culture="kelmori", topic="food", group="kelmori-2", answers=("true",),
            sources=(source,), status="rejected", texts={"en": Text("Soup is eaten with a spoon in Kelmori.")},
        ),
    ]  # fmt: skip
    with open_suite(tiny) as suite:
        assert [suite.item(item.id) for item in expected] == expected
        assert list(suite.item("kelmori-1").texts) == ["hi", "en"], "the suite's order of languages"
        assert sorted(item.id for item in suite.items()) == ["kelmori-1", "zurimo-1"], "rejected items are left out"


def test_several_right_answers(tmp_path: Path) -> None:
    with open_suite(build(tmp_path, "tiny", [changed(CHOICE, answers=[2, 0])])) as suite:
        assert suite.item("kelmori-1").answers == ("2", "0")


def test_the_report_says_what_was_built(tmp_path: Path) -> None:
    report = build_suite(write_source(tmp_path / "tiny"), tmp_path / "new" / "out.db")
    assert (report.name, report.version, report.n_items, report.n_cultures) == ("tiny", "1.2.0", 3, 2)
    assert report.path == tmp_path / "new" / "out.db"
    assert report.content_hash == content_hash(report.path)


def test_the_hash_is_the_same_everywhere(tiny: Path) -> None:
    assert content_hash(tiny) == TINY_HASH


def test_the_order_of_json_keys_changes_nothing(tmp_path: Path) -> None:
    turned = [json.loads(json.dumps(item), object_pairs_hook=lambda pairs: dict(reversed(pairs))) for item in ITEMS]
    assert list(turned[0]) != list(ITEMS[0])
    assert build(tmp_path, "a").read_bytes() == build(tmp_path, "b", turned).read_bytes()


def test_any_change_of_content_changes_the_hash(tmp_path: Path) -> None:
    other = [changed(CHOICE, answers=[2]), LABEL]
    assert content_hash(build(tmp_path, "a", [CHOICE, LABEL])) != content_hash(build(tmp_path, "b", other))


def test_who_built_it_is_not_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = content_hash(build(tmp_path, "a"))
    monkeypatch.setattr("cultev.suite.build.__version__", "99.0")
    assert content_hash(build(tmp_path, "b")) == first


def test_a_suite_is_replaced_in_one_step(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "tiny")
    target = tmp_path / "out.db"
    build_suite(folder, target)
    with open_suite(target) as before:
        build_suite(write_source(folder, [CHOICE]), target)
        assert before.n_items == 2
        with open_suite(target) as after:
            assert after.n_items == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.db", "tiny"]


if sys.platform == "win32":  # an open file can't be replaced there
    del test_a_suite_is_replaced_in_one_step


def test_a_failed_build_leaves_the_older_file(tmp_path: Path) -> None:
    path = build(tmp_path, "tiny")
    before = path.read_bytes()
    with pytest.raises(SuiteSourceError):
        build(tmp_path, "tiny", [changed(CHOICE, topic="war")])
    assert path.read_bytes() == before


def test_a_slip_of_the_target_costs_no_file(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "tiny")
    for content in (b"my thesis", b"SQLite format 3\0" + b"\0" * 100):
        (tmp_path / "mine").write_bytes(content)
        with pytest.raises(SuiteError, match="is not a suite; it was left alone"):
            build_suite(folder, tmp_path / "mine")
        assert (tmp_path / "mine").read_bytes() == content
    with pytest.raises(SuiteError, match="is a folder"):
        build_suite(folder, tmp_path)


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SuiteError, match="can't be"):
        build_suite(write_source(tmp_path / "tiny"), tmp_path / "file" / "out.db")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(db: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(schema, "create", full)
    with pytest.raises(SuiteError, match="disk is full"):
        build(tmp_path, "tiny")
    assert not (tmp_path / "tiny.db").exists()


def test_the_folder_of_a_built_in_suite_bears_its_name(tmp_path: Path) -> None:
    with pytest.raises(SuiteSourceError, match="holds a suite named 'tiny'"):
        build_into(write_source(tmp_path / "other"), tmp_path)


def test_the_layout_has_room_for_later_kinds() -> None:
    names = {name for kind, name, _ in schema.expected_layout() if kind == "table"}
    assert {"item", "item_text", "media", "source"} <= names


def test_views_read_well_with_sqlite3(tiny: Path) -> None:
    db = sqlite3.connect(tiny)
    rows = db.execute("SELECT id, language, options, answer FROM v_items").fetchall()
    cells = db.execute("SELECT culture, region, items, groups FROM v_cells ORDER BY 1, 3").fetchall()
    db.close()
    assert rows == [
        ("kelmori-1", "en", '["tea","milk","soup"]', "milk"),
        ("kelmori-1", "hi", '["चाय","दूध","सूप"]', "दूध"),
        ("zurimo-1", "en", None, "no"),
        ("kelmori-2", "en", None, "true"),
    ]
    assert cells == [
        ("kelmori", "Invented", 1, 1),
        ("kelmori", "Invented", 1, 1),
        ("zurimo", "Elsewhere", 1, 1),
    ]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomli stands in for tomllib there")
def test_building_needs_the_standard_library_only(tmp_path: Path) -> None:
    write_source(tmp_path / "tiny")
    root = Path(cultev.__file__).parents[1]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from cultev.suite.build import build_suite;"
        "print(build_suite(sys.argv[2], sys.argv[3]).content_hash)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, str(root), str(tmp_path / "tiny"), str(tmp_path / "out.db")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == TINY_HASH
