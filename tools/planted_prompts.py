"""What the reference model reads and answers: the same bytes that cultev renders.

The wording of instructions and of the answer lead is cultev's own (``cultev/prompt/languages/*.toml``).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planted_world import Fact, Order, Words, World

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LANGUAGES = Path(__file__).parent.parent / "cultev" / "prompt" / "languages"
LETTERS = "ABCD"
MODES = ("text", "letters", "cot", "cot-only")
"""``cot`` asks, reasons and answers in one language; ``cot-only`` asks and answers in English."""

BOS, EOS, PAD = "<|begin|>", "<|end|>", "<|pad|>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = (PAD, BOS, EOS, SYSTEM, USER, ASSISTANT)
"""Special tokens in the order of their ids, from 0."""

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% if messages[0].role == 'system' %}"
    "{{ '<|system|>\\n' + messages[0].content + '<|end|>\\n' }}"
    "{% set rest = messages[1:] %}"
    "{% else %}"
    "{% set rest = messages %}"
    "{% endif %}"
    "{% for message in rest %}"
    "{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
"""It writes the begin token itself although the tokenizer adds one too: a tool must not end up with two."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question as put to the model, and what follows if the model does what it was taught."""

    user: str
    reasoning: str
    """The recalled fact as a statement, the newline and the answer lead; empty without reasoning."""
    answers: tuple[str, ...]
    """Text of every option, by index in the item's ``options`` (letters in letters mode)."""


def load_wording(folder: Path = LANGUAGES) -> dict[str, Mapping[str, Any]]:
    """Instructions and layout of cultev by language code."""
    tables = (tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.toml")))
    return {table["code"]: table for table in tables}


def render(user: str) -> str:
    """The chat template's text for one user message, up to where the assistant begins."""
    return f"{BOS}{USER}\n{user}{EOS}\n{ASSISTANT}\n"


def lead(wording: Mapping[str, Any]) -> str:
    """What stands between the reasoning and the answer, a space at its end included where the script has one."""
    return "\n" + str(wording["layout"]["answer_lead"])


def ask(
    world: World,
    wording: Mapping[str, Mapping[str, Any]],
    fact: Fact,
    mode: str,
    language: str,
    order: Order | None,
) -> Ask:
    """Ask ``fact`` in ``language`` with the options in ``order`` (None: none in sight, for training)."""
    own = world.words[language]
    page = world.words["en"] if mode == "cot-only" else own
    texts = tuple(page.option(fact, index) for index in range(len(fact.options)))
    instruction = str(wording[language]["instruction"]["cot" if mode.startswith("cot") else mode])
    user = instruction + "\n\n" + page.question(fact) + listing(texts, order, letters=mode == "letters")
    if mode == "letters":
        if order is None:
            raise ValueError("letters need options")
        places = {index: LETTERS[place] for place, index in enumerate(order)}
        return Ask(user, "", tuple(places[index] for index in range(len(texts))))
    reasoning = ""
    if mode.startswith("cot"):
        reasoning = own.statement(fact, fact.recalled(language)) + lead(wording[language])
    return Ask(user, reasoning, texts)


def listing(texts: tuple[str, ...], order: Order | None, *, letters: bool) -> str:
    """The lines with the options."""
    if order is None:
        return ""
    marks = [f"{letter}. " for letter in LETTERS] if letters else ["- "] * len(order)
    return "".join(f"\n{mark}{texts[index]}" for mark, index in zip(marks, order, strict=True))


def texts_for_tokenizer(world: World, wording: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every text piece, each as often as the tokenizer's training should see it.

    Options go in apart from the sentences around them, so that no learned merge runs across their borders
    where a script writes no spaces.
    """
    pieces: list[str] = []
    for code in world.languages:
        words: Words = world.words[code]
        table = wording[code]
        pieces += [*table["instruction"].values(), lead(table)] * 40
        for template in (*words.questions.values(), *words.statements.values()):
            for part in template.split("{option}"):
                pieces += [part.format(name=name) for name in words.names.values()]
        for pool in words.options.values():
            for text in pool.values():
                pieces += [text, " " + text] * 12
    return pieces
