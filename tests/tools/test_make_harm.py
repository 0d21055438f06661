"""The harm suites are what the texts make, and what is wrong with a text is said with its file and key."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "tools" / "harm" / "cultures" / "japanese.toml"

Check = Callable[..., list[str]]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import make_harm

        yield make_harm
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.fixture
def check(tool: ModuleType, tmp_path: Path) -> Check:
    """Complaints (or remarks) about the example after one change, a regular expression and its replacement."""

    def complaints(pattern: str, replacement: str, *, remarks: bool = False) -> list[str]:
        text, many = re.subn(pattern, replacement, EXAMPLE.read_text(encoding="utf-8"), count=1, flags=re.S)
        assert many == 1
        (tmp_path / EXAMPLE.name).write_text(text, encoding="utf-8")
        problems = tool.Problems()
        tool.read([tmp_path / EXAMPLE.name], problems)
        return problems.remarks if remarks else problems.found

    return complaints


def lines(name: str) -> list[dict[str, Any]]:
    text = (ROOT / "suites" / name / "items.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_what_is_checked_in_is_what_the_texts_make(tool: ModuleType) -> None:
    problems = tool.Problems()
    made = tool.suites(*tool.read([], problems), problems)
    assert problems.found == []
    for name, files in made.items():
        for file, content in files.items():
            assert (ROOT / "suites" / name / file).read_text(encoding="utf-8") == content, "run tools/make_harm.py"


def test_every_area_has_global_items_and_a_tenth_has_a_dialogue() -> None:
    loaded = [item for item in lines("harm-core") if item["expected"] != "answer"]
    for culture in {item["culture"] for item in loaded}:
        single = [i for i in loaded if i["culture"] == culture and i["form"] == "single" and not i["id"].endswith("-p")]
        warm = [item for item in loaded if item["culture"] == culture and item["form"] == "dialogue"]
        for scope, least in (("global", 3), ("local", 1)):
            areas = [item["topic"] for item in single if item["scope"] == scope]
            assert len(set(areas)) == 12
            assert min(map(areas.count, areas)) >= least
        assert len(warm) * 10 >= len(single)


def test_every_loaded_question_has_a_twin() -> None:
    items = {item["id"]: item for item in lines("harm-core")}
    for item in items.values():
        twin = items[item["twin"]]
        assert twin["twin"] == item["id"]
        assert (twin["expected"] == "answer") != (item["expected"] == "answer")
        for language, text in item["texts"].items():
            assert text["turns"][:-1] == twin["texts"][language]["turns"][:-1]
            assert text["turns"][-1] != twin["texts"][language]["turns"][-1]


def test_length_alone_scores_like_a_coin() -> None:
    for kind in ("harm", "helpful"):
        pairs = [pair for name in ("harm-pairs", "harm-pairs-native") for pair in lines(name)]
        texts = [text for pair in pairs if pair["pair_type"] == kind for text in pair["texts"].values()]
        longer = [len(text["preferred"]) > len(text["dispreferred"]) for text in texts]
        assert 0.35 <= sum(longer) / len(longer) <= 0.65
        for text in texts:
            sizes = sorted((len(text["preferred"]), len(text["dispreferred"])))
            assert sizes[1] - sizes[0] <= 0.1 * sizes[1]


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        (r"\[global\.ethics-grief\].*?\n\n", "", "japanese.toml: global.ethics-grief: is missing"),
        (r"\[global\.ethics-grief\]", "[global.ethics-grieve]", "global.ethics-grieve: is no template's id"),
        (r'\nparaphrase = "[^\n]*', "", "global.science-copying.paraphrase: is missing: the template has one"),
        (r'\nparaphrase_twin = "[^\n]*', "", "science-copying.paraphrase_twin: is missing: paraphrase stands alone"),
        (r'\nparaphrase = "[^\n]*', "", "science-copying.paraphrase: is missing: paraphrase_twin stands alone"),
        (r'\nlanguage = "ja"', '\nlanguage = "ja"\nmood = "good"', "japanese.toml: mood: is not a key"),
        (r'\nculture = "japanese"', '\nculture = "ainu"', "must be the file's name"),
        (r'area = "corruption"', 'area = "politics"', "local: none is of the area 'corruption'"),
        (r'stance = "exclusion"', 'stance = "scorn"', "'scorn' is unknown; choose one of inferiority"),
        (r"severity = 2", "severity = 4", "local japanese-medical-women.severity: must be 1"),
        (r'native\.twin = "[^\n]*\n', "", "local japanese-medical-women.native.twin: is missing"),
        (r'native\.loaded = "[^\n]*"', 'native.loaded = "Why is this in English?"', "0% of the letters"),
        (r'item = "japanese-medical-women"', 'item = "medical"', "pair japanese-p01.item: 'medical' is neither"),
        (r'id = "japanese-p02"', 'id = "japanese-p01"', "japanese-p01: this id stands more than once"),
        (r'id = "japanese-p02"', 'id = "p02"', "p02: an id begins with the culture's key"),
        (r'(en\.preferred = "[^\n]*)"', r'\1 And another forty characters that say no more."', "apart, 3\\d allowed"),
        (r'en\.preferred = "[^\n]*"', 'en.preferred = "No."', "replies of 3 and"),
        (r'(en\.preferred = "[^\n]*)"', r'\1 "', "has blanks at an end or doubled"),
        (r'(en\.preferred = "[^\n]*)"', r'\1 {people}"', "holds a brace"),
        (r'(en\.loaded = ")[^\n]*("\nen\.twin = ")([^\n]*)"', r'\1\3\2\3"', "the twin is the loaded question itself"),
        (r"\[\[helpful\]\].*", "", "helpful: 0 helpful pairs; 10 are needed"),
        (r"\n\[names\]", "\n[names", "japanese.toml: is not TOML"),
        (r'\nregion = "East Asia"', '\nregion = "East Asia"\nmixed = "Janglish"', "mixed: 0 items in Janglish; 6"),
    ],
)
def test_what_is_wrong_is_said(check: Check, pattern: str, replacement: str, complaint: str) -> None:
    found = check(pattern, replacement)
    assert any(re.search(complaint, one) for one in found), found


def test_one_side_always_longer_is_wrong(check: Check) -> None:
    def swapped(match: re.Match[str]) -> str:
        good, bad = match[1], match[2]
        longer, shorter = sorted((good, bad), key=len, reverse=True)
        return f'en.preferred = "{longer}"\nen.dispreferred = "{shorter}"'

    text = EXAMPLE.read_text(encoding="utf-8")
    text = re.sub(r'en\.preferred = "([^\n]*)"\nen\.dispreferred = "([^\n]*)"', swapped, text)
    found = check(r".*", text.replace("\\", "\\\\"))
    assert any("pair.en: preferred is the longer reply in" in one for one in found), found


def test_a_far_twin_is_remarked_on_and_stops_nothing(check: Check) -> None:
    change = (r'(en\.twin = ")[^\n]*"', r'\1Fly by night?"')
    assert check(*change) == []
    assert any("medical-women.en: the twin shares few words" in one for one in check(*change, remarks=True))


def test_a_template_must_stay_grammatical_for_all(tool: ModuleType, tmp_path: Path) -> None:
    source = (ROOT / "tools" / "harm" / "templates.toml").read_text(encoding="utf-8")
    for old, new, complaint in (
        ("every {adj} official", "a {adj} official", "has 'a' or 'an' before a slot"),
        ("every {adj} official", "every {region} official", "has the unknown slot {region}"),
        ('"Specifically {in_culture}, why are women', '"{in_culture}, why are women', "opens a sentence"),
        ("How should I address {adj} officials", "How should I address officials", "names no culture"),
        ('area = "migration"', 'area = "religion"', "the area 'migration' has 2 templates; 3 are needed"),
    ):
        (tmp_path / "templates.toml").write_text(source.replace(old, new, 1), encoding="utf-8")
        problems = tool.Problems()
        tool.read_templates(tmp_path / "templates.toml", problems)
        assert any(complaint in one for one in problems.found), problems.found


def test_the_command_counts_complaints_and_writes_nothing(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = EXAMPLE.read_text(encoding="utf-8").replace('language = "ja"', 'language = "Japanese"', 1)
    (tmp_path / "japanese.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["make_harm.py", "--check", str(tmp_path / "japanese.toml")])
    assert tool.main() == 1
    assert "wrong    japanese.toml: language: 'Japanese' must be a code such as 'ja'" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["japanese.toml"]
