"""``cultev run`` end to end on a small random GGUF and a small suite, as a user calls it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.backend.gguf_models import write_tiny_gguf
from tests.backend.onnx_models import make_folder
from tests.cli.command import Done, cultev, environment, fails
from tests.run.test_engine import content
from tests.worlds import small_suite, source

pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a suite."""
    folder = tmp_path_factory.mktemp("place")
    write_tiny_gguf(folder / "tiny.gguf", n_ctx=1024)
    small_suite(folder, n=12).close()
    return folder


def test_tables_on_stdout_notes_on_stderr(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "tiny.gguf", "-s", place / "small.db", cwd=tmp_path)
    assert done.code == 0, done.err
    for words in (
        "small by language",
        "small by culture",
        "small by context",
        "95 % interval",
        "chance",
        "like chance",
    ):
        assert words in done.out
    assert "questions; answers go into cultev.db" in done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert (tmp_path / "cultev.db").exists()


def test_json_is_all_that_stdout_holds(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--json", cwd=tmp_path)
    data = json.loads(done.out)
    assert data["run"]["status"] == "done"
    assert sum(cell["n"] for cell in data["cells"]) == data["run"]["n_planned"] == data["suites"][0]["n"]
    for cell in data["cells"]:
        assert 0 <= cell["low"] <= cell["accuracy"] <= cell["high"] <= 1
        assert {"suite", "culture", "language", "context", "chance", "constant", "interval"} <= set(cell)


def test_csv(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--csv", "--by", "language", cwd=tmp_path)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert [row["language"] for row in rows] == ["en", "es"]


def test_a_second_call_asks_nothing(place: Path, tmp_path: Path) -> None:
    words = ("run", place / "tiny.gguf", "-s", place / "small.db")
    first, second = cultev(*words, cwd=tmp_path), cultev(*words, cwd=tmp_path)
    assert "nothing to ask again" in second.err
    assert first.out == second.out


def test_letters_languages_contexts_orders_and_pmi(place: Path, tmp_path: Path) -> None:
    done = cultev(
        "run", place / "tiny.gguf", "-s", place / "small.db", "--mode", "letters", "-l", "en", "-c", "none",
        "--orders", 3, "--norm", "pmi", "--json", cwd=tmp_path,
    )  # fmt: skip
    data = json.loads(done.out)
    assert {(c["language"], c["context"]) for c in data["cells"]} == {("en", "none")}
    assert data["suites"][0]["n"] == 12 * 3
    db = sqlite3.connect(tmp_path / "cultev.db")
    assert db.execute("SELECT count(*) FROM answers WHERE picked_pmi IS NULL OR prior_key IS NULL").fetchone() == (0,)
    db.close()


def test_show_prints_what_the_model_reads(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--show", "item-2", "-c", "rule", cwd=tmp_path)
    assert done.code == 0
    assert "<|im_start|>user\n" in done.out
    assert "Rule of thumb: Bring 2 loaves.\nKim brings 2 loaves." in done.out
    assert done.out.count("<|bos|>") == 1
    assert "(right): No" in done.out
    assert not (tmp_path / "cultev.db").exists()


def test_the_environment_sets_options(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "tiny.gguf", "-s", place / "small.db", cwd=tmp_path, CULTEV_RUN_DB="mine.db")
    assert done.code == 0
    assert (tmp_path / "mine.db").exists()


def test_runs_list_and_show(place: Path, tmp_path: Path) -> None:
    cultev("run", place / "tiny.gguf", "-s", place / "small.db", cwd=tmp_path)
    (run,) = json.loads(cultev("runs", "list", "--json", cwd=tmp_path).out)
    assert run["status"] == "done"
    assert run["answers"] == run["planned"]
    done = cultev("runs", "show", run["run"][:5], "--by", "topic", "--norm", "byte", cwd=tmp_path)
    assert done.code == 0
    assert "food" in done.out
    fails(cultev("runs", "show", "zzz", cwd=tmp_path), "No run begins with 'zzz'", code=2)
    fails(cultev("runs", "show", run["run"], "--by", "weight", cwd=tmp_path), "Choose from", code=2)


def test_a_model_without_a_template_is_said_so(place: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "plain.gguf", n_ctx=1024, chat_template=None)
    done = cultev("run", "plain.gguf", "-s", place / "small.db", "--limit", 2, cwd=tmp_path)
    assert done.code == 0
    assert "no chat template" in done.err
    shown = cultev("run", "plain.gguf", "-s", place / "small.db", "--show", "item-1", "-l", "en", cwd=tmp_path)
    assert "\nAnswer: \n-- " in shown.out


@pytest.mark.parametrize(
    ("words", "telling", "code"),
    [
        (("nowhere.gguf",), "There is no model at nowhere.gguf", 1),
        (("letter.txt",), "letter.txt", 1),
        (("half.gguf",), "half.gguf", 1),
        (("odd.gguf",), "unknown model architecture: 'lxama'", 1),
        (("graphless",), "no .onnx", 1),
        (("tokenless",), "tokenizer.json", 1),
        (("tiny.gguf", "-s", "nowhere"), "nowhere", 1),
        (("tiny.gguf", "-s", "letter.txt"), "letter.txt", 1),
        (("tiny.gguf", "-s", "newer.db"), "newer", 1),
        (("tiny.gguf", "-s", "damaged.db"), "damaged.db", 1),
        (("tiny.gguf", "-s", "edited.db"), "hash", 1),
        (("tiny.gguf", "-s", "small.db", "--db", "letter.txt"), "not a cultev results file", 1),
        (("tiny.gguf", "-s", "small.db", "--db", "small.db"), "something else", 1),
        (("tiny.gguf", "-s", "small.db", "--db", "no/such/folder.db"), "folder exists", 1),
        (("tiny.gguf", "-s", "small.db", "-l", "tlh"), "'tlh'", 2),
        (("tiny.gguf", "-s", "small.db", "-c", "moon"), "no question", 2),
        (("tiny.gguf", "-s", "small.db", "--show", "item-99"), "item-99", 1),
        (("reference:exe",), "no format 'exe'", 2),
    ],
)
def test_bad_input(place: Path, tmp_path: Path, words: tuple[str, ...], telling: str, code: int) -> None:
    bad_files(place, tmp_path)
    fails(cultev("run", *words, cwd=tmp_path), telling, code=code)


def bad_files(place: Path, folder: Path) -> None:
    """Everything a user could hand over by mistake."""
    for name in ("tiny.gguf", "small.db"):
        (folder / name).write_bytes((place / name).read_bytes())
    (folder / "letter.txt").write_text("Dear reader, this is a letter and nothing else.")
    model, suite = (place / "tiny.gguf").read_bytes(), (place / "small.db").read_bytes()
    (folder / "half.gguf").write_bytes(model[: len(model) // 2])
    (folder / "odd.gguf").write_bytes(model.replace(b"llama", b"lxama"))
    (folder / "graphless").mkdir()
    make_folder(folder / "tokenless")
    (folder / "tokenless" / "tokenizer.json").unlink()
    (folder / "damaged.db").write_bytes(suite[:8192] + b"\xff" * 4096 + suite[12288:])
    for name, sql in (("newer.db", "PRAGMA user_version = 99"), ("edited.db", "UPDATE item_text SET question = '?'")):
        (folder / name).write_bytes(suite)
        db = sqlite3.connect(folder / name)
        db.execute(sql)
        db.commit()
        db.close()


def test_wrong_words_are_usage_errors(tmp_path: Path) -> None:
    for words in (("rum",), ("run", "--mode", "song"), ("run", "--limit", "0"), ("guide", "nothing")):
        done = cultev(*words, cwd=tmp_path)
        assert done.code == 2
        assert "Traceback" not in done.err
    assert "Did you mean 'run'?" in cultev("rum", cwd=tmp_path).err


def test_two_runs_into_one_file(place: Path, tmp_path: Path) -> None:
    from cultev.run.store import WriterLock

    lock = WriterLock(tmp_path / "cultev.db")
    fails(cultev("run", place / "tiny.gguf", "-s", place / "small.db", cwd=tmp_path), "Another cultev run", "--db")
    lock.release()


def test_all_questions_too_long(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--n-ctx", 16, cwd=tmp_path)
    assert done.code == 0
    assert "too long" in done.out
    assert "--n-ctx" in done.err


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_ctrl_c_keeps_what_was_answered_and_the_next_run_goes_on(place: Path, tmp_path: Path) -> None:
    source(tmp_path / "many", n=400, name="many")
    assert cultev("suites", "build", "many", cwd=tmp_path).code == 0
    words = ["run", str(place / "tiny.gguf"), "-s", "many.db"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cultev", *words], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    wait_for_answers(tmp_path / "cultev.db")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Every answer so far is kept" in err
    assert "Traceback" not in err
    db = sqlite3.connect(tmp_path / "cultev.db")
    kept, status = db.execute("SELECT (SELECT count(*) FROM answers), status FROM runs").fetchone()
    db.close()
    assert kept > 0
    assert status == "interrupted"
    assert cultev(*words, cwd=tmp_path).code == 0
    assert cultev(*words, "--db", "whole.db", cwd=tmp_path).code == 0
    assert content(tmp_path / "cultev.db") == content(tmp_path / "whole.db")


def wait_for_answers(path: Path) -> None:
    for _ in range(600):
        time.sleep(0.05)
        if path.exists():
            try:
                db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
                (n,) = db.execute("SELECT count(*) FROM answers").fetchone()
                db.close()
            except sqlite3.Error:
                continue
            if n:
                return
    raise AssertionError("no answer within 30 seconds")


def full_disk(_: object = None) -> None:
    """Let no file of this process grow beyond 500 kB, which SQLite meets as it meets a full disk."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))


@pytest.mark.skipif(sys.platform == "win32", reason="limits a POSIX process")
def test_a_full_disk(place: Path, tmp_path: Path) -> None:
    source(tmp_path / "many", n=400, name="many")
    assert cultev("suites", "build", "many", cwd=tmp_path).code == 0
    words = ["run", str(place / "tiny.gguf"), "-s", "many.db"]
    done = subprocess.run(
        [sys.executable, "-m", "cultev", *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=full_disk,
    )
    fails(Done(done.returncode, done.stdout, done.stderr), "cultev.db", "what was answered before is kept")
    db = sqlite3.connect(tmp_path / "cultev.db")
    (kept,) = db.execute("SELECT count(*) FROM answers").fetchone()
    db.close()
    assert kept > 0
    assert cultev(*words, cwd=tmp_path).code == 0
    assert cultev(*words, "--db", "whole.db", cwd=tmp_path).code == 0
    assert content(tmp_path / "cultev.db") == content(tmp_path / "whole.db")


def test_a_locked_results_file(place: Path, tmp_path: Path) -> None:
    words = ("run", place / "tiny.gguf", "-s", place / "small.db")
    cultev(*words, "--limit", 2, cwd=tmp_path)
    other = sqlite3.connect(tmp_path / "cultev.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    fails(cultev(*words, cwd=tmp_path), "locked by another program", "nothing is lost")
    other.execute("ROLLBACK")
    other.close()
    assert cultev(*words, cwd=tmp_path).code == 0


@pytest.mark.skipif(sys.platform == "win32" or not hasattr(os, "geteuid"), reason="drops POSIX rights")
def test_a_read_only_results_file(place: Path, tmp_path: Path) -> None:
    words = ("run", place / "tiny.gguf", "-s", place / "small.db")
    cultev(*words, "--limit", 2, cwd=tmp_path)
    (tmp_path / "cultev.db").chmod(0o444)
    if os.geteuid() == 0:
        pytest.skip("root may write a read-only file")
    fails(cultev(*words, cwd=tmp_path), "read-only", "--db")


def test_words_that_could_only_fail_after_hours(place: Path, tmp_path: Path) -> None:
    words = ("run", place / "tiny.gguf", "-s", place / "small.db")
    fails(cultev(*words, "--by", "weight", cwd=tmp_path), "Choose from", code=2)
    fails(cultev(*words, "--json", "--csv", cwd=tmp_path), "can't go together", code=2)
    fails(cultev(*words, "-c", "none", "-c", "moon", cwd=tmp_path), "'moon'", code=2)
    assert not (tmp_path / "cultev.db").exists()


def test_the_same_words_twice_or_in_another_order_are_the_same_run(place: Path, tmp_path: Path) -> None:
    words = ("run", place / "tiny.gguf", "-s", place / "small.db", "--limit", 4)
    cultev(*words, "-l", "en", "-l", "es", cwd=tmp_path)
    again = cultev(*words, "-s", place / "small.db", "-l", "es", "-l", "en", "-l", "es", cwd=tmp_path)
    assert "nothing to ask again" in again.err


def test_odd_places_for_results(place: Path, tmp_path: Path) -> None:
    for odd in ("", ".", "/"):
        fails(cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--db", odd, cwd=tmp_path), "folder")


def test_nothing_is_left_beside_the_results_but_the_lock(place: Path, tmp_path: Path) -> None:
    cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--limit", 3, cwd=tmp_path)
    cultev("runs", "list", cwd=tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"cultev.db", "cultev.db.lock"}


def test_a_killed_run_is_listed_as_stopped(place: Path, tmp_path: Path) -> None:
    cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--limit", 3, cwd=tmp_path)
    db = sqlite3.connect(tmp_path / "cultev.db")
    db.execute("UPDATE runs SET status = 'running', finished_at = NULL")
    db.commit()
    db.close()
    (run,) = json.loads(cultev("runs", "list", "--json", cwd=tmp_path).out)
    assert run["status"] == "stopped"


def test_a_template_that_drops_the_question_is_refused(place: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "deaf.gguf", n_ctx=1024, chat_template="hi")
    fails(cultev("run", "deaf.gguf", "-s", place / "small.db", cwd=tmp_path), "leaves the question out")


def test_names_cannot_steer_the_table(tmp_path: Path, place: Path) -> None:
    folder = source(tmp_path / "odd", n=8, name="odd")
    text = (folder / "suite.toml").read_text(encoding="utf-8").replace("East Asia", "East [/x] Asia")
    (folder / "suite.toml").write_text(text, encoding="utf-8")
    assert cultev("suites", "build", "odd", cwd=tmp_path).code == 0
    done = cultev("run", place / "tiny.gguf", "-s", "odd.db", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "East [/x] Asia" in done.out


@pytest.mark.skipif(sys.platform == "win32", reason="/dev/full")
def test_output_that_cannot_be_written(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cultev", "suites", "list", "--json"],
            cwd=tmp_path, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Writing the output failed" in done.stderr


def test_options_that_begin_each_other_are_said_at_the_build(tmp_path: Path) -> None:
    folder = source(tmp_path / "tea", n=4, name="tea")
    text = (folder / "items.jsonl").read_text(encoding="utf-8").replace('"oat 1"', '"rye 1 with butter"')
    (folder / "items.jsonl").write_text(text, encoding="utf-8")
    assert "item-1" in cultev("suites", "build", "tea", cwd=tmp_path).err
    assert cultev("suites", "build", str(source(tmp_path / "plain", n=4)), cwd=tmp_path).err == ""
