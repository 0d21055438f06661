"""What do rows that branch save? One ONNX model with them and without, in turns, in one process.

    python tools/bench_branches.py FOLDER... [--items 51] [--rounds 4] [--threads 2]

The made-up items of ``cultev bench``: four options of 8 tokens after questions of 32 and one instruction of 64. For
each model and way prints the median milliseconds of an item and the speed-up over one prompt per option; half of what
that is compared with is measured before and half after.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parent.parent))

from cultev.backend.onnx import OnnxBackend
from cultev.backend.types import EngineSettings
from cultev.run.bench import _made_up, _naive, _time_lists

FEW = 4
"""Items whose options are also asked one by one."""


def measure(backend: OnnxBackend, items: int, rounds: int) -> dict[bool, tuple[float, float]]:
    """Whether rows branch -> milliseconds of an item and speed-up, medians over rounds."""
    runner = backend._decoder()
    if not runner.branches:
        raise SystemExit(f"{backend.info.name}: its rows don't branch ({runner.reuse}).")
    made = _made_up(backend.info.n_vocab, items)
    seen: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    _time_lists(backend, [made])
    for _ in range(rounds):
        for branches, found in seen.items():
            runner.branches = branches
            naive = _time_lists(backend, _naive(made[: FEW // 2]))
            shared = _time_lists(backend, [made]) / items
            naive += _time_lists(backend, _naive(made[FEW // 2 : FEW]))
            found.append((1e3 * shared, naive / FEW / shared))
    runner.branches = True
    return {
        branches: (statistics.median(ms for ms, _ in found), statistics.median(times for _, times in found))
        for branches, found in seen.items()
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--items", type=int, default=51)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    print(f"{'model':<34}{'rows':>10}{'ms an item':>12}{'speed-up':>10}")
    for model in args.models:
        backend = OnnxBackend(model, EngineSettings(threads=args.threads))
        for branches, (milliseconds, speedup) in measure(backend, args.items, args.rounds).items():
            rows = "branches" if branches else "chains"
            print(f"{backend.info.name[:33]:<34}{rows:>10}{milliseconds:>12.1f}{speedup:>10.2f}", flush=True)
        backend.close()


if __name__ == "__main__":
    main()
