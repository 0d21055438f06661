"""Suite x protocol -> what is asked: keyed requests, in a fixed order."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cultev.backend.prefix import common_prefix
from cultev.backend.types import Backend, Continuation, ScoreRequest
from cultev.errors import EngineError, UsageError
from cultev.prompt.languages import codes
from cultev.prompt.render import LETTERS, Question, Variant, ask, content_free, contexts_of
from cultev.run.protocol import Protocol
from cultev.suite.item import Item
from cultev.suite.store import Suite

KEY_VERSION = b"score/1"
STRICT = b"/strict"
"""Follows the version in the key of a response whose computation had a fixed shape."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One item in one language and variant, as this run puts it.

    ``request`` is None when the question does not fit the context (``n_tokens`` says what it would need).
    ``prior`` is the same options' content-free question, when the protocol asks for PMI.
    """

    item: Item
    language: str
    variant: Variant
    options: tuple[str, ...]
    request: ScoreRequest | None
    prior: ScoreRequest | None
    n_tokens: int

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all responses this answer rests on; () when it is too long to be asked."""
        if self.request is None:
            return ()
        return (self.request.key,) if self.prior is None else (self.request.key, self.prior.key)


def variants(
    suite: Suite, protocol: Protocol, items: Iterator[Item] | None = None
) -> Iterator[tuple[Item, str, Variant]]:
    """All (item, language, variant) that a protocol asks of a suite, items in the suite's own random order."""
    for item in suite.items(limit=protocol.limit) if items is None else items:
        for code in languages_of(item, protocol):
            country = country_of(suite, item, code)
            for context in contexts_of(item, code, country):
                if protocol.contexts and context not in protocol.contexts:
                    continue
                for order in range(min(protocol.orders, len(item.option_ids))):
                    yield item, code, Variant(context, order)


def asks(suite: Suite, protocol: Protocol, backend: Backend) -> Iterator[Ask]:
    """What this run asks, rendered and tokenized for the model at hand."""
    for item, code, variant in variants(suite, protocol):
        country = country_of(suite, item, code)
        question = ask(item, code, protocol.mode, variant, country)
        request = to_request(backend, question, strict=protocol.strict)
        prior = None
        if protocol.pmi:
            free = content_free(item, code, protocol.mode, variant.order)
            prior = to_request(backend, free, strict=protocol.strict)
        n_tokens = longest(request)
        fits = max(n_tokens, longest(prior) if prior else 0) <= backend.n_ctx
        yield Ask(
            item,
            code,
            variant,
            question.options,
            request if fits else None,
            prior if fits else None,
            n_tokens,
        )


def survey(suite: Suite, protocol: Protocol) -> Counter[str]:
    """How many questions a protocol asks of a suite, by context.

    Raises:
        UsageError: an item can't be asked in this mode, which is better known before a model is loaded.
    """
    found: Counter[str] = Counter()
    for item, _, variant in variants(suite, protocol):
        if protocol.mode == "letters" and len(item.option_ids) > len(LETTERS):
            raise UsageError(
                f"The item '{item.id}' of {suite.name} has {len(item.option_ids)} options: too many for letters.",
                "Use --mode text.",
            )
        found[variant.context] += 1
    return found


def count(suite: Suite, protocol: Protocol) -> int:
    """How many questions a protocol asks of a suite."""
    return sum(survey(suite, protocol).values())


def check_languages(suites: Sequence[Suite], protocol: Protocol) -> None:
    """Refuse a run that asks for a language that no suite has, before any model is loaded.

    Raises:
        UsageError: nothing would be asked.
    """
    for code in protocol.languages:
        if not any(code in suite.languages for suite in suites):
            have = sorted({c for suite in suites for c in suite.languages})
            raise UsageError(
                f"None of the suites is in the language '{code}'.",
                f"They have: {' '.join(have)} (use --language).",
            )
    unknown = {c for suite in suites for c in suite.languages} - set(codes())
    if unknown and not protocol.languages and all(set(s.languages) <= unknown for s in suites):
        raise UsageError(
            f"cultev has no instructions in the language '{min(unknown)}' yet.",
            f"It has: {' '.join(codes())}",
        )


def languages_of(item: Item, protocol: Protocol) -> list[str]:
    """The languages an item is asked in: those it has, that cultev has words for, and that were asked for."""
    wanted = protocol.languages or codes()
    return [code for code in wanted if code in item.texts and code in codes()]


def country_of(suite: Suite, item: Item, code: str) -> str:
    """The name of the place an item's culture is asked about, '' when the suite gives none."""
    culture = suite.cultures.get(item.culture)
    return culture.countries.get(code, "") if culture else ""


def prompt_text(backend: Backend, question: Question) -> str:
    """The exact text a model reads; an answer follows without anything between."""
    text = backend.render(question.messages)
    return text if backend.has_template else f"{text}\n{question.lead}"


def to_request(backend: Backend, question: Question, *, strict: bool = False) -> ScoreRequest:
    """Tokenize a question.

    An answer's tokens are those of prompt + answer together; where a tokenizer merges across the border, the
    border moves back to the last token that all answers leave alone, and what follows it is scored with each
    answer, so that all are compared from the same point.
    """
    text = prompt_text(backend, question)
    prompt, *whole = backend.encode_all([text, *(text + continuation for continuation in question.continuations)])
    border = min([len(prompt), *(common_prefix(prompt, w) for w in whole), *(len(w) - 1 for w in whole)])
    if border < 1:
        raise EngineError(
            "The model's tokenizer turns a question into nothing that could be scored.",
            "Check the model's tokenizer; `cultev run --show ITEM` prints what it makes of a question.",
        )
    continuations = tuple(
        Continuation(c, tuple(w[border:])) for c, w in zip(question.continuations, whole, strict=True)
    )
    head = tuple(prompt[:border])
    return ScoreRequest(_key(backend.info.sha256, head, continuations, strict), head, continuations)


def longest(request: ScoreRequest) -> int:
    """Tokens of the prompt with its longest continuation."""
    return len(request.prompt) + max(len(c.tokens) for c in request.continuations)


def _key(model: str, prompt: Sequence[int], continuations: Sequence[Continuation], strict: bool) -> str:
    """The same question to the same model, as strictly computed, has the same key, and nothing else has."""
    digest = hashlib.sha256(KEY_VERSION + STRICT if strict else KEY_VERSION)
    digest.update(bytes.fromhex(model))
    for part in (prompt, *(c.tokens for c in continuations)):
        digest.update(len(part).to_bytes(4, "little"))
        digest.update(array("q", part).tobytes())
    for c in continuations:
        data = c.text.encode()
        digest.update(len(data).to_bytes(4, "little") + data)
    return digest.hexdigest()
