"""What no router can beat: the oracle that knows afterwards which language was right, and what chance gave it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cultev.lsk.table import OutcomeTable


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Shares of items. ``chance`` is what guessing alone would make of ``oracle``.

    ``corrected`` is the oracle's share with guessing taken off; NaN where options aren't known, or where guessing alone
    reaches so much that nothing can be told. ``n`` counts items seen in every language.
    """

    oracle: float
    chance: float
    corrected: float
    n: int

    def told(self, best: float) -> float | None:
        """``corrected``, or None where it can't be told.

        That is where the oracle is no better than guessing alone, or where a policy (``best`` is the accuracy of the
        best) exceeds it: no ceiling is lower than what was reached, so the correction took off too much.
        """
        return self.corrected if self.oracle > self.chance and self.corrected >= best else None


HOPELESS = 0.95
"""Where guessing alone reaches more, correcting multiplies noise by 20 or more: 16 guesses at 4 options give 0.99."""


def ceiling(table: OutcomeTable) -> Ceiling:
    """The oracle, and the oracle corrected for chance.

    The oracle counts an item as right if any language has it right. With m languages that guess among k options, that
    is 1 - (1 - 1/k)^m by chance alone. If a share s of items is known in some language, and all others are guessed in
    every language independently, oracle = s + (1 - s) * chance, so s = (oracle - chance) / (1 - chance) (Abbott 1925;
    the form of Cohen's kappa). A router that knew where knowledge lies and guessed elsewhere reaches s + (1 - s) / k:
    that is ``corrected``. Languages that share a wrong belief guess less than this assumes: the correction then
    takes off too much, and s below 0 is put to 0.
    """
    right = table.right()
    whole = ~np.isnan(right).any(axis=1)
    n = int(whole.sum())
    if not n:
        return Ceiling(np.nan, np.nan, np.nan, 0)
    oracle = float(right[whole].max(axis=1).mean())
    options = table.options[whole].astype(float)
    if (options < 2).any():
        return Ceiling(oracle, np.nan, np.nan, n)
    chance = float((1 - (1 - 1 / options) ** right.shape[1]).mean())
    if chance > HOPELESS:
        return Ceiling(oracle, chance, np.nan, n)
    known = max(0.0, (oracle - chance) / (1 - chance))
    return Ceiling(oracle, chance, known + (1 - known) * float((1 / options).mean()), n)


def cell_oracle(table: OutcomeTable, truth: dict[tuple[str, str], int]) -> float:
    """Accuracy of the router that knows each cell's best language, as for a planted suite.

    Args:
        table: the test items.
        truth: (culture, topic) -> index of the language; English where a cell isn't listed.

    Items not seen in the language asked for are left out; NaN without any.
    """
    pairs = zip(table.items.cultures.tolist(), table.items.topics.tolist(), strict=True)
    language = np.array([truth.get(pair, 0) for pair in pairs], dtype=np.intp)
    got = table.right()[np.arange(len(table)), language]
    return float(np.nanmean(got)) if (~np.isnan(got)).any() else float("nan")
