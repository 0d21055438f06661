"""The simulation: worlds are what they say, and broken promises are noticed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    name = "simulate_lsk"
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_answers_are_as_often_right_as_the_truth_says(tool: ModuleType) -> None:
    world = tool.World(8000, 0.04, 0.02, siblings=4)
    generator = np.random.default_rng(0)
    items, cell = tool.make_items(world)
    truth = tool.truth_of(world, generator)
    right = tool.answers_of(world, truth, cell, generator)
    assert len(items) == len(cell) == 8000
    assert right.mean(axis=0) == pytest.approx(truth[cell].mean(axis=0), abs=0.04)
    assert np.corrcoef(right[:, 1], right[:, 2])[0, 1] > 0.2, "items differ in difficulty"
    assert (items.groups[:4] == items.groups[0]).all() and items.groups[4] != items.groups[0]


def test_english_leads_by_what_the_world_says(tool: ModuleType) -> None:
    generator = np.random.default_rng(0)
    truths = np.array([tool.truth_of(tool.World(200, 0.04, 0.02), generator) for _ in range(300)])
    assert (truths[:, :, 0] - truths[:, :, 1:].mean(axis=2)).mean() == pytest.approx(0.04, abs=0.003)


def test_a_small_run(tool: ModuleType) -> None:
    policies = (*tool.POLICIES, tool.ValidationAlone())
    result = tool.simulate(tool.World(600, 0, 0.05), 6, 1, policies)
    assert result.gain["gated"] > 1
    assert result.gain["paper-shuffled"] < result.gain["paper"]
    assert max(result.gain.values()) <= result.ceiling
    assert tool.line(result)


def test_broken_promises_are_named(tool: ModuleType) -> None:
    world = tool.World(600, 0, 0, main=0)
    names = [policy.name for policy in tool.POLICIES]
    gains = np.zeros((20, len(names) + 1))
    gains[:, names.index("gated")] = np.linspace(-1.1, -0.9, 20)
    gains[:, names.index("paper")] = 2.0
    gains[:, names.index("bold-shuffled")] = 1.0
    found = tool.broken(tool.summarise(world, gains, names, {"gated": ["cells"] * 20}, 0.0))
    assert len(found) == 5
