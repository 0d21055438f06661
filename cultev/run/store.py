"""Opening the results file: what it is, whether it may be written, and who else is writing.

All of SQLite's complaints become errors of ours here, with the next step.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from cultev.errors import (
    NotResults,
    ResultsBusy,
    ResultsDamaged,
    ResultsError,
    ResultsFull,
    ResultsReadOnly,
    ResultsTooNew,
)
from cultev.run.schema import APPLICATION_ID, MIGRATIONS

BUSY_SECONDS = 5.0
"""How long to wait for another program's lock before giving up."""

_MAGIC = b"SQLite format 3\x00"


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's and the system's errors about ``path`` into ours."""
    try:
        yield
    except sqlite3.Error as error:
        known = _explain(path, error)
        if known is None:
            raise  # a mistake of cultev's own: it must not pass for a damaged file
        raise known from error
    except (
        UnicodeDecodeError,
        json.JSONDecodeError,
    ) as error:  # SQLite checks pages, not what stands in them
        raise _damaged(path, str(error)) from error
    except PermissionError as error:
        raise ResultsReadOnly(
            f"The results file {path} can't be written: permission denied.",
            "Choose another place with --db FILE, or change its permissions.",
        ) from error


def _explain(path: Path, error: sqlite3.Error) -> ResultsError | None:
    text = str(error).lower()
    if "locked" in text or "busy" in text:
        return ResultsBusy(
            f"The results file {path} is locked by another program.",
            "Close it there (a database browser, perhaps) and run the same command again: nothing is lost.",
        )
    if "readonly" in text or "read-only" in text:
        return ResultsReadOnly(
            f"The results file {path} is read-only.",
            "Choose another place with --db FILE, or make it writable.",
        )
    if "full" in text:
        return ResultsFull(
            f"The disk that holds {path} is full.",
            "Free some space and run the same command again: what was answered before is kept; it goes on from there.",
        )
    if "unable to open" in text:
        return ResultsReadOnly(
            f"The results file {path} can't be opened or created.",
            "Check that its folder exists and can be written, or choose another place with --db FILE.",
        )
    if "disk i/o" in text:
        return ResultsFull(
            f"Reading or writing {path} failed on the disk (full, removed, or failing).",
            "Check the disk and run the same command again: what was answered before is kept.",
        )
    if any(word in text for word in ("malformed", "not a database", "corrupt", "could not decode")):
        return _damaged(path, str(error))
    return None


def _damaged(path: Path, why: str) -> ResultsDamaged:
    return ResultsDamaged(
        f"The results file {path} is damaged: {why}.", "Keep it aside, and start a new one with --db FILE."
    )


def open_results(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open a results file, creating it when ``write`` is set and there is none.

    Raises:
        ResultsError: one of its kinds; see ``cultev.errors``.
    """
    if not write and not path.exists():
        raise ResultsError(f"There is no results file {path}.", "Make one with `cultev run`, or name it with --db.")
    if path.is_dir():
        raise NotResults(f"{path} is a folder, not a results file.", "Name a file with --db FILE.")
    if path.exists() and path.stat().st_size:
        with explained(path), path.open("rb") as file:
            if file.read(16) != _MAGIC:
                raise NotResults(
                    f"{path} is not a cultev results file (it is not SQLite).",
                    "Choose another name with --db FILE.",
                )
        if write and not os.access(path, os.W_OK):
            raise ResultsReadOnly(
                f"The results file {path} is read-only.",
                "Choose another place with --db FILE, or make it writable.",
            )
    with explained(path):
        connection = _connect(path, write)
        try:
            _check(connection, path, write)
        except BaseException:
            connection.close()
            raise
    return connection


def _connect(path: Path, write: bool) -> sqlite3.Connection:
    if write:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    elif os.access(path, os.W_OK) and os.access(path.resolve().parent, os.W_OK):
        # Reading through WAL makes side files; only a connection that may write takes them away again.
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=BUSY_SECONDS)
        connection.execute("PRAGMA query_only=ON")
    else:
        # On read-only media there is no room for side files: without a log beside it, the file is all there is.
        alone = not path.with_name(path.name + "-wal").exists()
        how = "mode=ro&immutable=1" if alone else "mode=ro"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, timeout=BUSY_SECONDS)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def _check(connection: sqlite3.Connection, path: Path, write: bool) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != APPLICATION_ID:
        raise NotResults(
            f"{path} is an SQLite file of something else, not of cultev's results.",
            "Choose another name with --db FILE.",
        )
    if version > len(MIGRATIONS):
        raise ResultsTooNew(
            f"{path} was written by a newer cultev (results version {version}, this one knows {len(MIGRATIONS)}).",
            "Update: pip install -U cultev",
        )
    if not write:
        if not tables:
            raise NotResults(f"{path} is empty: it holds no results yet.", "Run `cultev run` first.")
        return
    (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
    # Some network folders have no shared memory and so no WAL; the older journal is as safe, only slower.
    connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")
    connection.execute("PRAGMA foreign_keys=ON")
    if tables:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(path, verdict)
        have = dict(connection.execute("SELECT name, sql FROM sqlite_master"))
        for name, sql in _objects(version).items():
            if have.get(name) != sql:
                raise _damaged(path, f"its {name} is not as cultev makes it" if name in have else f"it has no {name}")
    for number in range(version, len(MIGRATIONS)):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id={APPLICATION_ID}; {MIGRATIONS[number]}"
            f"PRAGMA user_version={number + 1}; COMMIT;"
        )


@cache
def _objects(version: int) -> dict[str, str]:
    """Names and definitions of the tables, views and indexes that a file of a schema version has."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript("".join(MIGRATIONS[:version]))
        return dict(empty.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


class WriterLock:
    """Keeps a second run out of a results file for as long as the first lives.

    An exclusive transaction in a small SQLite file beside it: held by the operating system, gone with the
    process however it dies, and the same on every platform.
    """

    def __init__(self, results: Path) -> None:
        if not results.name or results.is_dir():
            raise NotResults(f"{str(results)!r} is a folder, not a results file.", "Name a file with --db FILE.")
        self._path = results.with_name(results.name + ".lock")
        self._connection: sqlite3.Connection | None = None
        with explained(self._path if results.parent.is_dir() else results):
            connection = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                connection.close()
                if "locked" in str(error) or "busy" in str(error):
                    raise ResultsBusy(
                        f"Another cultev run is writing into {results}.",
                        "Wait until it is done, or give this run a file of its own: --db OTHER.db",
                    ) from None
                raise
        self._connection = connection

    def release(self) -> None:
        """Let others write."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def is_being_written(results: Path) -> bool:
    """Whether a run holds the writer's lock of a results file right now."""
    if not results.with_name(results.name + ".lock").exists():
        return False
    try:
        WriterLock(results).release()
    except ResultsBusy:
        return True
    except ResultsError:
        return False  # a place that can't be written has no writer
    return False
