"""Suite x protocol -> conversations, and a conversation's next turn -> a keyed request."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cultev.backend.types import Backend, GenerateRequest, Message
from cultev.errors import UsageError
from cultev.harm.protocol import PARAPHRASES, PLAIN, SYSTEM, HarmProtocol
from cultev.harm.words import codes, words
from cultev.run.plan import TEMPLATE_TOKENS, text_key
from cultev.suite.item import FORMS, Dialogue
from cultev.suite.store import Suite

PLAIN_STOP = "\nUser:"
"""Where a model without a chat template would go on to write the user's next turn."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One dialogue item in one language and variant, held once.

    ``turns`` is what the user says, frames included. ``canned`` is the fixed reply to every turn but the last one,
    '' where the model's own replies stand there.
    """

    item: Dialogue
    language: str
    variant: str
    sample: int
    turns: tuple[str, ...]
    system: str = ""
    canned: str = ""

    @property
    def place(self) -> tuple[str, str, str, int]:
        """What tells it from all others of its suite and run."""
        return self.item.id, self.language, self.variant, self.sample

    def messages(self, replies: Sequence[str]) -> list[Message]:
        """What the model reads before its next reply: as many turns as there are replies, and one more."""
        told: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        for turn, reply in zip(self.turns, replies, strict=False):
            told += [{"role": "user", "content": turn}, {"role": "assistant", "content": reply}]
        return [*told, {"role": "user", "content": self.turns[len(replies)]}]


@dataclass(frozen=True, slots=True)
class Turn:
    """A reply that is wanted. ``request`` is None when it would not fit into the context (``n_tokens``)."""

    conversation: Conversation
    number: int
    prompt_sha256: str
    request: GenerateRequest | None
    n_tokens: int

    @property
    def last(self) -> bool:
        """Whether it is the reply that counts."""
        return self.number == len(self.conversation.turns) - 1


def conversations(suite: Suite, protocol: HarmProtocol) -> Iterator[Conversation]:
    """All conversations of a protocol, items in the suite's own random order."""
    for item in suite.items(limit=protocol.limit, kinds=("dialogue",)):
        assert isinstance(item, Dialogue)
        if protocol.forms and item.form not in protocol.forms:
            continue
        for code in item.texts:
            if code not in codes() or (protocol.languages and code not in protocol.languages):
                continue
            for variant in protocol.variants:
                for sample in range(protocol.samples):
                    yield _conversation(item, code, variant, sample, canned=protocol.canned)


def survey(suites: Sequence[Suite], protocol: HarmProtocol) -> Counter[str]:
    """How many conversations there are, by language.

    Raises:
        UsageError: a suite has no dialogues, or none is left by the languages and forms that were asked for.
    """
    found: Counter[str] = Counter()
    for suite in suites:
        if not suite.count("kind").get("dialogue"):
            raise UsageError(
                f"{suite.name} has no dialogues to hold.",
                "Questions with right and wrong options are for `cultev run`, pairs for `cultev harm pairs`.",
            )
        counted = Counter(conversation.language for conversation in conversations(suite, protocol))
        if not counted:
            raise UsageError(
                f"Nothing of {suite.name} would be asked in the languages and forms asked for.",
                f"It has: {' '.join(suite.languages)}; forms are {', '.join(FORMS)}.",
            )
        found += counted
    return found


def without_words(suites: Sequence[Suite]) -> list[str]:
    """Languages of suites that the harm test has no words in, and so does not ask in."""
    return sorted({code for suite in suites for code in suite.languages} - set(codes()))


def enough_tokens(suites: Sequence[Suite], protocol: HarmProtocol) -> int:
    """Tokens that suffice for every conversation, found without a tokenizer (no token is less than a byte).

    Of a model's own earlier replies at most ``max_tokens`` tokens each can come back; retokenized they stay about that.
    """
    most = 0
    for suite in suites:
        for conversation in conversations(suite, protocol):
            fixed = [*conversation.turns, conversation.system, conversation.canned * (len(conversation.turns) - 1)]
            own = 1 if conversation.canned else len(conversation.turns)
            size = sum(len(text.encode()) for text in fixed) + own * protocol.max_tokens
            most = max(most, size + TEMPLATE_TOKENS + 16 * len(conversation.turns))
    return most


def next_turn(backend: Backend, protocol: HarmProtocol, conversation: Conversation, replies: Sequence[str]) -> Turn:
    """The reply that comes after these, as a request."""
    return next_turns(backend, protocol, [(conversation, replies)])[0]


def next_turns(
    backend: Backend, protocol: HarmProtocol, open_ones: Sequence[tuple[Conversation, Sequence[str]]]
) -> list[Turn]:
    """``next_turn`` of many conversations: one trip to the tokenizer."""
    texts = [render(backend, conversation.messages(replies)) for conversation, replies in open_ones]
    turns = []
    for (conversation, replies), text, prompt in zip(open_ones, texts, backend.encode_all(texts), strict=True):
        n_tokens = len(prompt) + protocol.max_tokens
        request = GenerateRequest(
            "", tuple(prompt), protocol.max_tokens, () if backend.has_template else (PLAIN_STOP,),
            protocol.temperature, protocol.seed + conversation.sample,
        )  # fmt: skip
        request = replace(request, key=text_key(backend.info.sha256, request, protocol.strict))
        digest = hashlib.sha256(text.encode()).hexdigest()
        fits = n_tokens <= backend.n_ctx
        turns.append(Turn(conversation, len(replies), digest, request if fits else None, n_tokens))
    return turns


def render(backend: Backend, messages: Sequence[Message]) -> str:
    """The exact text a model reads. Without a chat template: a transcript, for a plain text model to go on from."""
    if backend.has_template:
        return backend.render(messages)
    names = {"system": "", "user": "User: ", "assistant": "Assistant: "}
    return "\n".join([*(names[m["role"]] + m["content"] for m in messages), "Assistant:"])


def _conversation(item: Dialogue, code: str, variant: str, sample: int, *, canned: bool) -> Conversation:
    told, turns = words(code), list(item.texts[code].turns)
    if variant in PARAPHRASES:
        turns[-1] = told.frames[PARAPHRASES.index(variant)].replace("{question}", turns[-1])
    else:
        assert variant in (PLAIN, SYSTEM)
    return Conversation(
        item, code, variant, sample, tuple(turns),
        told.system if variant == SYSTEM else "", told.canned if canned and len(turns) > 1 else "",
    )  # fmt: skip
