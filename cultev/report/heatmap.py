"""Heat maps: a figure for each pair of a row and a column, as terminal lines and as SVG.

Colour never stands alone: every cell prints its figure and how many answers are behind it, and a cell with too few of
them, or without evidence, is grey whatever its figure. The two hues (blue and orange) are told apart by people with any
of the common colour blindnesses; where the sign matters it is printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

ENOUGH = 20
"""Answers below which a cell is grey."""

BLUE, PALE, ORANGE = (33, 102, 172), (247, 247, 247), (214, 96, 17)
"""Below the middle, at it, above it. Blue and orange differ in lightness and hue under every dichromacy."""

GREY = (232, 232, 232)


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One figure.

    ``value`` is in the unit the map shows, None where there is none; ``n`` counts the answers behind it. ``evidence``
    is False where they don't say that it differs from the middle. ``mark`` puts a star at it, such as for what ships.
    """

    value: float | None
    n: int = 0
    evidence: bool = True
    mark: bool = False
    note: str = ""
    """A sentence for the SVG's tooltip."""
    enough: int = ENOUGH
    """Answers below which it is grey; less than ENOUGH where the figure rests on more than the cell's own answers."""

    @property
    def grey(self) -> bool:
        """Whether nothing should be read off this cell."""
        return self.value is None or math.isnan(self.value) or self.n < self.enough or not self.evidence


@dataclass(frozen=True, slots=True)
class HeatMap:
    """What is drawn. Missing pairs are empty cells.

    ``middle`` is the value that has no colour: a map with a middle goes from blue over pale to orange, one without
    (None) from pale to blue. ``low`` and ``high`` are where colours end; None: the largest distance from the middle,
    or the range of the values. ``unit`` says what the figures are, ``marked`` what a star means.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Mapping[tuple[str, str], HeatCell]
    unit: str
    middle: float | None = 0.0
    low: float | None = None
    high: float | None = None
    decimals: int = 0
    marked: str = ""
    row_title: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """Row or column -> how it is written, where not as it is called."""
    notes: tuple[str, ...] = ()
    """Lines below the legend."""

    def cell(self, row: str, column: str) -> HeatCell:
        """The cell, an empty one where there is none."""
        return self.cells.get((row, column), HeatCell(None))

    def name(self, key: str) -> str:
        """How a row or column is written."""
        return self.names.get(key, key)

    def ends(self) -> tuple[float, float]:
        """The values at which the colours end."""
        shown = [c.value for c in self.cells.values() if not c.grey and c.value is not None]
        if self.middle is None:
            low = min(shown, default=0.0) if self.low is None else self.low
            high = max(shown, default=1.0) if self.high is None else self.high
        else:
            reach = max((abs(value - self.middle) for value in shown), default=0.0) or 1.0
            low = self.middle - reach if self.low is None else self.low
            high = self.middle + reach if self.high is None else self.high
        return (low, high) if high > low else (low, low + 1.0)

    def figure(self, value: float) -> str:
        """A value as it is printed: with its sign where the map has a middle, and a real minus."""
        text = f"{value:{'' if self.middle is None else '+'}.{self.decimals}f}"
        if float(text) == 0:
            text = f"{0:.{self.decimals}f}"
        return text.replace("-", "\u2212")

    def colour(self, cell: HeatCell) -> tuple[int, int, int]:
        """Red, green and blue, 0 to 255."""
        if cell.grey or cell.value is None:
            return GREY
        low, high = self.ends()
        if self.middle is None:
            return mix(PALE, BLUE, (cell.value - low) / (high - low))
        if cell.value >= self.middle:
            return mix(PALE, ORANGE, (cell.value - self.middle) / max(high - self.middle, 1e-12))
        return mix(PALE, BLUE, (self.middle - cell.value) / max(self.middle - low, 1e-12))

    @property
    def doubt(self) -> str:
        """What makes a cell grey."""
        enough = max((cell.enough for cell in self.cells.values()), default=ENOUGH)
        return f"fewer than {enough} answers, or no evidence" if enough > 1 else "no evidence"

    @property
    def legend(self) -> str:
        """What figures, greys and stars mean, in one line."""
        parts = [self.unit, f"(grey in brackets): {self.doubt}"]
        if self.marked:
            parts.append(f"*: {self.marked}")
        return "; ".join(parts)


def mix(one: tuple[int, int, int], other: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """A colour between two, ``share`` (clipped to 0 to 1) of the way."""
    share = min(max(share, 0.0), 1.0)
    r, g, b = (round(a + (z - a) * share) for a, z in zip(one, other, strict=True))
    return r, g, b


def ink(colour: tuple[int, int, int]) -> str:
    """Black or white, whichever is read better on a colour (contrast ratio of WCAG 2.1, relative luminance)."""
    linear = [(v / 255 / 12.92) if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "#ffffff"


def heat_lines(heat: HeatMap, width: int = 80) -> Group:
    """The map for a terminal of ``width`` columns, as something rich prints.

    Columns that don't fit go into further blocks below, each with the rows' names. Without colour nothing is lost:
    figures, brackets and stars say it all.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from cultev.report.text import printable

    heads = [printable(heat.name(column)) for column in heat.columns]
    cell_width = max([5, *(min(_cells(head), 12) for head in heads)])
    name_width = max(8, min(max((_cells(heat.name(row)) for row in heat.rows), default=8), width // 3))
    fit = max(1, (width - name_width) // (cell_width + 1))
    blocks: list[Table | Text] = [Text(printable(heat.title), style="bold")]
    for start in range(0, max(len(heat.columns), 1), fit):
        table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 1), header_style="")
        table.add_column(printable(heat.row_title), width=name_width, overflow="fold")
        for head in heads[start : start + fit]:
            table.add_column(Text(head), width=cell_width, justify="right", overflow="fold")
        for row in heat.rows:
            cells = (_terminal_cell(heat, heat.cell(row, column)) for column in heat.columns[start : start + fit])
            table.add_row(Text(_left_to_right(printable(heat.name(row)))), *cells)
        blocks.append(table)
    blocks.append(Text(printable(heat.legend), style="dim"))
    blocks.extend(Text(printable(note), style="dim") for note in heat.notes)
    return Group(*blocks)


def _terminal_cell(heat: HeatMap, cell: HeatCell) -> Text:
    from rich.text import Text

    if cell.value is None or math.isnan(cell.value):
        return Text("\u00b7", style="dim", justify="right")
    star = "*" if cell.mark else ""
    if cell.grey:
        return Text(f"({heat.figure(cell.value)}){star}", style="dim", justify="right")
    r, g, b = colour = heat.colour(cell)
    return Text(f"{heat.figure(cell.value)}{star}", style=f"{ink(colour)} on rgb({r},{g},{b})", justify="right")


def _cells(text: str) -> int:
    """Columns that a text takes on a terminal."""
    from rich.cells import cell_len

    return cell_len(text)


def _left_to_right(text: str) -> str:
    """A name of a script written from the right, closed by a mark so that the figures beside it stay in their order."""
    import unicodedata

    return f"{text}\u200e" if any(unicodedata.bidirectional(char) in ("R", "AL") for char in text) else text
