"""A suite's source: a folder of ``suite.toml`` and ``items.jsonl``, read and checked line by line.

Every complaint names its file and line. Text is normalised to Unicode NFC here, so that the same words typed
on two keyboards are one text; everything else that looks like an accident (control characters, template
braces, blanks around a text) is refused instead of mended.

Standard library only: the package's own build loads this before anything is installed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cultev.errors import SuiteSourceError
from cultev.suite.conversation import CONVERSATION_KINDS, Twins, one_item, one_text
from cultev.suite.fields import ID, ID_WORDS, Complain, Fields, Problems, clean, shown
from cultev.suite.item import (
    KINDS,
    LABEL_SETS,
    LATER_KINDS,
    STATUSES,
    Choice,
    Item,
    Label,
    Source,
    Text,
    TrueFalse,
)

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib

_SUITE_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?(-[a-z0-9]{5,8})*")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_SPDX = re.compile(r"[A-Za-z0-9.+-]+( (AND|OR|WITH) [A-Za-z0-9.+-]+)*")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_URI = re.compile(r"[a-z][a-z0-9+.-]*:\S+", re.IGNORECASE)
_RESERVED_CONTEXTS = ("none", "country")


@dataclass(frozen=True)
class Header:
    """What suite.toml says."""

    name: str
    version: str
    title: str
    description: str
    license: str
    authors: tuple[str, ...]
    source: str
    value_frame: str
    canary: str
    languages: tuple[str, ...]
    regions: Mapping[str, str]
    """Culture -> region of the world."""
    culture_names: Mapping[str, Mapping[str, str]]
    countries: Mapping[str, Mapping[str, str]]
    """Culture -> language -> the country's name, as the context 'country' tells it."""
    topic_names: Mapping[str, Mapping[str, str]]
    content_note: str = ""
    """What a reader should be warned of before seeing an item; shown on every view of the suite."""


def read_header(folder: Path, problems: Problems) -> Header:
    """Read suite.toml.

    Raises:
        SuiteSourceError: it is missing, not TOML, or says something impossible.
    """
    raw = _bytes_of(folder / "suite.toml")
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
        data = tomllib.loads(text)
    except UnicodeDecodeError as error:
        problems.add("suite.toml", raw.count(b"\n", 0, error.start) + 1, "is not UTF-8")
        raise problems.error() from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"at line (\d+)", str(error))
        problems.add("suite.toml", int(found[1]) if found else 1, f"is not TOML: {error}")
        raise problems.error() from None
    lines = text.split("\n")

    def at(*where: str) -> Complain:
        return lambda complaint: problems.add("suite.toml", _line_of(lines, where, complaint), complaint)

    top = Fields(data, at(), problems=problems)
    languages = _languages(top)
    header = Header(
        name=top.text("name", pattern=_SUITE_NAME, like="small letters, digits and hyphens"),
        version=top.text("version", pattern=_SEMVER, like="a version like 1.0.0"),
        title=top.text("title"),
        description=top.text("description"),
        license=top.text("license", pattern=_SPDX, like="an SPDX licence, such as CC-BY-4.0"),
        authors=_authors(top),
        source=top.text("source"),
        value_frame=top.text("value_frame"),
        canary=top.text("canary", pattern=_GUID, like="a GUID").lower(),
        languages=languages,
        regions={}, culture_names={}, countries={}, topic_names={},
        content_note=top.text("content_note", ""),
    )  # fmt: skip
    regions, names, countries, topics = {}, {}, {}, {}
    for key, table in top.take("cultures", dict).items():
        one = _entry(key, table, at("cultures", key), problems)
        regions[key] = one.text("region")
        names[key] = _names(one, "name", languages)
        countries[key] = _names(one, "country", languages, needed=False)
        one.end()
    for key, table in top.take("topics", dict).items():
        one = _entry(key, table, at("topics", key), problems)
        topics[key] = _names(one, "name", languages)
        one.end()
    top.end()
    problems.check()
    tables = {"regions": regions, "culture_names": names, "countries": countries, "topic_names": topics}
    return Header(**{**vars(header), **tables})


def read_items(folder: Path, header: Header, problems: Problems) -> Iterator[Item]:
    """The items of items.jsonl in the file's order, one line in memory at a time.

    Complaints go to ``problems``; an item that drew one is left out.

    Raises:
        SuiteSourceError: the file can't be read, or there are too many complaints to go on.
    """
    first_seen: dict[str, int] = {}
    twins = Twins()
    path = folder / "items.jsonl"
    _bytes_of(path, only_try=True)
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue

            def complain(text: str, number: int = number) -> None:
                problems.add("items.jsonl", number, text)

            before = len(problems.found)
            data = _json_object(raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw, complain)
            item = None if data is None else _item(data, header, complain, problems)
            if item is None:
                continue
            if item.id in first_seen:
                complain(f"the id {item.id!r} stands already on line {first_seen[item.id]}")
            first_seen.setdefault(item.id, number)
            if len(problems.found) == before:
                twins.add(number, item)
                yield item
    if not problems.found:  # what was left out would be missed as a twin
        twins.check(problems)
    if twins.loaded and not header.content_note:
        problems.add(
            "suite.toml", 1, f"'content_note' is missing: line {twins.loaded} of items.jsonl asks a loaded question"
        )
    if not first_seen and not problems.found:
        problems.add("items.jsonl", 1, "holds no items")


def _item(data: dict[str, Any], header: Header, complain: Complain, problems: Problems) -> Item | None:
    """One line as an item, or None after complaints that leave nothing to build."""
    fields = Fields(data, complain, problems=problems)
    ident = fields.text("id", pattern=ID, like=ID_WORDS)
    kind = fields.text("kind")
    if kind not in KINDS:
        if not kind:
            return None
        later = " yet" if kind in LATER_KINDS else ""
        complain(f"items of kind {kind!r} can't be built{later}; choose one of {', '.join(KINDS)}")
        return None
    culture, topic = fields.text("culture"), fields.text("topic")
    if culture and culture not in header.regions:
        complain(f"the culture {culture!r} is not in suite.toml")
    if topic and topic not in header.topic_names:
        complain(f"the topic {topic!r} is not in suite.toml")
    group = fields.text("group", ident or "-", pattern=ID, like=ID_WORDS)
    status = fields.text("status", "drafted")
    if status and status not in STATUSES:
        complain(f"the status {status!r} is unknown; choose one of {', '.join(STATUSES)}")
    labels = fields.text("labels") if kind == "label" else ""
    if kind == "label" and labels not in LABEL_SETS:
        if labels:
            complain(f"the label set {labels!r} is unknown; choose one of {', '.join(LABEL_SETS)}")
        return None
    texts = _item_texts(fields, kind, header, complain, problems)
    if kind in CONVERSATION_KINDS:
        sources = _sources(fields, complain, problems) if "source" in fields.data else ()
        shared = {"id": ident, "culture": culture, "topic": topic, "group": group, "status": status, "texts": texts}
        open_item = one_item(fields, kind, shared, sources, complain)
        fields.end()
        return open_item if texts else None
    answers = _answers(fields, kind, labels, texts, complain)
    sources = _sources(fields, complain, problems)
    fields.end()
    if not texts:
        return None
    common: Any = (ident, culture, topic, group, answers, texts, sources, status)
    if kind == "label":
        return Label(*(*common, labels))
    return Choice(*common) if kind == "choice" else TrueFalse(*common)


def _item_texts(fields: Fields, kind: str, header: Header, complain: Complain, problems: Problems) -> dict[str, Text]:
    """The texts by language, in the suite's order of languages: options and contexts must run parallel."""
    tables = fields.take("texts", dict)
    if fields.data.get("texts") == {}:
        complain("'texts' is empty")
    for language in tables:
        if language not in header.languages:
            complain(f"the language {language!r} is not in suite.toml")
    texts: dict[str, Text] = {}
    for language in header.languages:
        if language not in tables:
            continue
        if type(tables[language]) is not dict:
            complain(f"texts.{language} must be a table of fields, not {shown(tables[language])}")
            continue
        one = Fields(tables[language], complain, f"texts.{language}.", problems)
        if kind in CONVERSATION_KINDS:
            texts[language] = one_text(one, kind, complain, problems)
            one.end()
            continue
        question = one.text("question")
        options = _options(one, complain, problems) if kind == "choice" else ()
        contexts = one.texts("contexts", {})
        one.end()
        for name in contexts:
            if name in _RESERVED_CONTEXTS or not ID.fullmatch(name):
                complain(f"{one.within}contexts can't have the name {name!r}")
        texts[language] = Text(question, options, contexts)
    for language, text in texts.items():
        first_language, first = next(iter(texts.items()))
        if len(text.options) != len(first.options):
            many = f"{len(text.options)} in {language} and {len(first.options)} in {first_language}"
            complain(f"the options don't run parallel: {many}")
        if text.contexts.keys() != first.contexts.keys():
            complain(f"the contexts in {language} are not those in {first_language}")
    return texts


def _options(one: Fields, complain: Complain, problems: Problems) -> tuple[str, ...]:
    options: list[str] = []
    for number, option in enumerate(one.take("options", list)):
        what = f"{one.within}options[{number}]"
        if type(option) is not str:
            complain(f"{what} must be a text, not {shown(option)}")
            continue
        options.append(clean(option, what, complain, problems))
        if "\n" in option:
            complain(f"{what} runs over more than one line")
    if len(options) < 2 and type(one.data.get("options")) is list:
        complain(f"{one.within}options are {len(options)}; a choice needs two or more")
    folded = [" ".join(option.casefold().split()) for option in options]
    for number, option in enumerate(folded):
        if option in folded[:number]:
            complain(f"{one.within}options[{number}] is the same as options[{folded.index(option)}]")
    return tuple(options)


def _answers(fields: Fields, kind: str, labels: str, texts: Mapping[str, Text], complain: Complain) -> tuple[str, ...]:
    """Ids of the right options: option indexes of a choice, labels, or true / false."""
    answers = fields.take("answers", list)
    if fields.data.get("answers") == []:
        complain("'answers' is empty")
    ids: list[str] = []
    count = min((len(text.options) for text in texts.values()), default=0)
    for answer in answers:
        if kind == "choice":
            right = type(answer) is int and 0 <= answer < count
            known = f"an option's index, 0 to {count - 1}"
        elif kind == "label":
            right = type(answer) is str and answer in LABEL_SETS[labels]
            known = f"one of {', '.join(LABEL_SETS[labels])}"
        else:
            right = type(answer) is bool
            known = "true or false"
        if not right:
            complain(f"the answer {shown(answer)} must be {known}")
        ids.append(str(answer).lower() if kind == "truefalse" else str(answer))
    if len(set(ids)) != len(ids):
        complain("the same answer stands twice")
    every = count if kind == "choice" else len(LABEL_SETS[labels or "truth"])
    if ids and every and len(set(ids)) >= every:
        complain("every option is a right answer, so nothing is asked")
    return tuple(ids)


def _sources(fields: Fields, complain: Complain, problems: Problems) -> tuple[Source, ...]:
    entries = fields.take("source", list)
    if fields.data.get("source") == []:
        complain("'source' is empty: say where the fact can be looked up")
    sources = []
    for number, entry in enumerate(entries):
        if type(entry) is not dict:
            complain(f"source[{number}] must be a table of fields, not {shown(entry)}")
            continue
        one = Fields(entry, complain, f"source[{number}].", problems)
        sources.append(Source(one.text("title"), one.text("url", "", _URI, "an address like https://...")))
        one.end()
    return tuple(sources)


def _languages(top: Fields) -> tuple[str, ...]:
    languages = top.take("languages", list)
    if top.data.get("languages") == []:
        top.complain("'languages' is empty")
    good = [code for code in languages if type(code) is str and _LANGUAGE.fullmatch(code)]
    for code in languages:
        if code not in good:
            top.complain(f"'languages' must hold BCP-47 codes such as 'en' or 'zh-Hant', not {shown(code)}")
    if len(set(good)) != len(good):
        top.complain("'languages' names one twice")
    return tuple(dict.fromkeys(good))


def _authors(top: Fields) -> tuple[str, ...]:
    """A list of names; one name may stand alone."""
    if type(top.data.get("authors")) is str:
        return (top.text("authors"),)
    names = top.take("authors", list)
    if top.data.get("authors") == [] or any(type(name) is not str for name in names):
        top.complain("'authors' must be a list of names")
        return ()
    return tuple(clean(name, "'authors'", top.complain, top.problems) for name in names)


def _entry(key: str, table: object, complain: Complain, problems: Problems) -> Fields:
    """A culture's or topic's own table."""
    if not ID.fullmatch(key):
        complain(f"the id {key!r} must be {ID_WORDS}")
    if type(table) is dict:
        return Fields(table, complain, f"{key}: ", problems)
    complain(f"{key!r} must be a table of fields, not {shown(table)}")
    return Fields({}, lambda _: None, problems=problems)


def _names(one: Fields, key: str, languages: tuple[str, ...], *, needed: bool = True) -> dict[str, str]:
    """Names by language. English is always allowed, for tables."""
    names = one.texts(key, None if needed else {})
    if needed and one.data.get(key) == {}:
        one.complain(f"{one.within}{key!r} is empty")
    for code in names:
        if code not in languages and code != "en":
            one.complain(f"{one.within}{key}.{code}: {code!r} is not one of the suite's languages")
    return names


def _json_object(raw: bytes, complain: Complain) -> dict[str, Any] | None:
    """One line as a JSON object. Doubled keys and NaN are refused: JSON readers disagree about them."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                complain(f"the field {key!r} stands twice")
            found[key] = value
        return found

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON number")

    try:
        data = json.loads(raw.decode(), object_pairs_hook=once, parse_constant=refuse)
    except UnicodeDecodeError:
        complain("is not UTF-8")
        return None
    except (ValueError, RecursionError) as error:
        complain(f"is not JSON: {error}")
        return None
    if type(data) is dict:
        return data
    complain(f"must be one JSON object, not {shown(data)}")
    return None


def _bytes_of(path: Path, *, only_try: bool = False) -> bytes:
    """A source file's content."""
    try:
        with path.open("rb") as file:
            return file.read(1 if only_try else -1)
    except FileNotFoundError:
        raise SuiteSourceError(
            f"There is no {path.name} in {path.parent}.",
            "A suite's source is a folder that holds suite.toml and items.jsonl.",
        ) from None
    except OSError as error:
        raise SuiteSourceError(f"{path} can't be read: {error.strerror or error}.") from None


def _line_of(lines: list[str], where: tuple[str, ...], complaint: str) -> int:
    """The line of suite.toml that a complaint is about, as near as its first quoted word finds it.

    tomllib gives no positions. A culture's table may be one header or many dotted keys; 1 when nothing fits.
    """
    quoted = re.search(r"'([^']+)'", complaint)
    key = quoted[1] if quoted else ""
    table, best = "", 1
    for number, line in enumerate(lines, 1):
        header = re.fullmatch(r"\s*\[([^\[\]]+)\]\s*(#.*)?", line)
        if header:
            table = header[1].replace('"', "").replace(" ", "")
            best = number if where and table == ".".join(where) else best
        elif table == ".".join(where) and re.match(rf"\s*([\w.-]+\.)?\"?{re.escape(key)}\"?\s*[.=]", line):
            return number
    return best
