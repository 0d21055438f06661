"""What a suite gives once it is open."""

from __future__ import annotations

import os
import sqlite3
import sys
import tracemalloc
from pathlib import Path

import pytest

from cultev.errors import SuiteError
from cultev.suite import Culture, Topic, build_suite, open_suite, schema
from tests.suite.sources import CANARY, CHOICE, changed, in_english, write_source


def rehash(path: Path, *statements: str) -> None:
    """Change a suite by SQL and give it the right hash again, as a newer or another builder might."""
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.execute("UPDATE suite SET value = ? WHERE key = 'content_hash'", (schema.content_hash(db),))
    db.commit()
    db.close()


def many(folder: Path, count: int) -> Path:
    items = (in_english(CHOICE, question=f"Question {n}?") | {"id": f"i{n}"} for n in range(count))
    return build_suite(write_source(folder / "tiny", list(items)), folder / "many.db").path


def test_metadata(tiny: Path) -> None:
    with open_suite(tiny) as suite:
        assert (suite.name, suite.version, suite.license) == ("tiny", "1.2.0", "CC-BY-4.0")
        assert (suite.title, suite.description) == ("A tiny suite", "Three items.")
        assert (suite.authors, suite.source, suite.value_frame) == (
            ("A. Nobody",),
            "Invented for a test.",
            "None.",
        )
        assert (suite.canary, suite.languages, suite.path) == (CANARY, ("hi", "en"), tiny)
        assert (suite.n_items, suite.unsupported) == (2, 0)
        assert suite.cultures["kelmori"] == Culture(
            "kelmori", "Invented", {"en": "Kelmori", "hi": "केलमोरी"}, {"en": "Kelmor"}
        )
        assert suite.topics == {"food": Topic("food", {"en": "Food", "hi": "भोजन"})}


def test_names_fall_back_on_english(tiny: Path) -> None:
    with open_suite(tiny) as suite:
        assert suite.cultures["kelmori"].name("hi") == "केलमोरी"
        assert suite.cultures["zurimo"].name("hi") == "Zurimo"
        assert suite.topics["food"].name() == "Food"


def test_filters(tiny: Path) -> None:
    with open_suite(tiny) as suite:
        assert [item.id for item in suite.items(cultures=["zurimo"])] == ["zurimo-1"]
        (item,) = suite.items(languages={"hi"})
        assert (item.id, list(item.texts)) == ("kelmori-1", ["hi"])
        assert list(suite.items(languages=["fr"])) == []
        assert list(suite.items(limit=0)) == []


def test_the_order_is_shuffled_fixed_and_the_limit_a_prefix_of_it(tmp_path: Path) -> None:
    with open_suite(many(tmp_path, 50)) as suite:
        order = [item.id for item in suite.items()]
        assert order == sorted(order, key=lambda id: schema.rank("tiny", id))
        assert order != [f"i{n}" for n in range(50)]
        assert [item.id for item in suite.items(limit=7)] == order[:7]


def test_two_iterators_at_once(tmp_path: Path) -> None:
    with open_suite(many(tmp_path, 20)) as suite:
        pairs = list(zip(suite.items(), suite.items(), strict=True))
    assert len(pairs) == 20
    assert all(one == other for one, other in pairs)


def test_an_unknown_item_gets_a_guess(tiny: Path) -> None:
    with open_suite(tiny) as suite:
        with pytest.raises(SuiteError, match="has no item 'kelmori-l'") as caught:
            suite.item("kelmori-l")
        assert "kelmori-1" in caught.value.next_step
        with pytest.raises(SuiteError) as caught:
            suite.item("?")
        assert "cultev suites show tiny --items" in caught.value.next_step


def test_counts(tiny: Path) -> None:
    with open_suite(tiny) as suite:
        assert suite.count("culture") == {"kelmori": 1, "zurimo": 1}
        assert suite.count("region") == {"Elsewhere": 1, "Invented": 1}
        assert suite.count("topic") == {"food": 2}
        assert suite.count("kind") == {"choice": 1, "label": 1}
        assert suite.count("language") == {"en": 2, "hi": 1}
        assert suite.count("status") == {"drafted": 1, "rejected": 1, "reviewed": 1}
        assert suite.count("answer") == {"acceptability: no": 1, "choice: 1": 1}
        assert suite.count("group") == {"2": 1}


def test_later_kinds_are_skipped_and_counted(tiny: Path) -> None:
    rehash(tiny, "UPDATE item SET kind = 'survey' WHERE id = 'kelmori-1'")
    with open_suite(tiny) as suite:
        assert (suite.n_items, suite.unsupported) == (1, 1)
        assert [item.id for item in suite.items()] == ["zurimo-1"]
        with pytest.raises(SuiteError, match="can't ask 'kelmori-1', of kind 'survey'"):
            suite.item("kelmori-1")


def test_later_label_sets_are_skipped_and_counted(tiny: Path) -> None:
    rehash(tiny, "UPDATE item SET labels = 'politeness' WHERE id = 'zurimo-1'")
    with open_suite(tiny) as suite:
        assert ([item.id for item in suite.items()], suite.unsupported) == (["kelmori-1"], 1)


def test_a_closed_suite_says_so(tiny: Path) -> None:
    suite = open_suite(tiny)
    suite.close()
    suite.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        list(suite.items())


NAMES = ["a b.db", "per%20cent.db", "hash#tag.db", "ünï—भोजन.db", "quote'.db", "semi;colon.db", "amp&.db"]
if sys.platform != "win32":
    NAMES += ["what?.db", 'double".db', "back\\slash.db", "new\nline.db", "file:x.db"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_file_names(tiny: Path, name: str) -> None:
    path = tiny.rename(tiny.with_name(name))
    with open_suite(path) as suite:
        assert suite.n_items == 2
    with open_suite(str(path)) as suite:
        assert suite.n_items == 2


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these refuse such names")
def test_a_file_name_that_is_not_utf8(tiny: Path) -> None:
    path = tiny.rename(tiny.with_name(os.fsdecode(b"\xff.db")))
    with open_suite(path) as suite:
        assert suite.n_items == 2


def test_opening_leaves_nothing_behind(tiny: Path) -> None:
    before = sorted(tiny.parent.iterdir())
    stamp = tiny.stat().st_mtime_ns
    with open_suite(tiny) as suite:
        list(suite.items())
        assert sorted(tiny.parent.iterdir()) == before
    assert tiny.stat().st_mtime_ns == stamp


def test_relative_paths(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny.parent)
    with open_suite("tiny.db") as suite:
        assert suite.n_items == 2


def grown(path: Path, times: int) -> Path:
    """A suite with every item so many times more, made by SQL: building 100,000 takes long."""
    copies = f"WITH RECURSIVE copy(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copy WHERE n < {times})"
    rehash(
        path,
        f"INSERT INTO item_text {copies} SELECT item || '-' || n, language, question, body FROM item_text, copy",
        f"INSERT INTO source {copies} SELECT item || '-' || n, seq, title, url FROM source, copy",
        f"INSERT INTO item {copies} SELECT id || '-' || n, seq, rank, kind, culture, topic, group_id, labels, answers,"
        " status, body FROM item, copy",
    )
    return path


def test_memory_stays_flat_at_100_000_items(tmp_path: Path) -> None:
    def peak(path: Path) -> int:
        with open_suite(path) as suite:
            tracemalloc.start()
            count = sum(1 for _ in suite.items())
            _, most = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert count == suite.n_items
        return most

    # From 10,000 on: below, CPython's own free lists are still filling.
    small = peak(grown(many(tmp_path / "small", 100), 99))
    large = peak(grown(many(tmp_path / "large", 100), 999))
    assert large < small + 50_000 < 500_000, f"{small:,} bytes became {large:,}"


def test_items_do_not_share_what_a_reader_changes(tiny: Path) -> None:
    with open_suite(tiny) as suite:
        item = suite.item("zurimo-1")
        item.texts["en"].contexts["rule"] = "Changed."  # type: ignore[index]
        assert suite.item("zurimo-1").texts["en"].contexts["rule"] == "Share."
    assert changed(CHOICE) == CHOICE
