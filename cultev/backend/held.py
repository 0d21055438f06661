"""What a sequence of the engine holds while texts are generated: a prefix that several share, or a text that grows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cultev.backend.generated import Growing
from cultev.backend.sampling import Sampler
from cultev.backend.sequences import Constraint
from cultev.backend.types import GenerateRequest


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What generating must know of a model's tokens."""

    piece: Callable[[int], bytes]
    """The bytes of a token, b'' for special ones."""
    ends: Callable[[int], bool]
    """Whether a token ends the model's turn."""
    encode: Callable[[str], list[int]]
    """Token ids of a text that goes on from others: no BOS, no space put before it."""
    size: int
    """Token ids are below it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A copy of a text's sequence, to go back to."""

    slot: int
    length: int
    """Tokens that it holds."""
    logits: NDArray[np.float32]
    """After the last of them."""


@dataclass(slots=True)
class Held:
    """One sequence of the engine: a trunk, or a text that grows."""

    slot: int
    tokens: list[int]
    """What it holds or is about to hold."""
    done: int
    """How many of them the engine has computed."""
    request: GenerateRequest | None = None
    sampler: Sampler | None = None
    constraint: Constraint | None = None
    text: Growing = field(default_factory=lambda: Growing(()))
    generated: list[int] = field(default_factory=list)
    budget: int = 0
    """Cells it may still come to take beyond ``tokens``, its follow-up's branches included."""
    limit: int = 0
    """Tokens that its text may have: what was asked, or what the context or the cells leave."""
    logits: NDArray[np.float32] | None = None
    """After its last token, once known."""
    mark: Mark | None = None
    """Where what may become a stop text begins, in engines that can't cut a sequence back."""
