"""kill -9 of the real command on both engines: the next call finishes, and the file ends as if undisturbed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.backend.gguf_models import write_tiny_gguf
from tests.backend.onnx_models import make_folder
from tests.cli.command import alive, children, cultev, environment, wait_until
from tests.cli.test_run import wait_for_answers
from tests.run.test_engine import content
from tests.worlds import source

KILLS = 12
"""Per engine; ``tests/run/test_kill.py`` adds two dozen without an engine's start-up."""


def gguf(folder: Path) -> Path:
    write_tiny_gguf(folder / "tiny.gguf", n_ctx=2048)
    return folder / "tiny.gguf"


def onnx(folder: Path) -> Path:
    return make_folder(folder / "tiny-onnx")


@pytest.mark.slow
@pytest.mark.parametrize("make", [gguf, onnx])
def test_killed_at_random_moments(make: object, tmp_path: Path) -> None:
    assert callable(make)
    source(tmp_path / "many", n=240, name="many")
    assert cultev("suites", "build", "many", cwd=tmp_path).code == 0
    words = ["run", str(make(tmp_path)), "-s", "many.db", "--pmi", "--threads", "1"]
    began = time.monotonic()
    assert cultev(*words, "--db", "whole.db", cwd=tmp_path).code == 0
    longest = time.monotonic() - began
    whole = content(tmp_path / "whole.db")
    generator, kills, files, workers = random.Random(3), 0, 0, set[int]()
    while kills < KILLS:
        files += 1
        database = tmp_path / f"killed-{files}.db"
        while True:
            process = subprocess.Popen(
                [sys.executable, "-m", "cultev", *words, "--db", database.name],
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                patience = generator.uniform(0.3, 1.5) * longest if kills < KILLS else 120.0
                if not database.exists() and kills < KILLS:
                    wait_for_answers(database)
                    patience = generator.uniform(0.0, longest / 8)  # most of a run is its start
                workers |= children(process.pid)
                assert process.wait(timeout=patience) == 0
                break
            except subprocess.TimeoutExpired:
                workers |= children(process.pid)
                process.kill()
                process.wait()
                kills += 1
        assert content(database) == whole
    assert sys.platform != "linux" or len(workers) > KILLS / 2
    assert wait_until(lambda: not any(map(alive, workers)), 5), "the engine outlives the command"
