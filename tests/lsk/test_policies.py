"""Policies on tables small enough to solve by hand; routers and votes."""

from __future__ import annotations

import numpy as np
import pytest

from cultev.lsk.cells import ByMetadata, Everything
from cultev.lsk.gate import Gated
from cultev.lsk.policies import (
    BestSingle,
    CultureLanguage,
    English,
    EqualVote,
    ModelPicked,
    Paper,
    PaperTop3,
    Policy,
    Random,
    Shrunk,
    Shuffled,
)
from cultev.lsk.router import Constant, answers, tokens
from cultev.lsk.table import Entry, OutcomeTable
from tests.lsk.tables import CODES, drawn, items_of, planted

ALL: tuple[Policy, ...] = (
    English(), BestSingle(), Paper(), PaperTop3(), Shrunk(), Gated(), Random(), EqualVote(), Shuffled(Shrunk()),
    CultureLanguage({"c0": "es"}), ModelPicked({"i0000": "hi"}),
)  # fmt: skip


def of(rows: list[list[float]], cell: list[int] | None = None) -> OutcomeTable:
    right = np.array(rows, dtype=float)
    return OutcomeTable.of_right(items_of(np.array(cell or [0] * len(rows))), CODES, right)


def test_paper_takes_the_most_right_in_each_cell() -> None:
    table = of([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [1, 0, 0, 1], [1, 0, 1, 1]], [0, 0, 0, 1, 1])
    assert Paper().fit(table).route(items_of(np.array([0, 1]))).tolist() == [2, 0]


def test_ties_go_to_english_then_to_the_order_of_languages() -> None:
    table = of([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]], [0, 0, 1])
    assert Paper().fit(table).route(items_of(np.array([0, 1]))).tolist() == [1, 2]
    assert Paper().fit(of([[1, 1, 1, 1]])).route(items_of(np.array([0]))).tolist() == [0]
    assert BestSingle().fit(of([[0, 1, 0, 1]])).route(items_of(np.array([0]))).tolist() == [1]


def test_a_tie_of_shares_from_unequal_counts_is_a_tie() -> None:
    nan = np.nan
    table = of([[1, 1, 0, 0], [0, nan, 0, 0], [0, nan, 1, nan], [nan, 0, nan, nan], [nan, 0, nan, nan]])
    # English 1 of 3, es 1 of 3, ar 1 of 3, hi 0 of 2.
    assert Paper().fit(table).route(items_of(np.array([0]))).tolist() == [0]


def test_nothing_right_and_cells_never_seen_are_english() -> None:
    table = of([[0, 0, 0, 0], [0, 1, 0, 0]], [0, 1])
    assert Paper().fit(table).route(items_of(np.array([0, 7]))).tolist() == [0, 0]


def test_top3_leaves_out_languages_with_nothing_right() -> None:
    table = of([[0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]], [0, 0, 1])
    panel = PaperTop3().fit(table).panel(items_of(np.array([0, 1])))
    assert panel.tolist() == [[1, 3, -1], [0, -1, -1]]


def voting(picked: list[int], right: list[int]) -> OutcomeTable:
    entries = [
        Entry("i0000", code, "correct" if ok else "incorrect", picked=p, tokens=10)
        for code, p, ok in zip(CODES, picked, right, strict=True)
    ]
    return OutcomeTable.build(items_of(np.array([0])), CODES, entries, {"i0000": 4})


def test_votes() -> None:
    everyone = EqualVote().fit(voting([0, 1, 1, 2], [0, 1, 1, 0]))
    assert answers(everyone, voting([0, 1, 1, 2], [0, 1, 1, 0])).tolist() == [1]
    # Two against two: the side with English wins, whatever its letter.
    assert answers(everyone, voting([3, 0, 0, 3], [1, 0, 0, 1])).tolist() == [1]
    assert answers(everyone, voting([3, 0, 1, 2], [0, 1, 0, 0])).tolist() == [0]
    assert tokens(everyone, voting([3, 0, 1, 2], [0, 1, 0, 0])).tolist() == [40]
    assert tokens(Constant(2), voting([3, 0, 1, 2], [0, 1, 0, 0])).tolist() == [10]


def test_a_tied_vote_goes_to_english_first_and_then_by_the_order_of_the_panel() -> None:
    everyone = EqualVote().fit(voting([0, 1, 1, 0], [1, 0, 0, 1]))
    assert answers(everyone, voting([0, 1, 1, 0], [1, 0, 0, 1])).tolist() == [1], "English's option, of two and two"
    assert answers(everyone, voting([0, 1, 1, 0], [0, 1, 1, 0])).tolist() == [0]
    assert answers(everyone, voting([2, 1, 3, 0], [1, 0, 0, 0])).tolist() == [1], "English's, of one each"
    # English picked nothing: the side of the first language after it wins.
    assert answers(everyone, voting([-1, 3, 0, -1], [0, 1, 0, 0])).tolist() == [1]
    assert answers(everyone, voting([-1, 3, 0, -1], [0, 0, 1, 0])).tolist() == [0]


def test_a_vote_without_picks_is_refused() -> None:
    with pytest.raises(ValueError, match="picked"):
        answers(EqualVote().fit(of([[1, 0, 0, 0]])), of([[1, 0, 0, 0]]))


def test_what_was_not_asked_is_unknown() -> None:
    table = of([[np.nan, 1, 0, 0], [1, 0, 0, 0]])
    assert np.isnan(answers(Constant(0), table)[0])
    assert answers(Constant(0), table)[1] == 1


def test_names_lead_to_languages_and_otherwise_to_english() -> None:
    table = of([[0, 0, 0, 0]])
    items = items_of(np.array([0, 2, 4]))
    culture = CultureLanguage({"c0": "ar", "c1": "sw"}).fit(table)
    assert culture.route(items).tolist() == [2, 0, 0]
    assert ModelPicked({"i0001": "hi"}).fit(table).route(items).tolist() == [0, 3, 0]


def test_chance_is_spread_and_fixed() -> None:
    items = items_of(np.zeros(4000, dtype=np.intp))
    router = Random().fit(of([[0, 0, 0, 0]]))
    assert np.bincount(router.route(items)).tolist() == pytest.approx([1000] * 4, abs=110)
    assert (router.route(items) == router.route(items)).all()


def test_shrunk_abstains_until_it_is_sure() -> None:
    """One lucky item is no reason to leave English; forty are."""
    few = of([[0, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1], [1, 0, 1, 0]] * 3)
    assert Shrunk().fit(few).route(items_of(np.array([0]))).tolist() == [0]
    truth = np.array([[0.3, 0.8, 0.3, 0.3], [0.8, 0.3, 0.3, 0.3]])
    many = drawn(truth, 40)
    assert Shrunk().fit(many).route(items_of(np.array([0, 1]))).tolist() == [1, 0]


def test_a_new_cell_gets_what_holds_overall() -> None:
    truth = np.tile([0.3, 0.8, 0.3, 0.3], (6, 1))
    assert Shrunk().fit(drawn(truth, 20)).route(items_of(np.array([50]))).tolist() == [1]
    assert Shrunk().fit(drawn(planted(), 20)).route(items_of(np.array([50]))).tolist() == [0]


def test_shuffled_cells_know_nothing_of_cells() -> None:
    table = drawn(planted(12), 8)
    cells = np.arange(12)
    plain = Shrunk().fit(table).route(items_of(cells))
    shuffled = Shuffled(Shrunk()).fit(table).route(items_of(cells))
    assert plain.tolist() == (cells % 4).tolist()
    assert (shuffled == 0).all()


@pytest.mark.parametrize("policy", ALL, ids=lambda p: p.name)
def test_languages_may_change_places(policy: Policy) -> None:
    """Names of languages mean nothing: with the columns exchanged, the same languages are chosen."""
    if policy.name in ("random", "equal-vote"):
        pytest.skip("chosen by position on purpose")
    table = drawn(planted(12, 0.8, 0.3) + np.array([0.05, 0.02, 0.0, 0.03]), 25)
    order = [0, 3, 1, 2]
    codes = tuple(CODES[i] for i in order)
    moved = OutcomeTable.of_right(table.items, codes, table.right()[:, order])
    one, other = policy.fit(table).route(table.items), policy.fit(moved).route(table.items)
    assert [CODES[i] for i in one] == [codes[i] for i in other]


@pytest.mark.parametrize("policy", ALL, ids=lambda p: p.name)
def test_the_order_of_rows_decides_nothing(policy: Policy) -> None:
    table = drawn(planted(12, 0.8, 0.3), 25)
    order = np.random.default_rng(2).permutation(len(table))
    assert (policy.fit(table).route(table.items) == policy.fit(table.take(order)).route(table.items)).all()


def test_cells_and_one_cell_are_the_same_policy() -> None:
    truth = np.tile([0.3, 0.8, 0.3, 0.3], (1, 1))
    table = drawn(truth, 60)
    items = items_of(np.array([0]))
    assert Shrunk(ByMetadata()).fit(table).route(items) == Shrunk(Everything()).fit(table).route(items)
