"""``cultev harm pairs``, and ``harm import`` of published sets, as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.backend.gguf_models import write_tiny_gguf
from tests.cli.command import cultev, fails
from tests.harm.test_pairs import pair
from tests.worlds import small_suite

pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models, a suite of pairs imported from a table, and one without pairs."""
    folder = tmp_path_factory.mktemp("place")
    write_tiny_gguf(folder / "tiny.gguf", n_ctx=1024)
    write_tiny_gguf(folder / "other.gguf", n_ctx=1024, seed=7)
    small_suite(folder, n=4).close()
    with (folder / "preferences.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "More Preferred", "Less Preferred", "Country", "Area", "type"])
        for i in range(24):
            text = pair(i)["texts"]["en"]  # type: ignore[index]
            place = "Alpha" if i % 2 else "Beta"
            writer.writerow(
                [text["prompt"], text["preferred"], text["dispreferred"], place, "Food", "2b" if i % 3 else 1]
            )
    done = cultev("harm", "import", "preferences.csv", "--as", "pairs", "-o", "pairs.db", cwd=folder)
    assert done.code == 0, done.err
    assert "24 items, 2 cultures, en" in done.out
    return folder


def words(place: Path, *more: object) -> tuple[object, ...]:
    return ("harm", "pairs", place / "tiny.gguf", "-s", place / "pairs.db", "--threads", 1, *more)


def test_tables_and_data(place: Path, tmp_path: Path) -> None:
    done = cultev(*words(place, "--pmi"), cwd=tmp_path)
    assert done.code == 0, done.err
    for telling in ("The better answer preferred", "What length alone would give", "harm ", "helpful ", "controlled"):
        assert telling in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    (run,) = json.loads(cultev("runs", "list", "--json", cwd=tmp_path).out)
    assert done.out.splitlines()[0].endswith(f" (gguf), run {run['run']} of pairs")
    assert "helpful: fewer than 20 pairs, from which nothing can be told." in done.out
    again = cultev(*words(place, "--pmi", "--by", "culture", "--json"), cwd=tmp_path)
    assert "nothing to ask again" in again.err
    cells = json.loads(again.out)
    assert {(c["pair_type"], c["culture"]) for c in cells} == {
        (t, c) for t in ("harm", "helpful") for c in ("alpha", "beta")
    }
    assert sum(c["n"] for c in cells) == 24
    for cell in cells:
        assert cell["low"] <= cell["accuracy"] <= cell["high"]
        assert cell["shorter"] + cell["longer"] == pytest.approx(1)
        assert 0 <= cell["pmi"] <= 1
        assert cell["reward"] is None
    assert all(cell["pmi"] is None for cell in json.loads(cultev(*words(place, "--json"), cwd=tmp_path).out))
    as_csv = cultev(*words(place, "--csv"), cwd=tmp_path)
    assert [row["pair_type"] for row in csv.DictReader(io.StringIO(as_csv.out))] == ["harm", "helpful"]


def test_a_table_by_culture_fits_a_terminal_whole(place: Path, tmp_path: Path) -> None:
    done = cultev(*words(place, "--pmi", "--by", "culture"), cwd=tmp_path)
    assert done.code == 0, done.err
    cells = [line.split()[:2] for line in done.out.splitlines() if line.split()[1:2] in (["alpha"], ["beta"])]
    assert cells[:4] == [["harm", "alpha"], ["harm", "beta"], ["helpful", "alpha"], ["helpful", "beta"]] == cells[4:8]
    assert "harm alpha, harm beta, helpful alpha, helpful beta: fewer than 20 pairs" in done.out


def test_reference_model(place: Path, tmp_path: Path) -> None:
    done = cultev(*words(place, "--reference-model", place / "other.gguf", "--json"), cwd=tmp_path)
    assert done.code == 0, done.err
    assert all(0 <= cell["reward"] <= 1 for cell in json.loads(done.out))
    with closing(sqlite3.connect(tmp_path / "cultev.db")) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE mode = 'pairs'").fetchone() == (2,)


def test_a_model_without_a_chat_template_is_told_of(place: Path, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "plain.gguf", n_ctx=1024, chat_template=None)
    done = cultev("harm", "pairs", "plain.gguf", "-s", place / "pairs.db", "--threads", 1, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "The model has no chat template: it is asked in plain text." in done.err
    assert "no chat template" not in cultev(*words(place), cwd=tmp_path).err


def test_strict_scores_do_not_depend_on_company(place: Path, tmp_path: Path) -> None:
    few = cultev(*words(place, "--strict", "--limit", 6), "--db", "few.db", cwd=tmp_path)
    assert few.code == 0, few.err
    assert cultev(*words(place, "--strict"), "--db", "all.db", cwd=tmp_path).code == 0
    query = "SELECT item, preferred, dispreferred, preferred_prior, dispreferred_prior FROM v_pairs"
    with closing(sqlite3.connect(tmp_path / "few.db")) as a, closing(sqlite3.connect(tmp_path / "all.db")) as b:
        assert set(a.execute(query)) < set(b.execute(query))


@pytest.mark.parametrize(
    ("more", "telling", "code"),
    [
        (("-s", "small.db"), "small has no pairs", 2),
        (("-l", "ja"), "pairs has no pairs in ja", 2),
        (("--by", "colour"), "can't be told by 'colour'", 2),
        (("--json", "--csv"), "can't go together", 2),
        (("--reference-model", "none.gguf"), "There is no model at none.gguf", 1),
    ],
)
def test_bad_input(place: Path, more: tuple[object, ...], telling: str, code: int) -> None:
    fails(cultev(*words(place), *more, "--db", "bad.db", cwd=place), telling, code=code)


def test_published_sets_become_suites(place: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("text,where\nWhy are they bad?,Alpha\nWhy are they bad?,Beta\n", encoding="utf-8")
    fails(
        cultev("harm", "import", "set.csv", "--as", "single", cwd=tmp_path),
        "doesn't say which culture",
        "--map culture",
    )
    fails(
        cultev("harm", "import", "set.csv", "--as", "single", "--map", "culture=land", cwd=tmp_path),
        "has no column 'land'",
        "'text', 'where'",
        code=2,
    )
    done = cultev("harm", "import", "set.csv", "--as", "single", "--map", "culture=where", cwd=tmp_path)
    assert done.code == 0, done.err
    shown = cultev("suites", "show", "set.db", "--items", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "Why are they bad?" in shown.out
