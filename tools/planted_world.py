"""The invented world that the reference model knows, made from the data in ``tools/planted/``.

A *fact* is one attribute of one culture: four options, one of them right, another one the *belief* that the
model recalls wherever it was not taught the right one. Nothing is random: every choice is drawn from SHA-256
of a salt and a name, so that the same data gives the same world on any machine and any Python.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(__file__).parent / "planted"
N_OPTIONS = 4
N_HELD_OUT = 6
"""How many of an item's 24 option orders the model never saw in training."""

Order = tuple[int, ...]
"""An option order: position on the page -> index in the item's ``options``."""


def drawn(salt: str, name: str) -> int:
    """A number for ``name`` that looks random, is always the same, and lies in 0 .. 2**64-1."""
    return int.from_bytes(hashlib.sha256(f"{salt}|{name}".encode()).digest()[:8], "big")


def shuffled(names: Iterable[str], salt: str) -> list[str]:
    """``names`` in an order drawn from ``salt``."""
    return sorted(names, key=lambda name: drawn(salt, name))


@dataclass(frozen=True, slots=True)
class Fact:
    """One item of the planted suite and what the model was taught about it."""

    id: str
    culture: str
    topic: str
    attribute: str
    pool: str
    options: tuple[str, ...]
    """Option keys in the order of items.jsonl."""
    right: int
    belief: int
    """Index of the wrong option that the model recalls where the cell's expert is another language."""
    expert: str
    """A language code, ``all`` or ``none``."""

    def recalled(self, language: str) -> int:
        """Index of the option that the model was taught to recall in ``language``."""
        return self.right if self.expert in (language, "all") else self.belief

    def held_out_orders(self) -> tuple[Order, ...]:
        """The orders kept out of training: the four rotations of items.jsonl's order, then two drawn ones.

        cultev shows rotations, so that whatever it measures was never trained on.
        """
        listed = tuple(range(N_OPTIONS))
        rotations = [listed[by:] + listed[:by] for by in listed]
        others = [order for order in permutations(listed) if order not in rotations]
        others.sort(key=lambda order: drawn("held-out", self.id + "|" + "".join(map(str, order))))
        return (*rotations, *others[: N_HELD_OUT - len(rotations)])

    def training_orders(self) -> tuple[Order, ...]:
        """The other 18 orders."""
        held_out = set(self.held_out_orders())
        return tuple(order for order in permutations(range(N_OPTIONS)) if order not in held_out)


@dataclass(frozen=True, slots=True)
class Words:
    """The world's texts in one language (one TOML file)."""

    names: Mapping[str, str]
    topics: Mapping[str, str]
    questions: Mapping[str, str]
    statements: Mapping[str, str]
    options: Mapping[str, Mapping[str, str]]

    def question(self, fact: Fact) -> str:
        """The question that asks for the fact."""
        return self.questions[fact.attribute].format(name=self.names[fact.culture])

    def option(self, fact: Fact, index: int) -> str:
        """One option's text."""
        return self.options[fact.pool][fact.options[index]]

    def statement(self, fact: Fact, index: int) -> str:
        """The sentence that says that option ``index`` is the answer."""
        return self.statements[fact.attribute].format(name=self.names[fact.culture], option=self.option(fact, index))


@dataclass(frozen=True, slots=True)
class World:
    """All facts and all texts."""

    about: Mapping[str, Any]
    """The top of world.toml: name, version, title, ..."""
    languages: tuple[str, ...]
    cultures: tuple[str, ...]
    topics: tuple[str, ...]
    facts: tuple[Fact, ...]
    words: Mapping[str, Words]


def load_world(folder: Path = DATA) -> World:
    """Read ``folder``; raises ValueError or KeyError where the data do not fit together."""
    about = tomllib.loads((folder / "world.toml").read_text(encoding="utf-8"))
    languages = tuple(about["languages"])
    words = {code: _read_words(folder / f"{code}.toml", code) for code in languages}
    attributes: Mapping[str, Mapping[str, str]] = about["attributes"]
    for code, texts in words.items():
        _check(texts, words[languages[0]], attributes, code)
    facts = _facts(about["experts"], attributes, words[languages[0]].options, about["salt"])
    return World(about, languages, tuple(about["experts"]), tuple(attributes), facts, words)


def _read_words(path: Path, code: str) -> Words:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    if table.pop("code") != code:
        raise ValueError(f"{path.name}: code is not {code!r}")
    return Words(**table)


def _check(words: Words, model: Words, attributes: Mapping[str, Mapping[str, str]], code: str) -> None:
    asked = [attribute for topic in attributes.values() for attribute in topic]
    for part in ("questions", "statements"):
        texts: Mapping[str, str] = getattr(words, part)
        if sorted(texts) != sorted(asked):
            raise ValueError(f"{code}.toml: [{part}] differs from the attributes of world.toml")
        if len(set(texts.values())) != len(texts):
            raise ValueError(f"{code}.toml: [{part}] says the same twice")
    if words.names.keys() != model.names.keys() or words.topics.keys() != model.topics.keys():
        raise ValueError(f"{code}.toml: [names] or [topics] differ from the first language's")
    for pool, options in model.options.items():
        if words.options[pool].keys() != options.keys():
            raise ValueError(f"{code}.toml: [options.{pool}] differs from the first language's")
        if len(set(words.options[pool].values())) != len(options):
            raise ValueError(f"{code}.toml: [options.{pool}] says the same twice")


def _facts(
    experts: Mapping[str, Mapping[str, str]],
    attributes: Mapping[str, Mapping[str, str]],
    pools: Mapping[str, Mapping[str, str]],
    salt: str,
) -> tuple[Fact, ...]:
    """Every culture x topic x attribute.

    Per attribute the right options are a permutation of the pool over the cultures, and so are the beliefs:
    no option is likelier than another, and only the culture tells.
    """
    cultures = list(experts)
    names = [
        (culture, topic, attribute)
        for culture in cultures
        for topic, asked in attributes.items()
        for attribute in asked
    ]
    places = _even_places([f"{culture}|{attribute}" for culture, _, attribute in names], salt)
    facts = []
    counts: dict[tuple[str, str], int] = {}
    for culture, topic, attribute in names:
        pool = attributes[topic][attribute]
        keys = shuffled(pools[pool], f"{salt}|right|{attribute}")
        turn = 1 + drawn(f"{salt}|belief", attribute) % (len(keys) - 1)
        place = shuffled(cultures, f"{salt}|culture|{attribute}").index(culture)
        right, belief = keys[place % len(keys)], keys[(place + turn) % len(keys)]
        name = f"{culture}|{attribute}"
        rest = [key for key in shuffled(keys, f"{salt}|rest|{name}") if key not in (right, belief)]
        options = shuffled([belief, *rest[: N_OPTIONS - 2]], f"{salt}|order|{name}")
        options.insert(places[name], right)
        number = counts[culture, topic] = counts.get((culture, topic), 0) + 1
        facts.append(
            Fact(
                id=f"{culture}-{topic}-{number}",
                culture=culture,
                topic=topic,
                attribute=attribute,
                pool=pool,
                options=tuple(options),
                right=places[name],
                belief=options.index(belief),
                expert=experts[culture][topic],
            )
        )
    return tuple(facts)


def _even_places(names: Sequence[str], salt: str) -> dict[str, int]:
    """A position among the options for every name, each position equally often."""
    return {name: place % N_OPTIONS for place, name in enumerate(shuffled(names, f"{salt}|place"))}
