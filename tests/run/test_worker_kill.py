"""The engine's process is killed again and again while a run goes on: the file ends as if it had not been."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cultev.backend.load import open_backend
from cultev.backend.types import EngineSettings, Fault
from cultev.backend.worker import OPENER, WorkerBackend
from cultev.run.engine import run_suites
from cultev.run.journal import Journal
from cultev.run.plan import count
from cultev.run.protocol import Protocol
from tests.run.test_engine import content
from tests.worlds import small_suite

KILLS = 26
"""Per engine."""

FILES = 200
"""Runs in which so many deaths must fit; on a quick machine a run can end before a delayed kill comes."""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")]


class Watched(WorkerBackend):
    """Knows when everything that was in flight at the last death has been answered."""

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.computing = threading.Event()
        self.suspects: set[str] = set()
        self.deaths = 0
        self.begins = 0
        super().__init__(OPENER, path, {}, settings=settings)
        self.on_start = self.begun

    def begun(self, keys: Sequence[str]) -> None:
        """Every run dies here first, however quick the machine; later deaths come from the other thread."""
        self.begins += 1
        if self.begins == 1:
            self.kill()
        else:
            self.computing.set()

    def kill(self) -> None:
        self.computing.clear()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def died(self, fault: Fault) -> None:
        self.computing.clear()
        self.suspects |= set(fault.keys)
        self.deaths += fault.reason.startswith("SIGKILL")

    def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        tell = self.on_fault
        self.on_fault = lambda fault: (self.died(fault), tell(fault))[1]
        for batch in super().score(requests, skip=skip):
            yield batch
            self.suspects -= {r.key for r in batch}


class Killer:
    """Kills a worker from another thread at random moments, an innocent question never twice."""

    def __init__(self, worker: Watched, seed: int, deaths: int) -> None:
        self.worker, self.random, self.deaths = worker, random.Random(seed), deaths
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while self.worker.deaths < self.deaths and not self.over.is_set():
            if not self.worker.computing.wait(0.05) or self.worker.suspects:
                time.sleep(0.001)
                continue
            time.sleep(self.random.choice([0.0, self.random.uniform(0, 0.003), self.random.uniform(0, 0.08)]))
            if self.worker.suspects or self.over.is_set():
                continue
            self.worker.kill()


@contextlib.contextmanager
def attacked(worker: Watched, seed: int, deaths: int) -> Iterator[Killer]:
    killer = Killer(worker, seed, deaths)
    killer.thread.start()
    try:
        yield killer
    finally:
        killer.over.set()
        killer.thread.join()


def model(kind: str, folder: Path) -> Path:
    if kind == "gguf":
        pytest.importorskip("llama_cpp")
        from tests.backend.gguf_models import write_tiny_gguf

        return write_tiny_gguf(folder / "tiny.gguf", n_ctx=1024)
    pytest.importorskip("onnxruntime")
    from tests.backend.onnx_models import make_folder

    return make_folder(folder / "tiny-onnx")


@pytest.mark.parametrize(("kind", "strict"), [("gguf", True), ("onnx", False)])
def test_killed_from_outside(kind: str, strict: bool, tmp_path: Path) -> None:
    path, protocol = model(kind, tmp_path), Protocol(strict=strict)
    settings = EngineSettings(threads=1, strict=strict)
    deaths = files = 0
    with small_suite(tmp_path, n=200) as suite:
        planned = count(suite, protocol)
        plain = open_backend(path, settings)
        with Journal(tmp_path / "whole.db") as journal:
            run_suites(plain, [suite], protocol, journal, n_planned=planned)
        plain.close()
        whole = content(tmp_path / "whole.db")
        while deaths < KILLS:
            files += 1
            assert files <= FILES
            target = tmp_path / f"killed-{files}.db"
            worker = Watched(path, settings)
            try:
                with attacked(worker, files, KILLS - deaths), Journal(target) as journal:
                    run_suites(worker, [suite], protocol, journal, n_planned=planned)
            finally:
                worker.close()
            deaths += worker.deaths
            if strict:
                assert content(target) == whole
            else:
                assert_alike(content(target), whole)


def assert_alike(one: dict[str, list[tuple[object, ...]]], other: dict[str, list[tuple[object, ...]]]) -> None:
    """All the same but for noise in log-probabilities."""
    scores, expected = (sorted(c.pop("scores"), key=lambda row: row[:2]) for c in (one, dict(other)))  # type: ignore[arg-type,return-value]
    assert [r[:2] + r[3:] for r in scores] == [r[:2] + r[3:] for r in expected]
    assert [r[2] for r in scores] == pytest.approx([r[2] for r in expected], abs=2e-4)
    rest = {k: v for k, v in other.items() if k != "scores"}
    assert one == rest


def test_content_sees_a_difference(tmp_path: Path) -> None:
    """The comparison above is no rubber stamp."""
    for name in ("a.db", "b.db"):
        db = sqlite3.connect(tmp_path / name)
        db.executescript("CREATE TABLE scores (key, seq, logprob); INSERT INTO scores VALUES ('k', 0, -1.5);")
        if name == "b.db":
            db.execute("UPDATE scores SET logprob = -1.4")
            db.commit()
        db.close()
    a, b = content(tmp_path / "a.db"), content(tmp_path / "b.db")
    assert a != b
    with pytest.raises(AssertionError):
        assert_alike(a, b)
