"""``cultev bench`` as a user calls it, on the reference model."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cultev.cli.bench import _draw
from cultev.run.bench_result import Bench
from tests.cli.command import Done, cultev, environment, fails

SHORT = ("--rounds", 1, "--limit", 1, "--tokens", 3)


@pytest.mark.parametrize("model", ["reference:gguf", "reference:onnx"])
def test_a_benchmark_of_each_engine(model: str, tmp_path: Path) -> None:
    done = cultev("bench", model, *SHORT, "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    for key in ("raw_tokens_per_s", "unique_tokens_per_s", "ratio_to_raw", "speedup_over_naive", "peak_mb"):
        assert figures[key] > 0, key
    assert figures["ratio_to_raw"] == pytest.approx(
        figures["unique_tokens_per_s"] / figures["raw_tokens_per_s"], abs=0.01
    )
    assert figures["raw_decode_tokens_per_s"] > 0
    ours = figures["decode_tokens_per_s"]  # None where three tokens took no longer than one
    assert ours is None or 0 < ours < 1000 * figures["raw_decode_tokens_per_s"]
    assert 20 < figures["peak_mb"] < 2000
    with sqlite3.connect(tmp_path / "cultev.db") as db:
        (kept,) = db.execute("SELECT figures FROM benches").fetchone()
    assert json.loads(kept)["unique_tokens"] == figures["unique_tokens"]


def test_a_table_of_eighty_columns(tmp_path: Path) -> None:
    done = cultev("bench", "reference:onnx", *SHORT, "--no-generate", cwd=tmp_path)
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert max(map(len, lines[1:-1])) <= 80
    assert any(line.startswith("ratio to raw") for line in lines)
    assert "generating" not in done.out
    assert "Kept in cultev.db" in done.err


def test_wrong_words_come_before_the_model(tmp_path: Path) -> None:
    fails(cultev("bench", "reference", "--json", "--csv", cwd=tmp_path), "together", code=2)
    fails(cultev("bench", "no-such.gguf", cwd=tmp_path), "no model at")
    fails(cultev("bench", "reference", "-s", "no-such", cwd=tmp_path), "no-such")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupted_benchmark_says_that_nothing_is_kept(tmp_path: Path) -> None:
    words = ["bench", "reference:gguf", "--rounds", "50", "--limit", "500", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cultev", *words], cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:  # a run into a results file of its own, or what comes right before it
        if "norms-core" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "Stopped. Nothing is kept of a benchmark that is cut short."
    with sqlite3.connect(tmp_path / "cultev.db") as db:
        assert db.execute("SELECT count(*) FROM benches").fetchone() == (0,)


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_figures_are_shown_even_if_they_cannot_be_kept(form: list[str], tmp_path: Path) -> None:
    words = ["bench", "reference:gguf", "--rounds", "3", "--limit", "4", "--no-generate", *form]
    process = subprocess.Popen(
        [sys.executable, "-m", "cultev", *words], cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "warming up" in line:
            break
    other = sqlite3.connect(tmp_path / "cultev.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    out, err = process.communicate(timeout=120)
    assert other.execute("SELECT count(*) FROM benches").fetchone() == (0,)
    other.close()
    fails(Done(process.returncode, out, err), "shown but not kept", "locked by another program", "--db")
    assert "nothing is lost" not in err and "Kept in" not in err
    assert json.loads(out)["ratio_to_raw"] > 0 if form else "ratio to raw" in out


DEADLY = """
import os
import signal
from pathlib import Path
from cultev.backend import load
from cultev.backend.scorer import TreeScorer
whole, opening = TreeScorer._score_pack, load.open_knowing

def once(name):
    if os.environ["DIES"] == name and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)

def score(self, pack):
    once("scoring")
    return whole(self, pack)

def opener(*words):
    once("loading")
    return opening(*words)

TreeScorer._score_pack, load.open_knowing = score, opener
"""
"""Loaded by Python as it starts, this kills the engine once, as the kernel does where memory is short."""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("when", ["loading", "scoring"])
def test_an_engine_that_is_killed_ends_the_benchmark(when: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    done = cultev("bench", "reference:gguf", *SHORT, cwd=tmp_path, PYTHONPATH=path, DIES=when)
    assert (tmp_path / "died").exists()
    fails(done, "The engine died (SIGKILL", "cultev doctor", "nothing is kept")
    assert done.out == ""
    with sqlite3.connect(tmp_path / "cultev.db") as db:
        assert db.execute("SELECT count(*) FROM benches").fetchone() == (0,)


FIGURES = Bench(
    suite="small", questions=3, options=9, unique_tokens=100, raw_prompt_tokens=128, raw_tokens_per_s=10,
    unique_tokens_per_s=9, ratio_to_raw=0.9, speedup_over_naive=5, speedup_on_suite=4, overhead=0.01, peak_mb=50,
    parallel=16, raw_decode_tokens_per_s=20, speedup_over_one=2.5,
)  # fmt: skip


def test_a_table_says_how_long_plain_prompts_were(capsys: pytest.CaptureFixture[str]) -> None:
    _draw(FIGURES, "title")
    assert "the engine alone, 128 tokens each" in capsys.readouterr().out


def test_a_decode_rate_that_cannot_be_told_hides_no_other_figure(capsys: pytest.CaptureFixture[str]) -> None:
    _draw(FIGURES, "title")
    out = capsys.readouterr().out
    assert "20 tokens/s  the engine alone, 16 sequences" in out
    assert "too short to tell, use --tokens, --n-ctx" in out
    assert "2.5 times  over one at a time" in out
    assert out.count("ratio to raw") == 1
    assert max(map(len, out.splitlines()[1:-1])) <= 80
    _draw(replace(FIGURES, decode_tokens_per_s=15, ratio_to_raw_decode=0.75), "title")
    out = capsys.readouterr().out
    assert "15 tokens/s  16 texts at once" in out and "0.75" in out and "too short" not in out
