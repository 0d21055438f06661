"""``cultev lsk`` as a user calls it: fit, show, eval; bad input; stopping and going on; the planted experts."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from cultev.suite import build_suite
from tests.backend.gguf_models import CHATML, write_tiny_gguf
from tests.cli.command import cultev, environment, fails
from tests.cli.test_run import wait_for_answers
from tests.run.test_engine import content
from tests.worlds import source

pytest.importorskip("llama_cpp")
THREADS = ("--threads", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and a suite of 60 choice items in two languages."""
    folder = tmp_path_factory.mktemp("place")
    write_tiny_gguf(folder / "tiny.gguf", n_ctx=1024)
    build_suite(choices(folder / "small"), folder / "small.db")
    return folder


def choices(folder: Path, n: int = 60) -> Path:
    """A suite's source without the items that have one language only, each a group of its own.

    Right answers have nothing to do with cultures: no language can know one better for the length of its options.
    """
    source(folder, n=2 * n)
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = [item for item in items if item["kind"] == "choice"]
    kept = [json.dumps({**item, "group": item["id"], "answers": [i // 3 % 3]}) for i, item in enumerate(chosen)]
    (folder / "items.jsonl").write_text("\n".join(kept) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def fitted(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the map of the tiny model was made."""
    folder = tmp_path_factory.mktemp("fitted")
    assert cultev("lsk", "fit", place / "tiny.gguf", "-s", place / "small.db", *THREADS, cwd=folder).code == 0
    return folder


def test_a_random_model_has_no_language_of_its_own(place: Path, fitted: Path) -> None:
    done = cultev("lsk", "show", "--json", cwd=fitted)
    data = json.loads(done.out)
    assert data["shipped"] == "english"
    assert data["languages"] == ["en", "es"]
    assert {cell["language"] for cell in data["cells"]} == {"en"}
    assert data["training"] == 30 == sum(cell["n"] for cell in data["cells"])
    assert data["tokens_spent"] == data["tokens_full"] > 0
    again = cultev("lsk", "fit", place / "tiny.gguf", "-s", place / "small.db", "--json", *THREADS, cwd=fitted)
    assert json.loads(again.out) == data, "nothing is asked again and the same map comes of it"


def test_show_for_people(fitted: Path) -> None:
    done = cultev("lsk", "show", "--svg", "map.svg", cwd=fitted)
    assert done.code == 0, done.err
    for words in ("alpha / food", "ask in", "sure", "can't be told apart", "Ask everything in English", "Tokens: "):
        assert words in done.out
    assert "<svg" in (fitted / "map.svg").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(cultev("lsk", "show", "--csv", cwd=fitted).out)))
    assert [row["cell"] for row in rows] == ["alpha / food", "beta / food"]


def test_eval_compares_all_policies_on_the_same_items(place: Path, fitted: Path) -> None:
    words = ("lsk", "eval", place / "tiny.gguf", "-s", place / "small.db", *THREADS)
    data = json.loads(cultev(*words, "--json", cwd=fitted).out)
    policies = {row["policy"]: row for row in data["policies"]}
    assert {row["n"] for row in policies.values()} == {30}
    assert set(policies) >= {
        "english", "best-single", "model-picked", "equal-vote", "random", "paper", "paper-top3", "paper-cells",
        "shrunk", "gated", "shuffled-labels",
    }  # fmt: skip
    assert set(data["accuracy"]) == {*policies, "oracle", "oracle-corrected"}
    assert "culture-language" in data["left_out"]
    assert policies["gated"]["difference"] == 0
    assert policies["gated"]["verdict"] == "tie"
    assert data["n"] == {"training": 30, "test": 30, "counted": 30}
    assert "planted_recall" not in data
    table = cultev(*words, cwd=fitted)
    assert max(map(len, table.out.splitlines()[:15])) <= 80
    assert "equal-vote" in table.out


@pytest.mark.parametrize("cells", ["culture", "clusters", "one"])
def test_other_cells(place: Path, fitted: Path, cells: str) -> None:
    words = ("lsk", "fit", place / "tiny.gguf", "-s", place / "small.db", "--cells", cells, "--json", *THREADS)
    data = json.loads(cultev(*words, cwd=fitted).out)
    assert sum(cell["n"] for cell in data["cells"]) == 30


def test_halving_reports_what_it_saves(place: Path, tmp_path: Path) -> None:
    words = ("lsk", "fit", place / "tiny.gguf", "-s", place / "small.db", "--halving", "--json", *THREADS)
    data = json.loads(cultev(*words, cwd=tmp_path).out)
    assert data["halving"] is True
    assert 0 < data["tokens_spent"] <= 0.31 * data["tokens_full"]
    db = sqlite3.connect(tmp_path / "cultev.db")
    assert db.execute("SELECT status FROM runs").fetchall() == [("partial",)]
    db.close()
    english = sum(cell["asked"]["en"] for cell in data["cells"])
    other = sum(cell["asked"]["es"] for cell in data["cells"])
    assert 0 < english < data["training"] == 30 and 0 < other < 30
    shown = " ".join(cultev("lsk", "show", cwd=tmp_path).out.split())
    assert f"Learned from {english} of 30 items, those asked in English by halving" in shown
    assert f"in another language {other} were" in shown
    for cell in data["cells"]:
        assert f" {cell['asked']['en']} of {cell['n']} en" in shown


def test_reasoning_in_the_language(place: Path, tmp_path: Path) -> None:
    done = cultev(
        "lsk", "fit", place / "tiny.gguf", "-s", place / "small.db", "-l", "en,th", "--mode", "cot", "--translate",
        "cot", "--orders", 1, "--max-tokens", 3, "--json", *THREADS, cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["budgets"]["en"] == 3
    assert data["budgets"]["th"] > 6
    assert set(data["outcomes"]["th"]) <= {"correct", "incorrect", "off_language", "degenerate"}


@pytest.mark.parametrize(
    ("words", "telling", "code"),
    [
        (("-s", "small.db", "-l", "en,th"), "no questions in 'th'; it has en es", 2),
        (("-s", "small.db", "-l", "en,tlh", "--translate", "cot"), "no instructions in the language 'tlh'", 2),
        (("-s", "small.db", "-l", "en"), "English alone", 2),
        (("-s", "small.db", "--limit", "15"), "15 groups of items are too few", 2),
        (("-s", "small.db", "--limit", "10"), "larger --limit", 2),
        (("-s", "small.db", "--held-out", "0.9"), "6 groups of items to learn from are too few", 2),
        (("-s", "small.db", "--mode", "cot", "--answer", "letters"), "can't go together", 2),
        (("-s", "small.db", "--answer", "json"), "can't go together", 2),
        (("-s", "small.db", "--embedder", "nowhere"), "no embedding model", 1),
        (("-s", "nowhere"), "nowhere", 1),
        (("-s", "small.db", "--n-ctx", "32"), "answers nothing in English (en): every question is too long", 1),
        (("-s", "small.db", "--json", "--csv"), "can't go together", 2),
    ],
)
def test_bad_input(place: Path, tmp_path: Path, words: tuple[str, ...], telling: str, code: int) -> None:
    (tmp_path / "small.db").write_bytes((place / "small.db").read_bytes())
    fails(cultev("lsk", "fit", place / "tiny.gguf", *words, *THREADS, cwd=tmp_path), telling, code=code)


def test_no_test_without_test_items(place: Path, tmp_path: Path) -> None:
    words = ("lsk", "eval", place / "tiny.gguf", "-s", place / "small.db", "--held-out", 0)
    fails(cultev(*words, cwd=tmp_path), "nothing to test on", code=2)
    for more in (("--limit", 20, "--held-out", 0.01), ("--held-out", 0.1)):
        done = cultev(*words[:-2], *more, cwd=tmp_path)
        fails(done, "groups of items to test on are too few", "--held-out at 0.5", code=2)
    assert not (tmp_path / "cultev.db").exists()


def test_halving_that_can_afford_nothing_agrees_with_nothing(place: Path, fitted: Path) -> None:
    words = ("lsk", "eval", place / "tiny.gguf", "-s", place / "small.db", "--share", 0.01, *THREADS)
    done = cultev(*words, cwd=fitted)
    assert done.code == 0 and "halving takes 0 of" in done.out and "same way" not in done.out
    assert "halving_agrees" not in json.loads(cultev(*words, "--json", cwd=fitted).out)


def test_a_map_of_another_model_or_suite_version(place: Path, fitted: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "other.gguf", n_ctx=1024, seed=5)
    folder = choices(tmp_path / "newer")
    text = (folder / "suite.toml").read_text(encoding="utf-8").replace("1.0.0", "1.1.0")
    (folder / "suite.toml").write_text(text, encoding="utf-8")
    build_suite(folder, tmp_path / "newer.db")
    db = ("--db", fitted / "cultev.db")
    fails(cultev("lsk", "show", "other.gguf", *db, cwd=tmp_path), "not of this model")
    words = (place / "tiny.gguf", "-s", "newer.db")
    fails(cultev("lsk", "show", *words, *db, cwd=tmp_path), "not of this version of the suite", "small 1.0.0")
    assert cultev("lsk", "show", place / "tiny.gguf", "-s", place / "small.db", *db, cwd=tmp_path).code == 0


def test_no_map_yet(place: Path, tmp_path: Path) -> None:
    fails(cultev("lsk", "show", cwd=tmp_path), "There is no results file")
    cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--limit", 2, *THREADS, cwd=tmp_path)
    fails(cultev("lsk", "show", cwd=tmp_path), "There is no map", "cultev lsk fit")


def test_a_model_that_answers_nothing_in_a_language(place: Path, tmp_path: Path) -> None:
    """Its template makes Spanish questions too long: they are set aside, and said so."""
    template = CHATML.replace("{{ message['content'] }}", "{{ message['content'] }}{% if '¿' in message['content'] %}"
                              + "and so on " * 100 + "{% endif %}")  # fmt: skip
    write_tiny_gguf(tmp_path / "mute.gguf", n_ctx=1024, chat_template=template)
    words = ("lsk", "fit", "mute.gguf", "-s", place / "small.db", "--n-ctx", 512, "--json", *THREADS)
    done = cultev(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "The model answers nothing in Spanish (es): every question is too long for its context" in done.err
    data = json.loads(done.out)
    assert data["outcomes"]["es"] == {"too_long": 1.0}
    assert {cell["language"] for cell in data["cells"]} == {"en"}


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_a_stopped_fit_goes_on(place: Path, tmp_path: Path) -> None:
    build_suite(choices(tmp_path / "many", n=400), tmp_path / "many.db")
    words = ["lsk", "fit", str(place / "tiny.gguf"), "-s", "many.db", *THREADS]
    process = subprocess.Popen(
        [sys.executable, "-m", "cultev", *words], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for_answers(tmp_path / "cultev.db")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Every answer so far is kept" in err
    assert "Traceback" not in err
    fails(cultev("lsk", "show", cwd=tmp_path), "There is no map")
    first = cultev(*words, "--json", cwd=tmp_path)
    whole = cultev(*words, "--json", "--db", "whole.db", cwd=tmp_path)
    assert first.code == whole.code == 0
    assert first.out == whole.out
    assert plain(tmp_path / "cultev.db") == plain(tmp_path / "whole.db")


def plain(path: Path) -> dict[str, list[object]]:
    """What a file holds, when the maps were made aside."""
    found: dict[str, list[object]] = dict(content(path))
    found["lsk_maps"] = [row[:-2] for row in found["lsk_maps"]]  # type: ignore[index]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("format", ["gguf", "onnx"])
def test_the_planted_experts(format: str, tmp_path: Path) -> None:
    """The reference model, fitted on half of the planted suite."""
    done = cultev(
        "lsk", "eval", f"reference:{format}", "--suite", "planted", "--orders", 1, "--json",
        "--threads", os.cpu_count() or 1, cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done.err
    data = json.loads(done.out)
    assert data["planted_recall"] >= 0.95
    assert data["planted_english"] == 1.0
    assert data["oracle_gap"] <= 0.03
    assert data["tokens_share"] <= 0.3
    assert data["planted_recall_halving"] >= 0.95
    assert data["halving_agrees"] >= 0.95
    accuracy = data["accuracy"]
    assert accuracy["gated"] > accuracy["english"] + 0.4
    assert abs(accuracy["shuffled-labels"] - accuracy["best-single"]) <= 0.03
