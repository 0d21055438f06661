"""What crosses the border between cultev and an engine: requests, results, and the ``Backend`` protocol."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Message = Mapping[str, str]
"""A chat message: {'role': 'user' | 'system' | 'assistant', 'content': text}."""


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
    """The scores of one request's continuations, in their order."""

    key: str
    scores: tuple[ContinuationScore, ...]


class Backend(Protocol):
    """An engine that answers. Constructors import what is heavy; ``close`` frees memory."""

    info: ModelInfo
    n_ctx: int
    """Tokens that one prompt + continuation may have here (the model's own limit or less memory's)."""

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

    def close(self) -> None:
        """Free the model."""
        ...
