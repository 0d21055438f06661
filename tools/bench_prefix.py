"""How much faster is scoring with shared prefixes than one full prompt per option? One run, interleaved rounds.

    python tools/bench_prefix.py MODEL [--suite planted] [--limit 12] [--rounds 3] [--json]

Prints, as medians over rounds: (a) the engine's raw rate on plain 512-token prompts, (b) the rate at which the
shared way computes the different tokens of the questions, (c) b / a, (d) the speed-up over one prompt per
option. The naive way goes through the very same engine, one request per option, with nothing held from one to the next.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from cultev.backend.load import find_model, open_backend
from cultev.backend.prefix import build_tree
from cultev.backend.types import Backend, Continuation, EngineSettings, ScoreRequest
from cultev.run.plan import asks
from cultev.run.protocol import Protocol
from cultev.suite import open_suite

RAW_TOKENS = 512


def timed(backend: Backend, requests: Sequence[ScoreRequest]) -> float:
    """Seconds to score requests."""
    began = time.perf_counter()
    for _ in backend.score(requests):
        pass
    return time.perf_counter() - began


def naive(requests: Sequence[ScoreRequest]) -> list[ScoreRequest]:
    """One request per option."""
    return [ScoreRequest(f"{r.key}/{i}", r.prompt, (c,)) for r in requests for i, c in enumerate(r.continuations)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--suite", default="planted")
    parser.add_argument("--language", action="append", default=[])
    parser.add_argument("--limit", type=int, default=12, help="questions, a random sample of the suite")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    backend = open_backend(Path(args.model) if args.model else find_model(None), EngineSettings(threads=args.threads))
    with open_suite(args.suite) as suite:
        stream = asks(suite, Protocol(languages=tuple(args.language)), backend)
        requests = [a.request for a in islice(stream, args.limit) if a.request is not None]
    generator = random.Random(0)
    raw = [
        ScoreRequest(str(i), tuple(generator.randrange(200) for _ in range(RAW_TOKENS)), (Continuation("x", (1,)),))
        for i in range(2)
    ]
    unique = len(build_tree(requests, 0).tokens)
    full = sum(len(r.prompt) + len(c.tokens) - 1 for r in requests for c in r.continuations)
    rates: dict[str, list[float]] = {"raw": [], "shared": [], "naive": []}
    timed(backend, requests[:1])
    for _ in range(args.rounds):
        rates["raw"].append(sum(len(r.prompt) for r in raw) / sum(timed(backend, [r]) for r in raw))
        rates["shared"].append(unique / timed(backend, requests))
        rates["naive"].append(full / sum(timed(backend, [r]) for r in naive(requests)))
    a, b, n = (statistics.median(rates[name]) for name in ("raw", "shared", "naive"))
    result = {
        "model": backend.info.name,
        "quantization": backend.info.quantization,
        "suite": args.suite,
        "questions": len(requests),
        "options": sum(len(r.continuations) for r in requests),
        "unique_tokens": unique,
        "naive_tokens": full,
        "raw_tokens_per_s": round(a, 1),
        "unique_tokens_per_s": round(b, 1),
        "ratio_to_raw": round(b / a, 3),
        "speedup_over_naive": round((full / n) / (unique / b), 2),
    }
    backend.close()
    if args.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>22}  {value}")


if __name__ == "__main__":
    main()
