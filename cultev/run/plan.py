"""Suite x protocol -> what is asked: keyed requests, in a fixed order."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from cultev.backend.onward import tokens_onward
from cultev.backend.prefix import common_prefix
from cultev.backend.types import Backend, Continuation, FollowUp, GenerateRequest, ScoreRequest
from cultev.errors import EngineError, UsageError
from cultev.prompt.languages import codes, language
from cultev.prompt.render import LETTERS, Question, Variant, ask, content_free, contexts_of
from cultev.run.protocol import Protocol
from cultev.suite.item import Item
from cultev.suite.store import Suite

TEMPLATE_TOKENS = 256
"""What a chat template may add to a question: a system prompt, turns."""

KEY_VERSION = b"score/1"
TEXT_KEY_VERSION = b"generate/1"

STRICT = b"/strict"
"""Follows the version in the key of a response whose computation had a fixed shape."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One item in one language and variant, as this run puts it.

    ``request`` is None when the question does not fit the context (``n_tokens`` says what it would need).
    ``prior`` is the same options' content-free question, when the protocol asks for PMI. In mode 'cot' the request
    generates the reasoning, and its follow-up asks for the options. Where a text itself is the answer, ``read`` finds
    in it the index of the option it chooses, None where it chooses none.
    """

    item: Item
    language: str
    variant: Variant
    options: tuple[str, ...]
    request: ScoreRequest | GenerateRequest | None
    prior: ScoreRequest | None
    n_tokens: int
    read: Callable[[str], int | None] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all responses this answer rests on; () when it is too long to be asked."""
        if self.request is None:
            return ()
        return (self.request.key,) if self.prior is None else (self.request.key, self.prior.key)


Wanted = Callable[[str, str], bool]
"""Whether an item's id and a language are among what is asked this time."""


def variants(
    suite: Suite, protocol: Protocol, items: Iterator[Item] | None = None, wanted: Wanted | None = None
) -> Iterator[tuple[Item, str, Variant]]:
    """All (item, language, variant) that a protocol asks of a suite, items in the suite's own random order."""
    for item in suite.items(limit=protocol.limit, kinds=protocol.kinds) if items is None else items:
        for code in languages_of(item, protocol):
            if wanted is not None and not wanted(item.id, code):
                continue
            page = protocol.page(code)
            country = country_of(suite, item, page)
            for context in contexts_of(item, page, country):
                if protocol.contexts and context not in protocol.contexts:
                    continue
                for order in range(min(protocol.orders, len(item.option_ids))):
                    yield item, code, Variant(context, order)


def question_of(suite: Suite, protocol: Protocol, item: Item, code: str, variant: Variant) -> Question:
    """One item in one language and variant, put into words as the protocol says."""
    page = protocol.page(code)
    return ask(item, code, protocol.mode, variant, country_of(suite, item, page), page)


def asks(suite: Suite, protocol: Protocol, backend: Backend, wanted: Wanted | None = None) -> Iterator[Ask]:
    """What this run asks, or the part of it that is ``wanted``, rendered and tokenized for the model at hand."""
    for item, code, variant in variants(suite, protocol, wanted=wanted):
        question = question_of(suite, protocol, item, code, variant)
        request: ScoreRequest | GenerateRequest
        if question.reasons:
            request = to_reasoning(backend, question, protocol, code)
        else:
            request = to_request(backend, question, strict=protocol.strict)
        prior = None
        if protocol.pmi:
            free = content_free(item, code, protocol.mode, variant.order, protocol.page(code), listed=protocol.listed)
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


Asking = Callable[[Suite, Protocol, Backend, "Wanted | None"], Iterator[Ask]]
"""``asks``, or another way to put a suite's items."""


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


def enough_tokens(suite: Suite, protocol: Protocol) -> int:
    """Tokens that suffice for each question of a suite, found without a tokenizer.

    No tokenizer makes more tokens than a text has UTF-8 bytes, give or take; what a chat template adds is allowed for.
    """
    most = 0
    for item, code, variant in variants(suite, protocol):
        question = question_of(suite, protocol, item, code, variant)
        texts = [*(m["content"] for m in question.messages), question.after_reasoning]
        size = sum(len(text.encode()) for text in texts) + max(len(c.encode()) for c in question.continuations)
        most = max(most, size + (protocol.budget(code) if question.reasons else 0))
    return most + TEMPLATE_TOKENS


def check_languages(suites: Sequence[Suite], protocol: Protocol) -> None:
    """Refuse a run that asks for a language that no suite has, before any model is loaded.

    Raises:
        UsageError: nothing would be asked.
    """
    if protocol.translate == "cot":
        for code in protocol.languages:
            language(code)
    for code in protocol.languages if protocol.translate == "full" else ():
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
    """The languages an item is asked in: those it has, that cultev has words for, and that were asked for.

    What stays English but for the instruction needs the item's English only.
    """
    wanted = protocol.languages or codes()
    return [code for code in wanted if protocol.page(code) in item.texts and code in codes()]


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


def to_reasoning(backend: Backend, question: Question, protocol: Protocol, code: str) -> GenerateRequest:
    """Tokenize a question that is to be reasoned about in ``code``: the reasoning, then the options after the lead."""
    text = backend.render(question.messages)
    prompt = tuple(backend.encode(text if backend.has_template else f"{text}\n"))
    lead = encode_within(backend, question.after_reasoning)
    whole = [encode_within(backend, question.after_reasoning + c) for c in question.continuations]
    border = min([len(lead), *(common_prefix(lead, w) for w in whole), *(len(w) - 1 for w in whole)])
    follow = FollowUp(
        tuple(lead[:border]),
        tuple(Continuation(c, tuple(w[border:])) for c, w in zip(question.continuations, whole, strict=True)),
    )
    request = GenerateRequest(
        "", prompt, protocol.budget(code), question.reasoning_stops, protocol.temperature, protocol.seed,
        follow_up=follow,
    )  # fmt: skip
    return replace(request, key=text_key(backend.info.sha256, request, protocol.strict))


def encode_within(backend: Backend, text: str) -> list[int]:
    """Token ids of a text that goes on from others: no BOS, no space that a tokenizer puts before a text's start.

    Raises:
        EngineError: the tokenizer merges every text tried with what follows it.
    """
    tokens = tokens_onward(backend.encode, text)
    if tokens is None:
        raise EngineError(
            f"The model's tokenizer has no tokens for {text!r} in the middle of a text.",
            "Check the model's tokenizer; `cultev run --show ITEM` prints what it makes of a question.",
        )
    return tokens


def longest(request: ScoreRequest | GenerateRequest) -> int:
    """Tokens of the prompt with its longest continuation, or with all that it may generate and be asked after it."""
    if isinstance(request, GenerateRequest):
        follow = request.follow_up
        after = len(follow.lead) + max(len(c.tokens) for c in follow.continuations) if follow else 0
        return len(request.prompt) + request.max_tokens + after
    return len(request.prompt) + max(len(c.tokens) for c in request.continuations)


def text_key(model: str, request: GenerateRequest, strict: bool = False) -> str:
    """The same text asked of the same model in the same way, its follow-up included, has the same key."""
    digest = hashlib.sha256(TEXT_KEY_VERSION + STRICT if strict else TEXT_KEY_VERSION)
    digest.update(bytes.fromhex(model))
    follow = request.follow_up or FollowUp((), ())
    how = {
        "prompt": request.prompt, "max_tokens": request.max_tokens, "stop": request.stop,
        "temperature": request.temperature, "seed": request.seed if request.temperature else 0,
        "grammar": request.grammar, "lead": follow.lead,
        "continuations": [(c.text, c.tokens) for c in follow.continuations],
    }  # fmt: skip
    digest.update(json.dumps(how, ensure_ascii=False, separators=(",", ":")).encode())
    return digest.hexdigest()


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
