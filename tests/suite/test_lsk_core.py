"""lsk-core: what its measurement rests on, item by item and language by language."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from cultev.suite import Suite, open_suite
from cultev.suite.item import Choice, has_nested_options


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    with open_suite("lsk-core") as opened:
        yield opened


@pytest.fixture(scope="module")
def items(suite: Suite) -> list[Choice]:
    found = [item for item in suite.items() if isinstance(item, Choice)]
    assert len(found) == suite.n_items
    return found


def test_cells_are_many_and_large_enough(items: list[Choice]) -> None:
    cells = Counter((item.culture, item.topic) for item in items)
    assert sum(count >= 8 for count in cells.values()) >= 16
    assert sum(cells.values()) >= 160
    assert min(cells.values()) >= 8


def test_every_item_has_four_options_one_answer_a_source_and_every_language(suite: Suite, items: list[Choice]) -> None:
    for item in items:
        assert tuple(item.texts) == suite.languages, item.id
        assert {len(text.options) for text in item.texts.values()} == {4}, item.id
        assert len(item.answers) == 1, item.id
        assert all(source.url.startswith("http") for source in item.sources), item.id


def test_no_option_begins_another(items: list[Choice]) -> None:
    assert [item.id for item in items if has_nested_options(item)] == []


def test_the_right_option_is_not_known_by_its_place_or_length(suite: Suite, items: list[Choice]) -> None:
    places = Counter(int(item.answers[0]) for item in items)
    assert all(0.2 <= places[place] / len(items) <= 0.3 for place in range(4)), places
    for language in suite.languages:
        lengths = [[len(option) for option in item.texts[language].options] for item in items]
        pairs = list(zip(items, lengths, strict=True))
        longest = sum(sizes[int(item.answers[0])] == max(sizes) > sorted(sizes)[-2] for item, sizes in pairs)
        assert longest <= 0.3 * len(items), (language, longest)
