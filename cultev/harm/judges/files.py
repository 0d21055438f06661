"""Verdicts from a file: people's labels, or what a judge said elsewhere. Columns are found by name.

Each row says which reply it is about: by its key, the hash of its text, or the text itself. A row about a text that the
run doesn't hold is set aside and counted, never used for another.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cultev.errors import TableError
from cultev.harm.judges.base import Label, Verdict
from cultev.harm.replies import Reply
from cultev.harm.tables import find_columns, read_table

FIELDS: dict[str, tuple[str, ...]] = {
    "key": ("response_key",),
    "response_sha256": ("sha256", "hash"),
    "response": ("reply", "answer", "output"),
    "verdict": ("label", "judgement", "judgment", "human", "harm"),
    "refusal": ("refused",),
    "p_unsafe": ("score", "p", "probability"),
    "weight": ("sampling_weight",),
    "annotator": ("annotator_id", "rater", "person"),
    "note": ("rationale", "comment", "notes"),
}
"""Fields of a verdict file, and names their columns may have."""

SHEET_COLUMNS = ("culture", "language", "area", "question", "conversation", "verdicts_allowed")
"""Columns of the sheet that `cultev harm queue` writes for people, unread here."""

WORDS: dict[str, Label] = {
    **dict.fromkeys(("harmful", "harm", "unsafe", "1", "yes", "true"), "harmful"),
    **dict.fromkeys(("borderline", "controversial", "unsure"), "borderline"),
    **dict.fromkeys(("safe", "not harmful", "notharmful", "not_harmful", "fine", "0", "no", "false"), "safe"),
    **dict.fromkeys(("unjudged", "cannot judge", "cannotjudge", "cannot_judge", "skip", "?"), "unjudged"),
}
"""What a verdict may be written as."""

_CELL, _CELL_SURE = 32_767, 30_000

_TRUE = ("1", "yes", "true", "full", "partial", "y")
_FALSE = ("0", "no", "false", "none", "n")


@dataclass(frozen=True, slots=True)
class Row:
    """One verdict in a file, about a text it names in one way or several."""

    line: int
    key: str
    response_sha256: str
    response: str
    """The text that stood there to be read, '' where the file has none."""
    label: Label
    refusal: bool | None
    p_unsafe: float | None
    weight: float
    annotator: str
    note: str


def read_verdicts(path: Path, given: Mapping[str, str], ignored: Sequence[str] = (), sheet: str = "") -> Iterator[Row]:
    """The verdicts in a CSV or XLSX file; rows whose verdict is empty are left out (nobody has judged them yet).

    Raises:
        TableError: a column that is missing or not known, half a row, or a value that can't be; with the line.
        UsageError: a map that doesn't fit.
    """
    table = read_table(path, sheet)
    columns = find_columns(table, FIELDS, given, needed=("verdict",), ignored=(*SHEET_COLUMNS, *ignored))
    if not {"key", "response_sha256", "response"} & set(columns):
        raise TableError(
            f"{path} doesn't say which reply each verdict is about.",
            "It needs a column key, response_sha256 or response (--map key=COLUMN).",
        )
    for line, cells in table.rows:
        value = {field: cells[column].strip() for field, column in columns.items()}
        if not value["verdict"]:
            continue
        where = f"line {line} of {path}"
        digest = value.get("response_sha256", "").lower()
        text = cells[columns["response"]] if "response" in columns else ""
        if not digest and text and not value.get("key"):
            digest = hashlib.sha256(text.encode()).hexdigest()
        if not digest and not value.get("key"):
            raise TableError(f"The verdict in {where} doesn't say which reply it is about.", "Fill in its key.")
        yield Row(
            line,
            value.get("key", ""),
            digest,
            text,
            _label(value["verdict"], where),
            _truth(value.get("refusal", ""), where),
            _number(value.get("p_unsafe", ""), "p_unsafe", where, 1.0),
            _number(value.get("weight", "") or "1", "weight", where, math.inf) or 1.0,
            value.get("annotator", ""),
            value.get("note", ""),
        )


def _label(text: str, where: str) -> Label:
    label = WORDS.get(" ".join(text.casefold().split()))
    if label is None:
        raise TableError(
            f"'{text}' in {where} is no verdict.", "Write harmful, borderline, safe or cannot_judge (or 1 and 0)."
        )
    return label


def _truth(text: str, where: str) -> bool | None:
    plain = text.casefold()
    if plain in _TRUE:
        return True
    if plain in _FALSE:
        return False
    if plain:
        raise TableError(f"'{text}' in {where} doesn't say whether it is a refusal.", "Write yes or no.")
    return None


def _number(text: str, name: str, where: str, most: float) -> float | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most or (name == "weight" and not 0 < number < math.inf):
        limits = "between 0 and 1" if most == 1 else "above 0"
        raise TableError(f"'{text}' in {where} is no {name}.", f"Write a number {limits}, with a point.")
    return number


@dataclass(frozen=True, slots=True)
class Matched:
    """A file's verdicts that belong to replies of a run, by annotator ('' where the file names none), and what does
    not: rows about texts that the run doesn't hold (``foreign``), rows whose key is there but with another text
    (``changed``), and replies judged twice by one annotator, of which the last counts (``repeated``).
    """

    verdicts: Mapping[str, Sequence[tuple[Verdict, str, float]]]
    foreign: int
    changed: int
    repeated: int

    @property
    def n(self) -> int:
        """Verdicts that count."""
        return sum(map(len, self.verdicts.values()))


def match(rows: Iterable[Row], held: Iterable[Reply]) -> Matched:
    """Find the reply that each row is about: by key with the same text, or by the text alone.

    Where a row has the text beside its key or hash, it must be the reply's too: people judge what they read. Only what
    spreadsheets do to a text (line ends, blanks, the mark that keeps it from being a formula) is overlooked.
    A text that several replies share is judged for all of them.
    """
    digest_of: dict[str, str] = {}
    text_of: dict[str, str] = {}
    keys_of: dict[str, list[str]] = {}
    for reply in held:
        if reply.key and reply.key not in digest_of:
            digest_of[reply.key], text_of[reply.key] = reply.response_sha256, reply.response
            keys_of.setdefault(reply.response_sha256, []).append(reply.key)
    found: dict[str, dict[str, tuple[Verdict, str, float]]] = {}
    foreign = changed = repeated = 0
    for row in rows:
        if row.key and row.key in digest_of:
            if row.response_sha256 and row.response_sha256 != digest_of[row.key]:
                changed += 1
                continue
            keys = [row.key]
        elif not row.key and row.response_sha256 in keys_of:
            keys = keys_of[row.response_sha256]
        else:
            foreign += 1
            continue
        if row.response and _as_read(row.response) != _as_read(text_of[keys[0]]):
            changed += 1
            continue
        mine = found.setdefault(row.annotator, {})
        for key in keys:
            repeated += key in mine
            verdict = Verdict(key, row.label, row.refusal, row.p_unsafe, row.note)
            mine[key] = (verdict, digest_of[key], row.weight)
    return Matched({who: list(mine.values()) for who, mine in found.items()}, foreign, changed, repeated)


def _as_read(text: str) -> str:
    """A text without what spreadsheets change in it: a cell holds 32,767 characters at most."""
    seen = "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc")
    return " ".join(seen[:_CELL].removeprefix("'").split())[:_CELL_SURE]
