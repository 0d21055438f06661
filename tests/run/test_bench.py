from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

from cultev.backend.fake import FakeBackend
from cultev.backend.prefix import build_tree
from cultev.backend.types import ScoreRequest
from cultev.run.bench import bench
from cultev.run.journal import Journal
from cultev.run.plan import asks
from cultev.run.protocol import Protocol
from cultev.suite import open_suite


class Steady(FakeBackend):
    """An engine that takes time per token of what it is given, shared prefixes once, and 1 ms a call."""

    second = 200_000

    def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        listed = list(requests)
        time.sleep(1e-3 + len(build_tree(listed, 0).tokens) / self.second)
        yield from super().score(listed, skip=skip)

    def raw_prompt_rate(self, n_tokens: int = 512) -> float:
        return self.second

    def raw_decode_rate(self, n_sequences: int, n_tokens: int = 32, n_past: int = 64) -> float:
        return 1000.0 * n_sequences


def test_figures_are_those_of_the_engine_and_the_suite(tmp_path: Path) -> None:
    said: list[str] = []
    backend = Steady(write=lambda prompt: "x" * 8)
    with open_suite("norms-core") as suite:
        result = bench(backend, suite, limit=4, rounds=2, n_generate=4, peak=lambda: 5_000_000, say=said.append)
        found = [a.request for a in asks(suite, Protocol(limit=4), backend) if isinstance(a.request, ScoreRequest)]
    assert result.questions == len(found) == 16
    assert result.unique_tokens == len(build_tree(found, 0).tokens)
    assert result.raw_tokens_per_s == Steady.second
    assert 0 < result.unique_tokens_per_s < Steady.second
    assert 0 < result.ratio_to_raw < 1
    assert 0 <= result.overhead < 1
    assert result.speedup_over_naive > 1
    assert result.speedup_on_suite > 1
    assert result.peak_mb == 5.0
    assert result.raw_decode_tokens_per_s == 16_000.0
    assert result.rounds == 2
    assert any("round 2 of 2" in line for line in said)


def test_generating_can_be_left_out() -> None:
    with open_suite("norms-core") as suite:
        result = bench(Steady(), suite, limit=1, rounds=1, parallel=0)
    assert result.parallel is None
    assert result.ratio_to_raw_decode is None
    assert result.peak_mb is None


def test_a_benchmark_is_kept_in_the_results_file(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    backend = Steady()
    with open_suite("norms-core") as suite, Journal(path) as journal:
        result = bench(backend, suite, limit=1, rounds=1, parallel=0)
        journal.add_bench(backend.info, result)
        journal.add_bench(backend.info, result)
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT model, raw_tokens_per_s, figures FROM benches").fetchall()
    assert len(rows) == 2
    assert rows[0][:2] == (backend.info.sha256, Steady.second)
    assert json.loads(rows[0][2]) == result.figures()
