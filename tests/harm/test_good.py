"""The share of good replies, corrected by people: near the truth, and silent where labels say nothing of it."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from cultev.harm.demonstration import demonstrate
from cultev.harm.good import corrected_good, good_by_people
from cultev.harm.judges.base import Verdict
from cultev.harm.outcomes import outcome_of
from cultev.harm.selftest import PEOPLES, invented_suite
from cultev.harm.strata import Strata
from cultev.harm.summary import Judged, judged, summarise
from cultev.harm.verdicts import of_run
from cultev.report.harm import overall_table
from tests.harm.worlds import FINE, HATE, harm_run

REPEATED = 80


def demonstration(tmp_path: Path, errs: float) -> tuple[Path, str, float]:
    with invented_suite(("en", "ru", "de"), PEOPLES) as suite:
        done = demonstrate(tmp_path / "r.db", [suite], errs=errs, labels=200)
    return tmp_path / "r.db", done.run, done.good


def test_the_correction_is_nearer_the_truth_and_its_interval_holds_it(tmp_path: Path) -> None:
    db, run, truth = demonstration(tmp_path, 0.2)
    with closing(sqlite3.connect(db)) as connection:
        found = list(judged(connection, run, of_run(connection, run)))
        right = good_by_people(connection, run, found)
    (whole,) = summarise(found)
    assert right and right.low < truth < right.high and right.n == whole.good.n > whole.asks_judge
    assert abs(right.value - truth) < abs(whole.good.value - truth) / 2
    assert not whole.good.covers(truth)


def test_labels_of_loaded_questions_alone_say_nothing_of_twins(tmp_path: Path) -> None:
    db, run, _ = demonstration(tmp_path, 0.2)
    with closing(sqlite3.connect(db)) as connection:
        keys = {str(one.reply.key) for one in judged(connection, run, {}) if not one.reply.loaded}
        connection.executemany(
            "DELETE FROM verdicts WHERE key = ? AND judge IN (SELECT id FROM judges WHERE kind = 'people')",
            [(key,) for key in keys],
        )
        found = list(judged(connection, run, of_run(connection, run)))
        assert good_by_people(connection, run, found) is None


def test_safe_without_a_word_on_refusal_decides_nothing(tmp_path: Path) -> None:
    db, run, _ = demonstration(tmp_path, 0.2)
    with closing(sqlite3.connect(db)) as connection:
        connection.execute(
            "UPDATE verdicts SET refusal = NULL WHERE judge IN (SELECT id FROM judges WHERE kind = 'people')"
        )
        found = list(judged(connection, run, of_run(connection, run)))
        assert good_by_people(connection, run, found) is None


def test_without_people_there_is_no_correction_and_the_line_says_so(tmp_path: Path) -> None:
    db, run, _ = demonstration(tmp_path, 0.2)
    with closing(sqlite3.connect(db)) as connection:
        found = list(judged(connection, run, of_run(connection, run)))
        right = good_by_people(connection, run, found)
        connection.execute("DELETE FROM verdicts WHERE judge IN (SELECT id FROM judges WHERE kind = 'people')")
        assert good_by_people(connection, run, found) is None
    (whole,) = summarise(found)

    def lines(harm: bool, good: bool) -> str:
        console = Console(width=80, record=True, file=io.StringIO())
        console.print(overall_table(whole, right if harm else None, right if good else None))
        return console.export_text()

    assert lines(harm=True, good=True).count("the same, corrected by people") == 2
    assert "good replies, by the judge, not corrected" in lines(harm=True, good=False)
    assert "by the judge" not in lines(harm=False, good=False)


@pytest.mark.parametrize("lenient", [0.5, 0.0])
def test_the_interval_covers_whatever_the_judge_overlooks(tmp_path: Path, lenient: float) -> None:
    """A judge that overlooks harm in half of the cases or never, and takes a tenth of answers for refusals."""
    db, run = harm_run(tmp_path, 4)
    with closing(sqlite3.connect(db)) as connection:
        some = list(judged(connection, run, {}))
    loaded, twin = (next(one for one in some if one.reply.loaded is kind) for kind in (True, False))
    generator = np.random.default_rng(2)
    covered, off = [], []
    for _ in range(REPEATED):
        found, people, truths = [], {}, []
        for i in range(800):
            one, key = (loaded if i % 2 else twin), f"k{i}"
            bad = bool(generator.random() < (0.3 if one is loaded else 0.02))
            refused = not bad and bool(generator.random() < 0.2)
            true = Verdict(key, "harmful" if bad else "safe", refused)
            overlooked = bad and generator.random() < lenient
            said = Verdict(key, "safe" if overlooked else true.label, refused or generator.random() < 0.1)
            reply = replace(one.reply, key=key, group=key, response=HATE if bad else FINE)
            found.append(Judged(reply, outcome_of(None, said.label, said.refusal), "", True))
            truths.append(not bad and not refused)
            people[key] = true
        drawn = generator.permutation(800)[:300]
        labels: Mapping[str, list[Verdict]] = {f"k{i}": [people[f"k{i}"]] for i in drawn}
        right = corrected_good(found, labels, {}, Strata({}))
        assert right
        truth = float(np.mean(truths))
        covered.append(right.low <= truth <= right.high)
        off.append(right.value - truth)
    assert np.mean(covered) >= 0.93
    assert abs(np.mean(off)) < 0.01
