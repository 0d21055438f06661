"""Verdicts are kept one by one, asked once, and stand for the text that they are about."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cultev.backend.fake import FakeBackend
from cultev.errors import JudgeError
from cultev.harm.engine import run_harm
from cultev.harm.journal import HarmJournal
from cultev.harm.judges.base import Exchange, Verdict
from cultev.harm.protocol import HarmProtocol
from cultev.harm.replies import replies
from cultev.harm.summary import judged as outcomes
from cultev.harm.summary import summarise
from cultev.harm.verdicts import (
    JudgeId,
    VerdictJournal,
    find_judge,
    judge_run,
    judges_of,
    labels_of,
    of_run,
    verdicts_by,
)
from cultev.suite import open_suite
from tests.harm.worlds import FINE, HATE, harm_run, suite_file


class Reader:
    """A judge that finds hate where it stands, and can be stopped after some verdicts."""

    prompt_hash = "0"
    model = ""

    def __init__(self, name: str = "reader", stop_after: int | None = None) -> None:
        self.name, self.stop_after, self.seen = name, stop_after, list[Exchange]()

    def judge(self, exchanges: Iterable[Exchange]) -> Iterator[Verdict]:
        for exchange in exchanges:
            if self.stop_after is not None and len(self.seen) >= self.stop_after:
                raise KeyboardInterrupt
            self.seen.append(exchange)
            yield Verdict(exchange.key, "harmful" if HATE in exchange.response else "safe", False, 0.5, "raw")


def judged(db: Path, run: str, reader: Reader) -> list[Verdict]:
    with VerdictJournal(db) as journal:
        who = JudgeId.of(reader, "model")
        journal.add_judge(who)
        return list(judge_run(journal, reader, who, journal.unjudged(run, who)))


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, str]:
    return harm_run(tmp_path, 20)


def test_an_interrupted_judge_goes_on(place: tuple[Path, str]) -> None:
    db, run = place
    first = Reader(stop_after=7)
    with pytest.raises(KeyboardInterrupt):
        judged(db, run, first)
    second = Reader()
    judged(db, run, second)
    assert not {e.key for e in first.seen} & {e.key for e in second.seen}
    assert judged(db, run, Reader()) == []
    with sqlite3.connect(db) as connection:
        found = verdicts_by(connection, run, JudgeId.of(Reader(), "model").id)
        held = {r.key for r in replies(connection, run)}
    connection.close()
    assert set(found) == held
    assert {e.key for e in first.seen} | {e.key for e in second.seen} == held


def test_hate_before_a_loop_is_judged_and_a_model_that_loops_is_never_good(tmp_path: Path) -> None:
    """Every other loaded question gets hate, then circles; the others fine words, then circles."""

    def circling(prompt: str) -> str:
        question = prompt.strip().splitlines()[-1]
        return f"{HATE if len(question) % 2 else FINE} And so it is" + ", and so it is" * 30

    db = tmp_path / "cultev.db"
    with open_suite(suite_file(tmp_path, 40)) as suite, HarmJournal(db) as journal:
        run = run_harm(FakeBackend(write=circling), [suite], HarmProtocol(), journal, n_planned=40).id
    reader = Reader()
    judged(db, run, reader)
    assert reader.seen and all(e.response.count("so it is") <= 3 for e in reader.seen), "each thing once"
    with closing(sqlite3.connect(db)) as connection:
        (whole,) = summarise(outcomes(connection, run, of_run(connection, run)))
        (before,) = summarise(outcomes(connection, run, {}))
    assert 0 < whole.loaded["harmful"] < sum(whole.loaded.values())
    assert set(whole.loaded) | set(whole.harmless) == {"harmful", "degenerate"}
    assert whole.good.value == 0.0 and whole.needs_judge == 0
    assert before.good.most == 0.0 or before.good.n == 0, "unjudged, it is no better"
    assert before.degenerate.value == 1.0


def test_a_judge_reads_the_whole_conversation(place: tuple[Path, str]) -> None:
    reader = Reader()
    judged(*place, reader)
    (dialogue,) = [e for e in reader.seen if len(e.turns) == 5 and "village 0 " in e.question]
    assert dialogue.turns[0] == "Good day."
    assert dialogue.turns[2] == "Do you know the villages?"
    assert not dialogue.twin
    assert sum(e.twin for e in reader.seen) == 20


def test_judges_by_name_and_several_make_a_jury(place: tuple[Path, str]) -> None:
    db, run = place
    judged(db, run, Reader("one"))
    with sqlite3.connect(db) as connection:
        alone = of_run(connection, run)
        assert {v.label for v in alone.values()} == {"harmful", "safe"}
        judged(db, run, Reader("two"))
        assert [s.name for s in judges_of(connection, run)] == ["one", "two"]
        assert find_judge(connection, run, "one").n == len(alone)
        together = of_run(connection, run)
        assert {k: v.label for k, v in together.items()} == {k: v.label for k, v in alone.items()}
        assert of_run(connection, run, "two").keys() == alone.keys()
        with pytest.raises(JudgeError, match="No judge called 'three'"):
            of_run(connection, run, "three")
    connection.close()


def test_a_verdict_on_another_text_is_not_counted(place: tuple[Path, str]) -> None:
    db, run = place
    judged(db, run, Reader())
    with closing(sqlite3.connect(db)) as connection:
        (seat,) = judges_of(connection, run)
        before = verdicts_by(connection, run, seat.id)
        changed = next(iter(before))
        connection.execute("UPDATE verdicts SET response_sha256 = 'of another text' WHERE key = ?", [changed])
        assert verdicts_by(connection, run, seat.id).keys() == before.keys() - {changed}
        assert changed not in of_run(connection, run)


def test_people_are_judges_that_no_outcome_rests_on(place: tuple[Path, str]) -> None:
    db, run = place
    judged(db, run, Reader())
    with VerdictJournal(db) as journal:
        who = JudgeId.people("ann")
        journal.add_judge(who)
        (first, *_) = replies(journal.connection, run)
        assert first.key is not None
        journal.keep_verdicts(
            who,
            [
                (Verdict(first.key, "borderline"), first.response_sha256, 3.0),
                (Verdict(first.key, "harmful"), "of another text", 3.0),
            ],
        )
        assert labels_of(journal.connection, run) == {}  # the last one said was about a text that isn't there
        journal.keep_verdicts(who, [(Verdict(first.key, "borderline"), first.response_sha256, 3.0)])
        assert labels_of(journal.connection, run) == {first.key: [("ann", "borderline", 3.0)]}
        assert of_run(journal.connection, run)[first.key].label != "borderline"
        assert [s.kind for s in judges_of(journal.connection, run)] == ["model", "people"]


def test_unjudged_can_be_asked_again(place: tuple[Path, str]) -> None:
    db, run = place

    class Mute(Reader):
        def judge(self, exchanges: Iterable[Exchange]) -> Iterator[Verdict]:
            for exchange in exchanges:
                yield Verdict(exchange.key, "unjudged")

    n = len(judged(db, run, Mute()))
    assert judged(db, run, Reader()) == []  # the same judge by name, prompt and model
    with VerdictJournal(db) as journal:
        assert journal.forget_unjudged(JudgeId.of(Reader(), "model")) == n
    assert len(judged(db, run, Reader())) == n
