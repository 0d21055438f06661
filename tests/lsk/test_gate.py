"""The gate: experts where there are any, English where nothing is known, and no peeking at test items."""

from __future__ import annotations

import numpy as np
import pytest

from cultev.lsk.gate import Check, Gated, paired_gain
from cultev.lsk.splits import held_out
from cultev.lsk.table import OutcomeTable
from tests.lsk.tables import drawn, items_of, planted

CELLS = np.arange(12)


def test_planted_experts_are_found_from_four_items_a_cell() -> None:
    truth = planted(12)
    truth[11] = 0.0  # known in no language
    truth[10] = 1.0  # known in every language
    router = Gated().fit(drawn(truth, 4))
    assert router.shipped == "cells"
    expected = CELLS % 4
    expected[[10, 11]] = 0
    assert router.route(items_of(CELLS)).tolist() == expected.tolist()


def test_recommendations_say_what_they_rest_on() -> None:
    found = Gated().fit(drawn(planted(12), 4)).recommendations()
    assert [r.language for r in found] == (CELLS % 4).tolist()
    assert found[1].cell == "c0 / t1"
    assert (found[1].best, found[1].n) == (1, 4)
    assert found[1].gain > 0.9 and found[1].chance > 0.99 and 0 < found[1].error < 0.1
    assert found[0].best != 0 and found[0].gain < -0.9, "English is the expert: what comes next is worse"
    single = Gated().fit(drawn(np.tile([0.4, 0.8, 0.3, 0.5], (12, 1)), 20))
    assert {r.language for r in single.recommendations()} == {1}


@pytest.mark.parametrize(("cells", "items"), [(1, 1), (1, 3), (12, 1)])
def test_too_little_to_learn_from_is_english(cells: int, items: int) -> None:
    router = Gated().fit(drawn(planted(12)[:cells], items))
    assert router.shipped == "english"


def test_nothing_asked_and_nothing_but_english_are_english() -> None:
    table = drawn(planted(12), 4)
    unasked = OutcomeTable.of_right(table.items, table.languages, np.full((48, 4), np.nan))
    assert Gated().fit(unasked).shipped == "english"
    only = Gated().fit(OutcomeTable.of_right(table.items, ("en",), table.right()[:, :1]))
    assert only.shipped == "english" and only.recommendations() == []


def test_one_language_that_is_better_everywhere() -> None:
    router = Gated().fit(drawn(np.tile([0.4, 0.8, 0.3, 0.5], (12, 1)), 20))
    assert set(router.route(items_of(CELLS)).tolist()) == {1}
    assert router.shipped == "single"
    assert router.reason


def test_english_stays_where_it_is_best() -> None:
    router = Gated().fit(drawn(np.tile([0.8, 0.6, 0.5, 0.5], (12, 1)), 20))
    assert (router.route(items_of(CELLS)) == 0).all()
    assert router.shipped == "english"


def test_nothing_known_is_english() -> None:
    """Languages that don't differ: a map in at most 5 % of tables, one language for everything in fewer than 20 %."""
    shipped = [Gated().fit(drawn(np.full((12, 4), 0.5), 12, seed=seed)).shipped for seed in range(60)]
    assert shipped.count("cells") <= 7  # 3 and three standard errors
    assert shipped.count("english") >= 40


def test_routing_of_test_items_never_sees_their_outcomes() -> None:
    table = drawn(planted(12, 0.8, 0.3), 16)
    test = held_out(table.items)
    right = table.right()
    right[test] = 1 - right[test]
    changed = OutcomeTable.of_right(table.items, table.languages, right)
    one = Gated().fit(table.take(~test)).route(table.items.take(test))
    other = Gated().fit(changed.take(~test)).route(changed.items.take(test))
    assert (one == other).all()


def test_validation_uses_no_item_twice() -> None:
    """With one item per cell, a policy tried on its own training items would look perfect: here it doesn't."""
    generator = np.random.default_rng(0)
    right = generator.random((60, 4)) < 0.5
    table = OutcomeTable.of_right(items_of(np.arange(60)), ("en", "es", "ar", "hi"), right)
    checks = Gated().checks(table, 2)
    assert all(abs(c.gain) < 0.3 for c in checks)


def test_validation_strikes_out_what_does_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Check("cells", "english", -0.1, 0.02), Check("single", "english", -0.01, 0.02)
    monkeypatch.setattr(Gated, "checks", lambda self, table, rung: bad if rung == 2 else bad[1:])
    router = Gated().fit(drawn(planted(12, 0.9, 0.2), 20))
    assert router.shipped in ("single", "english")
    assert "validation" in router.reason


def test_paired_gain_by_hand() -> None:
    """Three groups with sums of differences 2, 0, -1 and sizes 2, 1, 1: mean 1/4."""
    ours, theirs = np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 1, 1])
    gain, error = paired_gain(ours, theirs, np.array([0, 0, 1, 2]))
    assert gain == pytest.approx(0.25)
    scatter = np.array([2 - 0.5, 0 - 0.25, -1 - 0.25])
    assert error == pytest.approx(np.sqrt(3 / 2 * (scatter**2).sum()) / 4)
    assert paired_gain(ours[:1], theirs[:1], np.array([0]))[1] == np.inf
    assert paired_gain(ours * np.nan, theirs, np.array([0, 0, 1, 2])) == (0.0, np.inf)


def test_siblings_do_not_multiply_the_evidence() -> None:
    """Eight copies of 48 items in which languages don't differ: taken as independent, they would prove anything."""
    maps = {False: 0, True: 0}
    for seed in range(100, 130):
        right = np.repeat(np.random.default_rng(seed).random((48, 4)) < 0.5, 8, axis=0)
        for siblings in maps:
            items = items_of(np.repeat(np.arange(6), 64), siblings=8 if siblings else 1)
            table = OutcomeTable.of_right(items, ("en", "es", "ar", "hi"), right)
            maps[siblings] += Gated().fit(table).shipped == "cells"
    assert maps[True] <= 5  # 1.5 expected
    assert maps[False] >= 20
