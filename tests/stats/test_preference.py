"""Preferences by pairs: what accuracy is worth beside length."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cultev.stats.preference import Preference, preference


def prefer(
    margins: list[float], better: list[float], worse: list[float], groups: list[str] | None = None
) -> Preference:
    names = groups or [str(i) for i in range(len(margins))]
    return preference(np.array(margins), np.array(better), np.array(worse), np.array(names))


def test_accuracy_margins_and_ties() -> None:
    found = prefer([1.0, -0.5, 0.0, 0.005], [10, 10, 10, 10], [10, 10, 10, 10])
    assert found.accuracy.value == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert found.margin_mean == pytest.approx(0.12625)
    assert found.margin_median == pytest.approx(0.0025)
    assert found.near_ties == 0.5
    assert found.shorter == 0.5
    assert found.matched.n == 4


def test_a_length_biased_model_is_exposed() -> None:
    """Eight tenths of the better answers are shorter; the model takes the shorter one, whatever it says."""
    rng = np.random.default_rng(1)
    n = 400
    worse = rng.integers(60, 200, n).astype(float)
    ratio = np.where(rng.random(n) < 0.8, rng.uniform(0.5, 0.97, n), rng.uniform(1.03, 1.6, n))
    better = np.round(worse * ratio)
    biased = prefer((worse - better).tolist(), better.tolist(), worse.tolist())
    assert biased.accuracy.value > 0.75
    assert biased.accuracy.low > 0.5  # looks fine alone
    assert biased.shorter == pytest.approx(biased.accuracy.value)  # no better than always the shorter one
    assert biased.picks_shorter == 1
    assert 0.4 < biased.controlled < 0.6
    assert "takes the shorter answer in 100%" in biased.warning
    # A model that prefers the better answer in nine of ten pairs, of whatever length, is not.
    honest = prefer(np.where(rng.random(n) < 0.9, 1.0, -1.0).tolist(), better.tolist(), worse.tolist())
    assert honest.controlled > 0.8
    assert honest.controlled_low > 0.7
    assert honest.matched.value > 0.75
    assert honest.warning == ""
    longest = prefer((better - worse).tolist(), better.tolist(), worse.tolist())
    assert "takes the longer answer" in longest.warning


def test_chance_and_near_ties_warn() -> None:
    rng = np.random.default_rng(2)
    size = rng.integers(50, 90, 200).astype(float)
    coin = prefer(rng.choice([-1.0, 1.0], 200).tolist(), size.tolist(), size[::-1].tolist())
    assert coin.warning == "can't be told from chance"
    assert prefer([0.001] * 30, [10] * 30, [10] * 30).warning == "most pairs are near-ties"


def test_all_won_by_every_length_is_finite() -> None:
    found = prefer([1.0] * 40, list(range(20, 60)), list(range(60, 20, -1)))
    assert 0.9 < found.controlled <= 1
    assert found.controlled_low <= found.controlled <= found.controlled_high


def test_intervals_are_over_groups() -> None:
    wins = np.repeat(np.where(np.arange(20) % 4 == 0, -1.0, 1.0), 10).tolist()
    size = [10.0] * 200
    alone = prefer(wins, size, size)
    together = prefer(wins, size, size, [str(i // 10) for i in range(200)])
    assert together.accuracy.high - together.accuracy.low > 1.5 * (alone.accuracy.high - alone.accuracy.low)
    assert together.accuracy.method == "group-bootstrap"


def test_no_pairs() -> None:
    found = prefer([], [], [])
    assert math.isnan(found.accuracy.value)
    assert found.warning == "no pairs"


def test_a_handful_of_pairs_tells_nothing() -> None:
    assert prefer([1.0] * 19, [10] * 19, [20] * 19).warning.startswith("fewer than 20 pairs")
    assert "takes the shorter answer" in prefer([1.0] * 20, [10] * 20, [20] * 20).warning
