"""A public fake engine: deterministic answers without a model, for tests and for trying a suite.

Tokens are UTF-8 bytes plus a BOS (256); a continuation's score is decided by a function of the rendered prompt
and the option's text that a test can replace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from cultev.backend.prefix import Limits, plan, windows
from cultev.backend.types import ContinuationScore, Message, ModelInfo, ScoreRequest, ScoreResult
from cultev.prompt.chat import render_plain

BOS = 256


def hashed(prompt: str, continuation: str) -> float:
    """A log-probability between -9 and -1 that looks random and never changes."""
    digest = hashlib.sha256(f"{prompt}\0{continuation}".encode()).digest()
    return -1.0 - 8.0 * int.from_bytes(digest[:6], "big") / 2**48


class FakeBackend:
    """A ``Backend`` whose answers are ``judge(prompt text, continuation text)``."""

    def __init__(
        self,
        judge: Callable[[str, str], float] = hashed,
        *,
        name: str = "fake",
        n_ctx: int = 4096,
        limits: Limits | None = None,
    ) -> None:
        self.judge = judge
        self.limits = limits or Limits()
        self.n_ctx = n_ctx
        self.has_template = True
        self.scored = 0
        """Requests computed so far."""
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.info = ModelInfo(
            path=name, name=name, format="fake", sha256=digest, architecture="fake", quantization="none",
            n_params=0, n_ctx=n_ctx, n_vocab=257, file_bytes=0,
        )  # fmt: skip

    def render(self, messages: Sequence[Message]) -> str:
        """The contents, then an opened answer."""
        return render_plain(messages) + "\n"

    def encode(self, text: str) -> list[int]:
        """BOS and the text's bytes."""
        return [BOS, *text.encode()]

    def token_text(self, token: int) -> str:
        """The byte, escaped where it is no ASCII letter."""
        return "<s>" if token == BOS else ascii(chr(token))[1:-1]

    def score(self, requests: Iterable[ScoreRequest], *, skip: Container[str] = ()) -> Iterator[list[ScoreResult]]:
        """See ``Backend.score``; packs as a real engine would."""
        for window in windows(requests):
            for pack in plan(window, self.limits):
                if any(r.key not in skip for r in pack.requests):
                    self.scored += len(pack.requests)
                    yield [ScoreResult(r.key, tuple(self._scores(r))) for r in pack.requests]

    def _scores(self, request: ScoreRequest) -> Iterator[ContinuationScore]:
        prompt = bytes(t for t in request.prompt if t < 256).decode(errors="replace")
        for c in request.continuations:
            yield ContinuationScore(self.judge(prompt, c.text), len(c.tokens), c.n_bytes, c.n_chars)

    def close(self) -> None:
        """Nothing to free."""
