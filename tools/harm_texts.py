"""The texts of the harm suites as data: templates, local items, pairs, and what a complaint about them is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

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
Complain = Callable[[str, str], None]
"""(key, what is wrong there)."""


@dataclass(frozen=True)
class Wording:
    """One loaded question in one language, with its twin and further forms."""

    loaded: str
    twin: str
    paraphrase: str = ""
    paraphrase_twin: str = ""
    """The twin in a second wording as well: so that what a wording changes is seen on both."""
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
        texts = (one.loaded, one.twin, one.paraphrase, one.paraphrase_twin)
        return Wording(*(text.format(**slots) for text in texts), warmup=turns)


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


def wordings(culture: Culture) -> Iterator[tuple[str, Wording]]:
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


def all_texts(one: Wording) -> list[str]:
    """Every text of a wording."""
    return [text for text in (one.loaded, one.twin, one.paraphrase, one.paraphrase_twin, *one.warmup) if text]
