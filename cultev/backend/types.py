"""What crosses the border between cultev and an engine: requests, results, and the ``Backend`` protocol."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Message = Mapping[str, str]
"""A chat message: {'role': 'user' | 'system' | 'assistant', 'content': text}."""


CONTEXT_CAP = 4096
"""Longest prompt + answer, in tokens, that engines make room for unless asked otherwise."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is asked to run; None and 'auto' leave the choice to it and to the memory plan.

    ``strict`` fixes the shape of every computation: an answer then depends on its own request only, to the bit,
    whatever else a run asks and however often it was interrupted. It is slower.
    """

    n_ctx: int | None = None
    """Longest prompt + answer, in tokens."""
    threads: int | None = None
    device: str = "auto"
    """'auto' (a GPU where the engine has one), 'cpu' or 'gpu'."""
    strict: bool = False
    batch: int | None = None
    """Most tokens of one pack or decode call."""
    parallel: int | None = None
    """Most sequences that generate at the same time."""
    reuse: str = "auto"
    """How a prefix is reused: 'copy', 'restore', 'recompute', or the best that the model's memory can do."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a model file or folder.

    ``sha256`` is of the file (GGUF) or of the graph and tokenizer files together (ONNX): two models with
    the same sha256 give the same answers. ``n_ctx`` is the longest context the model was made for, in tokens.
    """

    path: str
    name: str
    format: str
    """'gguf', 'onnx' or 'fake'."""
    sha256: str
    architecture: str
    quantization: str
    n_params: int
    n_ctx: int
    n_vocab: int
    file_bytes: int
    template_sha256: str = ""
    """SHA-256 of the chat template's text, '' when the model has none."""
    reference: bool = False
    """Whether this is cultev's own reference model, whose scores only check the tool."""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Continuation:
    """A text whose probability after a prompt is asked, and its token ids after that prompt."""

    text: str
    tokens: tuple[int, ...]

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the text."""
        return len(self.text.encode())

    @property
    def n_chars(self) -> int:
        """Unicode code points of the text."""
        return len(self.text)


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """How probable is each continuation after this prompt?

    ``prompt`` is never empty and neither is a continuation. The longest of prompt + continuation must fit
    the context (``Backend.n_ctx``): callers set longer ones aside as ``too_long`` beforehand.
    """

    key: str
    prompt: tuple[int, ...]
    continuations: tuple[Continuation, ...]


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """Sum of natural-log probabilities over a continuation's tokens, and what to divide it by."""

    logprob: float
    n_tokens: int
    n_bytes: int
    n_chars: int


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The scores of one request's continuations, in their order.

    ``error`` says why there are none: the engine died of this request, twice, or nothing is asked.
    """

    key: str
    scores: tuple[ContinuationScore, ...]
    error: str = ""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """What is asked once a text has been generated: how probable is each continuation after text + lead?

    ``lead`` holds the token ids that are put between the generated text and the continuations (such as 'The
    answer is'); it may be empty.
    """

    lead: tuple[int, ...]
    continuations: tuple[Continuation, ...]


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """Go on from this prompt.

    Greedy at ``temperature`` 0; otherwise sampled from the whole distribution softmax(logits / temperature) with
    random numbers that depend on ``seed`` and the prompt only. Ends with the model's own end-of-turn token,
    before the first of the ``stop`` texts, after ``max_tokens``, or when the context is full. Prompt + max_tokens +
    follow-up should fit ``Backend.n_ctx``: callers set longer prompts aside as ``too_long`` beforehand.
    """

    key: str
    prompt: tuple[int, ...]
    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    seed: int = 0
    grammar: str = ""
    """What the text must match, as GBNF with the rule 'root'; GGUF models only."""
    follow_up: FollowUp | None = None


@dataclass(frozen=True, slots=True)
class GenerateResult:
    """A generated text, and the scores of its follow-up.

    ``finish``: 'end' (the model ended its turn), 'stop' (a stop text came, which is no part of ``text``), 'length'
    (``max_tokens``), 'context' (no room left) or 'error': the engine died of this request, twice, or it can't be
    answered (an empty prompt, a token id that is none, no room in the context or the cells); ``error`` says which.
    ``tokens`` are all ids that were generated, those of an end or a stop text included.
    """

    key: str
    text: str
    tokens: tuple[int, ...]
    finish: str
    scores: tuple[ContinuationScore, ...] = ()
    """Of the follow-up's continuations, in their order."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """An engine's process died."""

    reason: str
    """The signal or exit code, and what the engine last wrote."""
    keys: tuple[str, ...]
    """Keys of the requests that were being computed."""
    consequence: str
    """What is done about it, to go after 'The engine died: '."""


def ignore_start(keys: Sequence[str]) -> None:
    """What ``Backend.on_start`` is unless somebody listens: nothing."""


def ignore_fault(fault: Fault) -> None:
    """What ``Backend.on_fault`` is unless somebody listens: nothing."""


class Backend(Protocol):
    """An engine that answers. Constructors import what is heavy; ``close`` frees memory."""

    info: ModelInfo
    n_ctx: int
    """Tokens that one prompt + continuation may have here (the model's own limit or less memory's)."""
    parallel: int
    """Most texts that are generated at the same time."""
    on_start: Callable[[Sequence[str]], None]
    """Called with the keys of requests before work on them begins; ``ignore_start`` unless replaced."""
    on_fault: Callable[[Fault], None]
    """Called when the engine's process died and is replaced (``backend.worker``); ``ignore_fault`` unless replaced."""

    def render(self, messages: Sequence[Message]) -> str:
        """The exact text the model reads, by its own chat template with the assistant's turn opened.

        Without a template: the messages' contents, one after the other (see ``has_template``).
        """
        ...

    @property
    def has_template(self) -> bool:
        """Whether the model brings a chat template."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a rendered prompt, special tokens recognised, exactly one BOS where the model wants one."""
        ...

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """``encode`` of each text: one trip to the engine where it is far away."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated token ids; special tokens give none, broken UTF-8 gives U+FFFD."""
        ...

    def token_text(self, token: int) -> str:
        """How one token reads, for people; bytes that are no text of their own are shown escaped."""
        ...

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        """Score requests, computing shared prefixes once; yield what was computed together, in any order.

        ``skip`` holds keys that are answered already. They are planned with the rest; batches that hold nothing
        else are left out and all others computed whole, hence to the same bits as in a run that was never
        interrupted. So a result's key may be in ``skip``.
        """
        ...

    def generate(
        self, requests: Iterable[GenerateRequest], *, skip: Container[str] = ()
    ) -> Iterator[list[GenerateResult]]:
        """Generate texts, many at a time, computing shared prefixes once; yield them as they finish, in any order.

        Requests whose key is in ``skip`` are left out.

        Raises:
            ModelUnsupported: a grammar, from an engine that has none.
        """
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector per text, (n, width), L2-normalised: the mean over tokens of the last hidden state or, for an
        embedding model, what its own pooling gives.

        Raises:
            ModelUnsupported: the model gives no hidden states.
        """
        ...

    def raw_prompt_rate(self, n_tokens: int = 512, read_share: float = 0.0) -> float:
        """Tokens per second of one plain prompt through the engine itself, next to nothing of cultev's around it.

        ``read_share``: after how many of its tokens logits are asked for, 0 to 1; after the last one always.
        """
        ...

    def raw_decode_rate(self, prompts: Sequence[Sequence[int]], n_tokens: int = 32) -> float:
        """Tokens per second of sequences that each decode ``n_tokens`` after a prompt of their own, one decode call a
        step, through the engine itself: no sampling, no text.

        The cache holds what it would if texts were generated after these prompts: what they share lies there once
        where ``generate`` has it so.
        """
        ...

    def peak_bytes(self) -> int | None:
        """The most memory that the engine's process has held so far, resident; None where the system doesn't tell."""
        ...

    def close(self) -> None:
        """Free the model."""
        ...
