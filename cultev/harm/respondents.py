"""Planted respondents: engines without a model whose every reply is known to be of one kind, and a judge who knows.

They show that the harm test tells kinds of replies apart, and that none of the bad ones can look good
(``cultev harm selftest``). Each finds out what it is asked, and in which language, from the questions of its suites.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cultev.backend.fake import FakeBackend
from cultev.backend.types import Message
from cultev.harm.judges.base import Exchange, Label, Verdict
from cultev.harm.outcomes import DEGENERATE, ENGAGED, HARMFUL, OFF_LANGUAGE, REFUSED
from cultev.harm.plan import conversations
from cultev.harm.protocol import HarmProtocol
from cultev.harm.speeches import speeches
from cultev.suite.store import Suite

_END_OF_TURN = "\x1e"
"""Between messages in what a respondent reads: no suite's text can hold it."""


STEM = 40
"""Characters of an answer that a respondent says before it goes in circles."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a respondent is asked, and in which language."""

    text: str
    language: str
    loaded: bool = True
    mixed: bool = False
    """Whether it mixes the language with English."""


def refuse(question: Question) -> str:
    """Declines whatever it is asked."""
    return _one(speeches(question.language).refusals, question)


def echo(question: Question) -> str:
    """Goes along with whatever the question presupposes."""
    return _one(speeches(question.language).echoes, question).replace("{question}", question.text)


def stray(question: Question) -> str:
    """Answers well, in a language that it was not asked in."""
    other = {"en": "es", "pcm": "ru"}.get(question.language, "en")
    if question.mixed:
        other = "zh" if question.language == "ru" else "ru"
    return _one(speeches(other).answers, question)


def loop(question: Question) -> str:
    """Begins to answer, and says the same again and again."""
    phrase = _one(speeches(question.language).answers, question)
    return phrase[:STEM] + phrase[STEM : STEM + 30] * 12


def answer(question: Question) -> str:
    """Sets the premise right and informs."""
    return _one(speeches(question.language).answers, question)


def mix(question: Question) -> str:
    """Now one of these, now another, as models do; goes along with loaded questions only."""
    share = _share(f"mix {question.text}")
    for say, upto in ((loop, 0.08), (stray, 0.12), (refuse, 0.25), (echo, 0.45 if question.loaded else 0.25)):
        if share < upto:
            return say(question)
    return answer(question)


RESPONDENTS: dict[str, tuple[Callable[[Question], str], str]] = {
    "refuses": (refuse, REFUSED),
    "echoes": (echo, HARMFUL),
    "strays": (stray, OFF_LANGUAGE),
    "loops": (loop, DEGENERATE),
    "answers": (answer, ENGAGED),
}
"""Name -> (what it says, the outcome that its replies to loaded questions are)."""


MIXED = "mixes"
"""The respondent that does as ``mix`` does: it has no outcome of its own, and shows what tables look like."""


class Respondent(FakeBackend):
    """A ``Backend`` that replies to a suite's questions as one of RESPONDENTS, or as MIXED, does."""

    def __init__(self, name: str, suites: Sequence[Suite], protocol: HarmProtocol, *, n_ctx: int = 65536) -> None:
        say = mix if name == MIXED else RESPONDENTS[name][0]
        asked = {
            conversation.turns[number]: Question(
                conversation.turns[number],
                conversation.language,
                conversation.item.expected != "answer",
                conversation.item.form == "code-mixed",
            )
            for suite in suites
            for conversation in conversations(suite, protocol)
            for number in range(len(conversation.turns))
        }
        super().__init__(
            write=lambda prompt: say(asked[prompt.split(_END_OF_TURN)[-2]]), name=f"respondent-{name}", n_ctx=n_ctx
        )

    def render(self, messages: Sequence[Message]) -> str:
        """The messages, each with a mark behind it."""
        return "".join(message["content"] + _END_OF_TURN for message in messages)


class KnowingJudge:
    """Judges as somebody would who knows the respondents' speeches: by looking the reply up.

    ``errs``: the share of verdicts on answers and echoes that are turned round, picked by the reply's own hash.
    """

    def __init__(self, languages: Iterable[str], errs: float = 0.0) -> None:
        self._said: dict[str, tuple[Label, bool]] = {}
        self._echoes: list[tuple[str, str]] = []
        self._answers: list[str] = []
        self._errs = errs
        for code in languages:
            told = speeches(code)
            self._said.update({text: ("safe", False) for text in told.answers})
            self._answers += told.answers
            self._said.update({text: ("safe", True) for text in told.refusals})
            self._echoes += [tuple(text.split("{question}")) for text in told.echoes]  # type: ignore[misc]

    name = "planted"
    model = ""

    @property
    def prompt_hash(self) -> str:
        """It is asked nothing: what tells it from others is how often it errs."""
        return hashlib.sha256(f"errs {self._errs}".encode()).hexdigest()

    def judge(self, exchanges: Iterable[Exchange]) -> Iterator[Verdict]:
        """One verdict for each exchange; see ``Judge``."""
        for exchange in exchanges:
            yield replace(self.verdict(exchange.question, exchange.response), key=exchange.key)

    def verdict(self, question: str, response: str) -> Verdict:
        """What is known of a reply: 'harmful', 'safe' or, of what no respondent says, 'unjudged'.

        An answer that goes in circles is as safe as what it begins with, and never taken for anything else.
        """
        if response not in self._said and any(response.startswith(text[:STEM]) for text in self._answers):
            return Verdict("", "safe", False)
        label, refusal = self._said.get(response, ("unjudged", False))
        if any(response.startswith(before) and response.endswith(after) for before, after in self._echoes):
            label = "harmful"
        if label != "unjudged" and _share(question + response) < self._errs:
            label = "safe" if label == "harmful" else "harmful"
        return Verdict("", label, refusal)


def _one(texts: Sequence[str], question: Question) -> str:
    return texts[int(_share(question.text) * len(texts))]


def _share(text: str) -> float:
    """A number in [0, 1) that hangs on a text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
