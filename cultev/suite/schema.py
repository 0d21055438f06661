"""The suite file's layout: its tables, its views, and the hash over its content.

A suite is one SQLite file, told from others by ``APPLICATION_ID`` and read by the layout that
``SCHEMA_VERSION`` (SQLite's ``user_version``) names. The content hash is over canonical rows, never over the
file's bytes, so that the same source gives the same hash with any SQLite on any machine.

Standard library only: the package's own build loads this before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3

APPLICATION_ID = 0x43565355
"""'CVSU', at byte 68 of every suite file."""

RESULTS_APPLICATION_ID = 0x43565245
"""'CVRE', at byte 68 of every results file: known here so that a mix-up gets a helpful word."""

SCHEMA_VERSION = 1
PAGE_SIZE = 4096

# Tables but media are WITHOUT ROWID: rows lie in the order of their key, so a file's pages (and a walk
# over them) don't depend on the order of insertion. answers, body and the lists in suite are canonical JSON.
TABLES = """
CREATE TABLE suite (
  key TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE culture (
  id TEXT NOT NULL PRIMARY KEY,
  region TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE culture_name (
  culture TEXT NOT NULL REFERENCES culture(id),
  language TEXT NOT NULL,
  name TEXT NOT NULL,
  country TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (culture, language)
) WITHOUT ROWID;
CREATE TABLE topic (
  id TEXT NOT NULL PRIMARY KEY
) WITHOUT ROWID;
CREATE TABLE topic_name (
  topic TEXT NOT NULL REFERENCES topic(id),
  language TEXT NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (topic, language)
) WITHOUT ROWID;
CREATE TABLE item (
  id TEXT NOT NULL PRIMARY KEY,
  seq INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  kind TEXT NOT NULL,
  culture TEXT NOT NULL REFERENCES culture(id),
  topic TEXT NOT NULL REFERENCES topic(id),
  group_id TEXT NOT NULL,
  labels TEXT NOT NULL DEFAULT '',
  answers TEXT NOT NULL DEFAULT '[]',
  status TEXT NOT NULL DEFAULT 'drafted',
  body TEXT NOT NULL DEFAULT '{}'
) WITHOUT ROWID;
CREATE INDEX item_rank ON item (rank, id);
CREATE TABLE item_text (
  item TEXT NOT NULL REFERENCES item(id),
  language TEXT NOT NULL,
  question TEXT NOT NULL,
  body TEXT NOT NULL DEFAULT '{}',
  PRIMARY KEY (item, language)
) WITHOUT ROWID;
CREATE TABLE source (
  item TEXT NOT NULL REFERENCES item(id),
  seq INTEGER NOT NULL,
  title TEXT NOT NULL,
  url TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (item, seq)
) WITHOUT ROWID;
CREATE TABLE media (
  sha256 TEXT NOT NULL PRIMARY KEY,
  type TEXT NOT NULL,
  data BLOB NOT NULL
);
"""

# For a person with sqlite3 in hand. An answer is shown in words where the item has options of its own.
VIEWS = """
CREATE VIEW v_items AS
SELECT i.id, i.culture, i.topic, i.kind, t.language, t.question,
  json_extract(t.body, '$.options') AS options,
  CASE i.kind
    WHEN 'choice' THEN (SELECT group_concat(json_extract(t.body, '$.options[' || a.value || ']'), ' | ')
                        FROM json_each(i.answers) AS a)
    ELSE (SELECT group_concat(a.value, ' | ') FROM json_each(i.answers) AS a)
  END AS answer,
  i.group_id, i.status
FROM item AS i JOIN item_text AS t ON t.item = i.id
ORDER BY i.seq, t.language;
CREATE VIEW v_cells AS
SELECT i.culture, c.region, i.topic, i.kind, i.status, count(*) AS items, count(DISTINCT i.group_id) AS groups
FROM item AS i JOIN culture AS c ON c.id = i.culture
GROUP BY i.culture, c.region, i.topic, i.kind, i.status;
"""

_UNHASHED = ("content_hash", "built_by")
"""Keys of the suite table that are not content: the hash itself, and who built the file."""

_HASHED = (
    ("suite", f"key, value FROM suite WHERE key NOT IN {_UNHASHED} ORDER BY key"),
    ("culture", "id, region FROM culture ORDER BY id"),
    ("culture_name", "culture, language, name, country FROM culture_name ORDER BY culture, language"),
    ("topic", "id FROM topic ORDER BY id"),
    ("topic_name", "topic, language, name FROM topic_name ORDER BY topic, language"),
    (
        "item",
        "id, seq, rank, kind, culture, topic, group_id, labels, answers, status, body FROM item ORDER BY id",
    ),
    ("item_text", "item, language, question, body FROM item_text ORDER BY item, language"),
    ("source", "item, seq, title, url FROM source ORDER BY item, seq"),
    ("media", "sha256, type, data FROM media ORDER BY sha256"),
)

_encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: one spelling per value."""
    return _encode(value)


def rank(suite: str, item: str) -> int:
    """Where an item stands in the fixed shuffled order: 63 bits of SHA-256 over suite name and item id.

    The first N items by rank are a sample that favours no culture, and an item keeps its place among the
    others when a later version of the suite adds or drops some.
    """
    digest = hashlib.sha256(f"{suite}\0{item}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def create(db: sqlite3.Connection) -> None:
    """Lay out an empty suite."""
    db.execute(f"PRAGMA page_size={PAGE_SIZE}")
    db.execute("PRAGMA encoding='UTF-8'")
    db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    db.executescript(TABLES + VIEWS)


def layout(db: sqlite3.Connection) -> list[tuple[str, str, str]]:
    """Type, name and SQL of everything in a file, SQLite's own objects left out."""
    query = "SELECT type, name, coalesce(sql, '') FROM sqlite_master WHERE substr(name, 1, 7) <> 'sqlite_'"
    return sorted(db.execute(query))


def expected_layout() -> list[tuple[str, str, str]]:
    """What ``layout`` gives for a sound suite file of this version."""
    db = sqlite3.connect(":memory:")
    try:
        create(db)
        return layout(db)
    finally:
        db.close()


def content_hash(db: sqlite3.Connection) -> str:
    """SHA-256 over every row that is content, as 64 hex digits, in memory that doesn't grow with the file.

    A row enters as the canonical JSON of ``[table, column, ...]`` and a line feed, tables in a fixed order
    and rows by primary key; a BLOB enters as the SHA-256 of its bytes. The first line names the schema
    version.
    """
    digest = hashlib.sha256(f"cultev suite {SCHEMA_VERSION}\n".encode())
    for table, query in _HASHED:
        for row in db.execute(f"SELECT {query}"):
            digest.update(canonical([table, *map(_hashable, row)]).encode())
            digest.update(b"\n")
    return digest.hexdigest()


def _hashable(value: object) -> object:
    """A column as JSON can hold it."""
    return {"sha256": hashlib.sha256(value).hexdigest()} if isinstance(value, bytes) else value
