"""Published sets of harmful questions, from the files a user has: single questions, dialogues, and pairs of answers.

Their columns' names vary, so each is found by what it is usually called, or by the user's map. What comes out is the
source of a suite like any other. Nothing of such sets ships with cultev.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cultev.errors import TableError
from cultev.harm.tables import Table, find_columns, read_table

KINDS = ("single", "dialogue", "pairs")

_COMMON: dict[str, tuple[str, ...]] = {
    "id": ("item_id", "question_id", "index"),
    "culture": ("country", "culture_name", "nationality", "lang_culture"),
    "area": ("topic", "category", "theme", "subject"),
    "language": ("lang", "prompt_lang"),
    "scope": ("type_of_set", "global_local"),
    "template": ("template_id", "group"),
}

FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    "single": {**_COMMON, "question": ("prompt", "questions", "query", "instruction", "text")},
    "dialogue": {
        **_COMMON,
        "turns": ("conversation", "questions", "dialogue", "multi_turn", "prompts"),
        "dialogue": ("conversation_id", "dialogue_id"),
        "turn": ("turn_number", "turn_id", "round"),
        "question": ("prompt", "query", "user", "text"),
    },
    "pairs": {
        **_COMMON,
        "question": ("prompt", "query", "instruction", "input"),
        "preferred": ("chosen", "more_preferred", "preferred_response", "response_chosen", "better", "safe_response"),
        "dispreferred": ("rejected", "less_preferred", "rejected_response", "response_rejected", "worse",
                         "unsafe_response"),
        "pair_type": ("type", "kind"),
    },
}  # fmt: skip
"""Fields by kind of set, and names their columns may have."""

NEEDED = {"single": ("question",), "dialogue": (), "pairs": ("question", "preferred", "dispreferred")}

_TURN = re.compile(r"(?:user[\s_-]*)?(?:turn|question|prompt|query|q|t)[\s_-]*(\d+)", re.IGNORECASE)
_BRACES = str.maketrans("{}", "()")
_DROPPED = "\u202a\u202b\u202c\u202d\u202e\ufeff\ufffd\ufffe\uffff"


@dataclass
class Imported:
    """What a file gave: a suite's source, and what was left out."""

    items: list[dict[str, object]] = field(default_factory=list)
    cultures: dict[str, str] = field(default_factory=dict)
    """Id -> name."""
    areas: dict[str, str] = field(default_factory=dict)
    languages: set[str] = field(default_factory=set)
    repeated: int = 0
    """Rows that say what an earlier one said."""
    unread: tuple[str, ...] = ()
    """Columns that mean nothing here."""
    mended: int = 0
    """Texts from which characters were taken that no text needs; braces became brackets."""


def read_published(
    path: Path,
    kind: str,
    given: Mapping[str, str],
    *,
    culture: str = "",
    language: str = "en",
    scope: str = "local",
    sheet: str = "",
) -> Imported:
    """Read a file of one of KINDS.

    Args:
        path: CSV or XLSX.
        kind: 'single', 'dialogue' (a column per turn, one column with a JSON list, or a row per turn with a dialogue's
            id) or 'pairs'.
        given: field -> column, where the names don't tell.
        culture, language, scope: for files that have no column for them.
        sheet: of an XLSX file; the first one unless named.

    Raises:
        TableError: a column that is missing, half a row, or a row that says nothing; with its line.
        UsageError: a map that doesn't fit.
    """
    table = read_table(path, sheet)
    columns = find_columns(table, FIELDS[kind], given, needed=NEEDED[kind])
    found = Imported(unread=_unread(table, columns, kind))
    seen: set[str] = set()
    for line, cells, turns in _conversations(table, columns, kind):
        value = {name: cells[column].strip() for name, column in columns.items() if column in cells}
        texts = [_tidy(turn, f"line {line} of {path}", found) for turn in turns]
        name = value.get("culture") or culture
        if not name:
            raise TableError(
                f"Line {line} of {path} doesn't say which culture it is about.",
                "Say which column does (--map culture=COLUMN), or name one for all: --culture NAME",
            )
        item = _item(kind, line, texts, value, found, name, value.get("language") or language, scope)
        digest = json.dumps([item["culture"], item["texts"]], sort_keys=True)
        if digest in seen:
            found.repeated += 1
            continue
        seen.add(digest)
        found.items.append(item)
    if not found.items:
        raise TableError(f"{path} has a heading and nothing under it.", "Give the file that holds the questions.")
    return found


def _unread(table: Table, columns: Mapping[str, str], kind: str) -> tuple[str, ...]:
    turns = kind == "dialogue" and not {"turns", "dialogue"} & columns.keys()
    return tuple(c for c in table.columns if c not in columns.values() and not (turns and _TURN.fullmatch(c.strip())))


def _conversations(table: Table, columns: Mapping[str, str], kind: str) -> list[tuple[int, dict[str, str], list[str]]]:
    """Line, cells and texts of every item: a question, a dialogue's turns, or a question with its two answers."""
    if kind == "single":
        return [(line, cells, [cells[columns["question"]]]) for line, cells in table.rows]
    if kind == "pairs":
        names = ("question", "preferred", "dispreferred")
        return [(line, cells, [cells[columns[n]] for n in names]) for line, cells in table.rows]
    if "dialogue" in columns and "question" in columns:
        return _rows_per_turn(table, columns)
    numbered = sorted((int(m[1]), c) for c in table.columns if (m := _TURN.fullmatch(c.strip())))
    if "turns" not in columns and len(numbered) < 2:
        listed = ", ".join(f"'{c}'" for c in table.columns)
        raise TableError(
            f"{table.path} has no turns: neither numbered columns, nor one with a list, nor a dialogue's id; it has"
            f" {listed}.",
            "Say which it is: --map turns=COLUMN, or --map dialogue=COLUMN --map question=COLUMN",
        )
    found = []
    for line, cells in table.rows:
        if "turns" in columns:
            found.append((line, cells, _turn_list(cells[columns["turns"]], line, table.path)))
        else:
            found.append((line, cells, [cells[c] for _, c in numbered if cells[c].strip()]))
    return found


def _rows_per_turn(table: Table, columns: Mapping[str, str]) -> list[tuple[int, dict[str, str], list[str]]]:
    dialogues: dict[str, list[tuple[int, int, dict[str, str]]]] = {}
    for line, cells in table.rows:
        number = cells[columns["turn"]].strip() if "turn" in columns else "0"
        if not re.fullmatch(r"\d+(\.0)?", number):
            raise TableError(f"'{number}' in line {line} of {table.path} is no turn's number.", "Write 1, 2, 3 ...")
        dialogues.setdefault(cells[columns["dialogue"]], []).append((int(float(number)), line, cells))
    found = []
    for rows in dialogues.values():
        rows.sort(key=lambda row: row[:2])
        found.append((rows[0][1], rows[0][2], [cells[columns["question"]] for *_, cells in rows]))
    return found


def _turn_list(text: str, line: int, path: Path) -> list[str]:
    """A JSON list of texts, or of messages of which the user's count."""
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if isinstance(data, list) and data:
        if all(isinstance(turn, str) for turn in data):
            return data
        if all(isinstance(turn, dict) and {"role", "content"} <= set(turn) for turn in data):
            return [str(turn["content"]) for turn in data if turn["role"] in ("user", "human")]
    raise TableError(
        f"The turns in line {line} of {path} are no list of texts.", 'Write them as a JSON list: ["...", "..."]'
    )


def _item(
    kind: str, line: int, texts: Sequence[str], value: Mapping[str, str], found: Imported, culture: str, language: str,
    scope: str,
) -> dict[str, object]:  # fmt: skip
    place, area = _slug(culture), _slug(value.get("area", "")) or "any"
    found.cultures.setdefault(place, culture)
    found.areas.setdefault(area, value.get("area", "") or "any area")
    found.languages.add(language)
    how = value.get("scope", "").lower()
    group = value.get("template") or _template(texts[-1] if kind == "dialogue" else texts[0], culture)
    item: dict[str, object] = {
        "id": f"{place}-{line}",
        "kind": "pair" if kind == "pairs" else "dialogue",
        "culture": place,
        "topic": area,
        "group": _slug(group) or f"line-{line}",
        "scope": how if how in ("global", "local") else scope,
        "status": "drafted",
    }
    if kind == "pairs":
        sort = value.get("pair_type", "").lower()
        item["pair_type"] = "helpful" if sort in ("1", "helpful", "harmless", "safe", "benign") else "harm"
        item["texts"] = {language: dict(zip(("prompt", "preferred", "dispreferred"), texts, strict=True))}
    else:
        item |= {"severity": 2, "expected": "reject_premise", "form": "dialogue" if len(texts) > 1 else "single"}
        item["texts"] = {language: {"turns": list(texts)}}
    return item


def _template(question: str, culture: str) -> str:
    """An id that questions share which differ by the culture's name alone: they are copies of one template."""
    stem = re.escape(culture.rstrip("sS"))
    bare = re.sub(rf"\b{stem}\w*", "CULTURE", question, flags=re.IGNORECASE)
    return "t-" + hashlib.sha256(" ".join(bare.casefold().split()).encode()).hexdigest()[:12]


def _tidy(text: str, where: str, found: Imported) -> str:
    plain = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    plain = plain.replace("\u2028", "\n").replace("\u2029", "\n")
    kept = "".join(
        c for c in plain if c == "\n" or (c not in _DROPPED and unicodedata.category(c) not in ("Cc", "Cs", "Co"))
    ).translate(_BRACES)
    found.mended += kept != plain
    if not kept.strip():
        raise TableError(f"A text in {where} is empty: half a row.", "Complete the line, or leave it out.")
    return kept.strip()


def _slug(text: str) -> str:
    """Letters and digits with hyphens between, as ids are written; other scripts by their hash."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:64]
    if not slug and text.strip():
        return "x" + hashlib.sha256(text.encode()).hexdigest()[:12]
    return slug


def write_source(found: Imported, folder: Path, *, name: str, title: str, license_: str, origin: str) -> None:
    """Write a suite's source: suite.toml and items.jsonl."""
    languages = sorted(found.languages, key=lambda code: (code != "en", code))

    def named(table: str, names: Mapping[str, str], more: str = "") -> list[str]:
        lines = []
        for ident, text in sorted(names.items()):
            lines += [f"[{table}.{ident}]", *([more] if more else [])]
            lines += [f"name.{_key(code)} = {json.dumps(text, ensure_ascii=False)}" for code in languages] + [""]
        return lines

    digest = hashlib.sha256(json.dumps(found.items, sort_keys=True).encode()).digest()
    head = {
        "name": name,
        "version": "1.0.0",
        "title": title,
        "description": f"Imported with cultev from {origin}.",
        "license": license_,
        "authors": ["the set's own authors"],
        "source": origin,
        "value_frame": "That of the set's own authors.",
        "canary": str(uuid.UUID(bytes=digest[:16], version=4)),
        "languages": languages,
        "content_note": "Imported questions that may be hurtful to read.",
    }
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    lines += ["", *named("cultures", found.cultures, 'region = "not said"'), *named("topics", found.areas)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text("\n".join(lines), encoding="utf-8")
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for item in found.items:
            file.write(json.dumps(item, ensure_ascii=False) + "\n")


def _key(code: str) -> str:
    return code if re.fullmatch(r"[A-Za-z0-9_-]+", code) else json.dumps(code)
