from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace

import pytest

from cultev.backend.fake import FakeBackend
from cultev.backend.prefix import build_tree
from cultev.backend.types import Fault, ScoreRequest
from cultev.errors import EngineError
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

    def __init__(self) -> None:
        super().__init__(write=lambda prompt: "x" * 80)
        self.now = 0.0
        self.slow_from = float("inf")
        """Moment from which it is half as fast."""
        self.calls: list[tuple[str, int, float, float]] = []
        """What it did: method, requests, when begun, when ended."""
        self.raw_calls: list[int] = []
        """Lengths of plain prompts."""

    def work(self, seconds: float, method: str = "", n: int = 0) -> None:
        """Let time pass, twice as much from ``slow_from`` on."""
        began = self.now
        quick = min(seconds, max(0.0, self.slow_from - self.now))
        self.now += quick + 2 * (seconds - quick)
        self.calls.append((method, n, began, self.now))

    @property
    def slowness(self) -> int:
        return 2 if self.now >= self.slow_from else 1

    def encode(self, text: str) -> list[int]:
        self.work(self.text)
        return super().encode(text)

    def score(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        listed = list(requests)
        self.work(self.call + len(build_tree(listed, 0).tokens) / self.second, "score", len(listed))
        yield from super().score(listed, skip=skip)

    def generate(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
        listed = list(requests)
        results = [r for batch in super().generate(listed, skip=skip) for r in batch]
        steps = max(len(r.tokens) for r in results)
        self.work(self.row * len(listed) + self.step * steps, f"generate {steps}", len(listed))
        yield results

    def raw_prompt_rate(self, n_tokens: int = 512, read_share: float = 0.0) -> float:
        self.raw_calls.append(n_tokens)
        return self.second / self.slowness

    def raw_decode_rate(self, prompts: Sequence[Sequence[int]], n_tokens: int = 32) -> float:
        assert all(prompts)
        return 1.25 * len(prompts) / self.step / self.slowness


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Steady:
    backend = Steady()
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
    few = random.Random(0).sample(found, 4)
    sizes, all_sizes = alone_sizes(few), alone_sizes(found)
    naive = sum(Steady.call + size / Steady.second for size in sizes) / sum(sizes) * sum(all_sizes)
    assert result.speedup_on_suite == pytest.approx(naive / inside, abs=0.006)
    # Made up: 8 items for each of the suite's, of four options of 8 tokens after 32 of their own and 64 that all share.
    naive = 4 * (Steady.call + (64 + 32 + 7) / Steady.second)
    together = (Steady.call + (64 + 8 * 4 * (32 + 4 * 7)) / Steady.second) / (8 * 4)
    assert result.speedup_over_naive == pytest.approx(naive / together, rel=0.01)  # a few tokens are alike by chance
    assert (result.raw_prompt_tokens, set(steady.raw_calls)) == (512, {512})
    assert result.peak_mb == 5.0
    assert result.rounds == 2
    assert any("round 2 of 2" in line for line in said)


def alone_sizes(requests: Sequence[ScoreRequest]) -> list[int]:
    """Tokens of each option with its prompt, the last one aside."""
    return [len(r.prompt) + len(c.tokens) - 1 for r in requests for c in r.continuations]


def test_a_speedup_on_a_suite_is_that_of_all_its_questions(steady: Steady) -> None:
    steady.call = steady.text = 0.0
    with open_suite("norms-core") as suite:
        result = bench(steady, suite, limit=6, rounds=1, parallel=0)
        found = [a.request for a in asks(suite, Protocol(limit=6), steady) if isinstance(a.request, ScoreRequest)]
    speedup = sum(alone_sizes(found)) / len(build_tree(found, 0).tokens)
    assert result.speedup_on_suite == pytest.approx(speedup, abs=0.006)


RATIOS = ("ratio_to_raw", "speedup_over_naive", "speedup_on_suite", "ratio_to_raw_decode", "speedup_over_one")


@pytest.mark.parametrize(
    ("method", "n", "of"),
    [
        ("score", 24, ("ratio_to_raw", "speedup_on_suite")),
        ("score", 8 * 6, ("speedup_over_naive",)),
        ("generate 16", 10, ("ratio_to_raw_decode", "speedup_over_one")),
    ],
)
def test_ratios_stay_when_the_machine_gets_slow_in_the_middle(
    monkeypatch: pytest.MonkeyPatch, method: str, n: int, of: tuple[str, ...]
) -> None:
    """Halfway through what is measured at once; half of what it is compared with came before."""

    def measure(slow_from: float) -> tuple[Steady, dict[str, float]]:
        engine = Steady()
        engine.text, engine.slow_from = 0.0, slow_from
        monkeypatch.setattr("cultev.run.bench.time", SimpleNamespace(perf_counter=lambda: engine.now))
        with open_suite("norms-core") as suite:
            result = bench(engine, suite, limit=6, rounds=1, parallel=10, n_generate=16)
        return engine, result.figures()

    engine, steady = measure(float("inf"))
    ((began, ended),) = [(began, ended) for did, m, began, ended in engine.calls if (did, m) == (method, n)]
    _, found = measure((began + ended) / 2)
    for name in RATIOS:
        near = 0.02 if name in of else 1e-9
        if name == "speedup_on_suite":
            near = 0.08  # the halves of the sample differ in length
        assert found[name] == pytest.approx(steady[name], rel=near), name
    if method == "score" and n == 24:
        assert found["raw_tokens_per_s"] == pytest.approx(steady["raw_tokens_per_s"] / 1.5, rel=0.01)


def test_one_bad_round_moves_nothing(steady: Steady, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_suite("norms-core") as suite:
        good = bench(steady, suite, limit=4, rounds=3, parallel=0)
    steady.raw_calls.clear()
    second = Steady.second

    def rate(n_tokens: int = 512, read_share: float = 0.0) -> float:
        steady.raw_calls.append(n_tokens)
        return second * (100 if 4 < len(steady.raw_calls) <= 8 else 1)

    monkeypatch.setattr(steady, "raw_prompt_rate", rate)
    work, made = steady.work, [0]

    def slow_once(seconds: float, method: str = "", n: int = 0) -> None:
        made[0] += n == 8 * 4
        work(seconds * (100 if n == 8 * 4 and made[0] == 2 else 1), method, n)

    monkeypatch.setattr(steady, "work", slow_once)
    with open_suite("norms-core") as suite:
        bad = bench(steady, suite, limit=4, rounds=3, parallel=0)
    assert (len(steady.raw_calls), made[0]) == (12, 3)
    assert bad == good


def test_rates_are_those_of_the_ratios_round(steady: Steady, monkeypatch: pytest.MonkeyPatch) -> None:
    """Medians of each alone would be 2 and 1 times the first round's: half, beside a ratio of four fifths."""
    work = steady.work

    def rate(n_tokens: int = 512, read_share: float = 0.0) -> float:
        steady.raw_calls.append(n_tokens)
        return Steady.second * (1, 2, 5)[(len(steady.raw_calls) - 1) // 4]

    def faster(seconds: float, method: str = "", n: int = 0) -> None:
        work(seconds / (1, 1, 4)[max(0, len(steady.raw_calls) - 1) // 4], method, n)

    monkeypatch.setattr(steady, "raw_prompt_rate", rate)
    monkeypatch.setattr(steady, "work", faster)
    with open_suite("norms-core") as suite:
        result = bench(steady, suite, limit=4, rounds=3, parallel=0)
    assert result.raw_tokens_per_s == 5 * Steady.second
    assert result.ratio_to_raw == pytest.approx(result.unique_tokens_per_s / result.raw_tokens_per_s, abs=0.001)


def test_plain_prompts_are_as_long_as_the_context_allows(steady: Steady) -> None:
    steady.n_ctx = 500
    with open_suite("norms-core") as suite:
        result = bench(steady, suite, limit=4, rounds=1, parallel=0)
    assert (result.raw_prompt_tokens, set(steady.raw_calls)) == (500, {500})


@pytest.mark.parametrize("method", ["score", "raw_prompt_rate", "generate", "raw_decode_rate"])
@pytest.mark.parametrize("late", [1, 3])
def test_an_engine_that_dies_ends_the_benchmark(
    steady: Steady, monkeypatch: pytest.MonkeyPatch, method: str, late: int
) -> None:
    calls = [0]
    whole: Callable[..., object] = getattr(steady, method)

    def fatal(*words: object, **more: object) -> object:
        calls[0] += 1
        if calls[0] == late:
            steady.on_fault(Fault("SIGKILL", (), "it is started again"))  # returns where nobody minds
        return whole(*words, **more)

    monkeypatch.setattr(steady, method, fatal)
    heard: list[Fault] = []
    steady.on_fault = before = heard.append
    with open_suite("norms-core") as suite, pytest.raises(EngineError, match=r"died \(SIGKILL\)") as caught:
        bench(steady, suite, limit=4, rounds=2)
    assert "cultev doctor" in caught.value.next_step
    assert calls == [late]
    assert steady.on_fault == before and not heard


def test_an_engine_that_dies_within_the_run_ends_the_benchmark(steady: Steady, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run listens to deaths itself."""

    def encode_all(texts: Sequence[str]) -> list[list[int]]:
        if steady.raw_calls:
            steady.on_fault(Fault("SIGABRT", (), "it is started again (encode_all)"))
        return [steady.encode(text) for text in texts]

    monkeypatch.setattr(steady, "encode_all", encode_all)
    with open_suite("norms-core") as suite, pytest.raises(EngineError, match=r"died \(SIGABRT\)"):
        bench(steady, suite, limit=4, rounds=2)


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
