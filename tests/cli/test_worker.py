"""The engine's process as a user meets it: its deaths, Ctrl-C, ``--retry``, ``--strict``, and what doctor keeps."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backend.gguf_models import write_tiny_gguf
from tests.cli.command import alive, children, cultev, environment, wait_until
from tests.cli.test_run import wait_for_answers
from tests.run.test_engine import content, outcomes
from tests.run.test_store import as_first_version
from tests.worlds import small_suite, source

pytest.importorskip("llama_cpp")

FATAL = """
import os
from cultev.backend.scorer import TreeScorer
whole = TreeScorer._score_pack

def fatal(self, pack):
    if any(int(r.key[:2], 16) < 12 for r in pack.requests):
        os.write(2, b"ggml.c:1: GGML_ASSERT(rows > 0) failed\\n")
        os.abort()
    return whole(self, pack)

TreeScorer._score_pack = fatal
"""
"""Loaded by Python as it starts, this makes llama.cpp die of some 5 % of all questions."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a model, a suite, and a module that makes the engine die."""
    write_tiny_gguf(tmp_path / "tiny.gguf", n_ctx=1024)
    small_suite(tmp_path, n=24).close()
    (tmp_path / "fatal").mkdir()
    (tmp_path / "fatal" / "sitecustomize.py").write_text(FATAL)
    return tmp_path


def fatal(place: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join([str(place / "fatal"), environment()["PYTHONPATH"]])}


WORDS = ("run", "tiny.gguf", "-s", "small.db", "--threads", "1")


@pytest.mark.skipif(sys.platform == "win32", reason="names a POSIX signal")
def test_an_engine_that_dies_of_some_questions(place: Path) -> None:
    done = cultev(*WORDS, cwd=place, **fatal(place))
    assert done.code == 0, done.err
    assert "The engine died (SIGABRT: ggml.c:1: GGML_ASSERT(rows > 0) failed) while it was at item-" in done.err
    assert "set aside as engine_error" in done.err
    found = outcomes(place / "cultev.db")
    n = found["engine_error"]
    assert sum(found.values()) == 24 // 2 * 2 + 12 * 3 + 8
    assert 0 < n < 10
    assert f"{n} question{'s have' if n > 1 else ' has'} no answer: the engine died of" in done.out
    assert f"{n} engine error" in done.out
    assert "Traceback" not in done.err + done.out

    again = cultev(*WORDS, "--json", cwd=place)
    assert "nothing to ask again" in again.err
    assert json.loads(again.out)["run"]["engine_errors"] == n
    retried = cultev(*WORDS, "--retry", "--json", cwd=place)
    assert json.loads(retried.out)["run"]["engine_errors"] == 0
    assert "engine_error" not in outcomes(place / "cultev.db")
    assert "nothing to ask again" in cultev(*WORDS, "--retry", cwd=place).err


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_ctrl_c_reaches_the_whole_group(place: Path) -> None:
    """As a terminal sends it: to the command and to its engine."""
    source(place / "many", n=300, name="many")
    assert cultev("suites", "build", "many", cwd=place).code == 0
    words = ["run", "tiny.gguf", "-s", "many.db", "--threads", "1", "--limit", "250"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cultev", *words],
        cwd=place, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for_answers(place / "cultev.db")
    workers = children(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Every answer so far is kept" in err
    assert "died" not in err and "Traceback" not in err
    assert wait_until(lambda: not any(map(alive, workers)), 5)
    assert cultev(*words, cwd=place).code == 0
    assert cultev(*words, "--db", "whole.db", cwd=place).code == 0
    assert content(place / "cultev.db") == content(place / "whole.db")


def test_a_strict_run_is_a_run_of_its_own(place: Path) -> None:
    runs = [json.loads(cultev(*WORDS, *more, "--json", cwd=place).out)["run"] for more in ((), ("--strict",))]
    assert runs[0]["id"] != runs[1]["id"]
    assert runs[1]["protocol"]["strict"] is True
    assert [run["moves_per_token"] for run in runs] == [None, 0]
    db = sqlite3.connect(place / "cultev.db")
    responses, answers = db.execute(
        "SELECT (SELECT count(*) FROM responses), (SELECT count(*) FROM answers)"
    ).fetchone()
    db.close()
    assert responses == answers  # each has its own


def test_what_doctor_measured_is_said_under_the_tables(place: Path) -> None:
    check = ("doctor", "tiny.gguf", "--threads", "1")
    assert "kept in" not in cultev(*check, cwd=place).out
    assert not (place / "cultev.db").exists()
    before = cultev(*WORDS, cwd=place)
    assert "nats a token" not in before.out
    done = cultev(*check, cwd=place)
    assert "kept in           cultev.db" in done.out, done.err
    after = cultev(*WORDS, cwd=place)
    assert after.out.startswith(before.out)
    (line,) = after.out[len(before.out) :].splitlines()
    assert line.startswith("Log-probabilities may move by up to ") and "(cultev doctor)" in line
    assert 0 < json.loads(cultev(*WORDS, "--json", cwd=place).out)["run"]["moves_per_token"] < 0.5
    named = cultev(*check, "--db", "new.db", cwd=place)
    assert "kept in           new.db" in named.out
    db = sqlite3.connect(place / "new.db")
    assert db.execute("SELECT count(*) FROM proofs").fetchone() == (1,)
    db.close()
    assert cultev("runs", "list", "--db", "new.db", cwd=place).code == 0


def test_a_file_of_an_older_cultev_can_be_shown(place: Path) -> None:
    done = cultev(*WORDS, cwd=place)
    run = json.loads(cultev("runs", "list", "--json", cwd=place).out)[0]["run"]
    as_first_version(place / "cultev.db")
    assert cultev("runs", "show", run, cwd=place).out == done.out


def test_device_is_passed_on_and_no_part_of_a_run(place: Path) -> None:
    cultev(*WORDS, "--device", "cpu", cwd=place)
    assert "nothing to ask again" in cultev(*WORDS, "--device", "auto", cwd=place).err
    assert cultev(*WORDS, "--device", "tpu", cwd=place).code == 2
