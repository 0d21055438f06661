"""kill -9 while a judge speaks: every verdict that was passed on is in the file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.cli.command import TOP, environment
from tests.harm.test_verdicts import Reader, judged
from tests.harm.worlds import harm_run

SCRIPT = """
import sys
from pathlib import Path
from cultev.harm.verdicts import JudgeId, VerdictJournal, judge_run
from tests.harm.test_verdicts import Reader

reader = Reader()
with VerdictJournal(Path(sys.argv[1])) as journal:
    who = JudgeId.of(reader, "model")
    journal.add_judge(who)
    for verdict in judge_run(journal, reader, who, journal.unjudged(sys.argv[2], who)):
        print(verdict.key, flush=True)
        sys.stdin.readline()
"""


def test_none_is_lost(tmp_path: Path) -> None:
    db, run = harm_run(tmp_path, 40)
    heard: list[str] = []
    for after in (1, 7, 20):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(db), run],
            cwd=TOP,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stdin is not None
        for _ in range(after):
            heard.append(process.stdout.readline().strip())
            process.stdin.write("\n")
            process.stdin.flush()
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
        with closing(sqlite3.connect(db)) as connection:
            kept = {key for (key,) in connection.execute("SELECT key FROM verdicts")}
        assert set(heard) <= kept
    assert len(heard) == len(set(heard)) == 28  # nothing was asked twice
    judged(db, run, Reader())
    with closing(sqlite3.connect(db)) as connection:
        (kept_now,) = connection.execute("SELECT count(*) FROM verdicts").fetchone()
        (replies,) = connection.execute("SELECT count(DISTINCT key) FROM exchanges WHERE last").fetchone()
    assert kept_now == replies
