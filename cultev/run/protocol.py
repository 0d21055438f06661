"""Everything that decides what is asked and how: named, versioned, hashed."""

from __future__ import annotations

import hashlib
import json
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from cultev.prompt.render import PROMPT_VERSION
from cultev.suite.item import OPTION_KINDS

NORMS = ("sum", "token", "byte", "char", "pmi")
"""How options of different length are made comparable; see ``cultev.score.choice``."""


LATER: Mapping[str, object] = {
    "strict": False,
    "translate": "full",
    "budgets": (),
    "listed": False,
    "kinds": OPTION_KINDS,
}
"""Words that protocols did not always have, with what they mean where they are absent."""

TRANSLATIONS = ("full", "cot")
"""What is put into a language: all of an item, or only what stands around it; see ``Protocol.translate``."""


class Described(typing.Protocol):
    """What the results file wants to know of any protocol: how its questions were asked, and a hash over that."""

    @property
    def mode(self) -> str:
        """How answers were taken: 'text', 'letters', 'cot', 'harm'."""

    @property
    def norm(self) -> str:
        """One of NORMS; '' where nothing is normalised."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical form."""

    def canonical(self) -> str:
        """JSON with sorted keys."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """What a run asks. Two runs of one protocol on one model and suite ask the very same questions.

    ``languages`` and ``contexts``: () means every one that an item has.
    ``orders``: option orders asked per item. ``limit``: items per suite, None for all.
    ``norm``: the normalisation that decides; the others are stored beside it. PMI is only asked when ``pmi``.
    ``max_tokens``, ``temperature`` and ``seed`` are those of the reasoning in mode 'cot'.
    """

    mode: str = "text"
    languages: tuple[str, ...] = ()
    contexts: tuple[str, ...] = ()
    orders: int = 1
    limit: int | None = None
    norm: str = "sum"
    pmi: bool = False
    n_ctx: int | None = None
    strict: bool = False
    """Whether every computation has a fixed shape (``EngineSettings.strict``): no answer of another kind will do."""
    prompts: str = PROMPT_VERSION
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    translate: str = "full"
    """'full': question and options are the item's own in that language. 'cot': they stay English, and only the
    instruction, the reasoning and the answer's lead change; needs no translated items."""
    budgets: tuple[tuple[str, int], ...] = ()
    """Longest reasoning by language, in tokens, where it isn't ``max_tokens`` for all."""
    listed: bool = False
    """Whether the content-free question lists the options as the question does (``prompt.render.content_free``)."""

    kinds: tuple[str, ...] = OPTION_KINDS
    """Kinds of items that are asked."""

    def budget(self, code: str) -> int:
        """Longest reasoning in a language, in tokens."""
        return dict(self.budgets).get(code, self.max_tokens)

    def page(self, code: str) -> str:
        """The language of question and options where the instruction is in ``code``."""
        return "en" if self.translate == "cot" else code

    def canonical(self) -> str:
        """JSON with sorted keys: what is hashed and stored.

        What only reasoning has is left out of other modes, and what came later unless it is set: runs from before
        these words are still the same runs.
        """
        words = asdict(self)
        for name, usual in LATER.items():
            if words[name] == usual:
                del words[name]
        if self.mode not in ("cot", "json"):
            for name in ("max_tokens", "temperature", "seed"):
                del words[name]
        return json.dumps(words, sort_keys=True, separators=(",", ":"))

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()
