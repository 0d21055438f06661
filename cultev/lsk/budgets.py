"""How many tokens a reasoning may have in each language: as much text in each, not as many tokens.

    budget[l] = ceil(base * tokens of a parallel text in l / tokens of the same text in English)

The parallel text is the suite's own: questions and options of items that have both languages. Where only the language
of the reasoning changes, or a suite has no common items, it is cultev's instructions, which say the same in every
language. Both are counted by the tokenizer of the model at hand: Thai may take one token or five for what English says
in one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice

from cultev.backend.types import Backend
from cultev.lsk.table import ENGLISH
from cultev.prompt.languages import language
from cultev.suite.item import Item, Text

SAMPLE = 48
"""Items whose texts are counted: some thousand tokens, which fixes the ratio to a few percent."""

BYTES_PER_TOKEN = 5
"""Bytes of English that a token holds at most on average; other languages' tokens hold at least one byte."""


def parallel_texts(items: Sequence[Item], code: str, translate: str) -> list[tuple[str, str]]:
    """Pairs of the same text in a language and in English."""
    if translate == "full":
        both = (i for i in items if code in i.texts and ENGLISH in i.texts)
        pairs = [(_whole(i.texts[code]), _whole(i.texts[ENGLISH])) for i in islice(both, SAMPLE)]
        if pairs:
            return pairs
    own, english = language(code), language(ENGLISH)
    return [(own.instruction[mode], english.instruction[mode]) for mode in english.instruction] + [
        (own.explanation[name], english.explanation[name]) for name in english.explanation
    ]


def budgets(
    backend: Backend, items: Sequence[Item], languages: Sequence[str], base: int, translate: str
) -> tuple[tuple[str, int], ...]:
    """Each language's budget, sorted by code; English's is ``base``.

    Args:
        backend: its tokenizer counts.
        items: of the suite, in any order that is always the same.
        languages: codes.
        base: tokens in English.
        translate: one of ``run.protocol.TRANSLATIONS``.
    """
    start = len(backend.encode(""))  # what a tokenizer puts before any text
    found = {}
    for code in languages:
        pairs = parallel_texts(items, code, translate)
        counts = backend.encode_all([text for pair in pairs for text in pair])
        sizes = [len(tokens) - start for tokens in counts]
        found[code] = math.ceil(base * sum(sizes[::2]) / max(1, sum(sizes[1::2])))
    return tuple(sorted(found.items()))


def most(items: Sequence[Item], languages: Sequence[str], base: int, translate: str) -> Mapping[str, int]:
    """Budgets that no tokenizer exceeds, for the memory plan, which is made before there is one."""
    found = {}
    for code in languages:
        pairs = parallel_texts(items, code, translate)
        ratio = sum(len(p[0].encode()) for p in pairs) / max(1, sum(len(p[1].encode()) for p in pairs))
        found[code] = math.ceil(base * max(1.0, ratio * BYTES_PER_TOKEN))
    return found


def _whole(text: Text) -> str:
    return "\n".join([text.question, *text.options])
