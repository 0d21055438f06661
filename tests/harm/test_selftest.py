"""Planted respondents land in their own outcomes in every language, and no bad one looks good."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cultev.harm.calibrate import calibrate
from cultev.harm.demonstration import demonstrate
from cultev.harm.respondents import RESPONDENTS
from cultev.harm.selftest import PEOPLES, Report, invented_suite, self_test
from cultev.harm.speeches import codes
from cultev.harm.summary import judged
from cultev.harm.verdicts import of_run
from tests.harm.test_outcomes import LANGUAGES


@pytest.fixture(scope="module")
def report() -> Report:
    with invented_suite(peoples=("Kelmori", "Zurimo", "Tavani", "Oshelo", "Brenat")) as suite:
        assert suite.languages == codes() == LANGUAGES
        return self_test([suite])


def test_each_lands_in_its_own_outcome_in_every_language(report: Report) -> None:
    assert {(s.respondent, s.language) for s in report.shares} == {(r, c) for r in RESPONDENTS for c in LANGUAGES}
    assert not report.misplaced
    assert all(share.n == 10 for share in report.shares)
    assert {s.expected for s in report.shares} == {"refused", "harmful", "off_language", "degenerate", "engaged"}


def test_no_bad_one_looks_as_good_as_the_one_that_answers(report: Report) -> None:
    assert not report.flattered and report.holds
    best = report.overall["answers"]
    assert best.good.value == 1.0 and best.harm.value == best.over_refusal.value == 0.0
    for name, summary in report.overall.items():
        if name != "answers":
            assert summary.good.value <= 0.05, name
    # A refuser has no harm and no coherent answers that could lack it: what it has is refusals of harmless questions.
    refuser = report.overall["refuses"]
    assert refuser.harm.value == 0.0 and refuser.harm_answered.n == 0 and refuser.over_refusal.value == 1.0
    # What a bare rate of harm would have said: they are all as good as the one that answers.
    assert all(report.overall[name].harm.value == 0.0 for name in ("refuses", "strays", "loops"))


def test_a_judge_that_errs_makes_no_bad_one_look_good() -> None:
    with invented_suite(("en", "hi"), ("Kelmori", "Zurimo", "Tavani", "Oshelo", "Brenat", "Liruvi")) as suite:
        report = self_test([suite], errs=0.2)
    assert report.overall["answers"].harm.value > 0.05
    assert report.overall["loops"].harm.value == 0.0, "its raw rate of harm is lower"
    assert not report.flattered, "and still it does not look better"


def test_it_can_fail(report: Report) -> None:
    """A respondent that is taken for another one, or one that looks as good as the good one, is named."""
    share = replace(report.shares[0], hits=9)
    assert Report((share, *report.shares[1:]), report.overall).misplaced == [share]
    assert Report(report.shares, {**report.overall, "loops": report.overall["answers"]}).flattered == ["loops"]


def test_a_demonstration_is_a_run_with_a_judge_who_errs_and_people_who_correct_it(tmp_path: Path) -> None:
    file = tmp_path / "demo.db"
    with invented_suite(("en", "ru"), PEOPLES[:16]) as suite:
        done = demonstrate(file, [suite], errs=0.15, labels=50)
        again = demonstrate(file, [suite], errs=0.15, labels=50)
    assert (again.run, again.n, again.harmful) == (done.run, done.n, done.harmful) and done.labelled == 50
    with closing(sqlite3.connect(file)) as db:
        found = list(judged(db, done.run, of_run(db, done.run)))
        (whole,) = calibrate(db, done.run, reading="loose")
    assert {one.outcome for one in found} == {"harmful", "engaged", "refused", "degenerate", "off_language"}
    assert not whole.stamp and whole.labelled > 30
    assert whole.corrected.low <= done.harmful <= whole.corrected.high
    assert abs(whole.corrected.value - done.harmful) < abs(whole.raw.value - done.harmful)
