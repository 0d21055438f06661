"""Policies on the same test items, and the ceilings."""

from __future__ import annotations

import numpy as np
import pytest

from cultev.lsk.evaluate import evaluate
from cultev.lsk.gate import Gated
from cultev.lsk.oracle import Ceiling, ceiling, cell_oracle
from cultev.lsk.policies import BestSingle, CultureLanguage, English, EqualVote, Paper, Shrunk
from cultev.lsk.splits import held_out
from cultev.lsk.table import Entry, OutcomeTable
from tests.lsk.tables import CODES, drawn, items_of, planted


def test_all_policies_answer_the_same_items() -> None:
    table = drawn(planted(12, 0.95, 0.2), 16)
    found = evaluate(table, [English(), BestSingle(), Paper(), Shrunk(), Gated(), EqualVote()])
    standings = {s.policy: s for s in found.standings}
    assert found.left_out == ("equal-vote",), "no picks were recorded"
    assert found.training == found.test == found.counted == 96
    assert {s.accuracy.n for s in found.standings} == {96}
    assert standings["english"].verdict == "tie" and standings["english"].against.p == 1
    assert standings["gated"].verdict == "better"
    test = table.take(held_out(table.items))
    truth = {(f"c{c // 2}", f"t{c % 2}"): c % 4 for c in range(12)}
    assert abs(cell_oracle(test, truth) - standings["gated"].accuracy.value) <= 0.03


def test_items_unknown_to_one_policy_are_left_out_for_all() -> None:
    table = drawn(planted(12, 0.95, 0.2), 16)
    right = table.right()
    right[held_out(table.items) & (np.arange(len(table)) % 4 == 0), 0] = np.nan
    found = evaluate(OutcomeTable.of_right(table.items, CODES, right), [English(), Gated()])
    assert found.counted < found.test
    assert len({s.accuracy.n for s in found.standings}) == 1


def test_policies_see_nothing_of_the_test_items() -> None:
    """The test items, more of them than of the others, say the contrary: nobody may follow them."""
    cell = np.repeat(np.arange(8), 30)
    items = items_of(cell)
    held = held_out(items, 0.6)
    trained = np.where(np.arange(8) % 4 == 3, 2, 1)
    known = np.where(held, 3, trained[cell])
    table = OutcomeTable.of_right(items, CODES, known[:, None] == np.arange(4))
    found = evaluate(table, [English(), BestSingle(), Paper(), Shrunk(), Gated()], held)
    probe = items_of(np.arange(8))
    for name in ("paper", "shrunk", "gated"):
        assert found.routers[name].route(probe).tolist() == trained.tolist(), name
    assert set(found.routers["best-single"].route(probe).tolist()) == {1}
    assert {s.accuracy.value for s in found.standings} == {0.0}
    # Read the other way round, every policy takes the language that it must not have seen before.
    whole = evaluate(table, [BestSingle(), Paper(), Shrunk(), Gated()], ~held)
    for name, router in whole.routers.items():
        assert set(router.route(probe).tolist()) == {3}, name


def test_policies_that_answer_as_english_does_are_no_comparison() -> None:
    """Holm counts those that claim something only: any number of policies equal to English changes no p value."""
    table = drawn(planted(12, 0.95, 0.2), 16)
    few = evaluate(table, [Gated(), BestSingle()])
    same = [CultureLanguage({}, name=f"same{i}") for i in range(5)]
    many = evaluate(table, [Gated(), BestSingle(), English(), *same])
    found = {s.policy: s for s in many.standings}
    assert [found[s.policy].adjusted for s in few.standings] == [s.adjusted for s in few.standings]
    claims = [s for s in few.standings if s.against.gained or s.against.lost]
    assert claims and min(s.against.p for s in claims) > 0
    assert few.standings[0].adjusted == pytest.approx(len(claims) * few.standings[0].against.p)
    assert {found[name].adjusted for name in ("english", "same0", "same4")} == {1.0}


def entries(picks: list[list[int]], gold: list[int]) -> OutcomeTable:
    items = items_of(np.zeros(len(gold), dtype=np.intp))
    made = [
        Entry(f"i{i:04}", code, "correct" if p == gold[i] else "incorrect", picked=p)
        for i, row in enumerate(picks)
        for code, p in zip(CODES, row, strict=True)
    ]
    return OutcomeTable.build(items, CODES, made, {f"i{i:04}": 4 for i in range(len(gold))})


def test_the_ceiling_by_hand() -> None:
    table = entries([[0, 0, 0, 0], [1, 2, 3, 1], [0, 1, 2, 3]], [0, 1, 3])
    found = ceiling(table)
    assert found.oracle == 1
    assert found.chance == pytest.approx(1 - 0.75**4)
    assert found.corrected == 1


def test_guessing_alone_is_corrected_to_chance() -> None:
    generator = np.random.default_rng(1)
    picks = generator.integers(0, 4, size=(3000, 4)).tolist()
    found = ceiling(entries(picks, [0] * 3000))
    assert found.oracle == pytest.approx(found.chance, abs=0.03)
    assert found.corrected == pytest.approx(0.25, abs=0.05)


def test_a_corrected_ceiling_below_what_was_reached_is_none() -> None:
    assert Ceiling(0.9, 0.6, 0.8, 50).told(0.8) == 0.8
    assert Ceiling(0.9, 0.6, 0.8, 50).told(0.82) is None, "a policy is above it"
    assert Ceiling(0.6, 0.6, 0.25, 50).told(0.2) is None, "guessing alone reaches as much"
    assert Ceiling(1.0, np.nan, np.nan, 50).told(0.5) is None


def test_many_languages_and_few_options_tell_nothing() -> None:
    items = items_of(np.zeros(40, dtype=np.intp))
    codes = ("en", *(f"x{i}" for i in range(15)))
    made = [Entry(name, code, "correct") for name in items.ids.tolist() for code in codes]
    found = ceiling(OutcomeTable.build(items, codes, made, {name: 2 for name in items.ids.tolist()}))
    assert found.chance > 0.99 and np.isnan(found.corrected)
    unknown = ceiling(drawn(planted(4), 5))
    assert unknown.oracle == 1 and np.isnan(unknown.corrected)
