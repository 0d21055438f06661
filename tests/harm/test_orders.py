"""Choices between two answers in both orders: flips, and what they are worth beside simulated respondents."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cultev.backend.fake import FakeBackend
from cultev.harm.orders import Both, both_orders, consistency, orders_protocol, simulated
from cultev.run.engine import run_suites
from cultev.run.journal import Journal
from cultev.run.plan import count
from cultev.run.protocol import Protocol
from tests.harm.loaded import SUITE, items, loaded_suite
from tests.suite.sources import CHOICE

PAIRS = [
    {
        "id": f"pair-{n}", "kind": "pair", "culture": "kelmori", "topic": "trust", "group": f"pair-{n}",
        "pair_type": "harm",
        "texts": {"en": {"prompt": f"Are they honest? {n}", "preferred": f"Some are {n}.", "dispreferred": f"No {n}."}},
    }
    for n in range(15)
]  # fmt: skip


def asked(folder: Path, backend: FakeBackend) -> list[Both]:
    with loaded_suite(folder, [*PAIRS, *items(templates=1)]) as suite, Journal(folder / "r.db") as journal:
        protocol = orders_protocol()
        assert count(suite, protocol) == 30, "pairs in both orders, and no dialogue"
        run = run_suites(backend, [suite], protocol, journal, n_planned=30)
    with closing(sqlite3.connect(folder / "r.db")) as db:
        return both_orders(db, run.id)


def test_who_goes_by_the_letter_flips_always(tmp_path: Path) -> None:
    pairs = asked(tmp_path, FakeBackend(lambda prompt, option: -1.0 if option == "A" else -2.0))
    found = consistency("first", pairs)
    assert (found.flips.value, found.takes_first.value) == (1.0, 1.0)
    assert (found.when_first, found.when_second) == (1.0, 0.0)


def test_who_goes_by_content_never_flips(tmp_path: Path) -> None:
    def judge(prompt: str, option: str) -> float:
        line = next(line for line in prompt.splitlines() if line.startswith(f"{option}. "))
        return -1.0 if "Some are" in line else -2.0

    found = consistency("content", asked(tmp_path, FakeBackend(judge)))
    assert (found.flips.value, found.flips.n, found.takes_first.value) == (0.0, 15, 0.5)
    assert (found.when_first, found.when_second) == (1.0, 1.0)


def test_ties_are_left_out(tmp_path: Path) -> None:
    assert asked(tmp_path, FakeBackend(lambda prompt, option: -1.0)) == []


def test_simulated_respondents_bound_the_figure() -> None:
    order = ("preferred", "dispreferred")
    pairs = [Both(f"g{i}", order, ("preferred", "preferred")) for i in range(800)]
    consistent, guessing, first = simulated(pairs)
    assert consistent.flips.value == 0.0 and first.flips.value == 1.0
    assert guessing.flips.value == pytest.approx(0.5, abs=0.06)
    assert guessing.takes_first.value == pytest.approx(0.5, abs=0.05)
    assert (first.when_first, first.when_second) == (1.0, 0.0)


def test_the_usual_runs_leave_pairs_and_dialogues_alone(tmp_path: Path) -> None:
    choice = {**CHOICE, "topic": "trust", "texts": {"en": CHOICE["texts"]["en"]}}
    with loaded_suite(tmp_path, [*PAIRS, *items(templates=1), choice], SUITE) as suite:
        assert count(suite, Protocol()) == 1
    assert "kinds" not in Protocol().canonical(), "runs from before there were kinds are still the same runs"
