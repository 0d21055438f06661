"""The corrected rate covers the truth as often as it says, and the raw rate does not."""

from __future__ import annotations

import pytest

from tools.simulate_judge import WORLDS, simulate


@pytest.mark.parametrize("name", ["usual judge", "few labels", "rarer harm", "drawn by verdict", "groups of 16"])
def test_coverage(name: str) -> None:
    world = next(w for w in WORLDS if w.name == name)
    tallies = simulate(world, 500, seed=1, beside=False)
    assert 0.93 <= tallies["corrected"].covered / 500 <= 0.97
    assert tallies["raw"].covered / 500 < 0.15
