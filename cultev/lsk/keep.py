"""Maps and tables in the results file: kept, found again, and told apart from those of other models and suites."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from datetime import datetime, timezone
from pathlib import Path

from cultev import __version__
from cultev.errors import ResultsError, UsageError
from cultev.lsk.languagemap import MAP_VERSION, LanguageMap
from cultev.lsk.table import OUTCOMES, OutcomeTable
from cultev.run.journal import Journal
from cultev.run.store import explained


def map_id(found: LanguageMap) -> str:
    """Twelve hexadecimal digits of what a map was made of; made again from the same, it has the same."""
    made_of = [found.run, found.suite["content_hash"], found.held_out, found.halving, sorted(found.cells)]
    made_of += [found.cells.get("columns"), found.cells.get("embedder")]
    made_of += [found.prior] if found.prior else []
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def keep_map(journal: Journal, found: LanguageMap) -> str:
    """Store a map in the place of the one made of the same before; returns its id."""
    name = map_id(found)
    with journal.transaction() as db:
        db.execute("DELETE FROM lsk_maps WHERE id = ?", [name])
        db.execute(
            "INSERT INTO lsk_maps VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            [
                name, found.run, found.model["sha256"], found.suite["content_hash"], found.shipped, found.training,
                found.tokens_spent, found.tokens_full, found.to_json(),
                datetime.now(timezone.utc).isoformat(timespec="microseconds"), __version__,
            ],
        )  # fmt: skip
        db.executemany(
            "INSERT INTO lsk_cells VALUES (?,?,?,?,?,?,?,?,?)",
            [
                (
                    name, pick.cell, code, int(code == pick.language), pick.asked[at], pick.right[at], pick.gain[at],
                    pick.error[at], pick.chance[at],
                )
                for pick in found.picks
                for at, code in enumerate(found.languages)
            ],
        )  # fmt: skip
    return name


def adopt_map(journal: Journal, found: LanguageMap) -> str:
    """Store a map that was made elsewhere; returns its id.

    Model, suite and run are put down by what the map says of them: the rest is filled in when they are first used here.
    """
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    protocol = json.loads(found.protocol)
    model, suite = found.model, found.suite
    with journal.transaction() as db:
        db.execute(
            "INSERT INTO models VALUES (?,?,'',?,'',?,0,0,0,0,'',0) ON CONFLICT DO NOTHING",
            [model["sha256"], model["name"], model["format"], model["quantization"]],
        )
        db.execute(
            "INSERT INTO suites (content_hash, name, version, title, license, value_frame) VALUES (?,?,?,'','','')"
            " ON CONFLICT DO NOTHING",
            [suite["content_hash"], suite["name"], suite["version"]],
        )
        db.execute(
            "INSERT INTO runs (id, model, protocol, protocol_sha256, mode, norm, n_planned, status, started_at,"
            " updated_at, engine, cultev) VALUES (?,?,?,?,?,?,0,'imported',?,?,'',?) ON CONFLICT DO NOTHING",
            [
                found.run, model["sha256"], found.protocol, hashlib.sha256(found.protocol.encode()).hexdigest(),
                str(protocol.get("mode", "")), str(protocol.get("norm", "")), now, now, __version__,
            ],
        )  # fmt: skip
        db.execute("INSERT INTO run_suites VALUES (?,?) ON CONFLICT DO NOTHING", [found.run, suite["content_hash"]])
    return keep_map(journal, found)


def keep_table(journal: Journal, run: str, suite: str, table: OutcomeTable) -> None:
    """Store what each item's answers in each language were worth; what wasn't asked is left as it stands."""
    rows = []
    for i, item in enumerate(table.items.ids.tolist()):
        for j, code in enumerate(table.languages):
            outcome = OUTCOMES[table.outcome[i, j]]
            if outcome == "not_asked":
                continue
            picked, score = int(table.picked[i, j]), float(table.score[i, j])
            rows.append(
                (
                    run, suite, item, code, outcome, picked if picked >= 0 else None,
                    score if score == score else None, int(table.tokens[i, j]),
                )
            )  # fmt: skip
    with journal.transaction() as db:
        db.executemany("INSERT OR REPLACE INTO lsk_tables VALUES (?,?,?,?,?,?,?,?)", rows)


def find_map(
    connection: sqlite3.Connection, path: Path, model: str = "", suite: str = "", wanted: str = ""
) -> tuple[str, LanguageMap, tuple[str, ...]]:
    """A map of a model and a suite, its id first and the ids of the others of the same model and suite last.

    Without ``wanted`` it is the one learned from the most items, so that a small trial doesn't take the place of what
    took hours; of as many items, the latest.

    Args:
        connection: an open results file.
        path: of that file, for messages.
        model: sha256; '' for any.
        suite: content hash; '' for any.
        wanted: a map's id, or the beginning of one; '' for any.

    Raises:
        ResultsError: there is none; the message says of which models and suite versions there are.
        UsageError: there are maps of several models or suites and it isn't said which.
    """
    with explained(path):
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'lsk_maps'").fetchone() is None:
            rows = []
        else:
            rows = connection.execute(
                "SELECT l.id, l.map, l.model, l.suite, m.name || ' (' || m.quantization || ', ' || m.format || ')',"
                " s.name || ' ' || s.version, s.name, l.n_training FROM lsk_maps l JOIN models m ON m.sha256 = l.model"
                " JOIN suites s ON s.content_hash = l.suite ORDER BY l.n_training DESC, l.made_at DESC"
            ).fetchall()
    if not rows:
        raise ResultsError(f"There is no map in {path} yet.", "Make one: cultev lsk fit MODEL --suite NAME")
    fitting = [row for row in rows if model in ("", row[2]) and suite in ("", row[3])]
    if not fitting:
        have = "; ".join(dict.fromkeys(f"{row[4]} on {row[5]}" for row in rows))
        of_model = any(row[2] == model for row in rows)
        what = "this version of the suite" if of_model else "this model"
        raise ResultsError(
            f"The maps in {path} are not of {what}: {have}.",
            "Make one: cultev lsk fit MODEL --suite NAME",
        )
    if wanted:
        chosen = [row for row in fitting if str(row[0]).startswith(wanted)]
        if len(chosen) != 1:
            have = "; ".join(f"{row[0]} ({row[4]} on {row[5]}, {row[7]} items)" for row in fitting)
            raise UsageError(f"'{wanted}' is {'no' if not chosen else 'more than one'} map's ID here.", f"Have: {have}")
        name, text, model, suite = chosen[0][:4]
        others = tuple(str(row[0]) for row in fitting if row[2:4] == (model, suite) and row[0] != name)
        return str(name), read_map(text), others
    if len({(row[2], row[3]) for row in fitting}) > 1:
        have = "; ".join(dict.fromkeys(f"{row[4]} on {row[5]}" for row in fitting))
        raise UsageError(
            f"There are several maps in {path}: {have}.", "Name the model and the suite: MODEL --suite NAME"
        )
    name, text = fitting[0][:2]
    return str(name), read_map(text), tuple(str(row[0]) for row in fitting[1:])


def read_map(text: str) -> LanguageMap:
    """A stored map.

    Raises:
        ResultsError: it is damaged, or a newer cultev wrote it.
    """
    try:
        version = json.loads(text)["version"]
        if version > MAP_VERSION:
            raise ResultsError(
                f"The map was made by a newer cultev (map version {version}, this one knows {MAP_VERSION}).",
                "Update: pip install -U cultev",
            )
        return LanguageMap.from_json(text)
    except (ValueError, TypeError, KeyError) as error:
        raise ResultsError(f"The map is damaged: {error}.", "Make it again: cultev lsk fit") from error
