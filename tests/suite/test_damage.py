"""Whatever is wrong with a suite file ends in a SuiteError that says what, never in SQLite's own error."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cultev.errors import NotASuite, SuiteDamaged, SuiteError, SuiteNotFound, SuiteTooNew
from cultev.suite import Item, build_suite, open_suite, schema
from tests.suite.sources import CHOICE, changed, write_source
from tests.suite.test_store import grown, many, rehash


def refused(path: Path | str, error: type[SuiteError]) -> str:
    with pytest.raises(SuiteError) as caught:
        open_suite(path)
    assert type(caught.value) is error
    assert caught.value.next_step
    return caught.value.message


def edit(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


def patch(path: Path, offset: int, content: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(content)] = content
    path.write_bytes(raw)


def test_no_such_suite(tmp_path: Path) -> None:
    assert "no suite" in refused(tmp_path / "none.db", SuiteNotFound)
    assert "no suite 'nowhere'" in refused("nowhere", SuiteNotFound)
    assert "can't be the name" in refused_name("a\0b")


def refused_name(name: str) -> str:
    with pytest.raises(SuiteNotFound) as caught:
        open_suite(name)
    return caught.value.message


def test_a_mistyped_name_gets_a_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cultev.suite.store.builtin_names", lambda: ("norms-core", "planted"))
    with pytest.raises(SuiteNotFound) as caught:
        open_suite("plantd")
    assert caught.value.next_step == "Did you mean 'planted'? Built in: norms-core, planted."


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in refused(tmp_path, NotASuite)


def test_a_source_folder(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "tiny")
    with pytest.raises(NotASuite, match="is a suite's source") as caught:
        open_suite(folder)
    assert "cultev suites build" in caught.value.next_step


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    assert "is empty" in refused(tmp_path / "empty.db", NotASuite)


@pytest.mark.parametrize("raw", [b"id,question\n", b"SQLite format", b"\0" * 5000, b"PK\x03\x04"])
def test_not_sqlite(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "x.db").write_bytes(raw)
    assert "no SQLite file" in refused(tmp_path / "x.db", NotASuite)


def test_a_model_instead_of_a_suite(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0")
    with pytest.raises(NotASuite) as caught:
        open_suite(tmp_path / "x.gguf")
    assert "It is a GGUF model" in caught.value.next_step


def test_sqlite_of_something_else(tmp_path: Path) -> None:
    edit(tmp_path / "x.db", "CREATE TABLE suite (key, value)")
    assert "of something else" in refused(tmp_path / "x.db", NotASuite)


def test_results_instead_of_a_suite(tiny: Path) -> None:
    patch(tiny, 68, schema.RESULTS_APPLICATION_ID.to_bytes(4, "big"))
    assert "holds results" in refused(tiny, NotASuite)


def test_results_bear_the_mark_known_here() -> None:
    from cultev.run.schema import APPLICATION_ID

    assert APPLICATION_ID == schema.RESULTS_APPLICATION_ID


def test_a_newer_suite(tiny: Path) -> None:
    edit(tiny, "PRAGMA user_version=2")
    assert "written by a newer cultev (suite layout version 2; this cultev reads up to 1)" in refused(tiny, SuiteTooNew)


@pytest.mark.parametrize("version", [0, -1])
def test_a_version_that_never_was(tiny: Path, version: int) -> None:
    edit(tiny, f"PRAGMA user_version={version}")
    assert "never existed" in refused(tiny, SuiteDamaged)


def test_a_file_that_cannot_be_read(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "can't be read: Permission denied" in refused(tiny, SuiteError)


CHANGES = [
    "UPDATE item SET answers = '[\"0\"]' WHERE id = 'kelmori-1'",
    "UPDATE item SET rank = rank + 1 WHERE id = 'kelmori-1'",
    "UPDATE item SET status = 'reviewed' WHERE id = 'zurimo-1'",
    "UPDATE item_text SET question = 'Another question?' WHERE item = 'zurimo-1'",
    "UPDATE suite SET value = 'MIT' WHERE key = 'license'",
    "UPDATE suite SET value = replace(value, '0', '1') WHERE key = 'content_hash'",
    "DELETE FROM suite WHERE key = 'content_hash'",
    "DELETE FROM source WHERE item = 'zurimo-1'",
    "DELETE FROM culture_name WHERE language = 'hi'",
    "UPDATE topic_name SET name = 'Feeding' WHERE language = 'en'",
    "INSERT INTO media VALUES ('00', 'image/png', x'00')",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_changed_by_sql(tiny: Path, change: str) -> None:
    with open_suite(tiny) as suite:
        built = suite.content_hash
    edit(tiny, change)
    message = refused(tiny, SuiteDamaged)
    assert "changed after it was built" in message
    if "suite" not in change:
        assert f"states the content hash {built}, and has " in message


@pytest.mark.parametrize(
    "change",
    [
        "CREATE VIEW v_more AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON item BEGIN DELETE FROM item; END",
        "DROP VIEW v_items",
        "DROP INDEX item_rank",
        "ALTER TABLE item ADD COLUMN more TEXT",
    ],
)
def test_a_changed_layout(tiny: Path, change: str) -> None:
    edit(tiny, change)
    assert "its tables are not those of a suite" in refused(tiny, SuiteDamaged)


def test_an_index_that_disagrees_with_its_table(tiny: Path) -> None:
    """The one damage that quick_check and the hash both miss: items would be silently left out."""
    db = sqlite3.connect(tiny)
    for change in ("sql || ' WHERE 0'", "replace(sql, ' WHERE 0', '')"):
        db.execute("PRAGMA writable_schema=ON")
        db.execute(f"UPDATE sqlite_master SET sql = {change} WHERE name = 'item_rank'")
        db.commit()
        db.close()
        db = sqlite3.connect(tiny)
        if "replace" not in change:
            db.execute("REINDEX item_rank")
    db.close()
    assert "is damaged: SQLite finds:" in refused(tiny, SuiteDamaged)


NONSENSE = [
    "UPDATE item SET answers = '[\"9\"]' WHERE id = 'kelmori-1'",
    "UPDATE item SET answers = '[]' WHERE id = 'kelmori-1'",
    "UPDATE item SET answers = '{' WHERE id = 'kelmori-1'",
    "UPDATE item SET answers = '7' WHERE id = 'kelmori-1'",
    "UPDATE item_text SET body = '[]' WHERE item = 'kelmori-1'",
    "UPDATE item_text SET body = '{\"options\":[1,2,3]}' WHERE item = 'kelmori-1'",
    "UPDATE item_text SET body = '{\"options\":[\"a\",\"b\"]}' WHERE item = 'kelmori-1' AND language = 'hi'",
    "UPDATE item_text SET body = '{}' WHERE item = 'kelmori-1'",
    "UPDATE item_text SET body = '{\"contexts\":[\"a\"]}' WHERE item = 'zurimo-1'",
]


@pytest.mark.parametrize("change", NONSENSE)
def test_nonsense_with_the_right_hash(tiny: Path, change: str) -> None:
    rehash(tiny, change)
    with open_suite(tiny) as suite, pytest.raises(SuiteDamaged):
        list(suite.items())


@pytest.mark.parametrize(
    "change",
    ["DELETE FROM suite WHERE key = 'title'", "UPDATE suite SET value = 'en' WHERE key = 'languages'"],
)
def test_a_nonsense_header_with_the_right_hash(tiny: Path, change: str) -> None:
    rehash(tiny, change)
    refused(tiny, SuiteDamaged)


def content(path: Path) -> tuple[str, list[Item]]:
    with open_suite(path) as suite:
        return suite.content_hash, list(suite.items())


@pytest.fixture
def several_pages(tmp_path: Path) -> Path:
    """A suite of a few dozen pages, inner pages among them."""
    path = many(tmp_path, 200)
    assert path.stat().st_size > 20 * schema.PAGE_SIZE
    return path


def cut_short(raw: bytes, chance: random.Random) -> bytes:
    return raw[: chance.randrange(len(raw))]


def flip_a_byte(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ chance.randrange(1, 256)]) + raw[at + 1 :]


def flip_in_the_first_page(raw: bytes, chance: random.Random) -> bytes:
    return flip_a_byte(raw[: schema.PAGE_SIZE], chance) + raw[schema.PAGE_SIZE :]


def lose_a_page(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(raw) // schema.PAGE_SIZE) * schema.PAGE_SIZE
    return raw[:at] + b"\0" * schema.PAGE_SIZE + raw[at + schema.PAGE_SIZE :]


def swap_pages(raw: bytes, chance: random.Random) -> bytes:
    pages = [raw[at : at + schema.PAGE_SIZE] for at in range(0, len(raw), schema.PAGE_SIZE)]
    one, other = chance.sample(range(len(pages)), 2)
    pages[one], pages[other] = pages[other], pages[one]
    return b"".join(pages)


@pytest.mark.parametrize("harm", [cut_short, flip_a_byte, flip_in_the_first_page, lose_a_page, swap_pages])
def test_any_harm_is_told_or_harmless(
    several_pages: Path, tmp_path: Path, harm: Callable[[bytes, random.Random], bytes]
) -> None:
    whole, raw = content(several_pages), several_pages.read_bytes()
    chance = random.Random(harm.__name__)
    told = 0
    for _ in range(300):
        path = tmp_path / "harmed.db"
        path.write_bytes(harm(raw, chance))
        try:
            assert content(path) == whole
        except SuiteError as error:
            told += 1
            assert str(path) in error.message
    assert told > 100


def test_a_file_changed_while_it_is_open(tmp_path: Path) -> None:
    path = grown(many(tmp_path, 100), 199)  # more than SQLite keeps in memory
    with open_suite(path) as suite:
        path.write_bytes(path.read_bytes()[: schema.PAGE_SIZE] + b"\xff" * path.stat().st_size)
        with pytest.raises(SuiteDamaged):
            list(suite.items())


def test_a_suite_of_one_item_is_enough(tmp_path: Path) -> None:
    report = build_suite(write_source(tmp_path / "tiny", [changed(CHOICE)]), tmp_path / "one.db")
    assert content(report.path)[0] == report.content_hash
