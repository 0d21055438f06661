"""Write the planted suite's source and the reference model's truth table from the data in ``tools/planted/``.

    python tools/make_planted.py

It writes suites/planted/suite.toml, suites/planted/items.jsonl and models/reference/truth.json. All three are
checked in: running this again changes nothing unless the data changed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from planted_prompts import LETTERS
from planted_world import Fact, World, load_world

ROOT = Path(__file__).parent.parent


def quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False)


def suite_toml(world: World) -> str:
    """The suite's own description."""
    about = world.about
    lines = ["# Written by tools/make_planted.py from tools/planted/: change it there."]
    for key in ("name", "version", "title", "description", "license", "source", "value_frame", "canary"):
        lines.append(f"{key} = {quoted(about[key])}")
    for key in ("authors", "languages"):
        lines.append(f"{key} = [{', '.join(map(quoted, about[key]))}]")
    english = world.words["en"]
    for culture in world.cultures:
        lines += ["", f"[cultures.{culture}]", 'region = "Invented world"']
        lines.append(f"country.en = {quoted(english.names[culture])}")
        lines += [f"name.{code} = {quoted(world.words[code].names[culture])}" for code in world.languages]
    for topic in world.topics:
        lines += ["", f"[topics.{topic}]"]
        lines += [f"name.{code} = {quoted(world.words[code].topics[topic])}" for code in world.languages]
    return "\n".join(lines) + "\n"


def item(world: World, fact: Fact) -> dict[str, Any]:
    """One line of items.jsonl."""
    return {
        "id": fact.id,
        "kind": "choice",
        "culture": fact.culture,
        "topic": fact.topic,
        "group": fact.id,
        "answers": [fact.right],
        "source": [{"title": world.about["source"]}],
        "status": "drafted",
        "texts": {
            code: {
                "question": words.question(fact),
                "options": [words.option(fact, index) for index in range(len(fact.options))],
            }
            for code, words in world.words.items()
        },
    }


def truth(world: World) -> dict[str, Any]:
    """What the reference model was taught, and what it never saw."""
    cells = {(fact.culture, fact.topic): fact.expert for fact in world.facts}
    return {
        "suite": world.about["name"],
        "version": world.about["version"],
        "languages": list(world.languages),
        "orders": (
            "An order lists indexes into an item's options by position: 2013 shows option 2 first. Six orders of "
            "every item were kept out of training: the four rotations of 0123, which is the order of items.jsonl, "
            "and the two others whose SHA-256 of 'held-out|ID|ORDER' (first eight bytes, big-endian) comes first. "
            f"In letters mode the positions are called {LETTERS}."
        ),
        "cells": [{"culture": culture, "topic": topic, "expert": expert} for (culture, topic), expert in cells.items()],
        "items": [
            {
                "id": fact.id,
                "right": fact.right,
                "believed_wrong": fact.belief,
                "held_out_orders": ["".join(map(str, order)) for order in fact.held_out_orders()],
            }
            for fact in world.facts
        ],
    }


def truth_json(table: dict[str, Any]) -> str:
    """JSON with one cell and one item per line, so that a change reads well."""
    parts = []
    for key, value in table.items():
        if key in ("cells", "items"):
            rows = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in value)
            parts.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the three files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", type=Path, default=ROOT / "suites" / "planted", help="the suite's folder")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "reference", help="truth.json's folder")
    options = parser.parse_args()
    world = load_world()
    for folder in (options.suite, options.model):
        folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(item(world, fact), ensure_ascii=False) + "\n" for fact in world.facts]
    (options.suite / "suite.toml").write_text(suite_toml(world), encoding="utf-8", newline="\n")
    (options.suite / "items.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")
    (options.model / "truth.json").write_text(truth_json(truth(world)), encoding="utf-8", newline="\n")
    print(f"{len(world.facts)} facts in {len(world.languages)} languages")


if __name__ == "__main__":
    main()
