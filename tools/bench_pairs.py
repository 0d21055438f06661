"""How long does a suite of pairs take, and how near to the engine's own speed is it?

    python tools/bench_pairs.py MODEL [--suite harm-pairs] [--threads 2] [--limit N] [--pmi] [--json]

Scores all pairs into a results file of its own, as `cultev harm pairs` does, and in between, since a shared machine's
speed changes within minutes, plain prompts of 512 tokens through the engine itself: with the logits of the last token
only, and with those of as large a share of the tokens as pairs need (llama.cpp: as many tokens more as make its calls
whole). Answers are most of a pair, and each of their tokens is a product with the whole vocabulary, which costs the
engine itself a quarter of its speed with 152,000 words: `ratio` compares with the first rate, `ratio_as_many_logits`,
like for like, with the second. What the model says is never looked at: random weights will do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent.parent))

from cultev.backend.prefix import build_tree, windows
from cultev.backend.types import Backend, EngineSettings, ScoreRequest
from cultev.backend.worker import open_worker
from cultev.errors import Interrupted
from cultev.harm.pairs import PairJournal, PairProtocol, enough_tokens, pair_asks, places, run_pairs
from cultev.suite.store import Suite, open_suite

RAW_TOKENS = 512

SLICES = 6
"""Parts of the run, between which the engine's own rates are measured."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--suite", default="harm-pairs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--pmi", action="store_true")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    protocol = PairProtocol(limit=words.limit, pmi=words.pmi)
    with open_suite(words.suite) as suite:
        backend = open_worker(
            words.model,
            EngineSettings(threads=words.threads),
            lambda fault: print(fault.reason, file=sys.stderr),
            needs=lambda: enough_tokens([suite], protocol),
        )
        try:
            planned = sum(1 for _ in places(suite, protocol))
            unique, reads = _unique(requests_of(pair_asks(suite, protocol, backend)))
            plain: list[float] = []
            likewise: list[float] = []

            def measure() -> None:
                for _ in range(2):
                    plain.append(backend.raw_prompt_rate(RAW_TOKENS))
                    likewise.append(backend.raw_prompt_rate(RAW_TOKENS, reads / unique))

            seconds = _time_slices(backend, suite, protocol, planned, measure)
        finally:
            backend.close()
    rate, raw, alike = unique / seconds, statistics.mean(plain), statistics.mean(likewise)
    figures = {
        "pairs": planned,
        "seconds": round(seconds, 1),
        "unique_tokens": unique,
        "share_with_logits": round(reads / unique, 3),
        "tokens_per_s": round(rate, 1),
        "raw_tokens_per_s": round(raw, 1),
        "raw_spread": [round(min(plain), 1), round(max(plain), 1)],
        "raw_tokens_per_s_as_many_logits": round(alike, 1),
        "ratio": round(rate / raw, 3),
        "ratio_as_many_logits": round(rate / alike, 3),
    }
    print(json.dumps(figures) if words.json else "\n".join(f"{k:>31} {v}" for k, v in figures.items()))


def _time_slices(
    backend: Backend, suite: Suite, protocol: PairProtocol, planned: int, measure: Callable[[], None]
) -> float:
    """Seconds of a run in ``SLICES`` parts, each of which goes on from the last; ``measure`` is called around each."""
    seconds, done, target = 0.0, 0, 0.0

    def advance(pairs: int, computed: int) -> None:
        nonlocal done
        done += pairs

    def stop() -> bool:
        return target <= done < planned

    with tempfile.TemporaryDirectory() as folder, PairJournal(Path(folder) / "pairs.db") as journal:
        for number in range(1, SLICES + 1):
            measure()
            done, target = 0, planned * number / SLICES
            began = time.perf_counter()
            with suppress(Interrupted):
                run_pairs(backend, [suite], protocol, journal, n_planned=planned, advance=advance, stop=stop)
            seconds += time.perf_counter() - began
        measure()
    assert done == planned
    return seconds


def requests_of(asks: Iterator[object]) -> Iterator[ScoreRequest]:
    """All requests of a run, each once."""
    seen: set[str] = set()
    for ask in asks:
        for request in (getattr(ask, "request", None), getattr(ask, "prior", None)):
            if request is not None and request.key not in seen:
                seen.add(request.key)
                yield request


def _unique(requests: Iterator[ScoreRequest]) -> tuple[int, int]:
    """Tokens of all requests with every prefix shared in a planner's window once, and how many of them need logits."""
    tokens = reads = 0
    for some in windows(requests):
        tree = build_tree(some, 0)
        tokens += len(tree.tokens)
        reads += len({node for request in tree.reads for nodes in request for node in nodes})
    return tokens, reads


if __name__ == "__main__":
    main()
