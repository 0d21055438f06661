"""What a run's suites warn of: their content notes, as the results file keeps them."""

from __future__ import annotations

import sqlite3


def content_notes(connection: sqlite3.Connection, run: str) -> dict[str, str]:
    """Suite -> content note, of a run's suites that have one; none in files older than such notes."""
    if not connection.execute("SELECT 1 FROM pragma_table_info('suites') WHERE name = 'content_note'").fetchone():
        return {}
    rows = connection.execute(
        "SELECT s.name, s.content_note FROM run_suites r JOIN suites s ON s.content_hash = r.suite"
        " WHERE r.run = ? AND s.content_note <> '' ORDER BY s.name",
        [run],
    )
    return dict(rows.fetchall())
