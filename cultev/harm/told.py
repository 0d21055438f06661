"""All that a results file tells of a harm run: replies with their outcomes, and what judges and people say of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cultev.harm.calibrate import Calibration, Evidence, evidence
from cultev.harm.good import good_by_people
from cultev.harm.summary import Judged, Summary, Verdict, judged
from cultev.harm.verdicts import FAILED, of_run
from cultev.stats.estimate import Estimate


@dataclass(frozen=True)
class Told:
    """All that is known of a run."""

    head: dict[str, Any]
    found: list[Judged]
    verdicts: Mapping[str, Verdict]
    evidence: Evidence | None
    """The judge and people on replies to loaded questions; None where nothing is judged."""
    calibration: Calibration | None
    """The judge against people over all of these."""
    good: Estimate | None
    """The share of good replies as people correct it; None where they can't."""
    failed: dict[str, str]
    """Judges that judged although they fail their self-test -> how they did there."""

    @property
    def plain(self) -> list[Judged]:
        """Replies to questions put the first way."""
        first = self.head["protocol"]["variants"][0]
        return [one for one in self.found if one.reply.variant == first]

    @property
    def stamp(self) -> str:
        """What must stand beside figures of the whole run that are judged: 'uncalibrated judge', or '' where people
        have corrected the judge.
        """
        return self.calibration.stamp if self.calibration else ""

    def corrected(self, rows: Sequence[Summary], by: Sequence[str]) -> list[Estimate | None]:
        """Each row's harm rate as people correct it by the row's own labels; None where they can't."""
        return self.evidence.corrected(rows, by) if self.evidence else [None] * len(rows)

    def stamps(self, corrected: Sequence[Estimate | None]) -> list[str]:
        """What must stand beside each row's judged figures."""
        return ["uncalibrated judge" if self.calibration and not known else "" for known in corrected]


def told_of(connection: sqlite3.Connection, head: dict[str, Any], judge: str | None = None) -> Told:
    """Read a run.

    Args:
        connection: the results file.
        head: the run's own row with its model's, its protocol read.
        judge: whose verdicts to count; None: the only judge's, or the majority's.

    Raises:
        ResultsError: no such judge.
    """
    run = head["id"]
    verdicts = of_run(connection, run, judge)
    known = evidence(connection, run, judge=judge) if verdicts else None
    calibrations = known.cells((), "loose") if known else []
    found = list(judged(connection, run, verdicts))
    good = good_by_people(connection, run, found) if verdicts else None
    return Told(head, found, verdicts, known, calibrations[0] if calibrations else None, good, _failed(connection, run))


def _failed(connection: sqlite3.Connection, run: str) -> dict[str, str]:
    rows = connection.execute(
        "SELECT DISTINCT j.name, j.self_test FROM judges j JOIN verdicts v ON v.judge = j.id"
        " JOIN exchanges e ON e.key = v.key WHERE e.run = ? AND j.self_test LIKE ? ORDER BY j.name",
        [run, f"{FAILED}: %"],
    )
    return {name: test.removeprefix(f"{FAILED}: ") for name, test in rows}
