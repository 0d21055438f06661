"""What a run over pairs shows: accuracy by every normalisation, beside what length alone would give."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cultev.errors import UsageError
from cultev.stats.preference import Preference, preference

NORMS = ("byte", "raw", "token", "pmi", "reward")
"""How the two answers' log-probabilities are compared; 'byte' decides. 'pmi' takes off that of the answer after a
question without content, 'reward' that of a reference model (the implicit reward of DPO, Rafailov et al. 2023)."""

DIMENSIONS = ("pair_type", "culture", "area", "language", "scope", "region")


@dataclass(frozen=True, slots=True)
class PairScores:
    """One pair's scores: sums of natural-log probabilities, better answer first. ``prior`` and ``reference`` are those
    after a question without content and of the reference model, None where not asked.
    """

    place: Mapping[str, str]
    group: str
    logprob: tuple[float, float]
    tokens: tuple[int, int]
    bytes: tuple[int, int]
    prior: tuple[float, float] | None = None
    reference: tuple[float, float] | None = None
    reference_tokens: tuple[int, int] | None = None

    def margin(self, norm: str) -> float:
        """How much likelier the better answer is: nats a byte ('byte'), nats a token, or nats. NaN where not asked."""
        if norm == "pmi":
            return _less(self.logprob, self.prior)
        if norm == "reward":
            return _less(self.logprob, self.reference)
        divisors = {"raw": (1, 1), "token": self.tokens, "byte": self.bytes}[norm]
        return self.logprob[0] / divisors[0] - self.logprob[1] / divisors[1]


def _less(scores: tuple[float, float], off: tuple[float, float] | None) -> float:
    return math.nan if off is None else (scores[0] - off[0]) - (scores[1] - off[1])


@dataclass(frozen=True, slots=True)
class PairCell:
    """A cell: how its pairs came out by each normalisation that was asked for, and what was set aside by outcome."""

    place: Mapping[str, str]
    n: int
    by_norm: Mapping[str, Preference]
    set_aside: Mapping[str, int]

    @property
    def headline(self) -> Preference:
        """Byte-normalised."""
        return self.by_norm["byte"]

    @property
    def warning(self) -> str:
        """Why the headline must not be read as it stands: also when the plain sum goes by length."""
        raw = self.by_norm["raw"].warning
        if self.headline.warning or not raw.startswith("goes by length"):
            return self.headline.warning
        return f"by raw sum it {raw}"


def pair_scores(connection: sqlite3.Connection, run: str, reference: str | None = None) -> Iterator[PairScores]:
    """A run's pairs with their scores, those without left out.

    ``reference``: the run of a reference model over the same suites, whose scores are joined by item and language.
    """
    columns = (
        "suite, item, language, group_id, pair_type, culture, area, scope, region, preferred, dispreferred,"
        " preferred_tokens, dispreferred_tokens, preferred_bytes, dispreferred_bytes, preferred_prior, "
        "dispreferred_prior"
    )
    query = f"SELECT {columns} FROM v_pairs WHERE run = ? AND outcome = '' ORDER BY suite, item, language"
    theirs = {}
    if reference is not None:
        theirs = {row[:3]: row for row in connection.execute(query, [reference])}
    for row in connection.execute(query, [run]):
        suite, _, code, group, pair_type, culture, area, scope, region = row[:9]
        place = {
            "pair_type": pair_type, "culture": culture, "area": area, "language": code, "scope": scope,
            "region": region,
        }  # fmt: skip
        other = theirs.get(row[:3])
        yield PairScores(
            place,
            f"{suite}/{group}",
            (row[9], row[10]),
            (row[11], row[12]),
            (row[13], row[14]),
            None if row[15] is None else (row[15], row[16]),
            None if other is None else (other[9], other[10]),
            None if other is None else (other[11], other[12]),
        )


def pair_cells(
    connection: sqlite3.Connection, run: str, by: Sequence[str], reference: str | None = None
) -> list[PairCell]:
    """Summarise a run by the given dimensions; () gives one cell over everything.

    Raises:
        UsageError: an unknown dimension.
    """
    check_dimensions(by)
    cells: dict[tuple[str, ...], list[PairScores]] = {}
    for pair in pair_scores(connection, run, reference):
        cells.setdefault(tuple(pair.place[name] for name in by), []).append(pair)
    aside: dict[tuple[str, ...], dict[str, int]] = {}
    names = ", ".join(by) if by else "NULL"
    rows = connection.execute(
        f"SELECT outcome, count(*), {names} FROM v_pairs WHERE run = ? AND outcome <> '' GROUP BY outcome, {names}",
        [run],
    )
    for outcome, count, *place in rows:
        aside.setdefault(tuple(place) if by else (), {})[outcome] = count
    return [
        summarise(dict(zip(by, place, strict=True)), cells.get(place, []), aside.get(place, {}))
        for place in sorted(cells.keys() | aside.keys())
    ]


def check_dimensions(by: Sequence[str]) -> None:
    """Refuse what pairs can't be told by.

    Raises:
        UsageError: an unknown dimension.
    """
    for name in by:
        if name not in DIMENSIONS:
            raise UsageError(f"Pairs can't be told by '{name}'.", f"Choose from: {', '.join(DIMENSIONS)}")


def summarise(place: Mapping[str, str], pairs: Sequence[PairScores], set_aside: Mapping[str, int]) -> PairCell:
    """One cell from its pairs."""
    found = {}
    for norm in NORMS:
        margins = np.array([pair.margin(norm) for pair in pairs])
        known = ~np.isnan(margins)
        if norm in ("pmi", "reward") and not known.any():
            continue
        better = np.array([pair.bytes[0] for pair in pairs], float)
        worse = np.array([pair.bytes[1] for pair in pairs], float)
        group = np.array([pair.group for pair in pairs], np.str_)
        found[norm] = preference(margins[known], better[known], worse[known], group[known])
    return PairCell(place, len(pairs), found, set_aside)
