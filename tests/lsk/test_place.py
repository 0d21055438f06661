from __future__ import annotations

from collections.abc import Iterator

import pytest

from cultev.lsk.place import ALIKE, STRANGE, named_culture, place
from cultev.suite import Item, Suite, open_suite


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    with open_suite("planted") as opened:
        yield opened


class Without:
    """A suite that lacks a group of siblings."""

    def __init__(self, suite: Suite, group: str) -> None:
        self.cultures, self.topics = suite.cultures, suite.topics
        self._items = [item for item in suite.items() if item.group != group]

    def items(self) -> Iterator[Item]:
        return iter(self._items)


@pytest.mark.parametrize("code", ["en", "zh", "ar", "bn", "ru", "ja", "hi", "es"])
def test_a_question_that_the_suite_lacks_finds_its_cell(suite: Suite, code: str) -> None:
    for item in list(suite.items())[:3]:
        found = place(item.texts[code].question, code, Without(suite, item.group))  # type: ignore[arg-type]
        assert (found.culture, found.topic) == (item.culture, item.topic)
        assert found.how == "named" and found.compared_in == code and found.likeness > STRANGE


def test_what_is_told_is_not_guessed(suite: Suite) -> None:
    found = place("Which fruit opens the New Year meal in Kelmori?", "en", suite, "zurimo", "craft")
    assert (found.culture, found.topic, found.how) == ("zurimo", "craft", "told")
    found = place("Which fruit opens the New Year meal?", "en", suite, "zurimo")
    assert (found.culture, found.topic, found.how) == ("zurimo", "food", "alike")
    assert place("Which fruit opens the New Year meal in Kelmori?", "en", suite, topic="craft").topic == "craft"


@pytest.mark.parametrize("question", [
    "How do I install Python on Windows?", "What is the capital of Mongolia?", "Who wrote Hamlet?", "?", "",
    "How many legs does a spider have?", "日本の首都はどこですか？",
])  # fmt: skip
def test_what_is_like_nothing_is_said_to_be(suite: Suite, question: str) -> None:
    found = place(question, "en", suite)
    assert (found.culture, found.topic, found.how, found.nearest) == ("", "", "unlike", None)
    assert found.likeness < STRANGE


def test_a_name_alone_says_the_culture(suite: Suite) -> None:
    found = place("Kelmori: qwxz vbnm?", "en", suite)
    assert found.culture == "kelmori" and found.how == "named"
    assert found.topic == "" or found.likeness >= ALIKE


def test_a_language_that_the_suite_lacks_is_compared_with_english(suite: Suite) -> None:
    found = place("Welche Frucht wird in Kelmori für den Winter getrocknet?", "de", suite)
    assert found.compared_in == "en" and found.culture == "kelmori"


def test_names(suite: Suite) -> None:
    assert named_culture("কেলমোরিতে কী খাওয়া হয়?", "bn", suite) == "kelmori"  # with an ending
    assert named_culture("在凯尔莫里，人们吃什么？", "zh", suite) == "kelmori"
    assert named_culture("Is Kelmori older than Zurimo?", "en", suite) == ""
    assert named_culture("unkelmorian", "en", suite) == ""
