"""A run asks everything once, keeps every answer, and ends the same however it was interrupted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cultev.backend.fake import FakeBackend, hashed
from cultev.backend.prefix import Limits
from cultev.backend.types import Fault, ScoreResult
from cultev.errors import EngineError, Interrupted
from cultev.run.engine import run_suites
from cultev.run.journal import Journal, RunId
from cultev.run.plan import asks, count
from cultev.run.protocol import Protocol
from cultev.stats.summary import cells
from tests.worlds import small_suite

TIMES = {"started_at", "updated_at", "finished_at", "computed_at", "seconds"}


def content(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, times aside."""
    db = sqlite3.connect(path)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    result = {}
    for table in tables:
        columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] not in TIMES]
        result[table] = sorted(db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall(), key=repr)
    db.close()
    return result


def do_run(path: Path, backend: FakeBackend, protocol: Protocol, folder: Path, stop_after: int = 10**9) -> RunId:
    done = 0

    def advance(answers: int, computed: int) -> None:
        nonlocal done
        done += computed

    with small_suite(folder) as suite, Journal(path) as journal:
        return run_suites(
            backend, [suite], protocol, journal, n_planned=count(suite, protocol), advance=advance,
            stop=lambda: done >= stop_after,
        )  # fmt: skip


def test_everything_planned_is_answered(tmp_path: Path) -> None:
    run = do_run(tmp_path / "r.db", FakeBackend(), Protocol(), tmp_path)
    db = sqlite3.connect(tmp_path / "r.db")
    planned, status = db.execute("SELECT n_planned, status FROM runs WHERE id = ?", [run.id]).fetchone()
    answers = db.execute("SELECT count(*) FROM answers").fetchone()[0]
    db.close()
    # 20 choice items in two languages; 20 label items in none, value, rule, and country where the culture has one.
    assert planned == answers == 20 * 2 + 20 * 3 + 13
    assert status == "done"


def test_a_second_run_computes_nothing(tmp_path: Path) -> None:
    do_run(tmp_path / "r.db", FakeBackend(), Protocol(), tmp_path)
    before, again = content(tmp_path / "r.db"), FakeBackend()
    do_run(tmp_path / "r.db", again, Protocol(), tmp_path)
    assert again.scored == 0
    assert content(tmp_path / "r.db") == before


def test_another_protocol_shares_the_answers_that_are_the_same_question(tmp_path: Path) -> None:
    do_run(tmp_path / "r.db", FakeBackend(), Protocol(languages=("en",)), tmp_path)
    backend = FakeBackend()
    do_run(tmp_path / "r.db", backend, Protocol(), tmp_path)
    assert backend.scored == 20  # only the Spanish ones are new


def test_another_model_is_asked_anew(tmp_path: Path) -> None:
    first, second = FakeBackend(name="one"), FakeBackend(name="two")
    do_run(tmp_path / "r.db", first, Protocol(), tmp_path)
    do_run(tmp_path / "r.db", second, Protocol(), tmp_path)
    assert first.scored == second.scored > 0


@pytest.mark.parametrize("pmi", [False, True])
@pytest.mark.parametrize("stop_after", [1, 20, 60])
def test_an_interrupted_run_ends_like_an_undisturbed_one(tmp_path: Path, stop_after: int, pmi: bool) -> None:
    protocol, limits = Protocol(pmi=pmi), Limits(tokens=600)
    do_run(tmp_path / "whole.db", FakeBackend(limits=limits), protocol, tmp_path)
    interruptions = 0
    while True:
        try:
            do_run(tmp_path / "cut.db", FakeBackend(limits=limits), protocol, tmp_path, stop_after)
            break
        except Interrupted:
            interruptions += 1
    assert interruptions >= 1
    assert content(tmp_path / "cut.db") == content(tmp_path / "whole.db")


def test_a_question_that_does_not_fit_is_set_aside_whole(tmp_path: Path) -> None:
    backend = FakeBackend(n_ctx=150)
    do_run(tmp_path / "r.db", backend, Protocol(), tmp_path)
    db = sqlite3.connect(tmp_path / "r.db")
    found = dict(db.execute("SELECT outcome, count(*) FROM answers GROUP BY outcome"))
    keys = db.execute("SELECT count(*) FROM answers WHERE outcome = 'too_long' AND key IS NOT NULL").fetchone()[0]
    db.close()
    assert found["too_long"] > 0
    assert sum(found.values()) == 113
    assert keys == 0


def test_pmi_takes_the_prior_off(tmp_path: Path) -> None:
    """A model that only repeats its prior is right by PMI nowhere and ties everywhere."""

    def prior_only(prompt: str, text: str) -> float:
        return -float(len(text))

    do_run(tmp_path / "r.db", FakeBackend(prior_only), Protocol(pmi=True, norm="pmi"), tmp_path)
    db = sqlite3.connect(tmp_path / "r.db")
    tied, n = db.execute("SELECT sum(tied), count(*) FROM answers").fetchone()
    db.close()
    assert tied == n


def test_a_key_tells_questions_apart(tmp_path: Path) -> None:
    with small_suite(tmp_path) as suite:
        keys = {}
        for name in ("one", "two"):
            for mode in ("text", "letters"):
                for ask in asks(suite, Protocol(mode=mode), FakeBackend(name=name)):
                    assert ask.request is not None
                    place = (name, mode, ask.item.id, ask.language, ask.variant)
                    assert keys.setdefault(ask.request.key, place) == place
        assert len(keys) == 4 * 113


def test_orders_rotate_the_options(tmp_path: Path) -> None:
    with small_suite(tmp_path) as suite:
        some = [a for a in asks(suite, Protocol(orders=3, languages=("es",)), FakeBackend()) if a.item.id == "item-1"]
    assert [a.options for a in some] == [("0", "1", "2"), ("1", "2", "0"), ("2", "0", "1")]


def test_an_engine_that_fails_loses_nothing(tmp_path: Path) -> None:
    """After some batches the engine breaks: what it answered is kept, and the next run goes on."""
    left = 40

    def breaks(prompt: str, text: str) -> float:
        nonlocal left
        left -= 1
        if left < 0:
            raise EngineError("The engine broke.", "Try again.")
        return hashed(prompt, text)

    limits = Limits(tokens=600)
    with pytest.raises(EngineError, match="broke"):
        do_run(tmp_path / "cut.db", FakeBackend(breaks, limits=limits), Protocol(), tmp_path)
    db = sqlite3.connect(tmp_path / "cut.db")
    kept, status = db.execute("SELECT (SELECT count(*) FROM answers), status FROM runs").fetchone()
    db.close()
    assert kept > 0
    assert status == "interrupted"
    do_run(tmp_path / "cut.db", FakeBackend(limits=limits), Protocol(), tmp_path)
    do_run(tmp_path / "whole.db", FakeBackend(limits=limits), Protocol(), tmp_path)
    assert content(tmp_path / "cut.db") == content(tmp_path / "whole.db")


def test_a_sample_asked_before_changes_no_other_answer(tmp_path: Path) -> None:
    """After `--limit` the rest is computed in the batches of a fresh run: each pack whole, or not at all."""
    limits = Limits(tokens=600)
    do_run(tmp_path / "r.db", FakeBackend(limits=limits), Protocol(limit=7), tmp_path)
    packs: list[tuple[str, ...]] = []

    class Watched(FakeBackend):
        def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
            for batch in super().score(requests, skip=skip):
                packs.append(tuple(r.key for r in batch))
                yield batch

    do_run(tmp_path / "r.db", Watched(limits=limits), Protocol(), tmp_path)
    after_sample = list(packs)
    packs.clear()
    do_run(tmp_path / "fresh.db", Watched(limits=limits), Protocol(), tmp_path)
    assert set(after_sample) <= set(packs)


class Dying(FakeBackend):
    """Answers with an error where the prompt says ``word``, as a worker does for what killed its engine twice."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word
        self.asked: list[str] = []
        self.texts: dict[str, str] = {}

    def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        for batch in super().score(requests, skip=skip):
            self.asked += [r.key for r in batch]
            self.on_fault(Fault("SIGABRT", tuple(r.key for r in batch), "they are asked one by one"))
            bad = {r.key for r in batch if self.word in self.texts[r.key]}
            yield [ScoreResult(r.key, (), error="SIGABRT: assertion") if r.key in bad else r for r in batch]

    def remember(self, folder: Path, protocol: Protocol) -> Dying:
        with small_suite(folder) as suite:
            all_asks = [(a.request, self.decode(a.request.prompt)) for a in asks(suite, protocol, self) if a.request]
        self.texts = {request.key: text for request, text in all_asks}
        return self


def outcomes(path: Path) -> dict[str, int]:
    db = sqlite3.connect(path)
    found = dict(db.execute("SELECT outcome, count(*) FROM answers GROUP BY outcome"))
    db.close()
    return found


def test_what_the_engine_dies_of_is_set_aside_and_asked_again_when_told(tmp_path: Path) -> None:
    path, protocol = tmp_path / "r.db", Protocol()
    dying = Dying("bread is number 3?").remember(tmp_path, protocol)
    dying.limits = Limits(tokens=4000)
    notes: list[str] = []
    with small_suite(tmp_path) as suite, Journal(path) as journal:
        run = run_suites(dying, [suite], protocol, journal, n_planned=113, note=notes.append)
        assert journal.engine_errors(run) == 1
    assert outcomes(path)["engine_error"] == 1 and sum(outcomes(path).values()) == 113
    assert notes[0].startswith("The engine died (SIGABRT) while it was at item-")
    assert notes[0].endswith(": they are asked one by one.")
    assert any(" and " in text and " more: " in text for text in notes)
    db = sqlite3.connect(path)
    assert db.execute("SELECT item, language, error FROM v_engine_errors").fetchall() == [
        ("item-3", "en", "SIGABRT: assertion")
    ]
    assert db.execute("SELECT count(*) FROM responses").fetchone() == (112,)
    assert db.execute("SELECT sum(n) FROM v_accuracy").fetchone() == (112,)
    (cell,) = cells(db, run.id, ())
    db.close()
    assert (cell.accuracy.n, cell.set_aside) == (112, {"engine_error": 1})
    # The same run again does not ask it: it would die again. Another run does, and so does this one when told.
    again = Dying("").remember(tmp_path, protocol)
    do_run(path, again, protocol, tmp_path)
    assert again.asked == []
    other = FakeBackend()
    do_run(path, other, Protocol(languages=("en",)), tmp_path)
    assert 0 < other.scored < 20  # its pack
    with Journal(path) as journal:
        journal.forget_errors(run)
    do_run(path, FakeBackend(), protocol, tmp_path)
    assert "engine_error" not in outcomes(path)
    do_run(tmp_path / "whole.db", FakeBackend(), protocol, tmp_path)
    do_run(tmp_path / "whole.db", FakeBackend(), Protocol(languages=("en",)), tmp_path)
    assert content(path) == content(tmp_path / "whole.db")


def test_a_prior_that_kills_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All questions that rest on it are set aside, and the engine does not die of it again in the next window."""

    class NoPriors(FakeBackend):
        def __init__(self) -> None:
            super().__init__()
            self.bad: list[str] = []

        def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
            for batch in super().score(requests, skip=skip):
                bad = [r.key for r in batch if "N/A" in self.decode(self.prompts[r.key])]
                self.bad += bad
                yield [ScoreResult(r.key, (), error="died") if r.key in bad else r for r in batch]

    monkeypatch.setattr("cultev.run.window.WINDOW", 20)
    protocol, backend = Protocol(pmi=True, languages=("en",)), NoPriors()
    with small_suite(tmp_path) as suite:
        pairs = [r for a in asks(suite, protocol, backend) for r in (a.request, a.prior) if r]
    backend.prompts = {r.key: r.prompt for r in pairs}  # type: ignore[attr-defined]
    do_run(tmp_path / "r.db", backend, protocol, tmp_path)
    assert len(backend.bad) == len(set(backend.bad)) > 0
    assert outcomes(tmp_path / "r.db") == {"engine_error": 93}


def test_strict_runs_take_over_nothing(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    plain = do_run(path, FakeBackend(), Protocol(), tmp_path)
    strict = FakeBackend()
    run = do_run(path, strict, Protocol(strict=True), tmp_path)
    assert run != plain
    assert strict.scored == 113
    assert "strict" not in Protocol().canonical()  # runs from before there was such a word keep their names
