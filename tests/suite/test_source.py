"""Every impossible thing in a suite's source is named with its file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cultev.errors import SuiteSourceError
from cultev.suite import build_suite, open_suite
from tests.suite.sources import (
    CHOICE,
    ITEMS,
    LABEL,
    SUITE,
    TRUEFALSE,
    changed,
    in_english,
    line,
    write_source,
)


def complaint(folder: Path, items: Any = ITEMS, suite: str = SUITE) -> str:
    target = folder / "out.db"
    with pytest.raises(SuiteSourceError) as caught:
        build_suite(write_source(folder / "tiny", items, suite), target)
    assert not target.exists()
    assert [path.name for path in folder.iterdir()] == ["tiny"], "no draft is left behind"
    return caught.value.message


BAD_ITEMS = [
    (changed(CHOICE, extra=1), "'extra' is not a field"),
    (changed(CHOICE, id=None), "'id' is missing"),
    (changed(CHOICE, id="a b"), "'id' must be letters"),
    (changed(CHOICE, id=7), "'id' must be a text, not 7"),
    (changed(CHOICE, kind="essay"), "kind 'essay' can't be built; choose one of choice"),
    (changed(CHOICE, kind="survey"), "kind 'survey' can't be built yet"),
    (changed(CHOICE, culture="atlantis"), "culture 'atlantis' is not in suite.toml"),
    (changed(CHOICE, topic="war"), "topic 'war' is not in suite.toml"),
    (changed(CHOICE, status="fine"), "status 'fine' is unknown"),
    (changed(CHOICE, answers=[]), "'answers' is empty"),
    (changed(CHOICE, answers=[3]), "answer 3 must be an option's index, 0 to 2"),
    (changed(CHOICE, answers=[-1]), "answer -1 must be"),
    (changed(CHOICE, answers=[True]), "answer True must be"),
    (changed(CHOICE, answers=["1"]), "answer '1' must be"),
    (changed(CHOICE, answers=[1, 1]), "the same answer stands twice"),
    (changed(CHOICE, answers=[0, 1, 2]), "every option is a right answer"),
    (changed(CHOICE, answers=1), "'answers' must be a list, not 1"),
    (changed(CHOICE, source=[]), "'source' is empty"),
    (changed(CHOICE, source=None), "'source' is missing"),
    (changed(CHOICE, source=["a book"]), "source[0] must be a table"),
    (changed(CHOICE, source=[{"url": "https://example.org"}]), "source[0].'title' is missing"),
    (changed(CHOICE, source=[{"title": "t", "url": "my shelf"}]), "must be an address"),
    (changed(CHOICE, labels="acceptability"), "'labels' is not a field"),
    (changed(CHOICE, texts={}), "'texts' is empty"),
    (changed(CHOICE, texts={"en": "What?"}), "texts.en must be a table"),
    (changed(CHOICE, texts={**CHOICE["texts"], "fr": CHOICE["texts"]["en"]}), "'fr' is not in suite.toml"),
    (in_english(CHOICE, options=["tea"]), "options are 1; a choice needs two or more"),
    (in_english(CHOICE, options=["tea", "milk", " Tea"]), "has blanks around it"),
    (in_english(CHOICE, options=["tea", "milk", "TEA"]), "options[2] is the same as options[0]"),
    (in_english(CHOICE, options=["tea", "", "milk"]), "options[1] is empty"),
    (in_english(CHOICE, options=["tea", "a\nb", "milk"]), "runs over more than one line"),
    (in_english(CHOICE, options=["tea", 5, "milk"]), "options[1] must be a text, not 5"),
    (in_english(CHOICE, question=""), "'question' is empty"),
    (in_english(CHOICE, question="Hello {name}?"), "holds a brace"),
    (in_english(CHOICE, question="A\x07 bell?"), "U+0007"),
    (in_english(CHOICE, question="Turned \u202e over?"), "U+202E"),
    (in_english(CHOICE, question="Half a pair \ud800?"), "U+D800"),
    (in_english(CHOICE, question="Lost \ufffd?"), "U+FFFD"),
    (in_english(CHOICE, contexts={"country": "Peru"}), "can't have the name 'country'"),
    (in_english(CHOICE, contexts={"rule": 5}), "'rule' must be a text"),
    (changed(LABEL, labels="colours"), "label set 'colours' is unknown"),
    (changed(LABEL, labels=None), "'labels' is missing"),
    (changed(LABEL, answers=["maybe"]), "answer 'maybe' must be one of yes, no, neutral"),
    (in_english(LABEL, options=["a", "b"]), "'options' is not a field"),
    (changed(TRUEFALSE, answers=["true"]), "answer 'true' must be true or false"),
    (changed(TRUEFALSE, answers=[True, False]), "every option is a right answer"),
    (["a list"], "must be one JSON object"),
]


@pytest.mark.parametrize(("item", "words"), BAD_ITEMS, ids=[words for _, words in BAD_ITEMS])
def test_a_bad_item_is_named_with_its_line(tmp_path: Path, item: Any, words: str) -> None:
    raw = line(LABEL) + json.dumps(item).encode() + b"\n"
    if isinstance(item, dict) and item.get("id") == LABEL["id"]:
        raw = line(CHOICE) + json.dumps(item).encode() + b"\n"
    message = complaint(tmp_path, raw)
    assert words in message
    assert "items.jsonl:2: " in message


BAD_LINES = [
    (b"{", "is not JSON"),
    (b'{"id": "a", "id": "b"}', "the field 'id' stands twice"),
    (b'{"id": NaN}', "NaN is no JSON number"),
    (b"[" * 100_000, "is not JSON"),
    (b'{"n": ' + b"9" * 10_000 + b"}", "items.jsonl:2:"),
    (b'{"id": "\xff"}', "is not UTF-8"),
    (line(LABEL).strip(), "the id 'zurimo-1' stands already on line 1"),
]


@pytest.mark.parametrize(("raw", "words"), BAD_LINES, ids=[words for _, words in BAD_LINES])
def test_a_bad_line_is_named(tmp_path: Path, raw: bytes, words: str) -> None:
    message = complaint(tmp_path, line(LABEL) + raw + b"\n")
    assert words in message
    assert "items.jsonl:2: " in message


def test_options_and_contexts_run_parallel_across_languages(tmp_path: Path) -> None:
    fewer = changed(CHOICE)
    fewer["texts"]["hi"]["options"] = ["चाय", "दूध"]
    other = changed(CHOICE, id="b")
    other["texts"]["hi"]["contexts"] = {"rule": "नियम"}
    message = complaint(tmp_path, [fewer, other])
    assert "don't run parallel: 3 in en and 2 in hi" in message
    assert "the contexts in en are not those in hi" in message


BAD_HEADERS = [
    ('name = "tiny"', 'name = "Tiny Suite"', "suite.toml:1: 'name' must be small letters"),
    ('version = "1.2.0"', 'version = "1.2"', "suite.toml:2: 'version' must be a version"),
    ('title = "A tiny suite"', "", "'title' is missing"),
    ('license = "CC-BY-4.0"', 'license = "do what you like!"', "suite.toml:5: 'license' must be an SPDX"),
    ("0f8fad5b-d9cb", "0f8fad5b", "suite.toml:9: 'canary' must be a GUID"),
    ('["hi", "en"]', "[]", "suite.toml:10: 'languages' is empty"),
    ('["hi", "en"]', '["hi", "English"]', "not 'English'"),
    ('["hi", "en"]', '["hi", "en", "hi"]', "'languages' names one twice"),
    ('["hi", "en"]', '["bn"]', "'hi' is not one of the suite's languages"),
    ('["A. Nobody"]', "[1]", "'authors' must be a list of names"),
    ('region = "Invented"', "", "suite.toml:12: kelmori: 'region' is missing"),
    ('name.en = "Zurimo"', "", "suite.toml:18: zurimo: 'name' is missing"),
    ("[cultures.zurimo]", "[cultures.'zu rimo']", "the id 'zu rimo' must be letters"),
    ("[topics.food]", "[topics.food]\ncolour = 'red'", "suite.toml:23: food: 'colour' is not a field"),
    ("[topics.food]", "[themes.food]", "'themes' is not a field"),
    ('title = "A tiny suite"', "title = 'A {tiny} suite'", "holds a brace"),
    ('title = "A tiny suite"', "title = 7", "suite.toml:3: 'title' must be a text, not 7"),
    ('title = "A tiny suite"', "title = ", "suite.toml:3: is not TOML"),
]


@pytest.mark.parametrize(("old", "new", "words"), BAD_HEADERS, ids=[words for _, _, words in BAD_HEADERS])
def test_a_bad_header_is_named_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in SUITE
    assert words in complaint(tmp_path, ITEMS, SUITE.replace(old, new))


def test_a_header_that_is_not_utf8(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "tiny")
    (folder / "suite.toml").write_bytes(b'name = "tiny"\ntitle = "\xff"\n')
    with pytest.raises(SuiteSourceError, match=r"suite\.toml:2: is not UTF-8"):
        build_suite(folder, tmp_path / "out.db")


@pytest.mark.parametrize("name", ["suite.toml", "items.jsonl"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_source(tmp_path / "tiny")
    (folder / name).unlink()
    with pytest.raises(SuiteSourceError, match=f"There is no {name}"):
        build_suite(folder, tmp_path / "out.db")


def test_no_items_is_a_problem(tmp_path: Path) -> None:
    assert "holds no items" in complaint(tmp_path, b"\n \n")


def test_twenty_problems_are_enough(tmp_path: Path) -> None:
    message = complaint(tmp_path, [changed(CHOICE, id=f"i{n}", topic="war") for n in range(50)])
    assert message.count("items.jsonl:") == 20
    assert "20 problems or more" in message


def test_text_is_normalised_and_counted(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "tiny", [in_english(CHOICE, question="Cafe\u0301?"), LABEL])
    report = build_suite(folder, tmp_path / "out.db")
    assert report.normalised == 1
    with open_suite(report.path) as suite:
        assert suite.item("kelmori-1").texts["en"].question == "Caf\u00e9?"


def test_editors_of_windows_are_welcome(tmp_path: Path) -> None:
    plain = build_suite(write_source(tmp_path / "a"), tmp_path / "a.db")
    raw = b"\xef\xbb\xbf" + b"".join(map(line, ITEMS)).replace(b"\n", b"\r\n") + b"\r\n"
    folder = write_source(tmp_path / "b", raw)
    (folder / "suite.toml").write_bytes(b"\xef\xbb\xbf" + SUITE.replace("\n", "\r\n").encode())
    assert build_suite(folder, tmp_path / "b.db").content_hash == plain.content_hash


def test_group_and_status_have_defaults(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "tiny", [changed(CHOICE, group=None, status=None)])
    with open_suite(build_suite(folder, tmp_path / "out.db").path) as suite:
        item = suite.item("kelmori-1")
    assert (item.group, item.status) == ("kelmori-1", "drafted")
