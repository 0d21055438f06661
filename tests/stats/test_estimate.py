"""Intervals against published values, and against what they promise: coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from cultev.stats.estimate import MIN_GROUPS, group_bootstrap, proportion, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (81, 263), (500, 1000)])
def test_wilson_equals_scipys(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_equals_the_published_example() -> None:
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_no_answers_is_no_number() -> None:
    estimate = proportion(np.array([]), np.array([]))
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high, estimate.n) == (0.0, 1.0, 0)


def test_independent_answers_get_wilson() -> None:
    estimate = proportion(np.array([1.0, 0.0, 1.0]), np.ones(3))
    assert (estimate.method, estimate.n, estimate.groups) == ("wilson", 3, 3)


def test_few_groups_count_as_few() -> None:
    estimate = proportion(np.array([10.0, 0.0]), np.array([10.0, 10.0]))
    assert estimate.method == "wilson-on-groups"
    assert (estimate.low, estimate.high) == wilson(0.5, 2)


def test_groups_that_score_alike_are_not_certainty() -> None:
    """24 groups with one right answer of eight each: resampling them gives 1/8 every time."""
    estimate = proportion(np.ones(24), np.full(24, 8.0))
    assert (estimate.low, estimate.high) == wilson(1 / 8, 192)
    assert estimate.high - estimate.low > 0.05


def test_all_right_is_not_certainty() -> None:
    estimate = proportion(np.full(30, 4.0), np.full(30, 4.0))
    assert estimate.value == 1.0
    assert estimate.low < 0.95


def test_the_bootstrap_covers_the_truth() -> None:
    """Groups of 4 answers that mostly agree: 93 to 97 % of intervals hold the true share, Wilson's far fewer."""
    generator = np.random.default_rng(5)
    held = held_naively = 0
    for repetition in range(300):
        shares = generator.beta(0.7, 0.3, size=120)  # mean 0.7, strongly clustered
        right = generator.binomial(4, shares).astype(float)
        low, high = group_bootstrap(right, np.full(120, 4.0), 500, seed=repetition)
        held += low <= 0.7 <= high
        low, high = wilson(right.sum() / 480, 480)
        held_naively += low <= 0.7 <= high
    assert 0.91 <= held / 300 <= 0.985
    assert held_naively / 300 < 0.85


def test_the_same_data_give_the_same_interval() -> None:
    right, sizes = np.arange(20.0) % 4, np.full(20, 3.0)
    assert proportion(right, sizes) == proportion(right, sizes)
    assert len(right) >= MIN_GROUPS
