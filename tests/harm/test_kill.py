"""kill -9 while replies come: none that was given is lost, none is asked twice, and the file ends as if undisturbed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from cultev.harm.protocol import HarmProtocol
from tests.harm.loaded import hold, loaded_suite
from tests.run.test_engine import content

KILLS = 24

SCRIPT = """
import sys, time
from pathlib import Path
from cultev.backend.fake import FakeBackend
from cultev.harm.protocol import HarmProtocol
from tests.harm.loaded import chatty, hold

def slow(prompt):
    time.sleep(0.004)
    return chatty(prompt)

def tell(ended, replies):
    for _ in range(replies):
        print("stored", flush=True)

hold(Path(sys.argv[1]), Path(sys.argv[2]), HarmProtocol(variants=("plain", "system")), FakeBackend(write=slow),
     advance=tell)
print("done", flush=True)
"""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    loaded_suite(tmp_path).close()
    whole = tmp_path / "whole.db"
    hold(whole, tmp_path, HarmProtocol(variants=("plain", "system")))
    generator, kills, files = random.Random(7), 0, 0
    while kills < KILLS:
        files += 1
        target, stored, finished = tmp_path / f"killed-{files}.db", 0, False
        while not finished:
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(target), str(tmp_path)], stdout=subprocess.PIPE, text=True
            )
            assert process.stdout is not None
            # After so many replies of this process, not after a time: no machine is too slow or too fast for it.
            patience = generator.randint(1, 12)
            lines = 0
            for line in process.stdout:
                if line == "done\n":
                    finished = True
                    break
                lines += 1
                if lines >= patience and kills < KILLS:
                    time.sleep(generator.uniform(0.0, 0.004))  # anywhere between two replies, a write among others
                    break
            if not finished:
                process.kill()
                kills += 1
                rest = process.stdout.read()
                lines += rest.count("stored\n")
                finished = "done" in rest
            process.stdout.close()
            process.wait()
            stored += lines
            with closing(sqlite3.connect(target)) as db:
                (kept,) = db.execute("SELECT count(*) FROM texts").fetchone()
            # What was kept before and what this process says it has stored since are all there, and are different
            # replies: one that was lost, or asked twice, would be missing from the sum.
            assert stored <= kept
            stored = kept
        assert content(target) == content(whole)
    assert files >= 1
