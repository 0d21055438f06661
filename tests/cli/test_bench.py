"""``cultev bench`` as a user calls it, on the reference model."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import cultev, environment, fails

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
