"""Which cell does a question belong to that no suite has? By what is said of it, by a name in it, by its likeness.

A culture is taken from the question's own words where they name one (its name or its country, in the question's
language or in English); among the items that remain, the cell whose items are most like the question is taken.
Likeness is the cosine of character n-grams weighted by their rarity, compared in the question's language where the
suite has it: no model is needed, and a question in Bengali finds the Bengali items.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cultev.lsk.embed import Nearest
from cultev.lsk.parse import normalise
from cultev.lsk.table import ENGLISH
from cultev.suite.item import Item
from cultev.suite.store import Suite

NEIGHBOURS = 5
"""Items that vote, each by its likeness. Tried on lsk-core's English with a question's siblings left out: 76 % of cells
are found among 20 with 5, 74 % with 9; all of them in five languages of the suite ``planted``."""

ALIKE, STRANGE = 0.12, 0.22
"""Likeness below which a question is like nothing in the suite: where something else was told or named, and where
nothing was. Questions of no culture ('How many legs does a spider have?') reach 0.21 there by chance; of those that are
placed rightly, one in ten is below 0.19. What is called strange is asked as the map asks what it doesn't know."""

SHORTEST_NAME = 3
"""Characters of a name below which finding it within a question says nothing (2 in scripts without spaces)."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a question belongs.

    ``culture`` and ``topic`` are '' where they could not be told. ``how``: 'told' (both were given), 'named' (the
    question names the culture), 'alike' (by likeness alone), 'unlike' (nothing in the suite is like it). ``likeness``
    is that of the ``nearest`` item, compared in the language ``compared_in``.
    """

    culture: str
    topic: str
    how: str
    likeness: float = 0.0
    nearest: Item | None = None
    compared_in: str = ENGLISH


def place(question: str, code: str, suite: Suite, culture: str = "", topic: str = "") -> Placed:
    """Find a question's culture and topic.

    Args:
        question: in any language.
        code: its language.
        suite: what the map was learned from.
        culture: if it is known, one of the suite's.
        topic: likewise.
    """
    named = "" if culture else named_culture(question, code, suite)
    items = list(suite.items())
    language = code if any(code in item.texts for item in items) else ENGLISH
    near = [
        item for item in items
        if language in item.texts and (not topic or item.topic == topic) and (not culture or item.culture == culture)
    ]  # fmt: skip
    likeness = Nearest([_text(item, language, suite) for item in near]).similarity(question)
    best = np.argsort(-likeness, kind="stable")[:NEIGHBOURS]
    nearest = near[int(best[0])] if len(best) else None
    most = float(likeness[best[0]]) if len(best) else 0.0
    if culture and topic:
        return Placed(culture, topic, "told", most, nearest, language)
    if most < (ALIKE if culture or topic or named else STRANGE):
        # A name alone says the culture, and no topic.
        return Placed(culture or named, topic, "named" if named else "unlike", most, None, language)
    votes: dict[tuple[str, str], float] = defaultdict(float)
    own = {item.topic for item in items if item.culture == named}
    for i in best:
        # Of a named culture every culture's items tell the topic: 'Which fruit ...?' is about food anywhere.
        if not named or near[i].topic in own:
            votes[named or near[i].culture, near[i].topic] += float(likeness[i])
    found = max(votes, key=lambda cell: votes[cell], default=(named, topic))
    return Placed(*found, "named" if named else "alike", most, nearest, language)


def named_culture(question: str, code: str, suite: Suite) -> str:
    """The one culture of the suite that a question names, '' where it names none or several.

    A name counts wherever it begins a word or, in scripts without spaces, anywhere: what follows it may be an ending.
    A name within a longer one that is found doesn't count: 'Korea' in 'South Korea'.
    """
    plain = f" {normalise(question)}".translate(_TO_SPACE)
    found: dict[str, str] = {}
    for culture in suite.cultures.values():
        names = [
            normalise(name)
            for language in (code, ENGLISH)
            for name in (culture.names.get(language, ""), culture.countries.get(language, ""))
        ]
        longest = max((name for name in names if _stands_in(name, plain)), key=len, default="")
        if longest:
            found[culture.id] = longest
    whole = [c for c, name in found.items() if not any(name != other and name in other for other in found.values())]
    return whole[0] if len(whole) == 1 else ""


def _stands_in(name: str, plain: str) -> bool:
    spaced = name[:1] < "\u0e00" or "\u1100" <= name[:1] < "\u2e80"  # before Thai; Ethiopic and its neighbours
    least = SHORTEST_NAME if spaced else SHORTEST_NAME - 1
    return len(name) >= least and (f" {name}" if spaced else name) in plain


_TO_SPACE = str.maketrans(dict.fromkeys("-–—'\"“”«»()[]{}/,.;:!?¿¡،؟。、，？！「」", " "))


def _text(item: Item, language: str, suite: Suite) -> str:
    """What a question is compared with: the item's question and options, and the names of its culture and topic."""
    text = item.texts[language]
    culture, topic = suite.cultures.get(item.culture), suite.topics.get(item.topic)
    names: Sequence[str] = (
        culture.name(language) if culture else "",
        culture.countries.get(language, "") if culture else "",
        topic.name(language) if topic else "",
    )
    return " ".join([text.question, *text.options, *names])
