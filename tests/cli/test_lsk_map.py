"""``cultev lsk ask``, ``export``, ``import`` and ``fit --prior`` as a user calls them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from cultev.suite import build_suite
from tests.backend.gguf_models import CHATML, write_tiny_gguf
from tests.cli.command import cultev, fails
from tests.cli.test_lsk import THREADS, choices

pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, a suite, the results of a fit, and its map."""
    folder = tmp_path_factory.mktemp("map")
    write_tiny_gguf(folder / "tiny.gguf", n_ctx=2048)
    write_tiny_gguf(folder / "other.gguf", n_ctx=2048, seed=7, name="other", chat_template=CHATML)
    build_suite(choices(folder / "small"), folder / "small.db")
    done = cultev("lsk", "fit", "tiny.gguf", "-s", "small.db", *THREADS, cwd=folder)
    assert done.code == 0, done.err
    done = cultev("lsk", "export", "tiny.gguf", "-o", "map.json", cwd=folder)
    assert done.code == 0, done.err
    assert done.out.strip() == json.loads((folder / "map.json").read_bytes())["sha256"]
    return folder


def asked(place: Path, *words: object, **more: str) -> dict[str, object]:
    done = cultev(
        "lsk", "ask", *words, "-s", "small.db", "--max-tokens", 12, "--json", *THREADS, cwd=place, **more
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def test_ask_says_where_it_put_the_question_and_why(place: Path) -> None:
    question = "Which of these do people there bring to a neighbour's house?"
    found = asked(place, question, "tiny.gguf", "--culture", culture_of(place), "--think-in", "es")
    assert found["question_language"] == "en" and found["think_in"] == "es" and found["why"] == "it was asked for"
    answers = found["answers"]
    assert isinstance(answers, list) and [answer["language"] for answer in answers] == ["es", "en"]
    assert found["agree"] in (True, False, None)


def culture_of(place: Path) -> str:
    with sqlite3.connect(place / "small.db") as connection:
        return str(connection.execute("SELECT min(culture) FROM item").fetchone()[0])


def test_ask_with_options_and_an_exported_map(place: Path) -> None:
    found = asked(
        place, "Welches Getränk?", "tiny.gguf", "--map", "map.json", "-o", "Tee", "-o", "Kaffee", "-o", "Wasser",
        "--question-language", "de",
    )  # fmt: skip
    assert found["question_language"] == "de" and found["question_language_share"] is None
    answers = found["answers"]
    assert isinstance(answers, list) and answers[-1]["language"] == "en"
    assert (
        set(answers[-1]["chances"]) == {"Tee", "Kaffee", "Wasser"} and answers[-1]["answer"] in answers[-1]["chances"]
    )


def test_ask_for_a_person(place: Path) -> None:
    done = cultev(
        "lsk", "ask", "Qu'est-ce qu'on offre là-bas à ses voisins pour la fête ?", "tiny.gguf", "--map", "map.json",
        "-s", "small.db", "--max-tokens", 8, "--think-in", "fr", *THREADS, cwd=place,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Question in French (fr)" in done.err and "Thinks in French (fr): it was asked for." in done.err
    assert "French (fr)" in done.out and "English (en)" in done.out and "=> " in done.out


def test_bad_words(place: Path) -> None:
    fails(cultev("lsk", "ask", " ", "tiny.gguf", cwd=place), "no question", code=2)
    fails(cultev("lsk", "ask", "Why?", "tiny.gguf", "-o", "one", cwd=place), "two different options", code=2)
    words = ("--map", "map.json", "-s", "small.db", *THREADS)
    fails(cultev("lsk", "ask", "Why?", "tiny.gguf", "--culture", "nowhere", *words, cwd=place), "no culture", code=2)
    fails(cultev("lsk", "ask", "Why?", "tiny.gguf", "--think-in", "tlh", *words, cwd=place), "tlh", code=2)
    fails(cultev("lsk", "ask", "Why?", "other.gguf", *words, cwd=place), "another model", "--prior")
    fails(cultev("lsk", "ask", "Why?", "tiny.gguf", "--map", "map.json", "-s", "planted", cwd=place), "another suite")
    fails(cultev("lsk", "ask", "Why?", "tiny.gguf", "--map", "none.json", cwd=place), "can't be read")
    fails(cultev("lsk", "ask", "Why?", "other.gguf", cwd=place), "not of this model")
    fails(cultev("lsk", "export", "tiny.gguf", "-o", "map.json", cwd=place), "exists already", code=2)


def test_import_and_export_are_each_others_inverse(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "map.json", tmp_path)
    done = cultev("lsk", "import", "map.json", place / "tiny.gguf", "-s", place / "small.db", cwd=tmp_path)
    assert done.code == 0, done.err
    assert cultev("lsk", "export", "-o", "again.json", cwd=tmp_path).code == 0
    assert (tmp_path / "again.json").read_bytes() == (place / "map.json").read_bytes()
    shown = cultev("lsk", "show", cwd=tmp_path)
    assert shown.code == 0 and "tiny" in shown.out
    assert "imported" in cultev("runs", "list", cwd=tmp_path).out
    again = cultev("lsk", "import", "map.json", cwd=tmp_path)
    assert again.code == 0 and again.out == done.out
    fails(cultev("lsk", "import", "map.json", place / "other.gguf", cwd=tmp_path), "another model")
    fails(cultev("lsk", "import", "map.json", "-s", "planted", cwd=tmp_path), "another suite")


def test_a_changed_file_is_refused(place: Path, tmp_path: Path) -> None:
    text = (place / "map.json").read_text(encoding="utf-8")
    (tmp_path / "map.json").write_text(text.replace('"training":', '"training":1'), encoding="utf-8")
    fails(cultev("lsk", "import", "map.json", cwd=tmp_path), "hasn't the hash")
    assert not (tmp_path / "cultev.db").exists()


def test_an_imported_map_gives_way_to_a_fit(place: Path, tmp_path: Path) -> None:
    """What the map could not say of model, suite and run is filled in, and nothing stands in the way."""
    shutil.copy(place / "map.json", tmp_path)
    assert cultev("lsk", "import", "map.json", cwd=tmp_path).code == 0
    done = cultev("lsk", "fit", place / "tiny.gguf", "-s", place / "small.db", *THREADS, cwd=tmp_path)
    assert done.code == 0, done.err
    with sqlite3.connect(tmp_path / "cultev.db") as connection:
        (size, title, status, planned) = connection.execute(
            "SELECT m.file_bytes, s.title, r.status, r.n_planned FROM models m, suites s, runs r"
        ).fetchone()
    assert size > 0 and title and status != "imported" and planned > 0


def test_a_map_is_lent_to_another_model(place: Path, tmp_path: Path) -> None:
    words = ("lsk", "fit", place / "other.gguf", "-s", place / "small.db", "--prior", place / "map.json", *THREADS)
    done = cultev(*words, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "Leans on tiny" in done.err
    assert cultev("lsk", "export", "-o", "second.json", cwd=tmp_path).code == 0
    assert "tiny" in json.loads((tmp_path / "second.json").read_bytes())["map"]["prior"]
    fails(cultev(*words, "--held-out", 0.3, cwd=tmp_path), "kept for the test", code=2)


def test_a_trial_fit_is_told_from_the_map_and_found_by_its_id(place: Path, tmp_path: Path) -> None:
    shutil.copy(place / "map.json", tmp_path)
    full = cultev("lsk", "import", "map.json", cwd=tmp_path).out.strip()
    words = ("lsk", "fit", place / "tiny.gguf", "-s", place / "small.db", "--limit", 40, "--json", *THREADS)
    assert cultev(*words, cwd=tmp_path).code == 0
    with sqlite3.connect(tmp_path / "cultev.db") as connection:
        ((trial,),) = connection.execute("SELECT id FROM lsk_maps WHERE id <> ?", [full]).fetchall()
    done = cultev("lsk", "export", "-o", "again.json", cwd=tmp_path)
    assert f"Map {full}: learned from 30 items in en es; another map" in done.err and f"--map {trial}" in done.err
    assert (tmp_path / "again.json").read_bytes() == (place / "map.json").read_bytes()
    shown = cultev("lsk", "show", "--map", trial, "--json", cwd=tmp_path)
    assert json.loads(shown.out)["training"] == 20 and "learned from" not in shown.err
    done = cultev("lsk", "export", "--map", trial, "-o", "trial.json", cwd=tmp_path)
    assert json.loads((tmp_path / "trial.json").read_bytes())["map"]["training"] == 20
    found = asked(place, "Why?", "tiny.gguf", "--map", trial, "--db", str(tmp_path / "cultev.db"))
    assert found["think_in"] == "en"
    fails(cultev("lsk", "show", "--map", "ffff", cwd=tmp_path), "no map's ID", trial, code=2)
