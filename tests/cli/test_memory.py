"""Memory at the command line: what is shown, what is made smaller and said, what is refused."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from cultev.backend.fit import LEAST_BATCH, LEAST_CONTEXT, fit, plan_for
from cultev.backend.types import EngineSettings
from cultev.suite import build_suite
from tests.backend.gguf_models import write_tiny_gguf
from tests.cli.command import cultev, fails
from tests.cli.test_lsk import choices
from tests.harm.test_pairs import pair
from tests.harm.worlds import loaded, twin

pytest.importorskip("llama_cpp")

SOURCE = """
name = "small"
version = "1.0.0"
title = "A few items"
description = "For tests."
license = "CC-BY-4.0"
authors = ["cultev contributors"]
source = "Made up."
value_frame = "None."
canary = "6f8f0c0e-2f0e-4c0e-9a4e-3a3a0c0b1d11"
languages = ["en"]
[cultures.alpha]
region = "East Asia"
name.en = "Alpha"
[topics.food]
name.en = "food"
"""


MORE = " And why?" * 120
"""Makes a question longer than the least context, and no longer than the usual one."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a suite and a model whose cache is large: 8 kB a token."""
    folder = tmp_path_factory.mktemp("place")
    write_tiny_gguf(folder / "deep.gguf", layers=8, embd=256, kv_heads=4, n_ctx=32_768)
    items = [
        {
            "id": f"item-{i}", "kind": "choice", "culture": "alpha", "topic": "food", "group": f"g{i}",
            "answers": [0], "source": [{"title": "Made up"}], "status": "drafted",
            "texts": {"en": {"question": f"What do people eat on day {i}?", "options": ["rice", "bread"]}},
        }
        for i in range(3)
    ]  # fmt: skip
    (folder / "suite").mkdir()
    (folder / "suite" / "suite.toml").write_text(SOURCE, encoding="utf-8")
    (folder / "suite" / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    build_suite(folder / "suite", folder / "small.db")
    return folder


def megabytes(model: Path, **settings: int) -> float:
    return plan_for(model, EngineSettings(**settings)).needed / 1e6  # type: ignore[arg-type]


def test_a_run_says_what_was_made_smaller(place: Path, tmp_path: Path) -> None:
    model = place / "deep.gguf"
    room = megabytes(model, n_ctx=2_048)
    done = cultev("run", model, "-s", place / "small.db", cwd=tmp_path, CULTEV_MEMORY_MB=str(room))
    assert done.code == 0, done.err
    assert "a context of 2,048 tokens instead of 4,096" in done.err
    assert "too_long" not in done.err  # no question has so many bytes, let alone tokens
    plenty = cultev("run", model, "-s", place / "small.db", "--db", "other.db", cwd=tmp_path)
    assert plenty.code == 0 and "To fit into memory" not in plenty.err


def test_what_only_memory_made_too_long_is_another_run_s_answer(place: Path, tmp_path: Path) -> None:
    """Else the file would say that a run is complete whose answers depend on what was free when it was asked."""
    model, long = place / "deep.gguf", tmp_path / "long"
    long.mkdir()
    (long / "suite.toml").write_text(SOURCE, encoding="utf-8")
    item = json.loads((place / "suite" / "items.jsonl").read_text(encoding="utf-8").splitlines()[0])
    item["texts"]["en"]["question"] += MORE
    (long / "items.jsonl").write_text(json.dumps(item), encoding="utf-8")
    build_suite(long, tmp_path / "long.db")
    words = ("run", model, "-s", "long.db", "--threads", 1)
    room = str(plan_for(model, EngineSettings(n_ctx=LEAST_CONTEXT, batch=LEAST_BATCH)).needed / 1e6)
    fails(cultev(*words, "--strict", cwd=tmp_path, CULTEV_MEMORY_MB=room), "does not fit")
    assert cultev(*words, cwd=tmp_path, CULTEV_MEMORY_MB=room).code == 0
    assert cultev(*words, cwd=tmp_path).code == 0
    with sqlite3.connect(tmp_path / "cultev.db") as db:
        rows = db.execute("SELECT protocol, outcome FROM runs JOIN answers ON run = runs.id").fetchall()
    by_context = {json.loads(protocol)["n_ctx"]: outcome for protocol, outcome in rows}
    assert by_context.keys() == {LEAST_CONTEXT, None}
    assert by_context[LEAST_CONTEXT] == "too_long" != by_context[None]
    done = cultev(*words, cwd=tmp_path, CULTEV_MEMORY_MB=room)  # complete already: nothing needs memory
    assert done.code == 0 and "is complete" in done.err


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with questions, pairs and dialogues, some of each longer than the least context."""
    folder = choices(tmp_path_factory.mktemp("long") / "long", n=20)
    head = (folder / "suite.toml").read_text(encoding="utf-8")
    note = '\ncontent_note = "Loaded."\n\n[cultures.alpha]'
    (folder / "suite.toml").write_text(head.replace("\n[cultures.alpha]", note, 1), encoding="utf-8")
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text(encoding="utf-8").splitlines()]
    for item in items[::5]:
        item["texts"]["en"]["question"] += MORE
    asked, other, opening = pair(0), pair(1), loaded(0)
    asked["texts"]["en"]["prompt"] += MORE  # type: ignore[index]
    opening["texts"]["en"]["turns"][0] += MORE  # type: ignore[index]
    items += [asked, other, opening, twin(0)]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    build_suite(folder, folder / "long.db")
    return folder / "long.db"


@pytest.mark.parametrize(
    ("command", "table", "generate"),
    [
        (("lsk", "fit"), "answers", False),
        (("lsk", "fit", "--mode", "cot", "--max-tokens", 4), "answers", True),
        (("lsk", "eval"), "answers", False),
        (("harm", "run", "--max-tokens", 4), "exchanges", True),
        (("harm", "orders"), "answers", False),
        (("harm", "pairs"), "pair_answers", False),
    ],
)
def test_every_command_that_asks_tells_apart_what_only_memory_made_too_long(
    place: Path, long: Path, tmp_path: Path, command: tuple[object, ...], table: str, generate: bool
) -> None:
    model = place / "deep.gguf"
    least = EngineSettings(n_ctx=LEAST_CONTEXT, batch=LEAST_BATCH, parallel=1 if generate else None)
    room = str(plan_for(model, least, generate=generate).needed / 1e6)
    for memory in ({"CULTEV_MEMORY_MB": room}, {}, {"CULTEV_MEMORY_MB": room}):
        done = cultev(*command, model, "-s", long, "--threads", 1, cwd=tmp_path, **memory)
        assert done.code == 0, done.err
    with sqlite3.connect(tmp_path / "cultev.db") as db:
        rows = db.execute(f"SELECT protocol, outcome FROM runs JOIN {table} ON run = runs.id").fetchall()
    outcomes: dict[object, set[str]] = {}
    for protocol, outcome in rows:
        outcomes.setdefault(json.loads(protocol)["n_ctx"], set()).add(outcome)
    assert outcomes.keys() == {LEAST_CONTEXT, None}
    assert "too_long" in outcomes[LEAST_CONTEXT] and "too_long" not in outcomes[None]


def test_a_run_that_can_t_fit_is_refused(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "deep.gguf", "-s", place / "small.db", cwd=tmp_path, CULTEV_MEMORY_MB="40")
    fails(done, "deep.gguf does not fit", "MB of memory are missing", "40 may be used", "smaller model")


def test_a_context_that_was_asked_for_is_never_made_smaller(place: Path, tmp_path: Path) -> None:
    model = place / "deep.gguf"
    room = megabytes(model, n_ctx=1_024)
    done = cultev(
        "run", model, "-s", place / "small.db", "--n-ctx", 30_000, cwd=tmp_path, CULTEV_MEMORY_MB=str(room)
    )  # fmt: skip
    fails(done, "with --n-ctx 30000 does not fit", "MB of memory are missing")
    said = re.search(r"It fits with --n-ctx (\d+)\.", done.err)
    assert said and 1_024 <= int(said[1]) < 30_000
    again = cultev(
        "run", model, "-s", place / "small.db", "--n-ctx", said[1], cwd=tmp_path, CULTEV_MEMORY_MB=str(room)
    )  # fmt: skip
    assert again.code == 0 and "a context of" not in again.err


def test_a_variable_that_is_no_number(place: Path, tmp_path: Path) -> None:
    done = cultev("run", place / "deep.gguf", "-s", place / "small.db", cwd=tmp_path, CULTEV_MEMORY_MB="lots")
    fails(done, "CULTEV_MEMORY_MB is 'lots'", code=2)


def test_show_lays_the_plan_out(place: Path, tmp_path: Path) -> None:
    model = place / "deep.gguf"
    words = ("models", "show", model, "--n-ctx", 2_048, "--parallel", 4)
    facts = json.loads(cultev(*words, "--json", cwd=tmp_path, CULTEV_MEMORY_MB="5000").out)
    plan = plan_for(model, EngineSettings(n_ctx=2_048, parallel=4))
    assert facts["memory_mb"] == round(plan.total_mb)
    parts = ("process", "weights", "cache", "logits", "working")
    assert abs(sum(facts[f"of_{part}_mb"] for part in parts) - facts["memory_mb"]) <= len(parts)
    assert facts["generating_mb"] >= facts["memory_mb"] == facts["short_questions_mb"]
    assert (facts["for_context"], facts["for_parallel"]) == (2_048, 4)
    assert facts["usable_memory_mb"] == 5_000 and facts["fits"] is True
    assert "fits" in (table := cultev(*words, cwd=tmp_path, CULTEV_MEMORY_MB="5000").out) and "yes" in table
    assert max(map(len, table.splitlines())) <= 80


def test_show_says_what_a_run_would_choose(place: Path, tmp_path: Path) -> None:
    model = place / "deep.gguf"
    room = str(megabytes(model, n_ctx=1_024))
    table = " ".join(cultev("models", "show", model, cwd=tmp_path, CULTEV_MEMORY_MB=room).out.split())
    assert fit(model, EngineSettings(), available=int(float(room) * 1e6)).notes[0] in table
    table = " ".join(cultev("models", "show", model, cwd=tmp_path, CULTEV_MEMORY_MB="40").out.split())
    assert "NO. deep.gguf does not fit" in table
