"""From a run's replies to the item x language table: option orders averaged, priors taken off, reasonings looked at.

For option o of an item in one language, asked in orders 1 to m:

    free[o]  = p(o | content-free question) / sum of it over the k options
    value[o] = mean over orders of  log p(o | question) - log((1 - U) * free[o] + U / k)         U = UNIFORM
    picked   = the option with the largest value;  score = softmax(value) at the right option

The content-free question is the same frame with its content left out ('N/A'), in the same language and order. What is
taken off is what the model gives an option whatever is asked: for its letter, its place, its wording. Sources: Zhao et
al. 2021, Calibrate before use, section 4 (their diagonal W = diag(p_cf)^-1, b = 0, before the softmax is this
difference of logarithms); Holtzman et al. 2021, Surface Form Competition, who call it domain-conditional PMI. With U =
0 it would be exactly theirs. But one neutral question is a sample of one, and many a model answers it with certainty:
an option that it calls impossible there would be credited without bound. After a reasoning nothing is taken off: the
reasoning itself is the content.

Averaging over cyclic option orders takes off what is left of a preference for places (each option stands in each place
as often, once there are as many orders as options).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.form import reasoning_of
from cultev.lsk.table import Entry, Items, OutcomeTable
from cultev.run.replies import Reply
from cultev.score.choice import CORRECT, ENGINE_ERROR, INCORRECT, TIE, TOO_LONG, UNPARSED
from cultev.suite.item import Item

UNIFORM = 0.1
"""Share of indifference mixed into a content-free prior: with four options no prior counts as less than 2.5 %. The
reference model, asked what it wasn't taught, loses 5 of 100 right answers without it and none with it."""

IsLanguage = Callable[[str, str], "bool | None"]
"""Whether a text is in a language; None where the text is too short to tell."""


def items_of(items: Sequence[Item], vectors: Mapping[str, NDArray[np.float64]] | None = None) -> Items:
    """A suite's items as the columns a router may see; ``vectors`` are their embeddings by id."""
    embeddings = np.stack([vectors[item.id] for item in items]) if vectors and items else None
    return Items(
        np.array([item.id for item in items], dtype=np.str_),
        np.array([item.group for item in items], dtype=np.str_),
        np.array([item.culture for item in items], dtype=np.str_),
        np.array([item.topic for item in items], dtype=np.str_),
        embeddings,
    )


def table_of(
    items: Sequence[Item],
    languages: Sequence[str],
    replies: Iterable[Reply],
    *,
    orders: int,
    is_language: IsLanguage,
    vectors: Mapping[str, NDArray[np.float64]] | None = None,
) -> OutcomeTable:
    """The table of what was asked so far; what lacks one of its orders counts as not asked.

    Args:
        items: the rows.
        languages: the columns, English first.
        replies: of one run, in any order; those of other items or languages are passed over.
        orders: option orders that each item is asked in.
        is_language: how the language of a reasoning is told.
        vectors: the items' embeddings by id.
    """
    by_id = {item.id: item for item in items}
    found: dict[tuple[str, str], list[Reply]] = defaultdict(list)
    for reply in replies:
        if reply.item in by_id and reply.language in languages:
            found[reply.item, reply.language].append(reply)
    entries = []
    for (name, code), group in found.items():
        item = by_id[name]
        if len(group) >= min(orders, len(item.option_ids)):
            entries.append(entry_of(item, code, group, is_language))
    counts = {item.id: len(item.option_ids) for item in items}
    return OutcomeTable.build(items_of(items, vectors), languages, entries, counts)


def entry_of(item: Item, code: str, replies: Sequence[Reply], is_language: IsLanguage) -> Entry:
    """One item in one language, from its replies in all orders.

    An order without an answer ('engine_error', then 'too_long') makes the whole entry such. Otherwise what was picked
    is kept, and the outcome says whether it counts: 'unparsed' where no order's form could be read, 'degenerate' where
    half of the reasonings or more are empty, 'off_language' where half or more are in another language than the one
    asked for, else 'correct' or 'incorrect'. A tie counts as wrong unless every tied option is right.
    """
    tokens = sum(reply.tokens for reply in replies)
    for failure in (ENGINE_ERROR, TOO_LONG):
        if any(reply.outcome == failure for reply in replies):
            return Entry(item.id, code, failure, tokens=tokens)
    score = None
    if replies[0].scores:
        values = values_of(item, replies)
        top = max(values.values())
        best = [option for option in item.option_ids if values[option] >= top - TIE]
        total = math.fsum(math.exp(value - top) for value in values.values())
        score = math.fsum(math.exp(values[option] - top) for option in item.answers) / total
    else:
        best = voted(replies)
        if not best:
            return Entry(item.id, code, UNPARSED, tokens=tokens)
    outcome = CORRECT if set(best) <= set(item.answers) else INCORRECT
    kinds = Counter(_kind(reply, code, is_language) for reply in replies)
    for kind in ("degenerate", "off_language"):
        if 2 * kinds[kind] >= len(replies):
            outcome = kind
            break
    return Entry(item.id, code, outcome, score, item.option_ids.index(best[0]), tokens)


def voted(replies: Sequence[Reply]) -> list[str]:
    """The option that most orders' texts name, several where they tie, none where no text could be read."""
    votes = Counter(reply.picked for reply in replies if reply.picked)
    return [option for option, count in votes.items() if count == max(votes.values())]


def values_of(item: Item, replies: Sequence[Reply]) -> dict[str, float]:
    """Each option's value; see the module's docstring."""
    sums: dict[str, list[float]] = defaultdict(list)
    for reply in replies:
        free = log_prior([s.logprob for s in reply.prior]) if reply.prior else [0.0] * len(reply.scores)
        for option, score, prior in zip(reply.options, reply.scores, free, strict=True):
            sums[option].append(score.logprob - prior)
    return {option: math.fsum(sums[option]) / len(sums[option]) for option in item.option_ids}


def log_prior(logprobs: Sequence[float]) -> list[float]:
    """What is taken off each option: log((1 - U) * free + U / k), from log-probabilities after the neutral question."""
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    total = math.fsum(weights)
    return [math.log((1 - UNIFORM) * weight / total + UNIFORM / len(weights)) for weight in weights]


def _kind(reply: Reply, code: str, is_language: IsLanguage) -> str:
    if reply.text is None:
        return ""
    text = reply.text if reply.scores else reasoning_of(reply.text, code)
    if not any(char.isalpha() for char in text):
        return "degenerate" if reply.scores else ""  # a form without a reasoning still holds the answer
    return "off_language" if is_language(text, code) is False else ""
