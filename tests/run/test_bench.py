from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from cultev.backend.fake import FakeBackend
from cultev.backend.prefix import build_tree
from cultev.backend.types import ScoreRequest
from cultev.run.bench import bench
from cultev.run.journal import Journal
from cultev.run.plan import asks
from cultev.run.protocol import Protocol
from cultev.suite import open_suite


class Steady(FakeBackend):
    """An engine by a clock of its own: so long per token of what it is given, shared prefixes once, and per call."""

    second = 200_000
    call, text, row, step = 1e-3, 1e-4, 2e-3, 10e-3
    """Seconds of a call to score, of a text to tokenize, of a prompt to read, of a step of all texts."""

    now = 0.0

    def encode(self, text: str) -> list[int]:
        self.now += self.text
        return super().encode(text)

    def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        listed = list(requests)
        self.now += self.call + len(build_tree(listed, 0).tokens) / self.second
        yield from super().score(listed, skip=skip)

    def generate(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        listed = list(requests)
        results = [r for batch in super().generate(listed, skip=skip) for r in batch]
        self.now += self.row * len(listed) + self.step * max(len(r.tokens) for r in results)
        yield results

    def raw_prompt_rate(self, n_tokens: int = 512, read_share: float = 0.0) -> float:
        return self.second

    def raw_decode_rate(self, prompts: Sequence[Sequence[int]], n_tokens: int = 32) -> float:
        assert all(prompts)
        return 1.25 * len(prompts) / self.step


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Steady:
    backend = Steady(write=lambda prompt: "x" * 80)
    monkeypatch.setattr("cultev.run.bench.time", SimpleNamespace(perf_counter=lambda: backend.now))
    return backend


def test_figures_are_those_of_the_engine_and_the_suite(steady: Steady) -> None:
    said: list[str] = []
    n = 16
    with open_suite("norms-core") as suite:
        result = bench(steady, suite, limit=4, rounds=2, n_generate=n, peak=lambda: 5_000_000, say=said.append)
        before = steady.now
        found = [a.request for a in asks(suite, Protocol(limit=4), steady) if isinstance(a.request, ScoreRequest)]
        tokenizing = steady.now - before
    assert result.questions == len(found) == 16
    assert result.unique_tokens == len(build_tree(found, 0).tokens)
    assert result.raw_tokens_per_s == Steady.second
    inside = Steady.call + result.unique_tokens / Steady.second
    whole = inside + tokenizing
    assert result.unique_tokens_per_s == pytest.approx(result.unique_tokens / whole, abs=0.06)
    assert result.ratio_to_raw == pytest.approx(result.unique_tokens / whole / Steady.second, abs=0.001)
    assert result.overhead == pytest.approx(tokenizing / whole, abs=1e-4)
    assert 0.1 < result.overhead < 0.9
    few = found[:4]
    naive = sum(Steady.call + (len(r.prompt) + len(c.tokens) - 1) / Steady.second for r in few for c in r.continuations)
    assert result.speedup_on_suite == pytest.approx(naive / 4 / (inside / 16), abs=0.006)
    assert result.peak_mb == 5.0
    assert result.rounds == 2
    assert any("round 2 of 2" in line for line in said)


def test_a_decode_rate_is_that_of_steps_of_all_texts(steady: Steady) -> None:
    n = 16
    with open_suite("norms-core") as suite:
        result = bench(steady, suite, limit=1, rounds=1, parallel=10, n_generate=n)
    assert result.raw_decode_tokens_per_s == 1.25 * 10 / Steady.step
    assert result.decode_tokens_per_s == pytest.approx(10 / Steady.step, abs=0.1)
    assert result.ratio_to_raw_decode == pytest.approx(0.8, abs=0.001)
    together = 10 * n / (10 * Steady.row + n * Steady.step)
    assert result.speedup_over_one == pytest.approx(together / (n / (Steady.row + n * Steady.step)), abs=0.006)


def test_texts_that_end_early_count_as_far_as_they_came(steady: Steady) -> None:
    steady.write = lambda prompt: "x" * (12 if len(prompt) % 2 else 80)
    with open_suite("norms-core") as suite:
        result = bench(steady, suite, limit=2, rounds=1, parallel=8, n_generate=16)
        found = [a.request for a in asks(suite, Protocol(limit=2), steady) if isinstance(a.request, ScoreRequest)]
    prompts = list(islice(cycle(steady.decode(r.prompt) for r in found), 8))
    lengths = [13 if len(p) % 2 else 16 for p in prompts]
    assert len(set(lengths)) == 2
    assert result.decode_tokens_per_s == pytest.approx((sum(lengths) - 4 * 8) / (12 * Steady.step), abs=0.1)


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
