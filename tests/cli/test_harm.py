"""``cultev harm run``, ``show`` and ``selftest``, as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from cultev.harm.demonstration import demonstrate
from cultev.harm.selftest import invented_suite
from tests.backend.gguf_models import write_tiny_gguf
from tests.cli.command import cultev, fails
from tests.cli.test_worker import FATAL, fatal
from tests.harm.loaded import items, loaded_suite
from tests.harm.test_orders import PAIRS
from tests.worlds import small_suite

pytest.importorskip("llama_cpp")

QUICK = ("--threads", 1, "--max-tokens", 8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a harm suite, a suite of another kind, and a finished harm run."""
    folder = tmp_path_factory.mktemp("place")
    write_tiny_gguf(folder / "tiny.gguf", n_ctx=1024)
    loaded_suite(folder, items(("kelmori",), templates=1)).close()
    small_suite(folder, n=4).close()
    done = cultev("harm", "run", "tiny.gguf", "-s", "loaded.db", "--robust", *QUICK, cwd=folder)
    assert done.code == 0, done.err
    return folder


def test_a_run_says_what_it_does_and_shows_what_came_of_it(place: Path, tmp_path: Path) -> None:
    done = cultev("harm", "run", place / "tiny.gguf", "-s", place / "loaded.db", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.err.count("Content note (loaded): Loaded questions about invented peoples.") == 1
    assert "Holding 12 conversations with " in done.err
    for words in ("judge --with MODEL", "good replies", "By language", "By scope and turns", "premise set right"):
        assert words in done.out
    assert max(map(len, done.out.splitlines())) <= 80
    again = cultev("harm", "run", place / "tiny.gguf", "-s", place / "loaded.db", *QUICK, cwd=tmp_path)
    assert "nothing to ask again" in again.err and again.out == done.out
    (overall,) = json.loads(cultev("harm", "show", "--json", cwd=tmp_path).out)["overall"]
    assert f"Not judged: {overall['asks_judge']} repl" in done.out


def test_a_run_of_which_rules_tell_everything_needs_no_judge(place: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(place / "cultev.db")) as source, closing(sqlite3.connect(tmp_path / "r.db")) as db:
        source.backup(db)
        db.execute("UPDATE texts SET text = ''")
        db.commit()
    shown = cultev("harm", "show", "--db", "r.db", cwd=tmp_path)
    assert "No reply needs a judge" in shown.out and "harm judge --with" not in shown.out


def test_every_view_bears_the_content_note(place: Path) -> None:
    for words in (
        ("suites", "show", "loaded.db"),
        ("suites", "show", "loaded.db", "--items", "--json"),
        ("harm", "show"),
        ("harm", "show", "--csv"),
        ("harm", "show", "--replies", "all"),
        ("harm", "queue", "-n", 3),
    ):
        done = cultev(*words, cwd=place)
        assert done.code == 0, done.err
        assert "Loaded questions about invented peoples." in done.err, words
    assert "content_note" in json.loads(cultev("suites", "show", "loaded.db", "--json", cwd=place).out)


def test_show_finds_the_newest_harm_run_and_runs_lists_it(place: Path) -> None:
    listed = list(csv.DictReader(io.StringIO(cultev("runs", "list", "--csv", cwd=place).out)))
    assert [(row["mode"], row["answers"], row["planned"]) for row in listed] == [("harm", "48", "48")]
    run = listed[0]["run"]
    shown = cultev("harm", "show", cwd=place)
    assert shown.out == cultev("harm", "show", run[:5], cwd=place).out == cultev("runs", "show", run, cwd=place).out
    for words in (run, "Asked otherwise", "paraphrase-1", "consistent", "random", "The same questions, each way"):
        assert words in shown.out


def test_json_and_csv_have_every_figure(place: Path) -> None:
    data = json.loads(cultev("harm", "show", "--json", cwd=place).out)
    assert data["judged"] is False and data["macro_harm"] is None and data["published"] is None
    (overall,) = data["overall"]
    assert overall["n"] == 12 and overall["n_loaded"] == 8
    assert (overall["good"] is None) == (overall["unjudged"] > 0)
    assert sum(cell["n"] for cell in data["cells"]) == 12
    assert {c["asked"] for c in data["robustness"]["changes"]} == {"system", "paraphrase-1", "paraphrase-2"}
    assert {c["questions"] for c in data["robustness"]["changes"]} == {"loaded", "harmless"}
    ways = data["robustness"]["ways"]
    assert [way["asked"] for way in ways[:4]] == ["plain", "system", "paraphrase-1", "paraphrase-2"]
    assert {(way["refusal_n"], way["over_refusal_n"]) for way in ways[:4]} == {(8, 4)}
    rows = list(csv.DictReader(io.StringIO(cultev("harm", "show", "--csv", "--by", "variant", cwd=place).out)))
    assert [(row["variant"], row["n"]) for row in rows] == [
        ("paraphrase-1", "12"), ("paraphrase-2", "12"), ("plain", "12"), ("system", "12"),
    ]  # fmt: skip


def test_conversations_can_be_read(place: Path) -> None:
    rows = json.loads(cultev("harm", "show", "--replies", "all", "--json", cwd=place).out)
    assert len(rows) == 48
    long = next(row for row in rows if row["item"] == "kelmori-trust-0-d" and row["language"] == "de")
    assert len(long["turns"]) == 5 and long["turns"][0] == "Was ist trust 0?"
    plain = cultev("harm", "show", "--replies", "all", cwd=place)
    assert "== kelmori-trust-0-d de plain" in plain.out and "> Was ist trust 0?" in plain.out


def test_a_heat_map_is_written(place: Path, tmp_path: Path) -> None:
    done = cultev("harm", "show", "--map", tmp_path / "map.svg", cwd=place)
    assert done.code == 0 and "The heat map is in" in done.err
    assert (tmp_path / "map.svg").read_text("utf-8").startswith("<svg")
    fails(cultev("harm", "show", "--map", tmp_path / "no" / "map.svg", cwd=place), "can't be written to", code=2)


def test_a_planted_judge_fills_the_judged_figures(place: Path, tmp_path: Path) -> None:
    """Verdicts in the file are what the tables are about; without people's labels every one is stamped."""
    with closing(sqlite3.connect(place / "cultev.db")) as source, closing(sqlite3.connect(tmp_path / "r.db")) as db:
        source.backup(db)
        db.execute(
            "INSERT INTO judges VALUES ('j1', 'planted', 'model', '', '', '', '', '', '', '2026-01-01T00:00:00+00:00')"
        )
        # Long enough that no rule speaks first: the tiny model writes next to nothing.
        db.execute("UPDATE texts SET text = 'That is not true of a whole people, as anyone can see.', finish = 'end'")
        db.execute("UPDATE exchanges SET response_sha256 = 'same' WHERE response_sha256 <> ''")
        keys = db.execute("SELECT DISTINCT key FROM exchanges WHERE last ORDER BY key").fetchall()
        db.executemany(
            "INSERT INTO verdicts VALUES ('j1', ?, 'same', ?, 0, NULL, '', 1.0, '2026-01-01T00:00:00+00:00')",
            [(key, "harmful" if i % 3 == 0 else "safe") for i, (key,) in enumerate(keys)],
        )
        db.commit()
    shown = cultev("harm", "show", "--by", "language", "--db", "r.db", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert "uncalibrated judge" in shown.out
    shown = cultev("harm", "show", "--db", "r.db", cwd=tmp_path)
    for words in ("macro", "micro", "Cultural Kaleidoscope ASR", "[uncalibrated judge]", "can be ranked"):
        assert words in shown.out
    data = json.loads(cultev("harm", "show", "--json", "--db", "r.db", cwd=tmp_path).out)
    assert data["judge"] == "uncalibrated judge" and data["judged"] is True
    assert all(cell["judge"] == "uncalibrated judge" for cell in data["cells"])
    (overall,) = data["overall"]
    english = [c for c in data["cells"] if c["language"] == "en"]
    assert 0 < overall["harm"] < 1 and data["published"]["name"].startswith("Cultural Kaleidoscope")
    (single,) = [c for c in data["published"]["cells"] if (c["scope"], c["turns"]) == ("global", "single")]
    loaded = [c for c in english if c["turns"] == "single"]
    harm, n = sum(c["loaded_harmful"] for c in loaded), sum(c["n_loaded"] for c in loaded)
    assert single["value"] == pytest.approx(harm / n) and single["n"] == n


def test_rows_are_corrected_by_their_own_labels_or_marked(tmp_path: Path) -> None:
    """English is labelled, German is not: the run's judge is calibrated, the row of German isn't."""
    with invented_suite(("en", "de")) as suite:
        demonstrate(tmp_path / "r.db", [suite], errs=0.1, labels=140)
    with closing(sqlite3.connect(tmp_path / "r.db")) as db:
        db.execute(
            "DELETE FROM verdicts WHERE judge IN (SELECT id FROM judges WHERE kind = 'people') AND key IN"
            " (SELECT key FROM exchanges WHERE language = 'de')"
        )
        db.commit()
    shown = cultev("harm", "show", "--db", "r.db", cwd=tmp_path)
    assert shown.code == 0, shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    lines = [line.split() for line in shown.out.split("By language")[1].split("By culture")[0].strip().splitlines()]
    assert [line[0] for line in lines] == ["language", "de", "en", "corr."]
    assert lines[1][4].endswith("!") and not lines[2][4].endswith("!")
    low, high = map(int, lines[3][2].split("-"))
    assert low <= int(lines[3][1]) <= high
    assert "!: uncalibrated judge" in " ".join(shown.out.split()) and "  corr. " in shown.out
    rows = json.loads(cultev("harm", "show", "--by", "language", "--json", "--db", "r.db", cwd=tmp_path).out)["cells"]
    assert [(row["language"], row["judge"]) for row in rows] == [("de", "uncalibrated judge"), ("en", "")]
    assert rows[0]["corrected_harm"] is None and f"{100 * rows[1]['corrected_harm']:.0f}" == lines[3][1]
    assert rows[1]["corrected_harm_low"] < rows[1]["corrected_harm"] < rows[1]["corrected_harm_high"]


def test_what_does_not_fit_the_context_is_said_and_never_cut(place: Path, tmp_path: Path) -> None:
    words = ("harm", "run", place / "tiny.gguf", "-s", place / "loaded.db", "--n-ctx", 48, *QUICK, "--json")
    data = json.loads(cultev(*words, cwd=tmp_path).out)
    (overall,) = data["overall"]
    assert overall["loaded_too_long"] > 0 and overall["not_asked"] >= overall["loaded_too_long"]


@pytest.mark.parametrize(
    ("words", "telling", "code"),
    [
        (("run", "tiny.gguf", "-s", "small.db"), "small has no dialogues to hold", 2),
        (("run", "tiny.gguf", "-s", "loaded.db", "-l", "xx"), "Nothing of loaded would be asked", 2),
        (("run", "tiny.gguf", "-s", "loaded.db", "--form", "code-mixed"), "Nothing of loaded would be asked", 2),
        (("run", "tiny.gguf", "-s", "loaded.db", "-k", 3), "every sample is the same reply", 2),
        (("run", "tiny.gguf", "-s", "loaded.db", "--temperature", "0.001"), "can't be sampled from", 2),
        (("run", "no.gguf", "-s", "loaded.db"), "no.gguf", 1),
        (("run", "tiny.gguf", "-s", "no.db"), "There is no suite 'no.db'", 1),
        (("run", "tiny.gguf", "-s", "loaded.db", "--json", "--csv"), "can't go together", 2),
        (("show", "--by", "weather"), "can't be grouped by 'weather'", 2),
        (("show", "--replies", "nice"), "'nice' is no outcome", 2),
        (("show", "zzz"), "No run begins with 'zzz'", 2),
        (("show", "--judge", "nobody"), "No judge called 'nobody'", 1),
        (("show", "--db", "no.db"), "There is no results file no.db", 1),
        (("selftest", "-s", "small.db"), "small has no dialogues to hold", 2),
    ],
)
def test_bad_input_is_a_sentence(place: Path, words: tuple[object, ...], telling: str, code: int) -> None:
    fails(cultev("harm", *words, cwd=place), telling, code=code)


def test_runs_of_other_kinds_are_told_apart(place: Path, tmp_path: Path) -> None:
    assert cultev("run", place / "tiny.gguf", "-s", place / "small.db", "--threads", 1, cwd=tmp_path).code == 0
    fails(cultev("harm", "show", cwd=tmp_path), "There is no harm run", code=2)
    run = json.loads(cultev("runs", "list", "--json", cwd=tmp_path).out)[0]["run"]
    fails(cultev("harm", "show", run, cwd=tmp_path), "not a harm run", code=2)
    fails(
        cultev("run", place / "tiny.gguf", "-s", place / "loaded.db", cwd=tmp_path),
        "no questions with right and wrong options", "cultev harm run", code=2,
    )  # fmt: skip


def test_the_self_test_passes_on_a_suite(place: Path) -> None:
    done = cultev("harm", "selftest", "-s", "loaded.db", cwd=place)
    assert done.code == 0, done.err
    assert "refuses   refused" in done.out and "answers   engaged" in done.out
    rows = list(csv.DictReader(io.StringIO(cultev("harm", "selftest", "-s", "loaded.db", "--csv", cwd=place).out)))
    assert {(row["respondent"], row["language"]) for row in rows} >= {("loops", "de"), ("strays", "en")}
    assert all(float(row["share"]) == 1.0 for row in rows)


def test_orders_stand_beside_simulated_respondents(place: Path, tmp_path: Path) -> None:
    loaded_suite(tmp_path, PAIRS).close()
    words = ("harm", "orders", place / "tiny.gguf", "-s", "loaded.db", "--threads", 1)
    done = cultev(*words, cwd=tmp_path)
    assert done.code == 0, done.err
    for word in ("tiny.gguf", "consistent", "random", "always-first", "changed"):
        assert word in done.out
    run = json.loads(cultev("runs", "list", "--json", cwd=tmp_path).out)[0]["run"]
    for each in (done, cultev("runs", "show", run, cwd=tmp_path)):
        assert each.err.count("Content note (loaded): Loaded questions about invented peoples.") == 1
    rows = json.loads(cultev(*words, "--json", cwd=tmp_path).out)
    assert [row["respondent"] for row in rows] == ["tiny.gguf", "consistent", "random", "always-first"]
    assert rows[1]["flips"] == 0.0 and rows[3]["flips"] == 1.0
    fails(cultev("harm", "orders", place / "tiny.gguf", "-s", place / "small.db", cwd=tmp_path), "no pairs", code=2)


@pytest.mark.skipif(sys.platform == "win32", reason="names a POSIX signal")
def test_orders_asks_again_what_the_engine_died_of(place: Path, tmp_path: Path) -> None:
    loaded_suite(tmp_path, PAIRS).close()
    (tmp_path / "fatal").mkdir()
    (tmp_path / "fatal" / "sitecustomize.py").write_text(FATAL.replace("< 12", "< 64"))  # a quarter of all questions
    words = ("harm", "orders", place / "tiny.gguf", "-s", "loaded.db", "--threads", 1)
    done = cultev(*words, cwd=tmp_path, **fatal(tmp_path))
    assert done.code == 0, done.err
    assert "(engine_error): the same command with --retry asks them again." in done.err
    query = "SELECT count(*) FROM answers WHERE outcome = 'engine_error'"
    with closing(sqlite3.connect(tmp_path / "cultev.db")) as db:
        assert db.execute(query).fetchone()[0] > 0
    again = cultev(*words, cwd=tmp_path)
    assert "nothing to ask again" in again.err and again.out == done.out
    retried = cultev(*words, "--retry", cwd=tmp_path)
    assert retried.code == 0 and "--retry" not in retried.err
    with closing(sqlite3.connect(tmp_path / "cultev.db")) as db:
        assert db.execute(query).fetchone() == (0,)
    assert f"{len(PAIRS)} " in retried.out and f"{len(PAIRS)} " not in done.out


def test_runs_shows_runs_of_pairs_too(place: Path, tmp_path: Path) -> None:
    loaded_suite(tmp_path, PAIRS).close()
    done = cultev("harm", "pairs", place / "tiny.gguf", "-s", "loaded.db", "--threads", 1, cwd=tmp_path)
    assert done.code == 0, done.err
    (row,) = json.loads(cultev("runs", "list", "--json", cwd=tmp_path).out)
    assert row["answers"] == row["planned"] == len(PAIRS)
    shown = cultev("runs", "show", row["run"], cwd=tmp_path)
    assert shown.out == done.out
    for each in (done, shown):
        assert each.err.count("Content note (loaded): Loaded questions about invented peoples.") == 1
