"""Does memory stay flat however many items a run has? And what does a run cost beside the engine?

    python tools/bench_memory.py [--sizes 1000 10000 100000]

For each size, in a process of its own: builds a suite of that many items, runs it through the public fake engine into a
results file, summarises it, and prints the process's peak resident memory, that beyond the start of the run, and items
per second. The fake answers at once: the rate is what planning, storing and summarising allow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

SOURCE = """
name = "many"
version = "1.0.0"
title = "Many items"
description = "For measuring."
license = "CC-BY-4.0"
authors = ["cultev contributors"]
source = "Generated."
value_frame = "None."
canary = "{canary}"
languages = ["en"]
[cultures.alpha]
region = "East Asia"
name.en = "Alpha"
[topics.food]
name.en = "food"
"""


def write_source(folder: Path, n: int) -> None:
    """A suite of n choice items with four options each."""
    (folder / "suite.toml").write_text(SOURCE.format(canary=uuid.uuid4()), encoding="utf-8")
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for i in range(n):
            options = [f"{word} number {i}" for word in ("bread", "a cup of tea", "rice", "dates")]
            item = {
                "id": f"item-{i}", "kind": "choice", "culture": "alpha", "topic": "food", "group": f"group-{i // 3}",
                "answers": [i % 4], "source": [{"title": "Generated"}], "status": "drafted",
                "texts": {"en": {"question": f"What do people bring on day {i}?", "options": options}},
            }  # fmt: skip
            file.write(json.dumps(item) + "\n")


def peak_mb() -> float:
    """Peak resident memory of this process in MB (Linux and macOS)."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def measure(folder: Path) -> None:
    """In the measured process: run the suite in ``folder`` and print what it took as JSON."""
    from cultev.backend.fake import FakeBackend
    from cultev.run.engine import run_suites
    from cultev.run.journal import Journal
    from cultev.run.plan import count
    from cultev.run.protocol import Protocol
    from cultev.run.store import open_results
    from cultev.stats.summary import cells
    from cultev.suite import open_suite

    with open_suite(folder / "many.db") as suite:
        before, began = peak_mb(), time.perf_counter()
        with Journal(folder / "results.db") as journal:
            protocol = Protocol()
            run = run_suites(FakeBackend(), [suite], protocol, journal, n_planned=count(suite, protocol))
        seconds = time.perf_counter() - began
        connection = open_results(folder / "results.db", write=False)
        (cell,) = cells(connection, run.id, ())
        connection.close()
    after = peak_mb()
    n = cell.accuracy.n
    print(json.dumps({"n": n, "peak_mb": after, "beyond_mb": after - before, "rate": n / seconds}))


def main() -> None:
    """Measure each size in a process of its own and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return
    from cultev.suite import build_suite

    print(f"{'items':>8}  {'peak MB':>8}  {'of the run':>10}  {'items/s':>8}")
    for n in args.sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_source(folder, n)
            build_suite(folder, folder / "many.db")
            output = subprocess.run(
                [sys.executable, __file__, "--measure", name], capture_output=True, text=True, check=True
            ).stdout
            r = json.loads(output)
            print(f"{r['n']:>8}  {r['peak_mb']:>8.1f}  {r['beyond_mb']:>10.1f}  {r['rate']:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
