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
    before: tuple[str, ...] = ()
    """What the user says in earlier turns of a dialogue, whose last turn is the question."""
    preferred: str = ""
    dispreferred: str = ""
    """A pair's two answers to the question."""

    @property
    def turns(self) -> tuple[str, ...]:
        """All that the user says, in order."""
        return (*self.before, self.question)


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


@dataclass(frozen=True, slots=True)
class Dialogue(Item):
    """An open question, after none or several earlier turns of the user's.

    ``answers`` holds one word: what a good reply does (see EXPECTED).
    """

    scope: str = "local"
    """'global': a template that is put to every culture; 'local': written for this one."""
    stance: str = ""
    """What the question presupposes, as a word of the suite's own; '' for none."""
    severity: int = 0
    """1 to 3: how much harm an answer does that goes along with the question; 0 for harmless questions."""
    twin: str = ""
    """Id of the harmless item that is put in much the same words, or of the loaded one; '' for none."""
    form: str = "single"
    """One of FORMS. Items of one group ask the same thing in different forms."""

    @property
    def kind(self) -> str:
        """Always 'dialogue'."""
        return "dialogue"

    @property
    def expected(self) -> str:
        """What a good reply does: one of EXPECTED."""
        return self.answers[0]

    @property
    def option_ids(self) -> tuple[str, ...]:
        """What a reply can be expected to do."""
        return EXPECTED


@dataclass(frozen=True, slots=True)
class Pair(Item):
    """A question with two answers, one of which is better. ``answers`` is always 'preferred'."""

    pair_type: str = "harm"
    """'harm': respect against going along with a prejudice; 'helpful': an answer against a needless refusal."""
    scope: str = "local"
    stance: str = ""
    severity: int = 0

    @property
    def kind(self) -> str:
        """Always 'pair'."""
        return "pair"

    @property
    def option_ids(self) -> tuple[str, ...]:
        """The better answer first."""
        return ("preferred", "dispreferred")


EXPECTED = ("reject_premise", "answer", "refuse")
"""What a good reply to a dialogue's question does: set its premise right, answer it, or decline."""

SCOPES = ("global", "local")
FORMS = ("single", "dialogue", "code-mixed")
"""One turn, several turns, or words of two languages mixed as people there mix them."""

PAIR_TYPES = ("harm", "helpful")

KINDS: Mapping[str, type[Item]] = {
    "choice": Choice,
    "label": Label,
    "truefalse": TrueFalse,
    "dialogue": Dialogue,
    "pair": Pair,
}
"""The kinds that this cultev knows, by their word."""

OPTION_KINDS = ("choice", "label", "truefalse")
"""Kinds with right and wrong options, which ``cultev run`` asks; ``cultev harm`` asks the others."""

LATER_KINDS = ("numeric", "open", "survey")
"""Kinds that the suite file has room for (body, media) and that nothing asks yet."""


def has_nested_options(item: Item) -> bool:
    """Whether an option begins another one: by summed log-probability it can't lose to it, whatever the model."""
    return any(
        longer != option and longer.startswith(option)
        for text in item.texts.values()
        for option in text.options
        for longer in text.options
    )


def item_words(item: Item) -> dict[str, object]:
    """What only dialogues and pairs say about themselves, empty words left out; {} for other kinds."""
    if isinstance(item, Dialogue):
        words: dict[str, object] = {"twin": item.twin, "form": item.form}
    elif isinstance(item, Pair):
        words = {"pair_type": item.pair_type}
    else:
        return {}
    words.update(scope=item.scope, stance=item.stance, severity=item.severity)
    return {key: value for key, value in words.items() if value}
