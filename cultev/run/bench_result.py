"""What one benchmark found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark's figures; None where nothing was generated.

    Ratios and speed-ups are medians over rounds; rates are those of the round that a ratio comes from.
    ``ratio_to_raw`` is ``unique_tokens_per_s / raw_tokens_per_s``: 1 means that rendering, tokenizing, planning,
    reading logits and keeping answers cost nothing beside the engine's work on tokens that differ.
    """

    suite: str
    questions: int
    options: int
    unique_tokens: int
    """Different tokens of all questions and options: what has to be computed at least."""
    raw_prompt_tokens: int
    """Tokens of a plain prompt: 512, or what the context has room for."""
    raw_tokens_per_s: float
    """Plain prompts through the same library, threads and build."""
    unique_tokens_per_s: float
    """Unique tokens a second of the whole run: rendered, tokenized, scored and kept in a results file."""
    ratio_to_raw: float
    speedup_over_naive: float
    """Over one full prompt per option: four options of 8 tokens after an instruction that all share and a question."""
    speedup_on_suite: float
    """The same on the suite's own questions: a random sample of them one by one, and scaled by tokens to all."""
    overhead: float
    """Share of the run's time that is spent outside the engine."""
    peak_mb: float | None
    """Peak resident memory of the engine's process, in 10^6 bytes."""
    parallel: int | None = None
    """Texts that were generated at the same time."""
    raw_decode_tokens_per_s: float | None = None
    """The engine's own rate at as many sequences after the same prompts: one decode call a step, nothing around it."""
    decode_tokens_per_s: float | None = None
    """Ours while all texts grow: tokens a second beyond a fourth of each, what comes before them taken off. None where
    texts are too short to tell."""
    ratio_to_raw_decode: float | None = None
    speedup_over_one: float | None = None
    """Tokens a second, prompts included, against one at a time through the same engine."""
    rounds: int = 0

    def figures(self) -> dict[str, Any]:
        """Name -> value, in order."""
        return asdict(self)
