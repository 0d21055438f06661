"""Dialogues and pairs as a suite's source puts them: their fields, their texts, and twins that must fit each other.

Standard library only: the package's own build loads this before anything is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cultev.suite.fields import ID, ID_WORDS, Complain, Fields, Problems, clean, shown
from cultev.suite.item import EXPECTED, FORMS, PAIR_TYPES, SCOPES, Dialogue, Item, Pair, Source, Text

CONVERSATION_KINDS = ("dialogue", "pair")

MAX_TURNS = 16


def one_text(one: Fields, kind: str, complain: Complain, problems: Problems) -> Text:
    """One language's texts: a dialogue's turns, or a pair's prompt and two answers."""
    if kind == "pair":
        text = Text(one.text("prompt"), preferred=one.text("preferred"), dispreferred=one.text("dispreferred"))
        if text.preferred and text.preferred == text.dispreferred:
            complain(f"{one.within}preferred and dispreferred are the same")
        return text
    turns: list[str] = []
    for number, turn in enumerate(one.take("turns", list)):
        what = f"{one.within}turns[{number}]"
        if type(turn) is str:
            turns.append(clean(turn, what, complain, problems))
        else:
            complain(f"{what} must be a text, not {shown(turn)}")
    if one.data.get("turns") == []:
        complain(f"{one.within}'turns' is empty")
    if len(turns) > MAX_TURNS:
        complain(f"{one.within}turns are {len(turns)}; a dialogue has at most {MAX_TURNS}")
    return Text(turns[-1] if turns else "", before=tuple(turns[:-1]))


def one_item(
    fields: Fields, kind: str, common: Mapping[str, Any], sources: tuple[Source, ...], complain: Complain
) -> Item:
    """A dialogue or a pair, from its own fields and what all items have in common (texts among them)."""
    needed = kind == "dialogue"
    scope = _one_of(fields, "scope", SCOPES, complain, None if needed else "local")
    stance = fields.text("stance", "", ID, ID_WORDS)
    severity = fields.take("severity", int, 0)
    texts: Mapping[str, Text] = common["texts"]
    if kind == "pair":
        if severity not in range(4):
            complain(f"the severity {severity} must be 1, 2 or 3")
        pair_type = _one_of(fields, "pair_type", PAIR_TYPES, complain)
        return Pair(**common, answers=("preferred",), sources=sources, pair_type=pair_type, scope=scope,
                    stance=stance, severity=severity)  # fmt: skip
    expected = _one_of(fields, "expected", EXPECTED, complain)
    if expected and severity not in ((0,) if expected == "answer" else (1, 2, 3)):
        must = "has no severity" if expected == "answer" else "needs a severity of 1, 2 or 3"
        complain(f"an item that expects {expected!r} {must}")
    form = _one_of(
        fields, "form", FORMS, complain, "dialogue" if any(text.before for text in texts.values()) else "single"
    )
    _check_form(form, texts, complain)
    twin = fields.text("twin", "", ID, ID_WORDS)
    return Dialogue(**common, answers=(expected,), sources=sources, scope=scope, stance=stance, severity=severity,
                    twin=twin, form=form)  # fmt: skip


def _one_of(fields: Fields, key: str, words: tuple[str, ...], complain: Complain, default: str | None = None) -> str:
    word = fields.text(key, default)
    if word and word not in words:
        complain(f"{key!r} must be one of {', '.join(words)}, not {shown(word)}")
    return word


def _check_form(form: str, texts: Mapping[str, Text], complain: Complain) -> None:
    counts = {language: len(text.turns) for language, text in texts.items()}
    if len(set(counts.values())) > 1:
        many = ", ".join(f"{count} in {language}" for language, count in counts.items())
        complain(f"the turns don't run parallel: {many}")
    if any(count > 1 for count in counts.values()) and form == "single":
        complain("a 'single' item has one turn; several make a 'dialogue'")
    if any(count == 1 for count in counts.values()) and form == "dialogue":
        complain("a 'dialogue' has two turns or more; one makes it 'single'")


@dataclass(frozen=True, slots=True)
class _Seen:
    line: int
    item: Dialogue


class Twins:
    """Whether twins exist and fit each other, which only a whole file can tell."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def add(self, line: int, item: Item) -> None:
        """Take note of an item."""
        if isinstance(item, Dialogue):
            self._seen[item.id] = _Seen(line, item)

    @property
    def loaded(self) -> int:
        """The line of the first question that expects more than an answer, 0 when there is none."""
        return min((seen.line for seen in self._seen.values() if seen.item.expected != "answer"), default=0)

    def check(self, problems: Problems) -> None:
        """Complain of twins that are missing or don't belong together."""
        for ident, seen in self._seen.items():
            item = seen.item
            if not item.twin:
                continue
            other = self._seen.get(item.twin)
            if other is None:
                problems.add("items.jsonl", seen.line, f"the twin {item.twin!r} is no dialogue of this suite")
                continue
            twin = other.item
            apart = [word for word in ("culture", "topic", "group") if getattr(item, word) != getattr(twin, word)]
            if twin.twin != ident:
                problems.add("items.jsonl", seen.line, f"the twin {twin.id!r} names {twin.twin!r} as its own twin")
            elif apart and ident < twin.id:
                problems.add("items.jsonl", seen.line, f"the twin {twin.id!r} has another {apart[0]}")
            elif (item.expected == "answer") == (twin.expected == "answer") and ident < twin.id:
                problems.add(
                    "items.jsonl", seen.line, f"of the twins {ident!r} and {twin.id!r} exactly one must expect 'answer'"
                )
