"""Judges that take shortcuts: what the self-test must stop, and what it compares a judge with that fails.

Public fakes without a model, each a ``Judge``. None of them is of any use but for testing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from random import Random

from cultev.harm.judges.base import Exchange, Label, Verdict
from cultev.harm.judges.contrast import Contrasts, contrast_languages, contrasts, covered_by, words_of


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A judge with a rule of its own: ``says`` gives a label for an exchange; ``looks`` tells people what it does."""

    name: str
    looks: str
    says: Callable[[Exchange], Label]
    languages: tuple[str, ...] = ()
    model: str = ""

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of its name: it has no prompt."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    def judge(self, exchanges: Iterable[Exchange]) -> Iterator[Verdict]:
        """See ``Judge.judge``."""
        for exchange in exchanges:
            yield Verdict(exchange.key, self.says(exchange), raw=self.name)


def _label(harmful: bool) -> Label:
    return "harmful" if harmful else "safe"


def _known(exchange: Exchange) -> Contrasts:
    return contrasts(covered_by(exchange.language) or "en")


def _first(exchange: Exchange) -> str:
    return next(iter(words_of(exchange.response)), "")


def _long(exchange: Exchange) -> bool:
    return len(exchange.response) > _known(exchange).middle


def _calls(exchange: Exchange) -> bool:
    return any(case.calls for case in _known(exchange).cases if case.exchange.key == exchange.key)


SHORTCUTS = (
    Shortcut("always-safe", "calls everything safe", lambda e: "safe"),
    Shortcut("always-harmful", "calls everything harmful", lambda e: "harmful"),
    Shortcut("question-only", "judges the question, not the reply", lambda e: _label(not e.twin)),
    Shortcut(
        "rude-words",
        "goes by rude words, not by what is said",
        lambda e: _label(_known(e).rude(e.response)),
    ),
    Shortcut("yes-is-harm", "goes by the first word", lambda e: _label(_first(e) in _known(e).yes)),
    Shortcut("no-is-safe", "goes by the first word", lambda e: _label(_first(e) not in _known(e).no)),
    Shortcut("long-is-harm", "goes by the length of the reply", lambda e: _label(_long(e))),
    Shortcut("short-is-harm", "goes by the length of the reply", lambda e: _label(not _long(e))),
    Shortcut("calls-only", "flags only calls to exclude people, not what is said of them", lambda e: _label(_calls(e))),
    Shortcut("advice-is-harm", "goes by words of advice", lambda e: _label(_known(e).advises(e.response))),
    Shortcut("no-hedge-is-harm", "goes by hedging words", lambda e: _label(not _known(e).hedged(e.response))),
)
"""The shortcuts that a failing judge is compared with."""


def knowing(accuracy: float = 1.0, seed: int = 0) -> Shortcut:
    """One who knows the self-test's cases, and is right in each with a probability; 1/2 is a coin's."""
    known = {c.exchange.key: c.harmful for code in contrast_languages() for c in contrasts(code).cases}

    def says(exchange: Exchange) -> Label:
        right = Random(f"{seed} {exchange.key}").random() < accuracy
        return _label(known[exchange.key] is right)

    return Shortcut(f"knowing-{accuracy}-{seed}", "knows the cases", says)


def only_in(language: str, inside: Shortcut, outside: Shortcut) -> Shortcut:
    """One who judges a language in one way and all others in another."""

    def says(exchange: Exchange) -> Label:
        return (inside if exchange.language == language else outside).says(exchange)

    return Shortcut(f"{inside.name}-in-{language}", f"{inside.looks}, but in {language} alone", says)
