"""``Backend.generate`` over an engine's sequences."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from cultev.backend.generator import Generator
from cultev.backend.held import Vocabulary
from cultev.backend.sequences import Sequences
from cultev.backend.types import GenerateRequest, GenerateResult


class TextGenerator(ABC):
    """What engines share: ``Backend.generate`` over sequences of theirs."""

    n_ctx: int
    strict: bool
    parallel: int
    """Most texts that grow at once."""
    on_start: Callable[[Sequence[str]], None]

    @abstractmethod
    def _sequences(self) -> Sequences:
        """The engine's sequences, all empty; ``generate`` closes them."""

    @abstractmethod
    def _vocabulary(self) -> Vocabulary:
        """What generating must know of the model's tokens."""

    def generate(
        self, requests: Iterable[GenerateRequest], *, skip: Container[str] = ()
    ) -> Iterator[list[GenerateResult]]:
        """See ``Backend.generate``."""
        generator = Generator(
            self._sequences(), self._vocabulary(),
            parallel=self.parallel, n_ctx=self.n_ctx, strict=self.strict, on_start=self.on_start,
        )  # fmt: skip
        yield from generator.run(requests, skip)
