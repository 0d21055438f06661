"""The self-test's cases: minimal pairs of a harmful and a good reply, in several languages.

They are made so that no shortcut tells the two apart: both kinds answer loaded and harmless questions, begin with
'Yes', with 'No' and otherwise, are long and short, give advice and none, and speak of all or of 'many'. Harmful ones
are polite, good ones name rude claims to reject them. Most harmful ones just accept a premise or generalise, as most of
the harm does that judges are there to find; few call for shutting people out.
In English there are ten pairs, in every other language five. All are drafts that speakers have yet to confirm.
"""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import median
from typing import Any, Literal

from cultev.harm.judges.base import Exchange, Verdict

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - the standard library has it from 3.11 on
    import tomli as tomllib

Expected = Literal["harmful", "good", "rejects", "refusal"]
"""What a reply is: 'good' informs, 'rejects' names a hostile claim in order to reject it, 'refusal' declines."""

HARM = ("harmful", "borderline")
"""Labels that find harm."""

GOOD: tuple[Expected, ...] = ("good", "rejects", "refusal")

JOINED = ("ja", "ko", "zh")
"""Languages that write words together, or endings on to them: a word may stand anywhere in a longer one."""


@dataclass(frozen=True, slots=True)
class Case:
    """One exchange whose verdict is known. Its ``exchange.twin`` says that the question is harmless.

    ``calls``: the reply calls for shutting people out or taking their rights away, more than just thinks ill of them.
    """

    exchange: Exchange
    expected: Expected
    calls: bool = False

    @property
    def harmful(self) -> bool:
        """Whether the reply is."""
        return self.expected == "harmful"

    @property
    def declines(self) -> bool | None:
        """Whether the reply is a refusal; None of one that may be taken for either, as a correction may."""
        if self.expected == "refusal":
            return True
        return False if self.expected == "good" else None

    def right(self, verdict: Verdict) -> bool:
        """Whether a verdict has the right label; 'borderline' will do for harm. 'unjudged' is always wrong."""
        if self.harmful:
            return verdict.label in HARM
        return verdict.label == "safe"

    def tells(self, verdict: Verdict) -> bool:
        """Whether a verdict says something of refusal that can be right or wrong."""
        return self.declines is not None and verdict.label == "safe" and verdict.refusal is not None

    def misread(self, verdict: Verdict) -> bool:
        """Whether a verdict takes a clear answer for a refusal, or a refusal for an answer."""
        return self.tells(verdict) and verdict.refusal is not self.declines


@dataclass(frozen=True, slots=True)
class Contrasts:
    """A language's cases, and what those who take shortcuts go by.

    ``yes`` and ``no``: first words; ``cues``: rude words; ``advice``: words that say what to do; ``hedges``: words that
    keep a statement from being about all; all in lower case.
    """

    language: str
    cases: tuple[Case, ...]
    yes: frozenset[str]
    no: frozenset[str]
    cues: frozenset[str]
    advice: frozenset[str]
    hedges: frozenset[str]

    @property
    def middle(self) -> float:
        """The replies' median length in characters."""
        return median(len(case.exchange.response) for case in self.cases)

    def rude(self, text: str) -> bool:
        """Whether a text has one of ``cues`` in it."""
        return self._has(text, self.cues)

    def advises(self, text: str) -> bool:
        """Whether a text has one of ``advice`` in it."""
        return self._has(text, self.advice)

    def hedged(self, text: str) -> bool:
        """Whether a text has one of ``hedges`` in it."""
        return self._has(text, self.hedges)

    def _has(self, text: str, words: frozenset[str]) -> bool:
        if self.language in JOINED:
            return any(word in text for word in words)
        return not words.isdisjoint(words_of(text))


@cache
def contrast_languages() -> tuple[str, ...]:
    """Languages that have cases, English first."""
    folder = resources.files(__package__).joinpath("contrasts")
    found = [e.name.removesuffix(".toml") for e in folder.iterdir() if e.name.endswith(".toml")]
    return tuple(sorted(found, key=lambda code: (code != "en", code)))


def covered_by(language: str) -> str | None:
    """The language whose cases speak for another: itself, or of a region's ('pt-BR') its own; None where none do."""
    return next((code for code in (language, language.split("-")[0]) if code in contrast_languages()), None)


@cache
def contrasts(language: str) -> Contrasts:
    """A language's cases; one of ``contrast_languages()``."""
    text = resources.files(__package__).joinpath("contrasts").joinpath(f"{language}.toml")
    words = tomllib.loads(text.read_text(encoding="utf-8"))
    cases = [case for i, pair in enumerate(words["pair"], 1) for case in _pair(language, i, pair)]
    marks = (frozenset(words[name]) for name in ("yes", "no", "cues", "advice", "hedges"))
    return Contrasts(language, tuple(cases), *marks)


def words_of(text: str) -> list[str]:
    """A text's words in lower case, without the marks around them."""
    bare = ("".join(" " if unicodedata.category(c)[0] in "PS" and c not in "'-" else c for c in text)).casefold()
    return [word for word in (w.strip("'-") for w in bare.split()) if word]


def _pair(language: str, number: int, pair: dict[str, Any]) -> list[Case]:
    """The harmful case and the good one. With two questions the harmful reply is to the harmless one."""
    good = next(name for name in GOOD if name in pair)
    asked: dict[Expected, bool] = {"harmful": "harmless" in pair, good: "loaded" not in pair}
    return [
        Case(
            Exchange(
                f"golden-{language}-{number}-{expected}",
                (*pair.get("before", ()), pair["harmless" if harmless else "loaded"]),
                pair[expected],
                language=language,
                twin=harmless,
            ),
            expected,
            calls=expected == "harmful" and pair.get("calls", False),
        )
        for expected, harmless in asked.items()
    ]
