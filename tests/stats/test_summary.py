"""Cells, baselines and warnings of a finished run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cultev.backend.fake import FakeBackend
from cultev.errors import UsageError
from cultev.run.protocol import Protocol
from cultev.run.store import open_results
from cultev.stats.summary import Cell, cells
from tests.run.test_engine import do_run


def summary(folder: Path, judge: Callable[[str, str], float], by: tuple[str, ...] = ()) -> list[Cell]:
    run = do_run(folder / "r.db", FakeBackend(judge), Protocol(), folder)
    connection = open_results(folder / "r.db", write=False)
    try:
        return cells(connection, run.id, by)
    finally:
        connection.close()


def always_yes(prompt: str, text: str) -> float:
    return 0.0 if text in ("Yes", "Sí") else -5.0 - len(text)


def test_a_constant_respondent_meets_its_baseline(tmp_path: Path) -> None:
    (cell,) = [c for c in summary(tmp_path, always_yes, ("kind",)) if c.place["kind"] == "label"]
    # 20 stories, the labels in turn: 7 yes, 7 no, 6 neutral, asked in 3 or 4 contexts.
    assert cell.accuracy.n == 73
    assert cell.accuracy.value <= cell.constant
    assert cell.warning
    assert cell.chance == pytest.approx(1 / 3)


def test_an_indifferent_model_is_said_to_tie(tmp_path: Path) -> None:
    (cell,) = summary(tmp_path, lambda prompt, text: -1.0)
    assert cell.warning == "all options tie"
    assert cell.accuracy.value == 0.0


def test_a_random_model_cannot_be_told_from_chance(tmp_path: Path) -> None:
    (cell,) = summary(tmp_path, FakeBackend().judge)
    assert cell.warning == "can't be told from chance"


def test_a_knowing_model_carries_no_warning(tmp_path: Path) -> None:
    def knows(prompt: str, text: str) -> float:
        number = int(re.findall(r"(?:brings|number|número) (\d+)", prompt)[0])
        shown = [line[2:] for line in prompt.splitlines() if line.startswith("- ")]
        if text in ("Yes", "No", "Neither"):
            return 0.0 if text == ("Yes", "No", "Neither")[number // 2 % 3] else -5.0
        return 0.0 if shown[number % 3] == text else -5.0

    for cell in summary(tmp_path, knows, ("suite",)):
        assert cell.accuracy.value == 1.0
        assert cell.warning == ""


def test_cells_add_up(tmp_path: Path) -> None:
    run = do_run(tmp_path / "r.db", FakeBackend(), Protocol(), tmp_path)
    connection = open_results(tmp_path / "r.db", write=False)
    for by in (
        (),
        ("suite",),
        ("culture", "language"),
        ("region", "topic", "context", "option_order", "kind"),
    ):
        assert sum(c.accuracy.n for c in cells(connection, run.id, by)) == 113
    connection.close()


def test_another_norm_is_read_from_the_same_run(tmp_path: Path) -> None:
    def longer_is_less(prompt: str, text: str) -> float:
        return -1.0 - len(text) / 2

    run = do_run(tmp_path / "r.db", FakeBackend(longer_is_less), Protocol(), tmp_path)
    connection = open_results(tmp_path / "r.db", write=False)
    (by_sum,), (by_char,) = cells(connection, run.id, ()), cells(connection, run.id, (), "char")
    connection.close()
    assert by_sum.accuracy.n == by_char.accuracy.n
    assert by_sum.accuracy.value != by_char.accuracy.value


def test_an_unknown_dimension_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Choose from"):
        summary(tmp_path, FakeBackend().judge, ("shoe_size",))


@pytest.mark.parametrize("indifferent", [False, True])
def test_the_runs_own_norm_asked_by_name_gives_the_runs_own_numbers(tmp_path: Path, indifferent: bool) -> None:
    backend = FakeBackend((lambda prompt, text: -1.0) if indifferent else FakeBackend().judge)
    run = do_run(tmp_path / "r.db", backend, Protocol(), tmp_path)
    connection = open_results(tmp_path / "r.db", write=False)
    for by in ((), ("kind",), ("language", "context")):
        assert cells(connection, run.id, by, "sum") == cells(connection, run.id, by)
    connection.close()


def test_pmi_needs_priors(tmp_path: Path) -> None:
    run = do_run(tmp_path / "r.db", FakeBackend(), Protocol(), tmp_path)
    connection = open_results(tmp_path / "r.db", write=False)
    with pytest.raises(UsageError, match="--pmi"):
        cells(connection, run.id, (), "pmi")
    connection.close()


def test_the_constant_answer_is_the_best_of_each_kind(tmp_path: Path) -> None:
    """One habit covers both kinds: the best label for stories and the best position for choices."""
    (both,) = summary(tmp_path, FakeBackend().judge)
    kinds = summary(tmp_path, FakeBackend().judge, ("kind",))
    assert both.constant * both.accuracy.n == pytest.approx(sum(c.constant * c.accuracy.n for c in kinds))
