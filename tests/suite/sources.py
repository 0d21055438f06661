"""Small suite sources for tests."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

CANARY = "0f8fad5b-d9cb-469f-a165-70867728950e"

SUITE = f"""\
name = "tiny"
version = "1.2.0"
title = "A tiny suite"
description = "Three items."
license = "CC-BY-4.0"
authors = ["A. Nobody"]
source = "Invented for a test."
value_frame = "None."
canary = "{CANARY}"
languages = ["hi", "en"]

[cultures.kelmori]
region = "Invented"
name.en = "Kelmori"
name.hi = "केलमोरी"
country.en = "Kelmor"

[cultures.zurimo]
region = "Elsewhere"
name.en = "Zurimo"

[topics.food]
name.en = "Food"
name.hi = "भोजन"
"""

SOURCE = [{"title": "A book", "url": "https://example.org/a?b=1"}]

CHOICE: dict[str, Any] = {
    "id": "kelmori-1", "kind": "choice", "culture": "kelmori", "topic": "food", "group": "guests",
    "answers": [1], "source": SOURCE, "status": "reviewed",
    "texts": {
        "en": {"question": "What is offered to guests?", "options": ["tea", "milk", "soup"]},
        "hi": {"question": "मेहमानों को क्या दिया जाता है?", "options": ["चाय", "दूध", "सूप"]},
    },
}  # fmt: skip

LABEL: dict[str, Any] = {
    "id": "zurimo-1", "kind": "label", "culture": "zurimo", "topic": "food", "group": "guests",
    "labels": "acceptability", "answers": ["no"], "source": [{"title": "A second book"}], "status": "drafted",
    "texts": {
        "en": {"question": "Ada eats alone.\nFine?", "contexts": {"value": "Company.", "rule": "Share."}},
    },
}  # fmt: skip

TRUEFALSE: dict[str, Any] = {
    "id": "kelmori-2", "kind": "truefalse", "culture": "kelmori", "topic": "food", "group": "kelmori-2",
    "answers": [True], "source": SOURCE, "status": "rejected",
    "texts": {"en": {"question": "Soup is eaten with a spoon in Kelmori."}},
}  # fmt: skip

ITEMS = [CHOICE, LABEL, TRUEFALSE]


def changed(item: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A copy of an item with other fields; None takes one away."""
    new = {**copy.deepcopy(item), **fields}
    return {key: value for key, value in new.items() if value is not None}


def in_english(item: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A copy of an item in English only, with other fields in its text."""
    return changed(item, texts={"en": {**copy.deepcopy(item["texts"]["en"]), **fields}})


def write_source(folder: Path, items: list[Any] | bytes = ITEMS, suite: str = SUITE) -> Path:
    """A source folder; items as objects, or as the raw bytes of items.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text(suite, "utf-8")
    raw = items if isinstance(items, bytes) else b"".join(line(item) for item in items)
    (folder / "items.jsonl").write_bytes(raw)
    return folder


def line(item: object) -> bytes:
    """One line of items.jsonl."""
    return (json.dumps(item, ensure_ascii=False) + "\n").encode()
