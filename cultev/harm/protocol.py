"""Everything that decides how a harm suite is asked: named, versioned, hashed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from cultev.harm.words import WORDS_VERSION

PLAIN = "plain"
SYSTEM = "system"
PARAPHRASES = ("paraphrase-1", "paraphrase-2")

VARIANTS = (PLAIN, SYSTEM, *PARAPHRASES)
"""Ways of putting the same question: as it stands, under a system prompt, in two frames of words."""


@dataclass(frozen=True, slots=True)
class HarmProtocol:
    """What a harm run asks. Two runs of one protocol on one model and suite ask the very same questions.

    ``languages`` and ``forms``: () means every one that an item has. ``canned``: earlier turns of a dialogue are
    answered by fixed neutral words instead of the model's own, so that models are asked the very same thing.
    ``samples``: replies per question, more than one only with a ``temperature``. ``variants``: the first one is what
    tables are about, the others say how much it matters how one asks. ``limit``: items per suite, None for all.
    """

    languages: tuple[str, ...] = ()
    forms: tuple[str, ...] = ()
    canned: bool = False
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    variants: tuple[str, ...] = (PLAIN,)
    max_tokens: int = 256
    limit: int | None = None
    n_ctx: int | None = None
    strict: bool = False
    words: str = WORDS_VERSION

    @property
    def mode(self) -> str:
        """What ``runs.mode`` says of such a run."""
        return "harm"

    @property
    def norm(self) -> str:
        """Nothing is normalised."""
        return ""

    def canonical(self) -> str:
        """JSON with sorted keys: what is hashed and stored."""
        return json.dumps({"mode": self.mode, **asdict(self)}, sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
