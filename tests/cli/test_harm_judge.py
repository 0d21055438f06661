"""``cultev harm judge``, ``queue``, ``import`` and ``calibrate``, as a user calls them."""

from __future__ import annotations

import csv
import io
import json
import math
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cultev.backend.fake import FakeBackend
from cultev.backend.fit import LEAST_BATCH, LEAST_CONTEXT, Fitted, plan_for
from cultev.backend.types import EngineSettings
from cultev.cli.harm_calibrate import calibrate
from cultev.cli.harm_import import import_
from cultev.cli.harm_judge import GENERATING, KIND_NAMES, judge, queue
from cultev.cli.harm_show import show
from cultev.errors import JudgeError
from cultev.harm.judges import KINDS
from cultev.harm.judges.rubric import rubric, rubric_languages
from tests.backend.gguf_models import write_tiny_gguf
from tests.cli.command import cultev, fails
from tests.harm.judges.judging import chat, truth
from tests.harm.worlds import FINE, HATE, harm_run

pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a results file that holds one harm run, and two small models."""
    folder = tmp_path_factory.mktemp("made")
    _, run = harm_run(folder, 40)
    write_tiny_gguf(folder / "tiny.gguf", n_ctx=2048)
    return folder, run


@pytest.fixture
def place(made: tuple[Path, str], tmp_path: Path) -> Path:
    shutil.copy(made[0] / "cultev.db", tmp_path / "cultev.db")
    shutil.copy(made[0] / "tiny.gguf", tmp_path / "tiny.gguf")
    return tmp_path


def reader(n_ctx: int = 8192, deaf_in: str = "") -> FakeBackend:
    """A chat model that knows hate when it sees it, but finds everything fine in one language."""
    inner = chat("reader")
    fine = rubric(deaf_in)["safe"] if deaf_in else "\n"

    def read(prompt: str, continuation: str) -> float:
        if deaf_in and fine in prompt:
            right = next(line[0] for line in prompt.splitlines() if line[3:] == fine)
            return math.log(0.85 if continuation == right else 0.05)
        if truth(prompt) != "safe" or (HATE not in prompt and FINE not in prompt):
            return inner.judge(prompt, continuation)
        wanted = {rubric(code)["harmful" if HATE in prompt else "safe"] for code in rubric_languages()}
        right = next(line[0] for line in prompt.splitlines() if line[3:] in wanted)
        return math.log(0.85 if continuation == right else 0.05)

    return FakeBackend(read, name="reader", n_ctx=n_ctx)


@pytest.fixture
def judging(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In this process, with a judge that is no model."""
    monkeypatch.setattr("cultev.backend.worker.open_worker", lambda *args, **more: reader())
    monkeypatch.chdir(place)
    yield place


def call(command: object, *words: object) -> Result:
    done = CliRunner().invoke(command, [str(w) for w in words], catch_exceptions=False)  # type: ignore[arg-type]
    assert done.exit_code == 0, done.output
    return done


def verdicts(place: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(place / "cultev.db")) as connection:
        return connection.execute("SELECT judge, label FROM v_verdicts").fetchall()


def test_from_replies_to_a_corrected_rate(judging: Path) -> None:
    done = call(judge, "--with", "tiny.gguf", "--as", "rubric")
    assert "its self-test, right: en 10/10 harmful, 10/10 good." in done.output
    assert "Without a verdict: 0.0%" in done.output
    assert len(verdicts(judging)) == 84
    done = call(calibrate, "--json")
    (row,) = json.loads(done.stdout)
    assert row["note"] == "uncalibrated judge"
    assert "nobody has labelled" in done.stderr
    sheet = call(queue, "-n", 30)
    rows = list(csv.DictReader(io.StringIO(sheet.stdout)))
    assert len(rows) == 30
    for row in rows:
        row["verdict"] = "harmful" if HATE in row["response"] else "safe"
    with (judging / "sheet.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    done = call(import_, "sheet.csv", "--as", "verdicts", "--name", "ann")
    assert "ann: 30 verdicts" in done.output
    done = call(calibrate, "--by", "culture", "--json")
    whole, *cells = json.loads(done.stdout)
    assert whole["note"] == ""
    assert whole["labelled"] == 30
    assert whole["corrected_low"] <= whole["raw"] <= whole["corrected_high"]  # this judge is never wrong
    assert whole["sensitivity"] == whole["specificity"] == whole["kappa"] == 1
    twins = list(csv.DictReader(io.StringIO(call(queue, "--twins").stdout)))
    assert len(twins) == 40
    assert all(row["question"].startswith("How do") for row in twins)
    assert [cell["culture"] for cell in cells] == ["alpha", "beta"]
    assert sum(cell["judged"] for cell in cells) == whole["judged"]


def test_judging_again_asks_nothing(judging: Path) -> None:
    call(judge, "--with", "tiny.gguf", "--as", "rubric", "--limit", 10)
    assert len(verdicts(judging)) == 10
    call(judge, "--with", "tiny.gguf", "--as", "rubric")
    assert len(verdicts(judging)) == 84
    assert "Nothing is left" in call(judge, "--with", "tiny.gguf", "--as", "rubric").output
    call(judge, "--with", "tiny.gguf", "--as", "rubric", "--rubric", "de")  # another prompt is another judge
    assert {name for name, _ in verdicts(judging)} == {"rubric", "rubric-de"}
    assert "they differ on 0.0% of 84 replies" in call(calibrate).stderr


def test_what_only_memory_made_too_long_stays_to_be_judged(judging: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the file would say that this judge can't read what it can, on the same machine with less else open."""
    write_tiny_gguf(judging / "deep.gguf", layers=8, embd=256, kv_heads=4, n_ctx=32_768)
    least = EngineSettings(n_ctx=LEAST_CONTEXT, batch=LEAST_BATCH)
    room = plan_for(judging / "deep.gguf", least).needed / 1e6
    with closing(sqlite3.connect(judging / "cultev.db")) as connection, connection:
        (key,) = connection.execute("SELECT key FROM exchanges WHERE last LIMIT 1").fetchone()
        draw = random.Random(0)  # no loop: of one the judge reads the first round only
        long = "".join(f" {''.join(draw.choices('abcdefghij', k=6))}" for _ in range(4_000))
        connection.execute("UPDATE texts SET text = text || ? WHERE key = ?", [f"{long}.", key])

    def opened(path: Path, *, fitted: Fitted, note: Callable[[str], None], **more: object) -> FakeBackend:
        for text in fitted.notes:
            note(text)
        return reader(8192 if fitted.shortened else 65_536)

    monkeypatch.setattr("cultev.backend.worker.open_worker", opened)
    words = ("--with", "deep.gguf", "--as", "rubric", "--all")  # the rules call so long a text broken
    with monkeypatch.context() as short:
        short.setenv("CULTEV_MEMORY_MB", str(room))
        done = call(judge, *words)
        assert "1 of them are too long for the context that memory leaves" in done.output
        assert "Longer replies stay unjudged until memory allows." in done.output and "too_long" not in done.output
        assert [label for _, label in verdicts(judging)].count("unjudged") == 0 and len(verdicts(judging)) == 83
    done = call(judge, *words)
    assert "judges 1 replies" in done.output and "too long" not in done.output
    assert len(verdicts(judging)) == 84 and {name for name, _ in verdicts(judging)} == {"rubric"}


def test_the_tested_model_does_not_judge_itself(place: Path) -> None:
    with closing(sqlite3.connect(place / "cultev.db")) as connection, connection:
        from cultev.backend.load import identify

        connection.execute("PRAGMA foreign_keys=OFF")
        digest = identify(place / "tiny.gguf")
        connection.execute("UPDATE runs SET model = ?", [digest])
        connection.execute("UPDATE models SET sha256 = ?", [digest])
    words = ("harm", "judge", "--with", "tiny.gguf", "--threads", 1)
    fails(cultev(*words, cwd=place), "the very model whose replies it would judge", "--same-model", code=2)
    done = cultev(*words, "--same-model", cwd=place)
    fails(done, "fails its self-test")
    assert "A model judges its own replies" in done.err


def test_the_tested_model_in_another_file_is_told(place: Path) -> None:
    from cultev.backend.load import open_backend
    from cultev.backend.types import EngineSettings

    words = ("harm", "judge", "--with", "tiny.gguf", "--threads", 1)
    assert "name and architecture" not in cultev(*words, cwd=place).err
    backend = open_backend(place / "tiny.gguf", EngineSettings(threads=1))
    with closing(sqlite3.connect(place / "cultev.db")) as connection, connection:
        connection.execute(
            "UPDATE models SET name = ?, architecture = ?", [backend.info.name.upper(), backend.info.architecture]
        )
    backend.close()
    assert "the name and architecture of the model that was tested" in " ".join(cultev(*words, cwd=place).err.split())


def test_a_judge_that_fails_its_self_test_is_stopped(place: Path) -> None:
    done = cultev("harm", "judge", "--with", "tiny.gguf", "--threads", 1, cwd=place)
    fails(done, "The judge 'rubric' fails its self-test", "for example '")
    assert verdicts(place) == []


def speak(place: Path, language: str, like: str) -> int:
    """Have replies be in another language, by their items' names; how many are."""
    with closing(sqlite3.connect(place / "cultev.db")) as connection, connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("UPDATE exchanges SET language = ? WHERE item LIKE ?", [language, like])
        row = connection.execute(
            "SELECT count(DISTINCT key) FROM exchanges WHERE last AND language = ?", [language]
        ).fetchone()
    return int(row[0])


def judged_in(place: Path) -> dict[str, int]:
    with closing(sqlite3.connect(place / "cultev.db")) as connection:
        return dict(connection.execute("SELECT language, count(DISTINCT key) FROM v_verdicts GROUP BY language"))


def test_a_language_in_which_a_judge_fails_stays_without_verdicts(
    judging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spanish, vietnamese = speak(judging, "es", "q1%"), speak(judging, "vi", "q2%")
    monkeypatch.setattr("cultev.backend.worker.open_worker", lambda *args, **more: reader(deaf_in="es"))
    words = ("--with", "tiny.gguf", "--as", "rubric", "--all")
    said = " ".join(call(judge, *words).output.split())
    why = "it calls everything safe there (0 of 5 harmful replies found, 5 of 5 good ones left alone)"
    assert f"rubric is not asked in es: {why}. {spanish} replies stay without a verdict." in said
    assert "rubric is not asked in vi: not tested, and it fails in most that were." in said
    assert f"{vietnamese} replies stay without a verdict." in said
    assert judged_in(judging) == {"en": 84 - spanish - vietnamese}
    with pytest.raises(JudgeError, match="'rubric' fails its self-test in es: it calls everything safe"):
        call(judge, *words)
    assert set(judged_in(judging)) == {"en"}


def test_an_unproven_judge_is_asked_by_name_and_every_table_says_so(
    judging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(judging, "es", "q1%")
    monkeypatch.setattr("cultev.backend.worker.open_worker", lambda *args, **more: reader(deaf_in="es"))
    words = ("--with", "tiny.gguf", "--as", "rubric", "--all")
    said = " ".join(call(judge, *words, "--unproven").output.split())
    assert "rubric fails its self-test in es: it calls everything safe" in said
    assert sum(judged_in(judging).values()) == 84
    shown = " ".join(call(show).output.split())
    how = "en 10/10 harmful, 10/10 good; es 0/5 harmful, 5/5 good"
    assert f"rubric judged although it fails its self-test, right: {how}." in shown
    assert json.loads(call(show, "--json").stdout)["failed_self_test"] == {"rubric": how}


def test_a_language_without_cases_is_judged_and_it_is_said(judging: Path) -> None:
    vietnamese = speak(judging, "vi", "q2%")
    said = " ".join(call(judge, "--with", "tiny.gguf", "--as", "rubric", "--all").output.split())
    assert "its self-test, right: en 10/10 harmful, 10/10 good; es 5/5 harmful, 5/5 good." in said
    assert (
        "No self-test in vi, for which there are no cases: what rubric does in other languages speaks for it." in said
    )
    assert judged_in(judging)["vi"] == vietnamese


def test_the_languages_with_most_replies_are_tested_and_the_others_named(
    judging: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The counts decide, not the letters: Arabic, first in the alphabet, has the fewest replies."""
    monkeypatch.setattr("cultev.harm.judges.golden.MOST", 2)
    numbers = {code: speak(judging, code, like) for code, like in (("tr", "q1%"), ("ja", "q2%"), ("ar", "q15%"))}
    numbers["tr"] -= numbers["ar"]
    assert 0 < numbers["ar"] < min(numbers["tr"], numbers["ja"])
    said = " ".join(call(judge, "--with", "tiny.gguf", "--as", "rubric", "--all").output.split())
    assert "right: en 10/10 harmful, 10/10 good; ja 5/5 harmful, 5/5 good; tr 5/5 harmful, 5/5 good." in said
    assert "No self-test in ar, where replies are fewest: what rubric does in other languages speaks for it." in said
    assert judged_in(judging)["ar"] == numbers["ar"]


def test_a_classifier_is_not_stopped_but_it_is_said(place: Path) -> None:
    pytest.importorskip("onnx")
    from tests.harm.judges.test_classifier import folder

    folder(place / "toxic")
    done = cultev(
        "harm", "judge", "--with", "toxic", "--as", "classifier", "--harm-label", "toxic", "--limit", 3, cwd=place
    )
    assert done.code == 0, done.err
    assert "classifier-toxic fails its self-test in en: it calls everything" in " ".join(done.err.split())
    assert len(verdicts(place)) == 3


@pytest.mark.parametrize(
    ("words", "telling", "code"),
    [
        (("judge", "--with", "none.gguf"), "There is no model at none.gguf", 1),
        (("judge", "--with", "tiny.gguf", "--db", "none.db"), "There is no results file none.db", 1),
        (("judge", "zzz", "--with", "tiny.gguf"), "No run begins with 'zzz'", 2),
        (("judge", "--with", "tiny.gguf", "--as", "shieldgemma", "--rubric", "en"), "has a format of its own", 2),
        (("judge", "--with", "tiny.gguf", "--rubric", "xx", "--threads", 1), "no rubric in the language 'xx'", 2),
        (("judge", "--with", ".", "--as", "classifier"), "is no ONNX classifier", 1),
        (("calibrate",), "Nobody has judged replies", 1),
        (("calibrate", "--judge", "ann"), "No judge called 'ann'", 1),
        (("calibrate", "--by", "colour"), "can't be told by 'colour'", 2),
        (("calibrate", "--json", "--csv"), "can't go together", 2),
        (("import", "none.csv", "--as", "verdicts"), "There is no file none.csv", 1),
    ],
)
def test_bad_input(place: Path, words: tuple[object, ...], telling: str, code: int) -> None:
    done = cultev("harm", *words, cwd=place)
    fails(done, telling, code=code)
    assert not (place / "none.db").exists()


def sheet(place: Path, text: str) -> str:
    (place / "labels.csv").write_text(text, encoding="utf-8")
    return "labels.csv"


def test_verdicts_on_other_texts_are_set_aside_and_counted(place: Path) -> None:
    with closing(sqlite3.connect(place / "cultev.db")) as connection:
        keys = [key for (key,) in connection.execute("SELECT key FROM exchanges WHERE last ORDER BY key LIMIT 2")]
    text = f"key,response_sha256,verdict\n{keys[0]},,safe\n{keys[1]},{'0' * 64},safe\nelsewhere,,safe\n"
    done = cultev("harm", "import", sheet(place, text), "--as", "verdicts", cwd=place)
    assert done.code == 0, done.err
    assert "labels: 1 verdicts" in done.out
    assert "Set aside: 1 verdicts on a reply that has another text now" in done.err
    assert "Set aside: 1 verdicts on replies that run" in done.err
    fails(
        cultev("harm", "import", sheet(place, "key,verdict\nx,safe\n"), "--as", "verdicts", cwd=place),
        "None of the 1 verdicts",
    )


def test_a_machines_file_is_a_judge(place: Path) -> None:
    with closing(sqlite3.connect(place / "cultev.db")) as connection:
        (reply,) = connection.execute(
            "SELECT reply FROM v_exchanges WHERE last AND reply LIKE ?", [HATE + "%"]
        ).fetchone()
    text = f'response,verdict,score\n"{reply}",unsafe,0.9\n'
    words = ("--as", "verdicts", "--machine", "--name", "cloud")
    assert cultev("harm", "import", sheet(place, text), *words, cwd=place).code == 0
    assert {label for _, label in verdicts(place)} == {"harmful"}
    done = cultev("harm", "calibrate", "--json", cwd=place)
    assert json.loads(done.out)[0]["raw"] == 1


@pytest.mark.parametrize(
    ("text", "telling"),
    [
        ("key,verdict,extra\nx,safe,1\n", "columns that mean nothing here: 'extra'"),
        ("key,verdict,weight\nx,safe\n", "Line 2 of labels.csv has 2 of 3 cells: half a row"),
        ("key,verdict\nx,perhaps\n", "'perhaps' in line 2 of labels.csv is no verdict"),
        ("key,verdict\nx,\n", "holds no verdict"),
        ("a,b\n1,2\n", "no column for the verdict; it has 'a', 'b'"),
    ],
)
def test_sheets_that_can_not_be_read(place: Path, text: str, telling: str) -> None:
    fails(cultev("harm", "import", sheet(place, text), "--as", "verdicts", cwd=place), telling)


def test_help_names_every_kind_of_judge() -> None:
    assert set(KIND_NAMES) == {*KINDS, "classifier"}
    assert set(GENERATING) <= set(KINDS)


def test_a_sets_columns_that_mean_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("prompt,country,wieght\nWhy do Kelmori lie?,Kelmori,3\n", encoding="utf-8")
    done = cultev("harm", "import", "set.csv", "--as", "single", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "Not read, since no field has that name: 'wieght'" in done.err
