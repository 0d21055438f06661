"""What cultev says in each language: instructions, label words, layout, kept as TOML data beside this module."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

from cultev.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Language:
    """One language's words. ``code`` is BCP-47, ``script`` ISO 15924, ``direction`` 'ltr' or 'rtl'."""

    code: str
    name: str
    endonym: str
    script: str
    direction: str
    instruction: Mapping[str, str]
    """By mode: 'text', 'letters', 'cot'."""
    explanation: Mapping[str, str]
    """What the labels of a label set mean, for sets that are not plain words."""
    answer_lead: str
    """What stands right before an answer where no chat turn does: 'Answer: ', with its space where a script has one."""
    content_free: str
    """A question without content, for priors (PMI)."""
    context: Mapping[str, str]
    """How a context is put, by its name: 'Country: {country}'."""
    labels: Mapping[str, Mapping[str, str]]
    """Words of the label sets: set -> label -> word."""


@cache
def codes() -> tuple[str, ...]:
    """All languages cultev has words for, sorted, English first."""
    found = [
        entry.name.removesuffix(".toml")
        for entry in resources.files(__package__).joinpath("languages").iterdir()
        if entry.name.endswith(".toml")
    ]
    return tuple(sorted(found, key=lambda code: (code != "en", code)))


@cache
def language(code: str) -> Language:
    """The words of one language.

    Raises:
        UsageError: cultev has no words in it.
    """
    if code not in codes():
        near = difflib.get_close_matches(code, codes(), 1)
        raise UsageError(
            f"cultev has no instructions in the language '{code}' yet.",
            f"Did you mean '{near[0]}'?" if near else f"It has: {' '.join(codes())}",
        )
    text = resources.files(__package__).joinpath("languages").joinpath(f"{code}.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    return Language(
        code=data["code"],
        name=data["name"],
        endonym=data["endonym"],
        script=data["script"],
        direction=data["direction"],
        instruction=data["instruction"],
        explanation=data["explanation"],
        answer_lead=data["layout"]["answer_lead"],
        content_free=data["layout"]["content_free"],
        context=data["context"],
        labels=data["labels"],
    )
