"""What is asked: one frozen dataclass per kind of question.

An item carries all its languages. ``culture`` says whose norms or knowledge it is about and is never a
language or a country code; ``group`` says which items are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

STATUSES = ("drafted", "reviewed", "rejected")
"""Review status of an item: written, agreed by a person of that culture, or set aside."""

LABEL_SETS: Mapping[str, tuple[str, ...]] = {
    "acceptability": ("yes", "no", "neutral"),
    "truth": ("true", "false"),
}
"""Label ids by label set, in the order in which a model sees them. Their words are in cultev.prompt."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a fact can be looked up."""

    title: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """One item in one language.

    ``options`` are the choices' texts, parallel across languages; empty where the label set gives the words.
    ``contexts`` are further conditions under which the same question can be asked (name -> text).
    """

    question: str
    options: tuple[str, ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Item:
    """What all kinds have in common. Use one of the kinds below."""

    id: str
    culture: str
    topic: str
    group: str
    answers: tuple[str, ...]
    """Ids of the right options: one or several."""
    texts: Mapping[str, Text]
    """BCP-47 language code -> text."""
    sources: tuple[Source, ...] = ()
    status: str = "drafted"

    @property
    def kind(self) -> str:
        """The word for this kind in files and tables."""
        raise TypeError("an Item is one of the kinds")

    @property
    def label_set(self) -> str:
        """The label set whose words are the options, or '' when the item brings its own."""
        return ""

    @property
    def option_ids(self) -> tuple[str, ...]:
        """Ids of the options in source order: '0', '1', ... or the labels."""
        raise TypeError("an Item is one of the kinds")


@dataclass(frozen=True, slots=True)
class Choice(Item):
    """Options of its own, one or several of them right."""

    @property
    def kind(self) -> str:
        """Always 'choice'."""
        return "choice"

    @property
    def option_ids(self) -> tuple[str, ...]:
        """'0', '1', ... as many as there are options."""
        first = next(iter(self.texts.values()))
        return tuple(str(i) for i in range(len(first.options)))


@dataclass(frozen=True, slots=True)
class Label(Item):
    """A fixed label set, such as yes / no / neutral."""

    labels: str = "acceptability"

    @property
    def kind(self) -> str:
        """Always 'label'."""
        return "label"

    @property
    def label_set(self) -> str:
        """Name of the set in LABEL_SETS."""
        return self.labels

    @property
    def option_ids(self) -> tuple[str, ...]:
        """The set's labels."""
        return LABEL_SETS[self.labels]


@dataclass(frozen=True, slots=True)
class TrueFalse(Item):
    """A statement that is true or false."""

    @property
    def kind(self) -> str:
        """Always 'truefalse'."""
        return "truefalse"

    @property
    def label_set(self) -> str:
        """Always 'truth'."""
        return "truth"

    @property
    def option_ids(self) -> tuple[str, ...]:
        """'true' and 'false'."""
        return LABEL_SETS["truth"]


KINDS: Mapping[str, type[Item]] = {"choice": Choice, "label": Label, "truefalse": TrueFalse}
"""The kinds that can be asked today, by their word."""

LATER_KINDS = ("pair", "numeric", "open", "survey", "dialogue")
"""Kinds that the suite file has room for (body, media) and that no protocol asks yet."""


def has_nested_options(item: Item) -> bool:
    """Whether an option begins another one: by summed log-probability it can't lose to it, whatever the model."""
    return any(
        longer != option and longer.startswith(option)
        for text in item.texts.values()
        for option in text.options
        for longer in text.options
    )
