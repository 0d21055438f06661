"""Write the suites harm-core, harm-pairs (English) and harm-pairs-native from the texts in ``tools/harm/``.

    python tools/make_harm.py
    python tools/make_harm.py --check [FILE ...]

``--check`` reads and complains, and writes nothing: with files (cultures/KEY.toml, found in tools/harm/ too), only
those. What is written is checked in: running this again changes nothing unless the texts changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harm_read import read_abouts, read_culture, read_templates
from harm_texts import AREAS, Culture, Exchange, Local, Pair, Problems, Template, Wording

ROOT = Path(__file__).parent.parent
TEXTS = ROOT / "tools" / "harm"
SOURCE = "Written for cultev."
HARM_PAIRS = 20
HELPFUL_PAIRS = 10


def core_items(templates: dict[str, Template], culture: Culture) -> Iterator[dict[str, Any]]:
    """A culture's lines of harm-core: its copies of the templates, then its local items."""
    for one in templates.values():
        words = {"en": one.filled(culture.slots)}
        if one.id in culture.globals:
            words[culture.language] = culture.globals[one.id]
        mixed = culture.globals_mixed.get(one.id)
        yield from forms(culture, one, f"{culture.key}-{one.id}", "global", words, mixed)
    for item in culture.locals:
        words = {"en": item.en}
        if item.native:
            words[culture.language] = item.native
        yield from forms(culture, item, item.id, "local", words, item.mixed)


def forms(
    culture: Culture, one: Template | Local, ident: str, scope: str, words: dict[str, Wording], mixed: Wording | None
) -> Iterator[dict[str, Any]]:
    """All that one question is asked as.

    ID and its twin ID-b; ID-p and ID-pb, both in a second wording; ID-d and ID-db, both after the warmup; ID-m and
    ID-mb, code-mixed.
    """

    def line(suffix: str, form: str, twin: str, benign: bool, turns: dict[str, list[str]]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": ident + suffix, "kind": "dialogue", "culture": culture.key, "topic": one.area, "group": one.id,
            "scope": scope,
        }  # fmt: skip
        if not benign:
            found |= {"stance": one.stance, "severity": one.severity}
        found["expected"] = "answer" if benign else one.expected
        found["twin"] = ident + twin
        texts = {code: {"turns": some} for code, some in turns.items()}
        return found | {"form": form, "status": "drafted", "texts": texts}

    def both(suffix: str, form: str, words: dict[str, Wording], warm: bool = False) -> Iterator[dict[str, Any]]:
        twin = f"{suffix or '-'}b"
        before = {code: list(some.warmup) if warm else [] for code, some in words.items()}
        loaded = {code: [*before[code], some.loaded] for code, some in words.items()}
        benign = {code: [*before[code], some.twin] for code, some in words.items()}
        yield line(suffix, form, twin, False, loaded)
        yield line(twin, form, suffix, True, benign)

    yield from both("", "single", words)
    if words["en"].paraphrase:
        second = {code: Wording(some.paraphrase, some.paraphrase_twin) for code, some in words.items()}
        yield from both("-p", "single", second)
    if words["en"].warmup:
        yield from both("-d", "dialogue", words, warm=True)
    if mixed:
        yield from both("-m", "code-mixed", {culture.language: mixed})


def english_pairs(templates: dict[str, Template], culture: Culture) -> Iterator[dict[str, Any]]:
    """A culture's lines of harm-pairs: harm pairs, then helpful ones, as many of each for every culture.

    So each culture weighs the same, and all of them are scored within ten minutes on two cores (a 0.5 B model).
    """
    chosen = {pair.id for pair in [*culture.pairs[:HARM_PAIRS], *culture.helpful[:HELPFUL_PAIRS]]}
    return _pair_items(templates, culture, lambda pair: {"en": pair.en} if pair.id in chosen else {})


def native_pairs(templates: dict[str, Template], culture: Culture) -> Iterator[dict[str, Any]]:
    """A culture's lines of harm-pairs-native: the pairs that were also written in its language.

    A suite of its own, so that the English one stays small; all that was written.
    """
    return _pair_items(templates, culture, lambda pair: {culture.language: pair.native} if pair.native else {})


def _pair_items(
    templates: dict[str, Template], culture: Culture, exchanges: Callable[[Pair], dict[str, Exchange]]
) -> Iterator[dict[str, Any]]:
    asked: dict[str, Template | Local] = {**templates, **{one.id: one for one in culture.locals}}
    for kind, some in (("harm", culture.pairs), ("helpful", culture.helpful)):
        for pair in some:
            texts = {code: vars(one) for code, one in exchanges(pair).items()}
            if not texts:
                continue
            found: dict[str, Any] = {
                "id": pair.id, "kind": "pair", "culture": culture.key, "topic": pair.area,
                "group": pair.item or pair.id, "pair_type": kind,
                "scope": "global" if pair.item in templates else "local",
            }  # fmt: skip
            if kind == "harm":
                found["stance"] = pair.stance
                if pair.item:
                    found["severity"] = asked[pair.item].severity
            yield found | {"status": "drafted", "texts": texts}


def suite_toml(name: str, about: dict[str, str], cultures: list[Culture], items: list[dict[str, Any]]) -> str:
    """The suite's own description, with what its items use."""
    languages = list(dict.fromkeys(code for item in items for code in item["texts"]))
    cultures = [one for one in cultures if any(item["culture"] == one.key for item in items)]
    lines = [f"# Written by tools/make_harm.py from tools/harm/: change it there.\nname = {quoted(name)}"]
    lines += [f"{key} = {quoted(text)}" for key, text in about.items()]
    lines += ['license = "CC-BY-4.0"', 'authors = ["cultev contributors"]', f"source = {quoted(SOURCE)}"]
    lines += [f"languages = [{', '.join(map(quoted, languages))}]"]
    for one in cultures:
        lines += ["", f"[cultures.{one.key}]", f"region = {quoted(one.region)}"]
        lines += [f"name.{code} = {quoted(text)}" for code, text in one.names.items() if code in {"en", *languages}]
    for area, title in AREAS.items():
        lines += ["", f"[topics.{area}]", f"name.en = {quoted(title)}"]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False)


def read(files: list[Path], problems: Problems) -> tuple[dict[str, Template], list[Culture]]:
    """The templates and the cultures of these files, or of all."""
    templates = read_templates(TEXTS / "templates.toml", problems)
    chosen = [path if path.exists() else TEXTS / path for path in files] or sorted((TEXTS / "cultures").glob("*.toml"))
    return templates, [read_culture(path, templates, problems) for path in chosen]


def suites(templates: dict[str, Template], cultures: list[Culture], problems: Problems) -> dict[str, dict[str, str]]:
    """Suite -> file name -> content."""
    kinds = {"harm-core": core_items, "harm-pairs": english_pairs, "harm-pairs-native": native_pairs}
    abouts = read_abouts(TEXTS / "suites.toml", tuple(kinds), problems)
    made: dict[str, dict[str, str]] = {}
    for name, of_culture in kinds.items():
        items = [item for one in cultures for item in of_culture(templates, one)]
        made[name] = {
            "suite.toml": suite_toml(name, abouts[name], cultures, items),
            "items.jsonl": "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items),
        }
    return made


def main() -> int:
    """Check, and write unless only a check was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("files", nargs="*", type=Path, help="with --check: only these cultures' files")
    options = parser.parse_args()
    if options.files and not options.check:
        parser.error("name files only with --check: a suite is written from all cultures")
    problems = Problems()
    templates, cultures = read(options.files, problems)
    made = {} if problems.found else suites(templates, cultures, problems)
    for remark in problems.remarks:
        print(f"look at  {remark}")
    for complaint in problems.found:
        print(f"wrong    {complaint}")
    for one in cultures:
        print(
            f"{one.key}: {len(templates)} templates, {len(one.locals)} local items, {len(one.pairs)} harm pairs "
            f"({sum(1 for p in one.pairs if p.native)} native), {len(one.helpful)} helpful pairs"
        )
    if problems.found:
        print(f"{len(problems.found)} complaints")
        return 1
    if not options.check:
        for name, files in made.items():
            folder = ROOT / "suites" / name
            folder.mkdir(parents=True, exist_ok=True)
            for file, content in files.items():
                (folder / file).write_text(content, encoding="utf-8", newline="\n")
            print(f"{name}: {files['items.jsonl'].count(chr(10))} items")
    return 0


if __name__ == "__main__":
    sys.exit(main())
