"""Which option a model prefers, from the log-likelihoods of all options.

For option i with log-probability l_i over t_i tokens, b_i UTF-8 bytes, c_i characters and prior p_i
(its log-probability after a content-free question):

=====  ===============  =====================================================================
norm   value            source
=====  ===============  =====================================================================
sum    l_i              Brown et al. 2020, section 2.4
token  l_i / t_i        Brown et al. 2020, section 2.4
byte   l_i / b_i        Gao 2021, Multiple choice normalization in LM evaluation
char   l_i / c_i        lm-evaluation-harness' acc_norm as computed (the paper says bytes)
pmi    l_i - p_i        Holtzman et al. 2021, Surface Form Competition
=====  ===============  =====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cultev.backend.types import ContinuationScore

CORRECT, INCORRECT, TOO_LONG, ENGINE_ERROR = "correct", "incorrect", "too_long", "engine_error"
"""The last two are no answers: the question does not fit the context, or the engine died of it twice."""

UNPARSED = "unparsed"
"""A text was to name an option, and names none, or two. Never an answer, and never a guess."""

TIE = 1e-6
"""Nats within which the best options count as equal: far below what separates real answers, above float noise."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided. ``picked`` is ``norm``'s first preferred option and ``tied`` says whether it was the only one.

    ``picked`` is '' where nothing was. ``by_norm`` holds each norm's preferred option; None where right and wrong ones
    tie.
    """

    outcome: str
    picked: str
    tied: bool
    by_norm: dict[str, str | None]


def choose(
    options: Sequence[str],
    gold: Sequence[str],
    scores: Sequence[ContinuationScore],
    prior: Sequence[ContinuationScore] | None = None,
    norm: str = "sum",
) -> Choice:
    """Decide by ``norm``; a tie counts as wrong unless every tied option is right.

    Args:
        options: option ids in the order of ``scores``.
        gold: ids of the right options.
        scores: per option; ``prior`` likewise, or None when no prior was asked.
        norm: one of the table above; 'pmi' needs ``prior``.
    """
    values = {
        "sum": [s.logprob for s in scores],
        "token": [s.logprob / s.n_tokens for s in scores],
        "byte": [s.logprob / s.n_bytes for s in scores],
        "char": [s.logprob / s.n_chars for s in scores],
    }
    if prior is not None:
        values["pmi"] = [s.logprob - p.logprob for s, p in zip(scores, prior, strict=True)]
    best = {name: _best(options, row) for name, row in values.items()}
    # A tie between right and wrong picks nothing: it must not become right because the right one is listed first.
    by_norm = {name: tied[0] if len(tied) == 1 or set(tied) <= set(gold) else None for name, tied in best.items()}
    right = set(best[norm]) <= set(gold)
    return Choice(CORRECT if right else INCORRECT, best[norm][0], len(best[norm]) > 1, by_norm)


def said(options: Sequence[str], gold: Sequence[str], index: int | None) -> Choice:
    """What a text says that names the option at ``index``; None where it names none."""
    if index is None:
        return Choice(UNPARSED, "", False, {})
    picked = options[index]
    return Choice(CORRECT if picked in gold else INCORRECT, picked, False, {})


def _best(options: Sequence[str], row: Sequence[float]) -> list[str]:
    """The options within TIE of the largest value, in the order listed."""
    top = max(row)
    return [option for option, value in zip(options, row, strict=True) if value >= top - TIE]
