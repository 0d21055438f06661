"""Open a suite file: read-only, checked before anything in it is trusted, streamed item by item.

The checks go from cheap to dear: it exists, it is SQLite, it is a suite, this cultev can read its version, it
is whole, its layout is the one we know, its pages are sound, its rows have the hash that it states. A file
that passes can't differ from what was built in any row, so what comes after may be short.
"""

from __future__ import annotations

import difflib
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from cultev.errors import NotASuite, SuiteDamaged, SuiteError, SuiteNotFound, SuiteTooNew
from cultev.suite import schema
from cultev.suite.builtin import builtin_names, builtin_suite
from cultev.suite.item import KINDS, LABEL_SETS, Choice, Dialogue, Item, Pair, Source, Text

_MAGIC = b"SQLite format 3\0"
_ITEM = "id, kind, culture, topic, group_id, labels, answers, status, body"
_NONSENSE = (
    sqlite3.Error,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading rows that make no sense can raise."""

_FETCH_AGAIN = "Get the file again, or build it from its source: cultev suites build DIR"


@dataclass(frozen=True, slots=True)
class Culture:
    """Whose norms an item is about."""

    id: str
    region: str
    names: Mapping[str, str]
    """Language -> name."""
    countries: Mapping[str, str]
    """Language -> the country's name, as the context 'country' tells it; empty where the suite names none."""

    def name(self, language: str = "en") -> str:
        """The name for a person to read: in that language, else in English, else in any."""
        return _any_of(self.names, language) or self.id


@dataclass(frozen=True, slots=True)
class Topic:
    """What part of life an item is about."""

    id: str
    names: Mapping[str, str]
    """Language -> name."""

    def name(self, language: str = "en") -> str:
        """The name for a person to read: in that language, else in English, else in any."""
        return _any_of(self.names, language) or self.id


class Suite:
    """An open suite. Close it, or use it as a context manager; ``open_suite`` makes one."""

    def __init__(self, path: Path, db: sqlite3.Connection, content_hash: str) -> None:
        meta = dict(db.execute("SELECT key, value FROM suite"))
        self._db = db
        self.path = path
        self.content_hash = content_hash
        self.name: str = meta["name"]
        self.version: str = meta["version"]
        self.title: str = meta["title"]
        self.description: str = meta["description"]
        self.license: str = meta["license"]
        self.authors: tuple[str, ...] = tuple(json.loads(meta["authors"]))
        self.source: str = meta["source"]
        self.value_frame: str = meta["value_frame"]
        self.canary: str = meta["canary"]
        self.content_note: str = meta.get("content_note", "")
        """What a reader should be warned of before seeing an item; '' where there is nothing."""
        self.languages: tuple[str, ...] = tuple(json.loads(meta["languages"]))
        self.cultures: Mapping[str, Culture] = _cultures(db)
        self.topics: Mapping[str, Topic] = _topics(db)
        kinds = Counter[str]()
        for kind, labels, count in db.execute(
            "SELECT kind, labels, count(*) FROM item WHERE status <> 'rejected' GROUP BY kind, labels"
        ):
            kinds["" if _is_supported(kind, labels) else "unsupported"] += count
        self.n_items = kinds[""]
        """Items that ``items()`` yields: neither rejected nor unsupported."""
        self.unsupported = kinds["unsupported"]
        """Items of kinds or label sets that only a later cultev knows; ``items()`` skips them."""

    def __enter__(self) -> Suite:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. Closing twice is fine."""
        self._db.close()

    def items(
        self,
        limit: int | None = None,
        cultures: Container[str] | None = None,
        languages: Container[str] | None = None,
        kinds: Container[str] | None = None,
    ) -> Iterator[Item]:
        """The items that can be asked, one at a time, in the suite's fixed shuffled order.

        Args:
            limit: at most so many; the first N are a sample that favours no culture.
            cultures: only of these. An unknown id matches nothing.
            languages: only their texts in these; an item with none of them is left out.
            kinds: only items of these.

        Raises:
            SuiteDamaged: the file was changed since it was opened.
        """
        with _unmasked(self.path):
            left = self.n_items if limit is None else limit
            rows = self._db.execute(f"SELECT {_ITEM} FROM item WHERE status <> 'rejected' ORDER BY rank, id")
            for row in rows:
                if left <= 0:
                    return
                if not _is_supported(row[1], row[5]) or (cultures is not None and row[2] not in cultures):
                    continue
                if kinds is not None and row[1] not in kinds:
                    continue
                item = self._item(row, languages)
                if item is not None:
                    left -= 1
                    yield item

    def item(self, id: str) -> Item:
        """One item, rejected or not.

        Raises:
            SuiteError: there is none of that id, or it is of a kind that only a later cultev knows.
        """
        with _unmasked(self.path):
            row = self._db.execute(f"SELECT {_ITEM} FROM item WHERE id = ?", (id,)).fetchone()
            if row is None:
                ids = [found for (found,) in self._db.execute("SELECT id FROM item LIMIT 20000")]
                near = difflib.get_close_matches(id, ids, 3)
                step = f"List them: cultev suites show {self.name} --items"
                step = f"Did you mean {' or '.join(near)}?" if near else step
                raise SuiteError(f"The suite {self.name} has no item {id!r}.", step)
            item = self._item(row, None) if _is_supported(row[1], row[5]) else None
            if item is None:
                raise SuiteError(f"This cultev can't ask {id!r}, of kind {row[1]!r}.", "Install a newer cultev.")
            return item

    def count(self, by: str) -> dict[str, int]:
        """How many items there are by 'culture', 'region', 'topic', 'kind', 'language', 'status' or 'answer'.

        By status, all items count; otherwise those that are not rejected. By language, an item counts in each
        of its own; by answer, an item with several right ones counts for each, as 'label set: label' or
        'choice: index'. 'group' counts groups by their number of items.
        """
        with _unmasked(self.path):
            if by == "answer":
                return self._count_answers()
            return {str(key): count for key, count in self._db.execute(_COUNTS[by])}

    def _count_answers(self) -> dict[str, int]:
        found = Counter[str]()
        query = "SELECT kind, labels, answers, count(*) FROM item WHERE status <> 'rejected' GROUP BY 1, 2, 3"
        for kind, labels, answers, count in self._db.execute(query):
            among = labels or ("truth" if kind == "truefalse" else kind)
            for answer in json.loads(answers):
                found[f"{among}: {answer}"] += count
        return dict(sorted(found.items()))

    def _item(self, row: tuple[str, ...], languages: Container[str] | None) -> Item | None:
        """One row as an item, or None where none of the languages is there."""
        ident, kind, culture, topic, group, labels, answers, status, body = row
        told: dict[str, Text] = {}
        query = "SELECT language, question, body FROM item_text WHERE item = ?"
        for language, question, more in self._db.execute(query, (ident,)):
            if languages is None or language in languages:
                told[language] = _text(question, json.loads(more))
        if not told:
            return None
        order = [code for code in self.languages if code in told]
        query = "SELECT title, url FROM source WHERE item = ? ORDER BY seq"
        sources = tuple(Source(*entry) for entry in self._db.execute(query, (ident,)))
        common: Any = {
            "id": ident, "culture": culture, "topic": topic, "group": group, "status": status,
            "sources": sources,
            "texts": {code: told[code] for code in order}, "answers": tuple(json.loads(answers)),
        }  # fmt: skip
        own = {"labels": labels} if kind == "label" else json.loads(body)
        item = KINDS[kind](**common, **own)
        _refuse_nonsense(item)
        return item


_ASKED = "FROM item AS i WHERE status <> 'rejected' GROUP BY"
_COUNTS = {
    "culture": f"SELECT culture, count(*) {_ASKED} culture",
    "region": f"SELECT (SELECT region FROM culture WHERE id = i.culture) AS region, count(*) {_ASKED} region",
    "topic": f"SELECT topic, count(*) {_ASKED} topic",
    "kind": f"SELECT kind, count(*) {_ASKED} kind",
    "language": "SELECT language, count(*) FROM item_text JOIN item ON item.id = item_text.item"
    " WHERE status <> 'rejected' GROUP BY language",
    "status": "SELECT status, count(*) FROM item GROUP BY status",
    "group": f"SELECT size, count(*) FROM (SELECT count(*) AS size {_ASKED} group_id) GROUP BY size",
}


def open_suite(name_or_path: str | os.PathLike[str]) -> Suite:
    """Open a built-in suite by name, or a suite file by path.

    A built-in name wins over a file of the same name in the current folder; write ``./NAME`` for that file.

    Raises:
        SuiteNotFound: neither is there.
        NotASuite: a folder, not SQLite, or SQLite of something else.
        SuiteTooNew: written by a newer cultev.
        SuiteDamaged: cut short, corrupt, or its rows don't have the hash that it states.
        SuiteError: it can't be read.
    """
    path = _find(name_or_path)
    _check_head(path)
    with _unmasked(path):
        db = sqlite3.connect(_read_only(path), uri=True)
        try:
            db.execute("PRAGMA trusted_schema=OFF")
            db.execute("PRAGMA cell_size_check=ON")
            return Suite(path, db, _check_content(path, db))
        except BaseException:
            db.close()
            raise


def _find(name_or_path: str | os.PathLike[str]) -> Path:
    names = builtin_names() if isinstance(name_or_path, str) else ()
    if isinstance(name_or_path, str) and name_or_path in names:
        return builtin_suite(name_or_path)
    path = Path(name_or_path)
    if "\0" in str(path):
        raise SuiteNotFound(f"{str(path)!r} can't be the name of a suite.")
    try:
        if path.is_dir():
            if (path / "suite.toml").exists():
                raise NotASuite(
                    f"{path} is a suite's source, not a suite file.",
                    f"Build it first: cultev suites build {path}",
                )
            raise NotASuite(f"{path} is a folder, not a suite file.", "Name the .db file itself.")
        if path.exists():
            return path
    except OSError as error:
        raise _unreadable(path, error) from error
    near = difflib.get_close_matches(str(name_or_path), builtin_names(), 1)
    guess = f"Did you mean {near[0]!r}? " if near else ""
    known = ", ".join(builtin_names()) or "none, this installation is not complete"
    raise SuiteNotFound(
        f"There is no suite {str(name_or_path)!r}, built in or as a file.", f"{guess}Built in: {known}."
    )


def _check_head(path: Path) -> None:
    """What the first 100 bytes can tell, before SQLite sees the file."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
        size = path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    step = "A suite is one SQLite file that cultev suites build has written."
    if not head:
        raise NotASuite(f"{path} is empty.", _FETCH_AGAIN)
    if not head.startswith(_MAGIC):
        if head.startswith(b"GGUF"):
            step = f"It is a GGUF model: cultev run {path}"
        raise NotASuite(f"{path} is not a suite: it is no SQLite file.", step)
    if len(head) < 100:
        raise SuiteDamaged(f"{path} is cut short: it ends within its header.", _FETCH_AGAIN)
    application = int.from_bytes(head[68:72], "big")
    if application == schema.RESULTS_APPLICATION_ID:
        raise NotASuite(f"{path} holds results, not a suite.", f"Look into it with: cultev runs list --db {path}")
    if application != schema.APPLICATION_ID:
        raise NotASuite(f"{path} is an SQLite file of something else, not a suite.", step)
    version = int.from_bytes(head[60:64], "big", signed=True)
    if version > schema.SCHEMA_VERSION:
        known = f"version {version}; this cultev reads up to {schema.SCHEMA_VERSION}"
        raise SuiteTooNew(f"{path} was written by a newer cultev (suite layout {known}).", "Install a newer cultev.")
    if version < 1:
        raise SuiteDamaged(f"{path} states the suite layout {version}, which never existed.", _FETCH_AGAIN)
    page = int.from_bytes(head[16:18], "big")
    stated = int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page)
    if size < stated:
        raise SuiteDamaged(f"{path} is cut short: {size:,} bytes of {stated:,}.", _FETCH_AGAIN)


def _check_content(path: Path, db: sqlite3.Connection) -> str:
    """Layout, pages, hash; returns the content hash."""
    if schema.layout(db) != schema.expected_layout():
        raise SuiteDamaged(f"{path} is damaged: its tables are not those of a suite.", _FETCH_AGAIN)
    # Not quick_check: items are read through an index, and only this compares an index with its table.
    (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != "ok":
        raise SuiteDamaged(f"{path} is damaged: SQLite finds: {verdict}", _FETCH_AGAIN)
    stated = db.execute("SELECT value FROM suite WHERE key = 'content_hash'").fetchone()
    found = schema.content_hash(db)
    if stated is None or stated[0] != found:
        expected = "no hash" if stated is None else str(stated[0])
        raise SuiteDamaged(
            f"{path} was changed after it was built: it states the content hash {expected}, and has {found}.",
            _FETCH_AGAIN,
        )
    return found


def _read_only(path: Path) -> str:
    """A URI that opens a file without locks or side files, whatever characters its name holds."""
    uri = path.absolute().as_uri()
    if not uri.startswith("file:///"):  # a Windows share: SQLite wants its host in the path
        uri = "file:////" + uri.removeprefix("file://")
    return f"{uri}?mode=ro&immutable=1"


@contextmanager
def _unmasked(path: Path) -> Iterator[None]:
    """Say what a reader's exceptions mean: after the checks, a row that makes no sense is damage.

    A misuse of the API (a closed suite) stays what it is.
    """
    try:
        yield
    except sqlite3.ProgrammingError:
        raise
    except _NONSENSE as error:
        raise SuiteDamaged(f"{path} is damaged: {error}", _FETCH_AGAIN) from error


def _unreadable(path: Path, error: OSError) -> SuiteError:
    return SuiteError(f"{path} can't be read: {error.strerror or error}.", "Check the file's rights and its disk.")


def _is_supported(kind: str, labels: str) -> bool:
    return kind in KINDS and (kind != "label" or labels in LABEL_SETS)


def _text(question: str, more: Mapping[str, Any]) -> Text:
    """One language's texts from a row of item_text."""
    return Text(
        question, tuple(more.get("options", ())), more.get("contexts", {}), tuple(more.get("before", ())),
        more.get("preferred", ""), more.get("dispreferred", ""),
    )  # fmt: skip


def _refuse_nonsense(item: Item) -> None:
    """The hash is no signature: whoever wrote the file may have written nonsense, and hashed it."""
    first = next(iter(item.texts.values()))
    counts = {len(text.options) for text in item.texts.values()}
    sound = (
        len(counts) == 1
        and (len(first.options) >= 2 or not isinstance(item, Choice))
        and all(type(option) is str and option for text in item.texts.values() for option in text.options)
        and all(len(set(text.options)) == len(text.options) for text in item.texts.values())
        and not any(name in text.contexts for text in item.texts.values() for name in ("none", "country"))
        and all(type(told) is str for text in item.texts.values() for told in text.contexts.values())
        and all(type(turn) is str and turn for text in item.texts.values() for turn in text.turns)
        and (not isinstance(item, Dialogue) or len({len(text.before) for text in item.texts.values()}) == 1)
        and (not isinstance(item, Pair) or all(t.preferred and t.dispreferred for t in item.texts.values()))
        and bool(item.answers)
        and set(item.answers) <= set(item.option_ids)
    )
    if not sound:
        raise ValueError(f"the item {item.id!r} makes no sense")


def _cultures(db: sqlite3.Connection) -> dict[str, Culture]:
    found = {id: Culture(id, region, {}, {}) for id, region in db.execute("SELECT id, region FROM culture ORDER BY id")}
    for id, language, name, country in db.execute("SELECT culture, language, name, country FROM culture_name"):
        for words, word in ((found[id].names, name), (found[id].countries, country)):
            if word:
                words[language] = word  # type: ignore[index]  # a dict until it leaves here
    return found


def _topics(db: sqlite3.Connection) -> dict[str, Topic]:
    names: dict[str, dict[str, str]] = {id: {} for (id,) in db.execute("SELECT id FROM topic ORDER BY id")}
    for id, language, name in db.execute("SELECT topic, language, name FROM topic_name"):
        names[id][language] = name
    return {id: Topic(id, names[id]) for id in names}


def _any_of(names: Mapping[str, str], language: str) -> str:
    return names.get(language) or names.get("en") or next(iter(names.values()), "")
