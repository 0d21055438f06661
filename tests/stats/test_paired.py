"""Paired tests against published values and against exact enumeration."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from cultev.stats import paired
from cultev.stats.paired import compare, holm, mcnemar, sign_flip


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (3, 3), (10, 2), (2, 10), (59, 6), (400, 450)])
def test_mcnemar_is_the_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


def test_sign_flip_tries_all_signs() -> None:
    values = np.array([3.0, -1.0, 2.0, 2.0, 1.0])
    totals = [abs(float(np.dot(signs, values))) for signs in product((-1, 1), repeat=5)]
    assert sign_flip(values) == pytest.approx(np.mean([t >= 7 for t in totals]))
    assert sign_flip(np.zeros(5)) == 1


def test_sign_flip_of_single_items_is_mcnemar() -> None:
    values = np.array([1.0] * 30 + [-1.0] * 14)
    assert sign_flip(values) == pytest.approx(mcnemar(30, 14), abs=0.003)
    assert sign_flip(np.ones(200)) == pytest.approx(1 / (1 + paired.FLIPS))


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04: times 3, 2, 1 and never falling.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_compare_counts_and_says_ties_as_ties() -> None:
    ours = np.array([1.0, 1, 0, 1, np.nan] * 6)
    theirs = np.array([0.0, 1, 1, 0, 1] * 6)
    found = compare(ours, theirs, np.arange(30))
    assert (found.n, found.groups, found.gained, found.lost, found.method) == (24, 24, 12, 6, "mcnemar")
    assert found.difference == pytest.approx(0.25)
    assert found.low < 0.25 < found.high
    assert found.verdict(found.p) == "tie"
    assert found.verdict(0.01) == "better"
    assert compare(theirs, ours, np.arange(30)).verdict(0.01) == "worse"


def test_siblings_are_not_independent() -> None:
    """Forty answers to five questions, all gained: five groups can't give a p below 1/16."""
    found = compare(np.ones(40), np.zeros(40), np.repeat(np.arange(5), 8))
    assert found.method == "sign-flip" and found.p == pytest.approx(2 / 32)
    assert np.isnan(found.low), "five groups are too few for a bootstrap"


def test_nothing_to_compare() -> None:
    found = compare(np.array([np.nan]), np.array([1.0]), np.array([0]))
    assert (found.n, found.p, found.verdict(found.p)) == (0, 1.0, "tie")


def test_false_alarms_are_as_rare_as_promised() -> None:
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        ours, theirs = (generator.random((2, 60)) < 0.5).astype(float)
        alarms += compare(ours, theirs, np.arange(60)).p <= 0.05
    assert alarms <= 19  # 10 and three standard errors
