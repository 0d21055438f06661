"""Every normalisation on numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from cultev.backend.types import ContinuationScore
from cultev.score.choice import choose


def score(logprob: float, tokens: int = 1, n_bytes: int = 1, chars: int = 1) -> ContinuationScore:
    return ContinuationScore(logprob, tokens, n_bytes, chars)


def test_each_norm_divides_by_its_own() -> None:
    # Four options, each the best by exactly one of sum, token, byte and char.
    scores = [score(-2, 1, 2, 2), score(-9, 9, 3, 3), score(-10, 2, 30, 5), score(-8, 2, 8, 20)]
    result = choose("abcd", ["a"], scores)
    assert result.by_norm == {"sum": "a", "token": "b", "byte": "c", "char": "d"}


def test_pmi_takes_the_prior_off() -> None:
    result = choose("ab", ["b"], [score(-1), score(-2)], [score(-1), score(-5)], "pmi")
    assert result.by_norm["pmi"] == "b"
    assert result.outcome == "correct"


def test_the_norm_decides_the_outcome() -> None:
    scores = [score(-2, 1), score(-3, 3)]
    assert choose("ab", ["b"], scores, norm="sum").outcome == "incorrect"
    assert choose("ab", ["b"], scores, norm="token").outcome == "correct"


def test_a_tie_is_wrong_unless_all_tied_are_right() -> None:
    scores = [score(-1), score(-1), score(-2)]
    assert choose("abc", ["a"], scores).outcome == "incorrect"
    assert choose("abc", ["a", "b"], scores).outcome == "correct"
    assert choose("abc", ["a"], scores).tied


def test_several_right_answers() -> None:
    assert choose("abc", ["b", "c"], [score(-3), score(-2), score(-1)]).outcome == "correct"


@pytest.mark.parametrize("gap", [2e-6, 1.0])
def test_a_gap_is_no_tie(gap: float) -> None:
    assert not choose("ab", ["a"], [score(-1), score(-1 - gap)]).tied


def test_a_tie_between_right_and_wrong_picks_nothing() -> None:
    """Listing the right option first must not make a model right that can't tell them apart."""
    result = choose("abc", ["a"], [score(-1), score(-1), score(-2)])
    assert result.by_norm["sum"] is None
    assert choose("abc", ["a", "b"], [score(-1), score(-1), score(-2)]).by_norm["sum"] == "a"
