"""kill -9 at random moments: the next run goes on, and the file ends as if nothing had happened."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cultev.backend.fake import FakeBackend
from cultev.backend.prefix import Limits
from cultev.run.protocol import Protocol
from tests.run.test_engine import content, do_run
from tests.worlds import small_suite

KILLS = 24

SCRIPT = """
import sys, time
from pathlib import Path
from cultev.backend.fake import FakeBackend, hashed
from cultev.backend.prefix import Limits
from cultev.run.protocol import Protocol
from tests.run.test_engine import do_run

def slow(prompt, text):
    time.sleep(0.0004)
    return hashed(prompt, text)

print("begun", flush=True)
do_run(Path(sys.argv[1]), FakeBackend(slow, limits=Limits(tokens=900)), Protocol(pmi=True), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    small_suite(tmp_path).close()
    whole = tmp_path / "whole.db"
    do_run(whole, FakeBackend(limits=Limits(tokens=900)), Protocol(pmi=True), tmp_path)
    generator, kills, files = random.Random(11), 0, 0
    while kills < KILLS:
        files += 1
        target = tmp_path / f"killed-{files}.db"
        while True:
            process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(target), str(tmp_path)], stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            process.stdout.readline()
            try:
                assert process.wait(timeout=generator.uniform(0.0, 0.35)) == 0
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
            finally:
                process.stdout.close()
            time.sleep(0)
        assert content(target) == content(whole)
    assert files >= 1
