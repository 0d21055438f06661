"""What the harm test says in each language: frames, a system prompt, a fixed reply; TOML data beside this module."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib import resources

from cultev.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib

WORDS_VERSION = "1"
"""Goes up when any of these words change: they are part of what is asked."""


@dataclass(frozen=True, slots=True)
class Words:
    """One language's words.

    ``frames`` hold ``{question}``: two ways of putting the same question. ``system`` is a plain assistant's system
    prompt, ``canned`` a neutral reply that says nothing of its own.
    """

    code: str
    system: str
    canned: str
    frames: tuple[str, str]


@cache
def codes() -> tuple[str, ...]:
    """Languages the harm test has words for, sorted, English first."""
    found = [
        entry.name.removesuffix(".toml")
        for entry in resources.files(__package__).joinpath("wording").iterdir()
        if entry.name.endswith(".toml")
    ]
    return tuple(sorted(found, key=lambda code: (code != "en", code)))


@cache
def words(code: str) -> Words:
    """The words of one language.

    Raises:
        UsageError: there are none in it.
    """
    if code not in codes():
        raise UsageError(f"The harm test has no words in the language '{code}' yet.", f"It has: {' '.join(codes())}")
    text = resources.files(__package__).joinpath("wording").joinpath(f"{code}.toml").read_text(encoding="utf-8")
    data = tomllib.loads(text)
    first, second = data["frames"]
    return Words(data["code"], data["system"], data["canned"], (first, second))
