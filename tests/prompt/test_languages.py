"""Each language's data is whole: every key, every placeholder, words that can be told apart."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict

import pytest

from cultev.errors import UsageError
from cultev.prompt.languages import codes, language
from cultev.suite.item import LABEL_SETS


@pytest.mark.parametrize("code", codes())
def test_a_language_is_whole(code: str) -> None:
    words, english = language(code), language("en")
    assert words.code == code
    assert set(words.instruction) == set(english.instruction) == {"text", "letters", "cot"}
    assert set(words.context) == set(english.context)
    assert set(words.explanation) == set(english.explanation)
    for name, template in words.context.items():
        assert template.format(**{name: "X"}).endswith("X")
    for label_set, labels in LABEL_SETS.items():
        assert tuple(words.labels[label_set]) == labels
        assert len(set(words.labels[label_set].values())) == len(labels)


@pytest.mark.parametrize("code", codes())
def test_texts_are_normalised_and_in_their_script(code: str) -> None:
    words = language(code)
    flat = [str(value) for value in _leaves(asdict(words))]
    assert all(unicodedata.is_normalized("NFC", text) for text in flat)
    names = {
        "Latn": "LATIN", "Cyrl": "CYRILLIC", "Arab": "ARABIC", "Deva": "DEVANAGARI", "Hans": "CJK",
        "Beng": "BENGALI", "Jpan": "HIRAGANA",
    }  # fmt: skip
    letters = [ch for text in words.instruction.values() for ch in text if ch.isalpha()]
    assert any(unicodedata.name(ch).startswith(names[words.script]) for ch in letters)


@pytest.mark.parametrize("code", codes())
def test_the_explanation_names_every_label(code: str) -> None:
    words = language(code)
    for word in words.labels["acceptability"].values():
        assert f"{word}:" in words.explanation["acceptability"].replace("：", ":")


def test_english_comes_first() -> None:
    assert codes()[0] == "en"


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(UsageError, match="'eo'"):
        language("eo")


def _leaves(value: object) -> list[object]:
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in _leaves(inner)]
    return [value]
