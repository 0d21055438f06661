"""How long does a suite of pairs take, and how near to the engine's own speed is it?

    python tools/bench_pairs.py MODEL [--suite harm-pairs] [--threads 2] [--limit N] [--pmi] [--json]

Scores all pairs into a results file of its own, as `cultev harm pairs` does, and plain prompts of 512 tokens through
the engine itself before and after. Prints seconds, unique tokens a second (what a run needs to compute
once), the raw rate (median) and their ratio. What the model says is never looked at: random weights will do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent.parent))

from cultev.backend.prefix import build_tree
from cultev.backend.types import EngineSettings, ScoreRequest
from cultev.backend.worker import open_worker
from cultev.harm.pairs import PairJournal, PairProtocol, enough_tokens, pair_asks, places, run_pairs
from cultev.suite.store import open_suite

RAW_TOKENS = 512


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
            unique = _unique(requests_of(pair_asks(suite, protocol, backend)))
            rates = [backend.raw_prompt_rate(RAW_TOKENS) for _ in range(3)]
            began = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder, PairJournal(Path(folder) / "pairs.db") as journal:
                run_pairs(backend, [suite], protocol, journal, n_planned=planned)
            seconds = time.perf_counter() - began
            rates += [backend.raw_prompt_rate(RAW_TOKENS) for _ in range(3)]
        finally:
            backend.close()
    raw = statistics.median(rates)
    figures = {
        "pairs": planned,
        "seconds": round(seconds, 1),
        "unique_tokens": unique,
        "tokens_per_s": round(unique / seconds, 1),
        "raw_tokens_per_s": round(raw, 1),
        "raw_spread": [round(min(rates), 1), round(max(rates), 1)],
        "ratio": round(unique / seconds / raw, 3),
    }
    print(json.dumps(figures) if words.json else "\n".join(f"{k:>17} {v}" for k, v in figures.items()))


def requests_of(asks: Iterator[object]) -> Iterator[ScoreRequest]:
    """All requests of a run, each once."""
    seen: set[str] = set()
    for ask in asks:
        for request in (getattr(ask, "request", None), getattr(ask, "prior", None)):
            if request is not None and request.key not in seen:
                seen.add(request.key)
                yield request


def _unique(requests: Iterator[ScoreRequest]) -> int:
    """Tokens of all requests with every shared prefix once, counted in windows as a run plans them."""
    total = 0
    while some := list(islice(requests, 4096)):
        total += len(build_tree(some, 0).tokens)
    return total


if __name__ == "__main__":
    main()
