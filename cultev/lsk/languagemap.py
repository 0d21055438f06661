"""The map: what a fit found, cell by cell, with all that its recommendations rest on, as plain data.

A map belongs to one model, one version of a suite and one protocol; it is kept in the results file as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cultev.lsk.cells import UNKNOWN, Cells, Clusters, Everything, Metadata
from cultev.lsk.gate import GatedRouter
from cultev.lsk.router import ByCell
from cultev.lsk.table import OUTCOMES, Items, OutcomeTable

MAP_VERSION = 1


@dataclass(frozen=True, slots=True)
class CellPick:
    """A cell: the language it is asked in, the best one beside English, and every language's posterior.

    ``gain``, ``error`` and ``chance`` are mean, standard deviation and P(gain > 0) of each language's gain over
    English in this cell, as shares of answers, in the order of the map's languages (English: 0, 0, 0). ``right`` are
    the shares of right answers that were seen, None where the language wasn't asked here; ``asked`` counts them.
    """

    cell: str
    language: str
    best: str
    n: int
    gain: tuple[float, ...]
    error: tuple[float, ...]
    chance: tuple[float, ...]
    right: tuple[float | None, ...]
    asked: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LanguageMap:
    """See the module's docstring.

    ``model`` has sha256, name, quantization and format; ``suite`` name, version and content_hash. ``cells`` says how
    cells are told: {'by': 'metadata', 'columns': [...]}, {'by': 'clusters', 'embedder': ...,
    'centres': [...]} or {'by': 'all'}.
    ``unseen`` is the language of items in no cell. ``shipped`` and ``reason`` are the gate's, ``p_any`` and ``p_cells``
    its two p values. ``training`` counts the items learned from, ``held_out`` the share kept for the test.
    ``outcomes`` gives each language's share of every outcome among what was asked of it.
    """

    model: Mapping[str, str]
    suite: Mapping[str, str]
    run: str
    protocol: str
    languages: tuple[str, ...]
    cells: Mapping[str, Any]
    picks: tuple[CellPick, ...]
    unseen: str
    shipped: str
    reason: str
    p_any: float
    p_cells: float
    training: int
    held_out: float
    halving: bool
    tokens_spent: int
    tokens_full: int
    outcomes: Mapping[str, Mapping[str, float]]
    prior: str = ""
    """Whose map was leaned on, '' where none was."""
    version: int = MAP_VERSION

    def to_json(self) -> str:
        """As text, with sorted keys."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> LanguageMap:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError, TypeError, KeyError: the text is something else.
        """
        data = json.loads(text)
        picks = tuple(map(_pick, data["picks"]))
        return cls(**{**data, "picks": picks, "languages": tuple(data["languages"])})

    def router(self) -> ByCell:
        """The map as a router over ``languages``."""
        column = {code: i for i, code in enumerate(self.languages)}
        sent = np.array([column[pick.language] for pick in self.picks], dtype=np.intp)
        return ByCell(read_cells(self.cells, tuple(p.cell for p in self.picks)), sent, column[self.unseen])

    def pick_of(self, items: Items) -> list[CellPick | None]:
        """Each item's cell, None where it is in none."""
        assigned = read_cells(self.cells, tuple(p.cell for p in self.picks)).assign(items)
        return [None if cell == UNKNOWN else self.picks[cell] for cell in assigned.tolist()]


def make_map(
    router: GatedRouter,
    table: OutcomeTable,
    *,
    model: Mapping[str, str],
    suite: Mapping[str, str],
    run: str,
    protocol: str,
    held_out: float,
    halving: bool,
    tokens_full: int,
    embedder: str = "",
    prior: str = "",
) -> LanguageMap:
    """A map of what the gate ships, learned from ``table``; ``embedder`` names what its embeddings are from."""
    gains, cells = router.fitted.gains, router.fitted.cells
    languages = table.languages
    unseen = router.router.unseen if isinstance(router.router, ByCell) else router.router.language
    right, assigned = table.right(), cells.assign(table.items)
    picks = []
    for c, advice in enumerate(router.recommendations()):
        inside = right[assigned == c]
        seen = (~np.isnan(inside)).sum(axis=0)
        hits = np.nansum(inside, axis=0)
        picks.append(
            CellPick(
                advice.cell,
                languages[advice.language],
                languages[advice.best],
                advice.n,
                _rounded(gains.mean[c]),
                _rounded(gains.sd[c]),
                _rounded(gains.chance[c]),
                tuple(round(float(h / s), 6) if s else None for h, s in zip(hits, seen, strict=True)),
                tuple(int(s) for s in seen),
            )
        )
    return LanguageMap(
        dict(model), dict(suite), run, protocol, languages, write_cells(cells, embedder), tuple(picks),
        languages[unseen],
        router.shipped, router.reason, round(router.p.any, 6), round(router.p.cells, 6), len(table), held_out, halving,
        int(table.tokens.sum()), tokens_full, outcome_shares(table), prior,
    )  # fmt: skip


def outcome_shares(table: OutcomeTable) -> dict[str, dict[str, float]]:
    """Language -> outcome -> its share among what was asked; outcomes that never came are left out."""
    shares = {name: table.shares(name) for name in OUTCOMES if name != "not_asked"}
    return {
        code: {name: round(found[code], 6) for name, found in shares.items() if found[code] > 0}
        for code in table.languages
    }


def write_cells(cells: Cells, embedder: str = "") -> dict[str, Any]:
    """Cells as plain data.

    Raises:
        ValueError: of a kind that a map can't hold.
    """
    if isinstance(cells, Everything):
        return {"by": "all"}
    if isinstance(cells, Metadata):
        return {"by": "metadata", "columns": list(cells.columns)}
    if isinstance(cells, Clusters):
        return {"by": "clusters", "embedder": embedder, "centres": [list(_rounded(row)) for row in cells.centres]}
    raise ValueError(f"a map can't hold cells of the kind {type(cells).__name__}")


def read_cells(data: Mapping[str, Any], names: tuple[str, ...]) -> Cells:
    """The cells that ``write_cells`` wrote.

    Raises:
        ValueError: of a kind that this cultev doesn't know.
    """
    if data["by"] == "all":
        return Everything()
    if data["by"] == "metadata":
        return Metadata(names, tuple(data["columns"]))
    if data["by"] == "clusters":
        return Clusters(names, np.array(data["centres"], dtype=float))
    raise ValueError(f"cells by {data['by']!r}")


def _pick(data: Mapping[str, Any]) -> CellPick:
    return CellPick(
        data["cell"], data["language"], data["best"], int(data["n"]), tuple(data["gain"]), tuple(data["error"]),
        tuple(data["chance"]), tuple(data["right"]), tuple(data["asked"]),
    )  # fmt: skip


def _rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), 6) for value in values)
