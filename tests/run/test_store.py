"""Results files that are locked, read-only, full, damaged, newer or something else: one clear error each."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cultev.backend.fake import FakeBackend
from cultev.backend.proof import Proof
from cultev.errors import (
    NotResults,
    ResultsBusy,
    ResultsDamaged,
    ResultsError,
    ResultsFull,
    ResultsReadOnly,
    ResultsTooNew,
)
from cultev.run import store
from cultev.run.engine import run_suites
from cultev.run.journal import Journal
from cultev.run.plan import count
from cultev.run.protocol import Protocol
from cultev.run.schema import MIGRATIONS
from cultev.run.store import WriterLock, open_results
from tests.run.test_engine import content, do_run
from tests.worlds import small_suite


@pytest.fixture
def results(tmp_path: Path) -> Path:
    do_run(tmp_path / "r.db", FakeBackend(), Protocol(limit=4), tmp_path)
    return tmp_path / "r.db"


def test_a_file_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear reader")
    with pytest.raises(NotResults, match="not SQLite"):
        open_results(tmp_path / "letter.txt", write=True)
    assert (tmp_path / "letter.txt").read_text() == "Dear reader"


def test_a_database_of_something_else(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "shop.db")
    db.execute("CREATE TABLE bread (name)")
    db.close()
    with pytest.raises(NotResults, match="something else"):
        open_results(tmp_path / "shop.db", write=True)


def test_a_suite_is_no_results_file(tmp_path: Path) -> None:
    with small_suite(tmp_path) as suite, pytest.raises(NotResults):
        open_results(suite.path, write=True)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotResults, match="folder"):
        open_results(tmp_path, write=True)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ResultsReadOnly, match="folder exists"):
        Journal(tmp_path / "nowhere" / "r.db")


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cultev run"):
        open_results(tmp_path / "r.db", write=False)
    assert not (tmp_path / "r.db").exists()


def test_a_newer_file(results: Path) -> None:
    db = sqlite3.connect(results)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    for write in (True, False):
        with pytest.raises(ResultsTooNew, match="pip install -U"):
            open_results(results, write=write)


def test_a_read_only_file(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anything: ask as a user would
    with pytest.raises(ResultsReadOnly, match="--db"):
        Journal(results)


def test_sqlite_saying_read_only(results: Path) -> None:
    db = sqlite3.connect(f"{results.as_uri()}?mode=ro", uri=True)
    with pytest.raises(ResultsReadOnly), store.explained(results):
        db.execute("DELETE FROM answers")
    db.close()


def test_a_locked_file(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_SECONDS", 0.1)
    other = sqlite3.connect(results, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    before = content_of_answers(other)
    with pytest.raises(ResultsBusy, match="locked"):
        do_run(results, FakeBackend(name="another"), Protocol(limit=4), results.parent)
    other.execute("ROLLBACK")
    assert content_of_answers(other) == before
    other.close()


def content_of_answers(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])


def test_two_runs_into_one_file(results: Path) -> None:
    lock = WriterLock(results)
    with pytest.raises(ResultsBusy, match="Another cultev run"):
        Journal(results)
    lock.release()
    Journal(results).close()


def test_the_lock_dies_with_its_process(results: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from cultev.run.store import WriterLock;"
        "lock = WriterLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(results)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(ResultsBusy):
        Journal(results)
    process.kill()
    process.wait()
    process.stdout.close()
    Journal(results).close()


def test_a_full_disk_keeps_what_was_answered(tmp_path: Path) -> None:
    """SQLite's own page limit says the same as a full disk does, at the same place."""
    whole, cut = tmp_path / "whole.db", tmp_path / "cut.db"
    do_run(whole, FakeBackend(), Protocol(), tmp_path)
    with small_suite(tmp_path) as suite:
        protocol = Protocol()
        with Journal(cut) as journal:
            journal._connection.execute("PRAGMA max_page_count = 30")
            with pytest.raises(ResultsFull, match="goes on from there"):
                run_suites(FakeBackend(), [suite], protocol, journal, n_planned=count(suite, protocol))
        db = sqlite3.connect(cut)
        kept = content_of_answers(db)
        status = db.execute("SELECT status FROM runs").fetchone()[0]
        db.close()
        assert 0 < kept < 113
        assert status in ("running", "interrupted")
        do_run(cut, FakeBackend(), protocol, tmp_path)
    assert content(cut) == content(whole)


@pytest.mark.parametrize("seed", range(25))
def test_flipped_bytes_never_end_in_a_traceback(results: Path, tmp_path: Path, seed: int) -> None:
    generator = random.Random(seed)
    damaged = tmp_path / "damaged.db"
    data = bytearray(results.read_bytes())
    for _ in range(20):
        data[generator.randrange(100, len(data))] = generator.randrange(256)
    damaged.write_bytes(data)
    try:
        do_run(damaged, FakeBackend(name="another"), Protocol(limit=6), tmp_path)
    except ResultsError as error:
        assert error.next_step


def test_a_file_cut_short(results: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.db"
    shutil.copy(results, short)
    with short.open("r+b") as file:
        file.truncate(results.stat().st_size // 2)
    with pytest.raises(ResultsDamaged, match="damaged"):
        do_run(short, FakeBackend(name="another"), Protocol(limit=6), tmp_path)


def test_views_open_with_plain_sqlite(results: Path) -> None:
    db = sqlite3.connect(results)
    n, correct = db.execute("SELECT sum(n), sum(correct) FROM v_accuracy").fetchone()
    options = db.execute("SELECT count(*) FROM v_options").fetchone()[0]
    assert n == db.execute("SELECT count(*) FROM answers").fetchone()[0]
    assert 0 <= correct <= n
    assert options == db.execute("SELECT sum(json_array_length(options)) FROM answers").fetchone()[0]
    db.close()


def as_first_version(path: Path) -> None:
    """Take from a file what the second version of its schema added."""
    db = sqlite3.connect(path)
    db.executescript(
        "DROP VIEW v_engine_errors; DROP TABLE proofs; ALTER TABLE answers DROP COLUMN error; PRAGMA user_version = 1;"
    )
    db.close()


def test_a_file_of_an_older_cultev_is_brought_up_to_date(results: Path, tmp_path: Path) -> None:
    before = content(results)
    as_first_version(results)
    open_results(results, write=False).close()
    assert content(results) != before
    open_results(results, write=True).close()
    assert content(results) == before


def test_a_proof_takes_the_place_of_the_one_before(results: Path) -> None:
    info = FakeBackend().info
    proof = Proof(3, 9, 0.01, 0.02, 0.005, 3, 0, 0.02)
    with Journal(results) as journal:
        journal.keep_proof(info, proof)
        journal.keep_proof(info, replace(proof, noise_per_token=0.5))
    db = sqlite3.connect(results)
    rows = db.execute("SELECT engine, noise_per_token, worst_per_token, tolerance, holds FROM proofs").fetchall()
    db.close()
    assert rows == [("fake", 0.5, 0.01, 0.02, 1)]
