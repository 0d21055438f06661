"""Read the texts of the harm suites: tools/harm/templates.toml and tools/harm/cultures/*.toml.

Every complaint names its file and key, and all of them are gathered before anything stops, so that a writer
mends a file in one go. Standard library only.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harm_checks import check_culture, check_templates
from harm_texts import (
    AREAS,
    EXPECTED,
    SLOTS,
    STANCES,
    Complain,
    Culture,
    Exchange,
    Local,
    Pair,
    Problems,
    Template,
    Wording,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WARMUP_TURNS = range(4, 7)
ABOUT = ("version", "title", "description", "value_frame", "content_note", "canary")

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")


class Table:
    """One table of a file; what is not taken from it is complained about at the end."""

    def __init__(self, data: Any, where: str, complain: Complain):
        self.where = where
        self.complain = complain
        self.data: dict[str, Any] = data if isinstance(data, dict) else {}
        self.taken: set[str] = set()
        if not isinstance(data, dict):
            complain(where, "must be a table")

    def key(self, name: str) -> str:
        """The name with the table's own before it."""
        return f"{self.where}.{name}" if self.where else name

    def has(self, name: str) -> bool:
        """Whether the table holds that key."""
        return name in self.data

    def text(self, name: str, *, need: bool = True) -> str:
        """A clean one-line text; '' after a complaint, or when absent and not needed."""
        self.taken.add(name)
        if name not in self.data:
            if need:
                self.complain(self.key(name), "is missing")
            return ""
        return self.clean(self.data[name], self.key(name))

    def clean(self, value: Any, key: str) -> str:
        """The text in NFC; '' after a complaint."""
        if not isinstance(value, str) or not value.strip():
            self.complain(key, "must be a text that says something")
            return ""
        if value != value.strip() or "  " in value:
            self.complain(key, "has blanks at an end or doubled")
        if any(unicodedata.category(c) in ("Cc", "Co", "Cn", "Cs") for c in value):
            self.complain(key, "holds a line break or a control character: write one paragraph")
        return unicodedata.normalize("NFC", value)

    def ident(self, name: str) -> str:
        """An id of small letters, digits and hyphens."""
        found = self.text(name)
        if found and not _ID.fullmatch(found):
            self.complain(self.key(name), f"{found!r} must be small letters, digits and hyphens")
        return found

    def one_of(self, name: str, known: Any) -> str:
        """A word out of a list."""
        found = self.text(name)
        if found and found not in known:
            self.complain(self.key(name), f"{found!r} is unknown; choose one of {', '.join(known)}")
        return found

    def severity(self) -> int:
        """1 to 3."""
        self.taken.add("severity")
        found = self.data.get("severity")
        if type(found) is not int or not 1 <= found <= 3:
            self.complain(self.key("severity"), "must be 1 (mild), 2 or 3 (severe)")
            return 1
        return found

    def turns(self, name: str) -> tuple[str, ...]:
        """A warmup, or () when absent."""
        self.taken.add(name)
        if name not in self.data:
            return ()
        some = self.data[name]
        if not isinstance(some, list) or len(some) not in WARMUP_TURNS:
            self.complain(self.key(name), "must be a list of 4 to 6 user turns")
            return ()
        return tuple(self.clean(turn, f"{self.key(name)}[{i}]") for i, turn in enumerate(some))

    def table(self, name: str) -> Table:
        """A table inside this one."""
        self.taken.add(name)
        if name not in self.data:
            self.complain(self.key(name), "is missing")
        return Table(self.data.get(name, {}), self.key(name), self.complain)

    def tables(self, name: str) -> Iterator[Table]:
        """A list of tables, each called by its id where it has one."""
        self.taken.add(name)
        some = self.data.get(name, [])
        if not isinstance(some, list):
            self.complain(self.key(name), f"must be a list: write [[{name}]]")
            return
        for number, data in enumerate(some, 1):
            label = data.get("id") if isinstance(data, dict) else None
            yield Table(data, f"{name} {label if isinstance(label, str) else f'no. {number}'}", self.complain)

    def end(self) -> None:
        """Complain of keys that nobody asked for."""
        for name in self.data:
            if name not in self.taken:
                self.complain(self.key(name), "is not a key that is read here")


def read_templates(path: Path, problems: Problems) -> dict[str, Template]:
    """The global questions by id."""
    complain = _complainer(path, problems)
    top = Table(_toml(path, complain), "", complain)
    found: dict[str, Template] = {}
    for one in top.tables("template"):
        ident = one.ident("id")
        wording = _wording(one)
        template = Template(
            ident,
            one.one_of("area", AREAS),
            one.one_of("stance", STANCES),
            one.severity(),
            one.one_of("expected", EXPECTED),
            wording,
        )
        one.end()
        if ident in found:
            complain(one.where, "stands twice")
        found[ident] = template
    top.end()
    check_templates(found, complain)
    return found


def read_abouts(path: Path, suites: tuple[str, ...], problems: Problems) -> dict[str, dict[str, str]]:
    """What the suites say about themselves: suite -> field -> text."""
    complain = _complainer(path, problems)
    top = Table(_toml(path, complain), "", complain)
    found: dict[str, dict[str, str]] = {}
    for name in suites:
        one = top.table(name)
        found[name] = {field: one.text(field) for field in ABOUT}
        one.end()
    top.end()
    return found


def read_culture(path: Path, templates: dict[str, Template], problems: Problems) -> Culture:
    """One culture's file. What it lacks is in ``problems``; the result is whole only when nothing was added there."""
    complain = _complainer(path, problems)
    remark = _complainer(path, problems, remarks=True)
    top = Table(_toml(path, complain), "", complain)
    key = top.ident("culture")
    if key and key != path.stem:
        complain("culture", f"{key!r} must be the file's name, {path.stem!r}")
    language = top.text("language")
    if language and not _LANGUAGE.fullmatch(language):
        complain("language", f"{language!r} must be a code such as 'ja'")
    english_only = language == "en"
    region, mixed = top.text("region"), top.text("mixed", need=False)
    named = top.table("names")
    names = {code: named.text(code) for code in dict.fromkeys(("en", language))}
    named.end()
    slotted = top.table("slots")
    slots = {slot: slotted.text(slot) for slot in SLOTS}
    slotted.end()
    if slots["in_culture"] and not slots["in_culture"].startswith("in "):
        complain("slots.in_culture", "must begin with 'in ', such as 'in Japanese culture'")

    worded, worded_mixed = _globals(top, templates, english_only, complain)
    items = [_local(one, english_only, templates, complain) for one in top.tables("local")]
    known: dict[str, Template | Local] = {**templates, **{one.id: one for one in items}}
    pairs = [_pair(one, known, slots, worded, english_only, "loaded") for one in top.tables("pair")]
    helpful = [_pair(one, known, slots, worded, english_only, "twin") for one in top.tables("helpful")]
    top.end()
    culture = Culture(
        key, language, region, names, slots, mixed, worded, worded_mixed, tuple(items), tuple(pairs), tuple(helpful)
    )
    check_culture(culture, templates, complain, remark)
    return culture


def _globals(
    top: Table, templates: dict[str, Template], english_only: bool, complain: Complain
) -> tuple[dict[str, Wording], dict[str, Wording]]:
    """Native wordings of the templates, and mixed ones, by template id."""
    worded: dict[str, Wording] = {}
    mixed: dict[str, Wording] = {}
    if english_only and not top.has("global"):
        return worded, mixed
    tables = top.table("global")
    for ident, template in templates.items():
        if not tables.has(ident):
            complain(f"global.{ident}", "is missing: every template is worded in the culture's language")
            continue
        one = tables.table(ident)
        wording = _wording(one)
        for name in ("paraphrase", "warmup"):
            has, wanted = bool(getattr(wording, name)), bool(getattr(template.en, name))
            if has != wanted:
                complain(one.key(name), "is missing: the template has one" if wanted else "but the template has none")
        if one.has("mixed"):
            mixed[ident] = _mixed(one)
        one.end()
        worded[ident] = wording
    for ident in tables.data:
        if ident not in templates:
            complain(f"global.{ident}", "is no template's id")
    return worded, mixed


def _local(one: Table, english_only: bool, templates: dict[str, Template], complain: Complain) -> Local:
    ident = one.ident("id")
    area, stance = one.one_of("area", AREAS), one.one_of("stance", STANCES)
    severity, expected = one.severity(), one.one_of("expected", EXPECTED)
    if ident in templates:
        complain(one.where, "has a template's id: choose another")
    tables = {"en": one.table("en")}
    if not english_only:
        tables["native"] = one.table("native")
    wordings = {name: _wording(table) for name, table in tables.items()}
    for table in tables.values():
        table.end()
    native = wordings.get("native")
    for name in ("paraphrase", "warmup"):
        if native and bool(getattr(native, name)) != bool(getattr(wordings["en"], name)):
            complain(one.key(name), "stands in one of en and native: write it in both or in neither")
    mixed = _mixed(one) if one.has("mixed") else None
    one.end()
    return Local(ident, area, stance, severity, expected, wordings["en"], native, mixed)


def _mixed(one: Table) -> Wording:
    table = one.table("mixed")
    wording = Wording(table.text("loaded"), table.text("twin"))
    table.end()
    return wording


def _wording(one: Table) -> Wording:
    second = (one.text("paraphrase", need=False), one.text("paraphrase_twin", need=False))
    wording = Wording(one.text("loaded"), one.text("twin"), *second, one.turns("warmup"))
    if wording.loaded and wording.loaded == wording.twin:
        one.complain(one.where, "the twin is the loaded question itself")
    if bool(wording.paraphrase) != bool(wording.paraphrase_twin):
        missing, other = ("paraphrase_twin", "paraphrase") if wording.paraphrase else ("paraphrase", "paraphrase_twin")
        one.complain(one.key(missing), f"is missing: {other} stands alone, and a second wording is for both twins")
    return wording


def _pair(
    one: Table,
    known: dict[str, Template | Local],
    slots: dict[str, str],
    worded: dict[str, Wording],
    english_only: bool,
    which: str,
) -> Pair:
    """A pair whose prompt is its own or, with ``item``, that item's ``which`` text ('loaded' or 'twin')."""
    ident, item = one.ident("id"), one.text("item", need=False)
    of = known.get(item)
    if item and of is None:
        one.complain(one.key("item"), f"{item!r} is neither a template nor a local item of this file")
    if item:
        area, stance = (of.area, of.stance) if of else ("", "")
        for name in ("area", "stance"):
            if one.has(name):
                one.complain(one.key(name), "comes from the item: leave it out")
            one.taken.add(name)
    else:
        area = one.one_of("area", AREAS)
        stance = one.one_of("stance", STANCES) if which == "loaded" else ""
    prompts: dict[str, str] = {}
    if of is not None:
        english = of.filled(slots) if isinstance(of, Template) else of.en
        native = worded.get(of.id) if isinstance(of, Template) else of.native
        prompts["en"] = getattr(english, which)
        prompts["native"] = getattr(native, which) if native else ""
    exchanges: dict[str, Exchange | None] = {"en": None, "native": None}
    for name in exchanges:
        if name == "native" and (english_only or not one.has("native")):
            continue
        table = one.table(name)
        prompt = prompts.get(name, "") if item else table.text("prompt")
        exchanges[name] = Exchange(prompt, table.text("preferred"), table.text("dispreferred"))
        if item and table.has("prompt"):
            one.complain(table.key("prompt"), "comes from the item: leave it out, or leave out 'item'")
            table.taken.add("prompt")
        table.end()
    one.end()
    english_exchange = exchanges["en"] or Exchange("", "", "")
    stance = stance if which == "loaded" else ""
    return Pair(ident, area, stance, item, english_exchange, exchanges["native"])


def _complainer(path: Path, problems: Problems, *, remarks: bool = False) -> Complain:
    some = problems.remarks if remarks else problems.found
    return lambda key, text: some.append(f"{path.name}: {key}: {text}" if key else f"{path.name}: {text}")


def _toml(path: Path, complain: Complain) -> dict[str, Any]:
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return data
    except FileNotFoundError:
        complain("", f"there is no such file in {path.parent}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        complain("", f"is not TOML: {error}")
    return {}
