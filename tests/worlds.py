"""Small suites for tests, written as sources and built as any suite is."""

from __future__ import annotations

import json
from pathlib import Path

from cultev.suite import Suite, build_suite, open_suite

HEAD = """
name = "{name}"
version = "1.0.0"
title = "A small world"
description = "For tests."
license = "CC-BY-4.0"
authors = ["cultev contributors"]
source = "Invented for tests."
value_frame = "None."
canary = "11111111-2222-4333-8444-555555555555"
languages = ["en", "es"]

[cultures.alpha]
region = "East Asia"
name.en = "Alpha"
name.es = "Alfa"
country.en = "Alphaland"
country.es = "Alfalandia"

[cultures.beta]
region = "Oceania"
name.en = "Beta"
name.es = "Beta"

[topics.food]
name.en = "food"
name.es = "comida"
"""


def source(folder: Path, n: int = 40, name: str = "small") -> Path:
    """Write a suite's source: half choice items in two languages, half label items with contexts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "suite.toml").write_text(HEAD.format(name=name), encoding="utf-8")
    with (folder / "items.jsonl").open("w", encoding="utf-8") as file:
        for i in range(n):
            file.write(json.dumps(_choice(i) if i % 2 else _label(i), ensure_ascii=False) + "\n")
    return folder


def small_suite(folder: Path, n: int = 40, name: str = "small") -> Suite:
    """Build and open a small suite."""
    target = folder / f"{name}.db"
    build_suite(source(folder / f"{name}-source", n, name), target)
    return open_suite(target)


def _common(i: int) -> dict[str, object]:
    return {
        "id": f"item-{i}",
        "culture": "alpha" if i % 3 else "beta",
        "topic": "food",
        "group": f"group-{i // 4}",
        "source": [{"title": "Invented"}],
        "status": "drafted",
    }


def _choice(i: int) -> dict[str, object]:
    return {
        **_common(i),
        "kind": "choice",
        "answers": [i % 3],
        "texts": {
            "en": {
                "question": f"Which bread is number {i}?",
                "options": [f"rye {i}", f"a long wheat loaf {i}", f"oat {i}"],
            },
            "es": {
                "question": f"¿Qué pan es el número {i}?",
                "options": [f"centeno {i}", f"trigo {i}", f"avena {i}"],
            },
        },
    }  # fmt: skip


def _label(i: int) -> dict[str, object]:
    return {
        **_common(i),
        "kind": "label",
        "labels": "acceptability",
        "answers": [["yes", "no", "neutral"][i // 2 % 3]],
        "texts": {
            "en": {
                "question": f"Kim brings {i} loaves. Is what Kim did socially acceptable?",
                "contexts": {"value": "Share what you have.", "rule": f"Bring {i % 5} loaves."},
            }
        },
    }
