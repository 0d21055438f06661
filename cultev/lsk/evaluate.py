"""All policies on the same test items, each learned from the same training items, compared with English."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.policies import Policy
from cultev.lsk.router import Constant, Router, answers, tokens
from cultev.lsk.splits import held_out
from cultev.lsk.table import OutcomeTable
from cultev.stats.estimate import Estimate, proportion
from cultev.stats.paired import Comparison, compare, holm


@dataclass(frozen=True, slots=True)
class Standing:
    """One policy on the test items.

    ``accuracy`` is over items on which every policy's answer is known; ``against`` compares with English; ``adjusted``
    is its p value after Holm over all policies, and ``verdict`` 'better', 'worse' or 'tie'. ``tokens`` is the mean
    cost of an item; ``english`` the share of items asked in English first.
    """

    policy: str
    accuracy: Estimate
    against: Comparison
    adjusted: float
    verdict: str
    tokens: float
    english: float


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Standings in the order of the policies, the routers by name, and how many items each part has.

    ``left_out`` names policies that could not be tried: votes where the picked options aren't known.
    """

    standings: tuple[Standing, ...]
    routers: dict[str, Router]
    training: int
    test: int
    counted: int
    left_out: tuple[str, ...]


def evaluate(table: OutcomeTable, policies: Sequence[Policy], test: NDArray[np.bool_] | None = None) -> Evaluation:
    """Fit on training items, try on test items.

    Args:
        table: all items.
        policies: their names are unique.
        test: mask of test items; None: half of the groups, by hash (``splits.held_out``).

    Raises:
        UsageError: too few items for a split.
    """
    held = held_out(table.items) if test is None else test
    train, rest = table.take(~held), table.take(held)
    routers: dict[str, Router] = {}
    got: dict[str, NDArray[np.float64]] = {}
    left_out = []
    for policy in policies:
        router = policy.fit(train)
        if router.panel(rest.items).shape[1] > 1 and (rest.picked < 0).all():
            left_out.append(policy.name)
            continue
        routers[policy.name] = router
        got[policy.name] = answers(router, rest)
    english = answers(Constant(0), rest)
    known = ~np.isnan(english)
    for values in got.values():
        known &= ~np.isnan(values)
    groups = rest.items.groups[known]
    against = {name: compare(values[known], english[known], groups) for name, values in got.items()}
    # Policies that answer as English does make no claim: they don't count among the comparisons.
    claims = [name for name, c in against.items() if c.gained or c.lost]
    adjusted = dict(zip(claims, holm([against[name].p for name in claims]), strict=True))
    standings = tuple(
        Standing(
            name,
            _accuracy(values[known], groups),
            against[name],
            adjusted.get(name, 1.0),
            against[name].verdict(adjusted.get(name, 1.0)),
            float(tokens(routers[name], rest).mean()),
            float((routers[name].route(rest.items) == 0).mean()),
        )
        for name, values in got.items()
    )
    return Evaluation(standings, routers, int((~held).sum()), int(held.sum()), int(known.sum()), tuple(left_out))


def _accuracy(right: NDArray[np.float64], groups: NDArray[np.str_]) -> Estimate:
    member = np.unique(groups, return_inverse=True)[1]
    return proportion(np.bincount(member, weights=right).astype(float), np.bincount(member).astype(float))
