"""Each language's data is whole: every text, every placeholder, its own script and punctuation, nothing borrowed."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from string import Formatter

import pytest

from cultev.errors import UsageError
from cultev.prompt.languages import codes, language
from cultev.suite.item import LABEL_SETS

NEEDED = [
    "am", "ar", "bn", "de", "en", "es", "fa", "fr", "hi", "id", "it", "ja", "ko", "pcm", "pt", "ru", "sw", "ta", "th",
    "tr", "ur", "vi", "zh",
]  # fmt: skip

SCRIPTS = {
    "Arab": ("ARABIC",), "Beng": ("BENGALI",), "Cyrl": ("CYRILLIC",), "Deva": ("DEVANAGARI",), "Ethi": ("ETHIOPIC",),
    "Hans": ("CJK",), "Jpan": ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA"), "Kore": ("HANGUL",),
    "Latn": ("LATIN",), "Taml": ("TAMIL",), "Thai": ("THAI",),
}  # fmt: skip
"""How the Unicode names of a script's letters begin."""

PUNCTUATION = {
    "am": "።፤፦", "ar": ".،:", "bn": "।,:", "en": ".,:/", "es": ".,:/", "fa": ".،:\u200c", "fr": ".,:'-",
    "hi": "।,:-", "id": ".,:-", "it": ".,:'", "ja": "。、：", "ru": ".,:/-", "ta": ".,;:", "th": ":\n", "ur": "۔،:",
    "zh": "。，：",
}  # fmt: skip
"""All that a language may use beside letters and blanks where it isn't '.,:' alone."""

FOREIGN_LETTERS = {"ar": "یکہھے", "fa": "يكىةہھے", "ur": "يكىةه"}
"""Letters that look like the language's own, or nearly, and come from a neighbour's keyboard."""

SHARED = {
    "Falso": {"es", "it", "pt"}, "No": {"en", "es", "it", "pcm"}, "País: {country}": {"es", "pt"},
    "Valor: {value}": {"es", "pt"}, "درست": {"fa", "ur"},
    "Yes": {"en", "pcm"}, "Answer: ": {"en", "pcm"}, "Country: {country}": {"en", "pcm"},
}  # fmt: skip
"""The texts that really are the same in several languages: words, never sentences."""

ENDING = {"ja": "：", "zh": "："}
"""What an answer's lead ends with where it isn't a blank: full-width signs bring their own."""


def texts(code: str) -> dict[str, str]:
    """All that is said in a language, by its place: 'instruction.text', 'labels.truth.true', ..."""
    words = asdict(language(code))
    for name in ("code", "name", "script", "direction"):
        del words[name]
    return dict(_leaves(words, ""))


def _leaves(value: object, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else key)
    else:
        assert isinstance(value, str)
        yield place, value


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


def said(text: str) -> str:
    """The text without its placeholders."""
    return "".join(literal for literal, _, _, _ in Formatter().parse(text))


def test_all_needed_languages_are_there() -> None:
    assert sorted(codes()) == NEEDED


@pytest.mark.parametrize("code", codes())
def test_a_language_is_whole(code: str) -> None:
    words, mine, english = language(code), texts(code), texts("en")
    assert words.code == code
    assert mine.keys() == english.keys()
    assert all(said(text).strip() for text in mine.values())
    for place, text in mine.items():
        assert placeholders(text) == placeholders(english[place]), place
    for name, template in words.context.items():
        assert template.format(**{name: "X"}).endswith("X")
    for label_set, labels in LABEL_SETS.items():
        assert tuple(words.labels[label_set]) == labels


@pytest.mark.parametrize("code", codes())
def test_labels_can_be_told_apart(code: str) -> None:
    # A label that another one begins with would always be at least as likely as that other.
    for labels in language(code).labels.values():
        for word in labels.values():
            assert [other for other in labels.values() if other.startswith(word)] == [word]


@pytest.mark.parametrize("code", codes())
def test_blanks_and_normal_form(code: str) -> None:
    for place, text in texts(code).items():
        assert unicodedata.is_normalized("NFC", text), place
        if place == "answer_lead":
            end = ENDING.get(code, " ")
            assert text == text.strip().removesuffix(end) + end
        else:
            assert text == text.strip(), place
        assert "  " not in text, place


@pytest.mark.parametrize("code", codes())
def test_every_letter_is_of_the_language_s_script(code: str) -> None:
    words = language(code)
    for place, text in texts(code).items():
        letters = [ch for ch in said(text) if unicodedata.category(ch)[0] in "LM"]
        assert letters, place
        others = [ch for ch in letters if not unicodedata.name(ch).startswith(SCRIPTS[words.script])]
        assert not others, f"{place}: {others}"
        assert not set(letters) & set(FOREIGN_LETTERS.get(code, "")), place
    assert words.direction == ("rtl" if words.script == "Arab" else "ltr")


@pytest.mark.parametrize("code", codes())
def test_every_sign_is_of_the_language_s_punctuation(code: str) -> None:
    for place, text in texts(code).items():
        signs = {ch for ch in said(text) if unicodedata.category(ch)[0] not in "LM"}
        assert signs <= set(PUNCTUATION.get(code, ".,:") + " "), place
        # Of the languages here, only French puts a space before a colon, and always does.
        assert (" :" in text) == (code == "fr" and ":" in text), place


@pytest.mark.parametrize("code", codes())
def test_instructions_end_as_sentences_do(code: str) -> None:
    end = {"am": "።", "bn": "।", "hi": "।", "ja": "。", "th": "", "ur": "۔", "zh": "。"}.get(code, ".")
    words = language(code)
    for text in (*words.instruction.values(), *words.explanation.values()):
        assert text.endswith(end)
        assert unicodedata.category(text.removesuffix(end)[-1])[0] in "LM"


@pytest.mark.parametrize("code", codes())
def test_reasoning_is_asked_for_in_the_language_by_its_name(code: str) -> None:
    words = language(code)
    name = {"ru": "русск", "ta": "தமிழ"}.get(code, words.endonym).casefold()  # these two are inflected
    assert name in words.instruction["cot"].casefold()
    assert name not in words.instruction["text"].casefold()


@pytest.mark.parametrize("code", codes())
def test_the_explanation_names_every_label_in_order(code: str) -> None:
    words = language(code)
    told = re.findall(r"(?:^|[.。۔।።\n] ?)([^.。۔।።\n]+?) ?[:：፦]", words.explanation["acceptability"])
    assert told == list(words.labels["acceptability"].values())


def test_no_language_borrows_another_s_texts() -> None:
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for code in codes():
        for text in texts(code).values():
            seen[text].add(code)
    assert {text: where for text, where in seen.items() if len(where) > 1} == SHARED


def test_english_comes_first() -> None:
    assert codes()[0] == "en"


def test_an_unknown_language_is_named() -> None:
    with pytest.raises(UsageError, match="'eo'"):
        language("eo")
