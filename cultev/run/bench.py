"""How close to the engine's own speed are questions asked and texts generated? All figures from one run.

Machines are noisy: one that is shared may run half as fast for some seconds. Hence rounds, each of which measures half
of what a figure is compared with before it and half after (the mean of two rates is the harmonic one, as times add
up); and a figure is the median over rounds. A ratio stands beside the two rates of its own round: medians of each alone
may come from rounds in which the machine was twice as fast.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

from cultev.backend.prefix import build_tree
from cultev.backend.types import (
    Backend,
    Continuation,
    Fault,
    GenerateRequest,
    GenerateResult,
    ScoreRequest,
    ScoreResult,
)
from cultev.errors import EngineError, UsageError
from cultev.run.bench_result import Bench
from cultev.run.engine import run_suites
from cultev.run.journal import Journal
from cultev.run.plan import asks, count
from cultev.run.protocol import Protocol
from cultev.suite.store import Suite

RAW_TOKENS = 512
"""Length of the plain prompts, where the context has room for it."""

INSTRUCTION, QUESTION, OPTIONS, OPTION = 64, 32, 4, 8
"""Tokens of the made-up items' shared instruction and own question; their options, and tokens of one."""

MADE = 8
"""Made-up items for each of the suite's: enough that the instruction, read once, weighs as little as in a run."""


def bench(
    backend: Backend,
    suite: Suite,
    *,
    limit: int = 12,
    rounds: int = 3,
    parallel: int = 16,
    n_generate: int = 48,
    peak: Callable[[], int | None] = lambda: None,
    say: Callable[[str], None] = lambda line: None,
) -> Bench:
    """Measure.

    Args:
        backend: the engine, as a run uses it.
        suite: asked in ``text`` mode, all contexts.
        limit: items of it, a fixed random sample.
        rounds: interleaved; figures are medians over them, rates those of the ratio's round.
        parallel: texts generated at the same time; 0 leaves generating out.
        n_generate: tokens of each text.
        peak: bytes of memory that the engine's process took at most so far.
        say: told what is being measured.

    Raises:
        UsageError: no question fits the context.
        EngineError: the engine failed, or died and was replaced.
    """
    with _deaths_end_it(backend):
        return _measure(backend, suite, limit, rounds, parallel, n_generate, peak, say)


def end_at_death(fault: Fault) -> NoReturn:
    """What ``Backend.on_fault`` is in a benchmark: a new process, maybe with smaller batches, would be timed with it.

    Raises:
        EngineError: always.
    """
    raise EngineError(
        f"The engine died ({fault.reason}): its figures would mislead, so nothing is kept of this benchmark.",
        "Run `cultev doctor` on this model; where memory is short, end other programs or use a smaller --n-ctx.",
    )


@contextmanager
def _deaths_end_it(backend: Backend) -> Iterator[None]:
    before, backend.on_fault = backend.on_fault, end_at_death
    try:
        yield
    finally:
        backend.on_fault = before


def _measure(
    backend: Backend,
    suite: Suite,
    limit: int,
    rounds: int,
    parallel: int,
    n_generate: int,
    peak: Callable[[], int | None],
    say: Callable[[str], None],
) -> Bench:
    protocol = Protocol(limit=limit)
    found = [a.request for a in asks(suite, protocol, backend) if isinstance(a.request, ScoreRequest)]
    requests = list({r.key: r for r in found}.values())
    made = _made_up(backend.info.n_vocab, MADE * limit)
    unique = len(build_tree(requests, 0).tokens)
    if not requests:
        raise UsageError(
            f"No question of {suite.name} fits a context of {backend.n_ctx} tokens.", "Use a larger --n-ctx."
        )
    n_raw, n_few = min(RAW_TOKENS, backend.n_ctx), max(4, limit // 2)
    # Questions differ in length, made-up ones do not; a suite's first ones share an item.
    few, few_made = random.Random(0).sample(requests, min(n_few, len(requests))), made[:n_few]
    scale = _naive_tokens(requests) / _naive_tokens(few)
    seen: dict[str, list[float]] = defaultdict(list)
    prompts: list[_Compared] = []
    texts: list[_Compared] = []
    say("warming up")
    _time_lists(backend, [requests[:2]])
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: {suite.name}")
        naive = _time_lists(backend, _naive(few[::2]))
        rates = [backend.raw_prompt_rate(n_raw) for _ in range(2)]
        whole, inside = _time_run(backend, suite, protocol)
        rates += [backend.raw_prompt_rate(n_raw) for _ in range(2)]
        naive += _time_lists(backend, _naive(few[1::2]))
        raw = statistics.harmonic_mean(rates)
        prompts.append(_Compared(unique / whole / raw, raw, unique / whole))
        seen["overhead"].append(1 - inside / whole)
        seen["suite"].append(naive * scale / inside)
        say(f"round {number + 1} of {rounds}: one prompt per option")
        naive = _time_lists(backend, _naive(few_made[::2]))
        shared = _time_lists(backend, [made])
        naive += _time_lists(backend, _naive(few_made[1::2]))
        seen["naive"].append(naive / len(few_made) / (shared / len(made)))
        if parallel:
            say(f"round {number + 1} of {rounds}: generating")
            _generate(backend, requests, parallel, n_generate, seen, texts)
    median = {name: statistics.median(values) for name, values in seen.items()}
    memory = peak()
    asked, grown = _middle(prompts), _middle(texts) if texts else None
    return Bench(
        suite=suite.name,
        questions=len(requests),
        options=sum(len(r.continuations) for r in requests),
        unique_tokens=unique,
        raw_prompt_tokens=n_raw,
        raw_tokens_per_s=round(asked.raw, 1),
        unique_tokens_per_s=round(asked.ours, 1),
        ratio_to_raw=round(asked.ratio, 3),
        speedup_over_naive=round(median["naive"], 2),
        speedup_on_suite=round(median["suite"], 2),
        overhead=round(median["overhead"], 4),
        peak_mb=None if memory is None else round(memory / 1e6, 1),
        parallel=parallel or None,
        raw_decode_tokens_per_s=_rounded(grown.raw if grown else median.get("raw decode"), 1),
        decode_tokens_per_s=_rounded(grown.ours if grown else None, 1),
        ratio_to_raw_decode=_rounded(grown.ratio if grown else None, 3),
        speedup_over_one=_rounded(median.get("one"), 2),
        rounds=rounds,
    )


class _Compared(NamedTuple):
    """One round's rates, in tokens per second."""

    ratio: float
    raw: float
    """The engine alone."""
    ours: float


def _middle(rounds: Sequence[_Compared]) -> _Compared:
    """The round of the median ratio, the lower one of two."""
    return sorted(rounds)[(len(rounds) - 1) // 2]


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _made_up(n_vocab: int, n: int) -> list[ScoreRequest]:
    """Items of OPTIONS options after one instruction; random tokens cost what others do."""
    pick = random.Random(0)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(pick.randrange(n_vocab) for _ in range(count))

    instruction = tokens(INSTRUCTION)
    return [
        ScoreRequest(
            f"made/{i}",
            (*instruction, *tokens(QUESTION)),
            tuple(Continuation("x" * OPTION, tokens(OPTION)) for _ in range(OPTIONS)),
        )
        for i in range(n)
    ]


def _naive(requests: Sequence[ScoreRequest]) -> list[list[ScoreRequest]]:
    """One request per option, each to be computed alone."""
    return [[ScoreRequest(f"{r.key}/{i}", r.prompt, (c,))] for r in requests for i, c in enumerate(r.continuations)]


def _naive_tokens(requests: Sequence[ScoreRequest]) -> int:
    """Tokens to compute if each option is computed alone."""
    return sum(len(r.prompt) + len(c.tokens) - 1 for r in requests for c in r.continuations)


def _time_lists(backend: Backend, lists: Sequence[Sequence[ScoreRequest]]) -> float:
    """Seconds to score some lists one after the other, what each holds together."""
    began = time.perf_counter()
    for some in lists:
        for _ in backend.score(some):
            pass
    return time.perf_counter() - began


def _time_run(backend: Backend, suite: Suite, protocol: Protocol) -> tuple[float, float]:
    """Seconds of a run into a results file of its own, and of these the seconds within the engine's computing."""
    clocked = _Clocked(backend)
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "bench.db") as journal:
        began = time.perf_counter()
        run_suites(cast(Backend, clocked), [suite], protocol, journal, n_planned=count(suite, protocol))
        return time.perf_counter() - began, clocked.seconds


class _Clocked:
    """A backend that counts the seconds spent waiting for its scores."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        stream = iter(self._backend.score(requests, skip=skip))
        while True:
            began = time.perf_counter()
            batch = next(stream, None)
            self.seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch


def _generate(
    backend: Backend,
    requests: Sequence[ScoreRequest],
    parallel: int,
    n: int,
    seen: dict[str, list[float]],
    compared: list[_Compared],
) -> None:
    """Decode rates: the engine's own, ours at once, and ours one at a time."""
    prompts = [r.prompt for r in islice((r for _ in range(parallel) for r in requests), parallel)]
    singles = [[prompt] for prompt in islice(cycle(prompts), 4)]
    rates = [backend.raw_decode_rate(prompts, n)]
    alone = [_time_generate(backend, prompt, n) for prompt in singles[::2]]
    # Both begin and end raggedly, prompt by prompt; what lies between them are steps of all texts at once.
    early, n_short = _time_generate(backend, prompts, max(1, n // 4))
    long, n_long = _time_generate(backend, prompts, n)
    late, _ = _time_generate(backend, prompts, max(1, n // 4))
    alone += [_time_generate(backend, prompt, n) for prompt in singles[1::2]]
    rates.append(backend.raw_decode_rate(prompts, n))
    raw, short = statistics.harmonic_mean(rates), (early + late) / 2
    ours = (n_long - n_short) / max(1e-9, long - short)
    seen["raw decode"].append(raw)
    if long > 1.2 * short:  # else noise is all that the difference holds
        compared.append(_Compared(ours / raw, raw, ours))
    seen["one"].append((n_long / long) * sum(seconds for seconds, _ in alone) / sum(tokens for _, tokens in alone))


def _time_generate(backend: Backend, prompts: Sequence[tuple[int, ...]], n: int) -> tuple[float, int]:
    """Seconds and tokens. Sampled hot, so that texts differ and seldom end before their budget."""
    requests = [GenerateRequest(str(i), p, n, temperature=2.0, seed=i) for i, p in enumerate(prompts)]
    results: list[GenerateResult] = []
    began = time.perf_counter()
    for batch in backend.generate(requests):
        results.extend(batch)
    return time.perf_counter() - began, sum(len(r.tokens) for r in results)
