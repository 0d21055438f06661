"""What generating asks of an engine: sequences that are forked, fed and dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cultev.backend.prefix import TokenTree

Wanted = list[tuple[int, int]]
"""(node, token): the log-probability of ``token`` right after tree node ``node``."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens to append to a sequence, and whether the logits after the last of them are asked."""

    slot: int
    tokens: tuple[int, ...]
    ask: bool


class Constraint(Protocol):
    """A grammar that a text must match, at one point of it."""

    def mask(self, logits: NDArray[np.float32], *, greedy: bool = False) -> NDArray[np.float32]:
        """The logits with minus infinity where a token would break the grammar.

        ``greedy``: only the best token that is allowed is asked for; any other may be minus infinity, too.
        """
        ...

    def accept(self, token: int) -> None:
        """Go on past a token that was chosen."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Sequences(Protocol):
    """An engine's sequences, numbered 0 to ``slots`` - 1, all empty at first.

    What an engine computes depends on the calls made, never on time: the same calls give the same bytes.
    """

    slots: int
    """Sequences that may be held at once: those that generate and the prefixes kept for others."""
    cells: int
    """Tokens that all sequences may hold together."""
    shares_cells: bool
    """Whether a prefix that several sequences have in common takes its cells once (else once in each)."""
    keeps_marks: bool
    """Whether sequences can't be cut back but are forked at no cost: then a text that must go back keeps a copy."""
    batch: int
    """Tokens that one ``advance`` may be given."""

    def fork(self, source: int, target: int) -> None:
        """Make the empty sequence ``target`` equal to ``source``, without computing anything."""
        ...

    def trim(self, slot: int, length: int) -> bool:
        """Keep a sequence's first ``length`` tokens; False (and nothing done) where memory can't be cut back."""
        ...

    def drop(self, slot: int) -> None:
        """Make a sequence empty."""
        ...

    def advance(self, feeds: Sequence[Feed]) -> NDArray[np.float32]:
        """Append tokens to sequences, all in as few computations as the engine can.

        Returns:
            (n, vocabulary): the logits after each feed that asks, in order. Valid until the next call.
        """
        ...

    def branch(self, slot: int, length: int, tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """Log-probabilities of ``wanted`` in a tree after the sequence, which holds ``length`` tokens.

        May leave the sequence in any state: it is dropped next.
        """
        ...

    def constrain(self, grammar: str) -> Constraint:
        """A constraint by a GBNF grammar.

        Raises:
            ModelUnsupported: this engine has none, or the grammar can't be read.
        """
        ...

    def close(self) -> None:
        """Drop all sequences and free what was taken for them."""
        ...
