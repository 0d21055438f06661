"""From a suite's source folder to one suite file.

The same source gives the same content hash on any machine, and the same bytes with the same version of SQLite
and cultev. Nothing appears under the target's name until all of it is right.

Standard library only: the package's own build loads this before anything is installed.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cultev import __version__
from cultev.errors import SuiteError, SuiteSourceError
from cultev.suite import schema
from cultev.suite.fields import Problems
from cultev.suite.item import Item, item_words
from cultev.suite.source import Header, read_header, read_items


@dataclass(frozen=True)
class BuildReport:
    """What was built."""

    path: Path
    name: str
    version: str
    content_hash: str
    n_items: int
    """All of them, rejected ones too."""
    languages: tuple[str, ...]
    n_cultures: int
    normalised: int
    """Texts of the source that were not in Unicode NFC and were brought into it."""


def build_suite(source_dir: str | os.PathLike[str], target_db: str | os.PathLike[str]) -> BuildReport:
    """Build one suite file.

    Args:
        source_dir: holds suite.toml and items.jsonl.
        target_db: the file to write; an older suite file there is replaced in one step, anything else is
            refused.

    Raises:
        SuiteSourceError: the source says something impossible; up to 20 places are named.
        SuiteError: the target can't be written, or is a file of something else.
    """
    source, target = Path(source_dir), Path(target_db)
    problems = Problems(source)
    header = read_header(source, problems)
    _guard(target)
    # Beside the target, so that the last step is a rename within one file system.
    draft = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        n_items, content = _write(draft, header, source, problems)
        draft.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise SuiteError(
            f"The suite can't be written to {target}: {getattr(error, 'strerror', None) or error}.",
            "Choose another place with -o FILE, or make room.",
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return BuildReport(
        path=target,
        name=header.name,
        version=header.version,
        content_hash=content,
        n_items=n_items,
        languages=header.languages,
        n_cultures=len(header.regions),
        normalised=problems.normalised,
    )


def build_into(source_dir: Path, folder: Path) -> BuildReport:
    """Build a built-in suite into ``folder``, as ``NAME.db``.

    Raises:
        SuiteSourceError: also when the source's folder does not bear the suite's name.
        SuiteError: the folder can't be written.
    """
    name = source_dir.name
    found = read_header(source_dir, Problems(source_dir)).name
    if found != name:
        raise SuiteSourceError(f"The folder {source_dir} holds a suite named {found!r}.", f"Rename it to {found!r}.")
    return build_suite(source_dir, folder / f"{name}.db")


def source_folders(parent: Path) -> dict[str, Path]:
    """The suites' sources below a folder, by name."""
    if not parent.is_dir():
        return {}
    return {path.name: path for path in sorted(parent.iterdir()) if (path / "suite.toml").is_file()}


def is_suite_file(path: Path) -> bool:
    """Whether a file bears a suite's marks. It may still be damaged."""
    with path.open("rb") as file:
        head = file.read(100)
    return head[:16] == b"SQLite format 3\0" and head[68:72] == schema.APPLICATION_ID.to_bytes(4, "big")


def _guard(target: Path) -> None:
    """Refuse to overwrite what is not a suite: a slip of -o must not cost anyone a file."""
    if target.is_dir():
        raise SuiteError(f"{target} is a folder.", "Name a file with -o FILE.")
    try:
        replaceable = not target.exists() or target.stat().st_size == 0 or is_suite_file(target)
    except OSError as error:
        raise SuiteError(f"{target} can't be read: {error.strerror or error}.") from error
    if not replaceable:
        raise SuiteError(f"{target} exists and is not a suite; it was left alone.", "Name another file with -o FILE.")


def _write(draft: Path, header: Header, source: Path, problems: Problems) -> tuple[int, str]:
    """Write the whole file; returns the number of items and the content hash."""
    # No journal and no sync: a draft that is cut short is thrown away.
    db = sqlite3.connect(draft, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        schema.create(db)
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("BEGIN")
        _write_header(db, header)
        n_items = 0
        for seq, item in enumerate(read_items(source, header, problems)):
            _write_item(db, header.name, seq, item)
            n_items += 1
        problems.check()
        content = schema.content_hash(db)
        db.execute("INSERT INTO suite VALUES ('content_hash', ?)", (content,))
        db.execute("COMMIT")
        db.execute("VACUUM")
    finally:
        db.close()
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    return n_items, content


def _write_header(db: sqlite3.Connection, header: Header) -> None:
    words = ("name", "version", "title", "description", "license", "source", "value_frame", "canary")
    rows = [(word, getattr(header, word)) for word in words]
    rows += [("authors", schema.canonical(header.authors)), ("languages", schema.canonical(header.languages))]
    if header.content_note:  # suites without one keep the hash they had before there were any
        rows += [("content_note", header.content_note)]
    rows += [("built_by", f"cultev {__version__}")]
    db.executemany("INSERT INTO suite VALUES (?, ?)", sorted(rows))
    for culture, region in sorted(header.regions.items()):
        db.execute("INSERT INTO culture VALUES (?, ?)", (culture, region))
        names, countries = header.culture_names[culture], header.countries[culture]
        for language in sorted(names.keys() | countries.keys()):
            row = (culture, language, names.get(language, ""), countries.get(language, ""))
            db.execute("INSERT INTO culture_name VALUES (?, ?, ?, ?)", row)
    for topic, names in sorted(header.topic_names.items()):
        db.execute("INSERT INTO topic VALUES (?)", (topic,))
        for language, name in sorted(names.items()):
            db.execute("INSERT INTO topic_name VALUES (?, ?, ?)", (topic, language, name))


def _write_item(db: sqlite3.Connection, suite: str, seq: int, item: Item) -> None:
    rank = schema.rank(suite, item.id)
    answers = schema.canonical(item.answers)
    labels = item.label_set if item.kind == "label" else ""
    row = (
        item.id,
        seq,
        rank,
        item.kind,
        item.culture,
        item.topic,
        item.group,
        labels,
        answers,
        item.status,
        schema.canonical(item_words(item)),
    )
    db.execute("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    for language, text in item.texts.items():
        body: dict[str, object] = {}
        if text.options:
            body["options"] = text.options
        if text.contexts:
            body["contexts"] = dict(text.contexts)
        if text.before:
            body["before"] = text.before
        if item.kind == "pair":
            body["preferred"], body["dispreferred"] = text.preferred, text.dispreferred
        fields = (item.id, language, text.question, schema.canonical(body))
        db.execute("INSERT INTO item_text VALUES (?, ?, ?, ?)", fields)
    for number, entry in enumerate(item.sources):
        db.execute("INSERT INTO source VALUES (?, ?, ?, ?)", (item.id, number, entry.title, entry.url))
