"""Calling cultev as a user does: a process of its own, its exit code, and what it prints where."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """The environment of a user at an 80-column terminal without colour."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("CULTEV_")}
    path = os.pathsep.join([str(TOP), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**keep, "PYTHONPATH": path, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONUTF8": "1", **more}


def cultev(*words: object, cwd: Path, **more: str) -> Done:
    """Run ``python -m cultev`` with these words in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "cultev", *map(str, words)],
        cwd=cwd,
        env=environment(**more),
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def fails(done: Done, *telling: str, code: int = 1) -> None:
    """It ended in one clear sentence with the next step, and no traceback."""
    assert done.code == code, done.err
    assert "Traceback" not in done.err + done.out
    lines = [line for line in done.err.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("Error: ")]
    assert len(starts) == 1, done.err
    assert len(lines) - starts[0] == 2, f"a sentence and a next step, not: {done.err}"
    for text in telling:
        assert text in done.err, done.err


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True


def wait_until(gone: Callable[[], bool], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if gone():
            return True
        time.sleep(0.02)
    return gone()


def children(pid: int) -> set[int]:
    """Processes that a process has started, where the system tells (Linux)."""
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()
