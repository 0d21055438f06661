"""One question of a person's own, asked in a language: reasoned about there, then answered.

The question stays in the words it was put in; instruction, reasoning and the answer's lead are in the language the
model is to think in (the published method's first form). With options the model's choice is read off their
log-likelihoods after the reasoning, as a run in mode 'cot' does. Without, it goes on writing after the lead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cultev.backend.types import Backend, GenerateRequest, GenerateResult
from cultev.errors import EngineError, UsageError
from cultev.lsk.parse import normalise
from cultev.lsk.words import table
from cultev.prompt.languages import language
from cultev.prompt.render import Question, Variant, ask
from cultev.run.plan import longest, text_key, to_reasoning
from cultev.run.protocol import Protocol
from cultev.suite.item import Choice, Text

ANSWER_TOKENS = 64
"""Longest answer after its lead, in tokens: a line."""

IsLanguage = Callable[[str, str], "bool | None"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says in one language.

    ``text`` is the answer alone, an option's text where there are options; ``chance`` the probability of each option
    after the reasoning, () without options. ``in_language``: whether the reasoning is in ``language``, None where that
    can't be told. ``cut``: it used up its tokens.
    """

    language: str
    reasoning: str
    text: str
    chance: tuple[float, ...]
    in_language: bool | None
    cut: bool


def open_question(text: str, code: str) -> Question:
    """A question without options as it is put in one language; it reasons, and compares nothing."""
    words = language(code)
    task = table("ask_words")[code]["open"].format(lead=words.answer_lead.strip())
    return Question(({"role": "user", "content": f"{task}\n\n{text}"},), (), (), words.answer_lead, reasons=True)


def answer_in(
    backend: Backend, question: str, code: str, options: Sequence[str], budget: int, is_language: IsLanguage
) -> Answer:
    """Ask a question in a language.

    Args:
        backend: an open model.
        question: in any language; never translated.
        code: the language of instruction and reasoning.
        options: answers to choose from, in the question's language; () for an answer in the model's own words.
        budget: longest reasoning, in tokens.
        is_language: how the reasoning's language is told.

    Raises:
        UsageError: the question is too long for the context.
        EngineError: the engine died of it.
    """
    if options:
        ids = tuple(str(i) for i in range(len(options)))
        item = Choice("asked", "", "", "asked", ids[:1], {code: Text(question, tuple(options))})
        put = ask(item, code, "cot", Variant())
        protocol = Protocol(mode="cot", languages=(code,), max_tokens=budget)
        result = _one(backend, to_reasoning(backend, put, protocol, code))
        logs = [score.logprob for score in result.scores]
        top = max(logs)
        weights = [math.exp(value - top) for value in logs]
        chance = tuple(weight / math.fsum(weights) for weight in weights)
        return Answer(
            code, result.text.strip(), options[logs.index(top)], chance, is_language(result.text, code),
            result.finish == "length",
        )  # fmt: skip
    put = open_question(question, code)
    prompt = backend.render(put.messages) if backend.has_template else f"{backend.render(put.messages)}\n"
    thought = _one(backend, _request(backend, prompt, budget, put.reasoning_stops))
    said = _one(backend, _request(backend, prompt + thought.text + put.after_reasoning, ANSWER_TOKENS, ("\n",)))
    return Answer(
        code, thought.text.strip(), said.text.strip(), (), is_language(thought.text, code), thought.finish == "length"
    )


def agreement(one: Answer, other: Answer, options: Sequence[str]) -> bool | None:
    """Whether two answers are the same; None where only a reader can tell.

    Options are compared as they are. Of free answers it is said only that they are the same words, or that they hold
    different numbers: an answer in Hindi and one in English may well mean the same.
    """
    if options:
        return one.text == other.text
    first, second = normalise(one.text), normalise(other.text)
    if first and first == second:
        return True
    numbers = [re.findall(r"\d+(?:[.,]\d+)*", text) for text in (first, second)]
    return False if all(numbers) and sorted(numbers[0]) != sorted(numbers[1]) else None


def _request(backend: Backend, text: str, budget: int, stop: tuple[str, ...]) -> GenerateRequest:
    request = GenerateRequest("", tuple(backend.encode(text)), budget, stop)
    key = text_key(backend.info.sha256, request)
    return GenerateRequest(key, request.prompt, budget, stop)


def _one(backend: Backend, request: GenerateRequest) -> GenerateResult:
    if longest(request) > backend.n_ctx:
        raise UsageError(
            f"The question takes {longest(request)} tokens with its reasoning; the context holds {backend.n_ctx}.",
            "Use a shorter --max-tokens, or a larger --n-ctx.",
        )
    results = [result for batch in backend.generate([request]) for result in batch]
    if not results or results[0].error:
        raise EngineError(
            f"The engine gave no answer: {results[0].error if results else 'it ended'}.", "Try again, or another model."
        )
    return results[0]
