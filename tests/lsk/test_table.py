"""The outcome table: joined by id, missing is not wrong unless it is the language's fault."""

from __future__ import annotations

import numpy as np
import pytest

from cultev.errors import UsageError
from cultev.lsk.table import Entry, OutcomeTable
from tests.lsk.tables import CODES, items_of

ITEMS = items_of(np.array([0, 0, 1]))


def test_entries_find_their_place_in_any_order() -> None:
    entries = [
        Entry("i0002", "ar", "correct", score=0.7, picked=3, tokens=21),
        Entry("i0000", "en", "incorrect", picked=1, tokens=10),
        Entry("i0001", "es", "off_language", tokens=12),
        Entry("i0001", "hi", "engine_error"),
    ]
    table = OutcomeTable.build(ITEMS, CODES, entries, {"i0002": 4})
    assert table.right()[2, 2] == 1
    assert table.right()[0, 0] == 0
    assert table.right()[1, 1] == 0, "an answer in another language is no answer there"
    assert np.isnan(table.right()[1, 3]), "an engine's failure says nothing about the language"
    assert np.isnan(table.right()[0, 1]), "not asked"
    assert (table.picked[2, 2], table.tokens[2, 2], table.score[2, 2], table.options[2]) == (3, 21, 0.7, 4)
    backwards = OutcomeTable.build(ITEMS, CODES, entries[::-1], {"i0002": 4})
    assert (backwards.outcome == table.outcome).all()


def test_shares_are_of_what_was_asked() -> None:
    entries = [Entry("i0000", "es", "off_language"), Entry("i0001", "es", "correct")]
    shares = OutcomeTable.build(ITEMS, CODES, entries).shares("off_language")
    assert shares["es"] == 0.5
    assert np.isnan(shares["en"])


@pytest.mark.parametrize(
    "entry", [Entry("nobody", "en", "correct"), Entry("i0000", "xx", "correct"), Entry("i0000", "en", "great")]
)
def test_what_has_no_place_is_refused(entry: Entry) -> None:
    with pytest.raises(ValueError, match="no place"):
        OutcomeTable.build(ITEMS, CODES, [entry])


def test_two_answers_to_one_question_are_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        OutcomeTable.build(ITEMS, CODES, [Entry("i0000", "en", "correct")] * 2)


@pytest.mark.parametrize("languages", [("es", "en"), ("es",), (), ("en", "es", "es")])
def test_english_comes_first_and_languages_once(languages: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        OutcomeTable.of_right(ITEMS, languages, np.zeros((3, len(languages))))


def test_taking_rows_keeps_everything_together() -> None:
    table = OutcomeTable.of_right(ITEMS, CODES, np.arange(12).reshape(3, 4) % 2)
    part = table.take(np.array([2, 0]))
    assert part.items.ids.tolist() == ["i0002", "i0000"]
    assert (part.outcome == table.outcome[[2, 0]]).all()
