"""A public fake engine: deterministic answers without a model, for tests and for trying a suite.

Tokens are UTF-8 bytes plus a BOS (256) and an end (257); a continuation's score is decided by a function of the
rendered prompt and the option's text, what it writes by another of the prompt; a test can replace both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cultev.backend.generated import Growing
from cultev.backend.machine import peak_memory
from cultev.backend.prefix import Limits, plan, windows
from cultev.backend.types import (
    Continuation,
    ContinuationScore,
    Fault,
    GenerateRequest,
    GenerateResult,
    Message,
    ModelInfo,
    ScoreRequest,
    ScoreResult,
    ignore_fault,
    ignore_start,
)
from cultev.prompt.chat import render_plain

BOS = 256
END = 257


def hashed(prompt: str, continuation: str) -> float:
    """A log-probability between -9 and -1 that looks random and never changes."""
    digest = hashlib.sha256(f"{prompt}\0{continuation}".encode()).digest()
    return -1.0 - 8.0 * int.from_bytes(digest[:6], "big") / 2**48


def echoed(prompt: str) -> str:
    """The prompt's last line, as a reply."""
    return (prompt.strip().splitlines() or [""])[-1]


class FakeBackend:
    """A ``Backend`` that scores by ``judge(prompt text, continuation text)`` and writes ``write(prompt text)``."""

    def __init__(
        self,
        judge: Callable[[str, str], float] = hashed,
        *,
        write: Callable[[str], str] = echoed,
        name: str = "fake",
        n_ctx: int = 4096,
        limits: Limits | None = None,
    ) -> None:
        self.judge = judge
        self.write = write
        self.on_start: Callable[[Sequence[str]], None] = ignore_start
        self.on_fault: Callable[[Fault], None] = ignore_fault
        self.limits = limits or Limits()
        self.n_ctx = n_ctx
        self.parallel = 16
        self.has_template = True
        self.scored = 0
        """Requests computed so far."""
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.info = ModelInfo(
            path=name, name=name, format="fake", sha256=digest, architecture="fake", quantization="none",
            n_params=0, n_ctx=n_ctx, n_vocab=258, file_bytes=0,
        )  # fmt: skip

    def render(self, messages: Sequence[Message]) -> str:
        """The contents, then an opened answer."""
        return render_plain(messages) + "\n"

    def encode(self, text: str) -> list[int]:
        """BOS and the text's bytes."""
        return [BOS, *text.encode()]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """Each by itself."""
        return [self.encode(text) for text in texts]

    def token_text(self, token: int) -> str:
        """The byte, escaped where it is no ASCII letter."""
        return {BOS: "<s>", END: "</s>"}.get(token) or ascii(chr(token))[1:-1]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the bytes."""
        return bytes(t for t in tokens if t < BOS).decode(errors="replace")

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        """See ``Backend.score``; packs as a real engine would."""
        for window in windows(requests):
            for pack in plan(window, self.limits):
                if any(r.key not in skip for r in pack.requests):
                    self.on_start([r.key for r in pack.requests])
                    self.scored += len(pack.requests)
                    yield [self._score(r) for r in pack.requests]

    def generate(
        self, requests: Iterable[GenerateRequest], *, skip: Container[str] = ()
    ) -> Iterator[list[GenerateResult]]:
        """See ``Backend.generate``; one after the other."""
        for request in requests:
            if request.key not in skip:
                self.on_start([request.key])
                yield [self._generate(request)]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """How often each byte value occurs, L2-normalised."""
        counts = np.zeros((len(texts), 256), np.float32)
        for row, text in zip(counts, texts, strict=True):
            np.add.at(row, list(text.encode()) or [0], 1)
        counts /= np.linalg.norm(counts, axis=1, keepdims=True)
        return counts

    def raw_prompt_rate(self, n_tokens: int = 512, read_share: float = 0.0) -> float:
        """Nothing is computed."""
        return float("inf")

    def raw_decode_rate(self, prompts: Sequence[Sequence[int]], n_tokens: int = 32) -> float:
        """Nothing is computed."""
        return float("inf")

    def peak_bytes(self) -> int | None:
        """What the process itself has held."""
        return peak_memory()

    def _score(self, request: ScoreRequest) -> ScoreResult:
        return ScoreResult(request.key, tuple(self._scores(self.decode(request.prompt), request.continuations)))

    def _generate(self, request: GenerateRequest) -> GenerateResult:
        prompt = self.decode(request.prompt)
        growing, tokens, finish = Growing(request.stop), list[int](), "end"
        for byte in self.write(prompt).encode():
            tokens.append(byte)
            if growing.add(bytes([byte])):
                finish = "stop"
                break
            if len(tokens) >= request.max_tokens:
                finish = "length"
                break
        else:
            tokens.append(END)
        scores: tuple[ContinuationScore, ...] = ()
        if request.follow_up is not None:
            told = prompt + growing.text + self.decode(request.follow_up.lead)
            scores = tuple(self._scores(told, request.follow_up.continuations))
        return GenerateResult(request.key, growing.text, tuple(tokens), finish, scores)

    def _scores(self, prompt: str, continuations: Sequence[Continuation]) -> Iterator[ContinuationScore]:
        for c in continuations:
            yield ContinuationScore(self.judge(prompt, c.text), len(c.tokens), c.n_bytes, c.n_chars)

    def close(self) -> None:
        """Nothing to free."""
