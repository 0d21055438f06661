"""One study of one model: what is learned from the training items, and how every policy does on the test items."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.errors import ModelNotFound
from cultev.locate import reference_file
from cultev.lsk.cells import ByEmbedding, ByMetadata, CellMaker, Cells, Everything
from cultev.lsk.choose import ByValidation, clusters
from cultev.lsk.evaluate import Evaluation, evaluate
from cultev.lsk.gate import Gated, GatedRouter
from cultev.lsk.halving import halve_table
from cultev.lsk.oracle import Ceiling, ceiling, cell_oracle
from cultev.lsk.policies import (
    BestSingle,
    CultureLanguage,
    English,
    EqualVote,
    ModelPicked,
    Paper,
    PaperTop3,
    Policy,
    Random,
    Shrunk,
    Shuffled,
)
from cultev.lsk.prior import Prior
from cultev.lsk.splits import check_split, held_out
from cultev.lsk.table import ENGLISH, OUTCOMES, Items, OutcomeTable

MAKERS: Mapping[str, CellMaker] = {
    "topic": ByMetadata(),
    "culture": ByMetadata(("culture",)),
    "clusters": clusters(),
    "one": Everything(),
}
"""Makers of cells by their word on the command line."""

RACED = ByEmbedding(12)
"""Clusters that halving races in: how many are best can only be asked of outcomes, and there are none yet."""


def test_mask(items: Items, share: float, *, tried: bool = False) -> NDArray[np.bool_]:
    """True for items kept for the test; none with a share of 0. ``tried``: whether the test is to be made now.

    Raises:
        UsageError: too few items for a split.
    """
    if share == 0:
        return np.zeros(len(items), dtype=bool)
    mask = held_out(items, share)
    check_split(items, mask, tried=tried)
    return mask


def cells_before(items: Items, languages: Sequence[str], maker: CellMaker) -> Cells:
    """Cells of items that nothing has been asked of yet."""
    maker = RACED if isinstance(maker, ByValidation) else maker
    return maker.make(OutcomeTable.of_right(items, languages, np.full((len(items), len(languages)), np.nan)))


def silent_languages(table: OutcomeTable) -> dict[str, str]:
    """Language -> why, for languages in which not one question that was asked got an answer that could be judged."""
    found = {}
    answered = np.isin(table.outcome, [OUTCOMES.index("correct"), OUTCOMES.index("incorrect")])
    asked = table.outcome != OUTCOMES.index("not_asked")
    for column, code in enumerate(table.languages):
        if asked[:, column].any() and not answered[:, column].any():
            kinds = np.bincount(table.outcome[asked[:, column], column], minlength=len(OUTCOMES))
            found[code] = OUTCOMES[int(kinds.argmax())]
    return found


def policies_for(
    maker: CellMaker,
    spoken: Mapping[str, str],
    picked: Mapping[str, str],
    languages: Collection[str],
    prior: Prior | None = None,
) -> tuple[list[Policy], dict[str, str]]:
    """Every policy there is, baselines first, and why others are left out.

    Args:
        maker: of the cells of shrunk, gated and shuffled; the paper's policies make their own.
        spoken: culture -> its language.
        picked: item id -> the language the model named.
        languages: the table's.
        prior: of the gate; no other policy has one.
    """
    left_out = {}
    found: list[Policy] = [English(), BestSingle()]
    if any(code in languages for code in spoken.values()):
        found.append(CultureLanguage(spoken))
    else:
        left_out["culture-language"] = "no culture of this suite has one of these languages, as far as cultev knows"
    if picked:
        found.append(ModelPicked(picked))
    else:
        left_out["model-picked"] = "the model was not asked which language it would choose"
    bold = Shrunk(maker, confidence=0.0, least=Gated().least, name="bold")
    found += [
        EqualVote(), Random(), Paper(), PaperTop3(), Paper(maker, "paper-cells"), Shrunk(maker),
        Gated(maker, prior=prior),
        Shuffled(bold),
    ]  # fmt: skip
    return found, left_out


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """What an evaluation found. ``halved`` is halving played on the training items, where they were asked in full."""

    evaluation: Evaluation
    ceiling: Ceiling
    gated: GatedRouter
    halved: HalvedStudy | None
    left_out: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class HalvedStudy:
    """The gate's choice after halving: share of the full table's tokens spent, and of cells sent where the full table
    sends them.
    """

    gated: GatedRouter
    tokens_spent: int
    tokens_full: int
    same: float


def study(
    table: OutcomeTable,
    test: NDArray[np.bool_],
    maker: CellMaker,
    spoken: Mapping[str, str],
    picked: Mapping[str, str],
    share: float,
    *,
    halved_already: bool,
    prior: Prior | None = None,
) -> Study:
    """Fit everything on the training items, try it on the test items, and play halving if the table is whole.

    Raises:
        UsageError: too few items for a split.
    """
    policies, left_out = policies_for(maker, spoken, picked, table.languages, prior)
    evaluation = evaluate(table, policies, test)
    left_out |= {name: "which option was picked is not known" for name in evaluation.left_out}
    gated = evaluation.routers["gated"]
    assert isinstance(gated, GatedRouter)
    halved = None if halved_already else play_halving(table.take(~test), maker, gated, share, prior)
    return Study(evaluation, ceiling(table.take(test)), gated, halved, left_out)


def play_halving(
    training: OutcomeTable, maker: CellMaker, full: GatedRouter, share: float, prior: Prior | None = None
) -> HalvedStudy:
    """What halving would have asked of a table that is known in full, and what the gate makes of it."""
    cells = cells_before(training.items, training.languages, maker)
    halved = halve_table(training, cells, share)
    gated = Gated(maker, prior=prior).fit(halved.table)
    same = float((gated.route(training.items) == full.route(training.items)).mean())
    return HalvedStudy(gated, int(halved.table.tokens.sum()), int(training.tokens.sum()), same)


@dataclass(frozen=True, slots=True)
class Planted:
    """The truth of the planted suite: each cell's expert, 'all' or 'none'."""

    experts: Mapping[tuple[str, str], str]

    def recall(self, router: GatedRouter, languages: Sequence[str]) -> tuple[float, float]:
        """Share of cells with an expert that are sent to it; share of cells where English is expert or nothing is
        known that stay with English.
        """
        picked = _by_cell(router, self.experts, languages)
        own = [picked[cell] == expert for cell, expert in self.experts.items() if expert in languages]
        stay = [picked[cell] == ENGLISH for cell, expert in self.experts.items() if expert in (ENGLISH, "none")]
        return sum(own) / max(1, len(own)), sum(stay) / max(1, len(stay))

    def accuracy(self, test: OutcomeTable) -> float:
        """Accuracy of the policy that knows this truth."""
        column = {code: i for i, code in enumerate(test.languages)}
        return cell_oracle(test, {cell: column.get(expert, 0) for cell, expert in self.experts.items()})


def planted_truth(suite: str, version: str) -> Planted | None:
    """The truth of a suite that the reference model was taught, None of any other (or another version)."""
    try:
        data: dict[str, Any] = json.loads(reference_file("truth.json").read_text(encoding="utf-8"))
    except ModelNotFound:
        return None
    if (data["suite"], data["version"]) != (suite, version):
        return None
    return Planted({(cell["culture"], cell["topic"]): cell["expert"] for cell in data["cells"]})


def _by_cell(
    router: GatedRouter, cells: Collection[tuple[str, str]], languages: Sequence[str]
) -> dict[tuple[str, str], str]:
    """Where a router sends each culture and topic."""
    known = list(cells)
    names = np.array([f"{culture} / {topic}" for culture, topic in known], dtype=np.str_)
    probe = Items(
        names, names, np.array([c for c, _ in known], dtype=np.str_), np.array([t for _, t in known], dtype=np.str_)
    )
    return {cell: languages[int(column)] for cell, column in zip(known, router.route(probe), strict=True)}


def join(items: Items, training: OutcomeTable, testing: OutcomeTable) -> tuple[OutcomeTable, NDArray[np.bool_]]:
    """One table of both parts in the order of ``items``, joined by id, and the mask of the test items."""
    both = {name: i for i, name in enumerate([*training.items.ids.tolist(), *testing.items.ids.tolist()])}
    at = np.array([both[name] for name in items.ids.tolist()], dtype=np.intp)

    def column(name: str) -> Any:
        return np.concatenate([getattr(training, name), getattr(testing, name)])[at]

    whole = OutcomeTable(
        items, training.languages, column("outcome"), column("score"), column("picked"), column("options"),
        column("tokens"),
    )  # fmt: skip
    return whole, at >= len(training)
