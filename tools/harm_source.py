"""Read and check the texts of the harm suites: tools/harm/templates.toml and tools/harm/cultures/*.toml.

Every complaint names its file and key, and all of them are gathered before anything stops, so that a writer
mends a file in one go. Standard library only.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

AREAS = {
    "science": "Science",
    "politics": "Politics",
    "trust": "Social capital, trust and organizational membership",
    "ethics": "Ethics",
    "economy": "Economic values",
    "security": "Security",
    "social-values": "Social values",
    "regimes": "Political culture and political regimes",
    "corruption": "Corruption",
    "happiness": "Happiness and well-being",
    "religion": "Religion",
    "migration": "Migration",
}
"""The twelve areas of the published test, in its order: key -> name."""

STANCES = ("inferiority", "blame", "essentialism", "threat", "dismissal", "exclusion", "ridicule")
"""What a loaded question does to the people it is about."""

EXPECTED = ("reject_premise", "refuse")
"""What a good reply to a loaded question does; a twin is always to be answered."""

SLOTS = ("people", "adj", "in_culture")
PER_AREA = 3
WARMUP_TURNS = range(4, 7)
LOCALS = 12
LOCAL_WARMUPS = 2
MIXED = 6
HARM_PAIRS = 20
NATIVE_PAIRS = 10
LOCAL_PAIRS = 10
HELPFUL = 10
LENGTH_SLACK = 0.10
LONGER_SHARE = (0.35, 0.65)
"""In what share of a culture's pairs the preferred reply may be the longer one: else length alone would score."""
REPLY_CHARACTERS = {False: (110, 480), True: (40, 400)}
"""Shortest and longest reply, by whether the script is dense (Chinese, Japanese, Korean)."""

SCRIPTS = {
    "ar": ("ARABIC",), "fa": ("ARABIC",), "bn": ("BENGALI",), "hi": ("DEVANAGARI",), "ru": ("CYRILLIC",),
    "zh": ("CJK",), "ja": ("CJK", "HIRAGANA", "KATAKANA"), "ko": ("HANGUL",),
}  # fmt: skip
"""How the Unicode names of a language's letters begin; Latin where a language is not here."""
DENSE = ("zh", "ja", "ko")

_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")

Complain = Callable[[str, str], None]
"""(key, what is wrong there)."""


@dataclass(frozen=True)
class Wording:
    """One loaded question in one language, with its twin and further forms."""

    loaded: str
    twin: str
    paraphrase: str = ""
    warmup: tuple[str, ...] = ()


@dataclass(frozen=True)
class Template:
    """A global question with slots, in English."""

    id: str
    area: str
    stance: str
    severity: int
    expected: str
    en: Wording

    def filled(self, slots: dict[str, str]) -> Wording:
        """The English wording for one culture."""
        one = self.en
        turns = tuple(turn.format(**slots) for turn in one.warmup)
        return Wording(one.loaded.format(**slots), one.twin.format(**slots), one.paraphrase.format(**slots), turns)


@dataclass(frozen=True)
class Local:
    """A question written for one culture."""

    id: str
    area: str
    stance: str
    severity: int
    expected: str
    en: Wording
    native: Wording | None
    mixed: Wording | None


@dataclass(frozen=True)
class Exchange:
    """A prompt, the better reply and the worse one, in one language."""

    prompt: str
    preferred: str
    dispreferred: str


@dataclass(frozen=True)
class Pair:
    """Two replies to one prompt. ``item`` is the template or local item whose question the prompt is, or ''."""

    id: str
    area: str
    stance: str
    item: str
    en: Exchange
    native: Exchange | None


@dataclass(frozen=True)
class Culture:
    """One file of tools/harm/cultures."""

    key: str
    language: str
    region: str
    names: dict[str, str]
    slots: dict[str, str]
    mixed: str
    """What the mixed form is called, such as 'Hinglish'; '' where people don't mix."""
    globals: dict[str, Wording]
    """Template id -> native wording; empty where the language is English."""
    globals_mixed: dict[str, Wording]
    locals: tuple[Local, ...]
    pairs: tuple[Pair, ...]
    helpful: tuple[Pair, ...]


@dataclass
class Problems:
    """Complaints and remarks, as 'FILE: KEY: what'."""

    found: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    """What deserves a second look and stops nothing."""


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
        wording = _wording(one, needs_twin=True)
        template = Template(
            ident,
            one.one_of("area", AREAS),
            one.one_of("stance", STANCES),
            one.severity(),
            one.one_of("expected", EXPECTED),
            wording,
        )
        one.end()
        _slots_used(one.where, wording, complain)
        if ident in found:
            complain(one.where, "stands twice")
        found[ident] = template
    top.end()
    per_area = Counter(template.area for template in found.values())
    for area in AREAS:
        if per_area[area] < PER_AREA:
            complain("template", f"the area {area!r} has {per_area[area]} templates; {PER_AREA} are needed")
    _no_doubles([(one.id, text) for one in found.values() for text in _texts(one.en)], complain)
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
    _check_counts(culture, complain)
    _check_texts(culture, complain)
    _check_lengths(culture, complain, remark)
    for where, one in _wordings(culture):
        if one.twin and _shared(one.loaded, one.twin) < 0.3:
            remark(where, "the twin shares few words with the loaded question; keep as many as you can")
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
        wording = _wording(one, needs_twin=True)
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
    wordings = {name: _wording(table, needs_twin=True) for name, table in tables.items()}
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


def _wording(one: Table, *, needs_twin: bool) -> Wording:
    wording = Wording(
        one.text("loaded"), one.text("twin", need=needs_twin), one.text("paraphrase", need=False), one.turns("warmup")
    )
    if wording.loaded and wording.loaded == wording.twin:
        one.complain(one.where, "the twin is the loaded question itself")
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


def _check_counts(culture: Culture, complain: Complain) -> None:
    """Enough of everything, every area, no id twice."""

    def at_least(key: str, many: int, needed: int, what: str) -> None:
        if many < needed:
            complain(key, f"{many} {what}; {needed} are needed")

    at_least("local", len(culture.locals), LOCALS, "local items")
    for area in AREAS:
        if not any(one.area == area for one in culture.locals):
            complain("local", f"none is of the area {area!r}")
    warm = sum(1 for one in culture.locals if one.en.warmup)
    at_least("local", warm, LOCAL_WARMUPS, "local items with a warmup")
    mixed = len(culture.globals_mixed) + sum(1 for one in culture.locals if one.mixed)
    if culture.mixed:
        at_least("mixed", mixed, MIXED, f"items in {culture.mixed}")
    elif mixed:
        complain("mixed", 'is missing: name the mixed form, such as mixed = "Hinglish"')
    at_least("pair", len(culture.pairs), HARM_PAIRS, "harm pairs")
    own = {one.id for one in culture.locals}
    at_least("pair", sum(1 for p in culture.pairs if p.item in own), LOCAL_PAIRS, "harm pairs on local items")
    at_least("helpful", len(culture.helpful), HELPFUL, "helpful pairs")
    if culture.language != "en":
        at_least("pair", sum(1 for p in culture.pairs if p.native), NATIVE_PAIRS, "harm pairs with a native form")
    ids = Counter(one.id for one in (*culture.locals, *culture.pairs, *culture.helpful))
    for ident, many in ids.items():
        if ident and many > 1:
            complain(ident, "this id stands more than once among local, pair and helpful")


def _check_texts(culture: Culture, complain: Complain) -> None:
    """No text twice, no slot left open, each text in its language's script."""
    everything: list[tuple[str, str]] = []
    for where, one in _wordings(culture):
        everything += [(where, text) for text in _texts(one)]
    for pair in (*culture.pairs, *culture.helpful):
        for name, exchange in (("en", pair.en), ("native", pair.native)):
            if exchange:
                own = [] if pair.item else [exchange.prompt]
                replies = (*own, exchange.preferred, exchange.dispreferred)
                everything += [(f"{pair.id}.{name}", text) for text in replies if text]
    _no_doubles(everything, complain)
    for where, text in everything:
        if "{" in text or "}" in text:
            complain(where, "holds a brace: write the text out")
        share = _share_in_script(text, culture.language if ".native" in where or "global." in where else "en")
        if ".mixed" not in where and share < 0.6:
            complain(where, f"only {share:.0%} of the letters are of the language's script")


def _check_lengths(culture: Culture, complain: Complain, remark: Complain) -> None:
    """Replies of nearly equal length, neither side the longer one as a rule."""
    for kind, some in (("pair", culture.pairs), ("helpful", culture.helpful)):
        for name in ("en", "native"):
            exchanges = [(p.id, getattr(p, name)) for p in some if getattr(p, name)]
            dense = name == "native" and culture.language in DENSE
            longer = 0.0
            for ident, one in exchanges:
                good, bad = len(one.preferred), len(one.dispreferred)
                longer += 0.5 if good == bad else float(good > bad)
                if abs(good - bad) > LENGTH_SLACK * max(good, bad):
                    complain(
                        f"{kind} {ident}.{name}",
                        f"preferred has {good} characters and dispreferred {bad}: {abs(good - bad)} apart, "
                        f"{int(LENGTH_SLACK * max(good, bad))} allowed",
                    )
                low, high = REPLY_CHARACTERS[dense]
                if good and bad and not (low <= good <= high and low <= bad <= high):
                    complain(f"{kind} {ident}.{name}", f"replies of {good} and {bad} characters; {low}-{high} allowed")
            if len(exchanges) >= 10:
                share = longer / len(exchanges)
                if not LONGER_SHARE[0] <= share <= LONGER_SHARE[1]:
                    complain(
                        f"{kind}.{name}",
                        f"preferred is the longer reply in {share:.0%} of the pairs; "
                        f"{LONGER_SHARE[0]:.0%}-{LONGER_SHARE[1]:.0%} allowed, so that length alone can't score",
                    )
                for side in ("preferred", "dispreferred"):
                    first, many = Counter(_opening(getattr(one, side)) for _, one in exchanges).most_common(1)[0]
                    if many > max(3, len(exchanges) // 4):
                        remark(f"{kind}.{name}", f"{many} {side} replies begin with {first!r}: vary")


def _wordings(culture: Culture) -> Iterator[tuple[str, Wording]]:
    """Every wording that the file itself holds, with its key."""
    for ident, one in culture.globals.items():
        yield f"global.{ident}", one
    for ident, one in culture.globals_mixed.items():
        yield f"global.{ident}.mixed", one
    for item in culture.locals:
        yield f"local {item.id}.en", item.en
        if item.native:
            yield f"local {item.id}.native", item.native
        if item.mixed:
            yield f"local {item.id}.mixed", item.mixed


def _texts(one: Wording) -> list[str]:
    return [text for text in (one.loaded, one.twin, one.paraphrase, *one.warmup) if text]


def _no_doubles(texts: list[tuple[str, str]], complain: Complain) -> None:
    first: dict[str, str] = {}
    for where, text in texts:
        folded = " ".join(re.sub(r"\W+", " ", text.casefold()).split()) or text
        if folded in first:
            complain(where, f"says word for word what {first[folded]} says: {text[:60]!r}")
        first.setdefault(folded, where)


def _slots_used(where: str, one: Wording, complain: Complain) -> None:
    """Slots are known ones, every question has one, and the English stays right whatever fills them."""
    for text in _texts(one):
        for slot in re.findall(r"\{(.*?)\}", text):
            if slot not in SLOTS:
                complain(where, f"has the unknown slot {{{slot}}}")
        if re.search(r"\b[Aa]n? \{", text):
            complain(where, "has 'a' or 'an' before a slot, which is wrong for some culture")
        if re.search(r"(^|[.?!] )\{in_culture\}", text):
            complain(where, "opens a sentence with {in_culture}")
    for text in (one.loaded, one.twin, one.paraphrase):
        if text and "{" not in text:
            complain(where, f"names no culture: {text[:60]!r}")


def _shared(one: str, other: str) -> float:
    """Share of the shorter text's character trigrams that the other has too; works without knowing words."""
    trigrams = [{text[i : i + 3] for i in range(len(text) - 2)} for text in (one.casefold(), other.casefold())]
    return len(trigrams[0] & trigrams[1]) / max(1, min(map(len, trigrams)))


def _share_in_script(text: str, language: str) -> float:
    letters = [unicodedata.name(c, "") for c in text if c.isalpha()]
    scripts = SCRIPTS.get(language, ("LATIN",))
    return sum(name.startswith(scripts) for name in letters) / max(1, len(letters))


def _opening(text: str) -> str:
    words = text.split()
    return " ".join(words[:2]) if len(words) > 4 else text[:4]


def _complainer(path: Path, problems: Problems, *, remarks: bool = False) -> Complain:
    some = problems.remarks if remarks else problems.found
    return lambda key, text: some.append(f"{path.name}: {key}: {text}" if key else f"{path.name}: {text}")


def _toml(path: Path, complain: Complain) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        complain("", f"there is no such file in {path.parent}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        complain("", f"is not TOML: {error}")
    return {}
