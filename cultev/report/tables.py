"""Tables of a run for the terminal, and the same figures as plain rows for JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from cultev.report.text import printable
from cultev.stats.summary import ENOUGH, Cell

SHORT = {
    "can't be told from chance": "like chance",
    "no better than one constant answer": "like constant",
    "all options tie": "all tie",
    "most options tie": "ties",
}
"""Warnings as a table of 80 columns has room for; the legend below it says what they mean."""

LEGEND = (
    "n: answers. right: share of right answers, with its 95 % interval (Wilson's; bootstrap over groups where answers"
    " depend on each other). constant: the best single answer always given. chance: guessing. 'like chance', 'like"
    " constant': can't be told from these. More: cultev guide results"
)


def cell_row(cell: Cell) -> dict[str, object]:
    """A cell as plain values, for JSON and CSV. Shares are between 0 and 1; unknown ones are None."""
    e = cell.accuracy
    return {
        **cell.place,
        "n": e.n,
        "groups": e.groups,
        "accuracy": None if math.isnan(e.value) else round(e.value, 6),
        "low": round(e.low, 6),
        "high": round(e.high, 6),
        "interval": e.method,
        "constant": round(cell.constant, 6),
        "chance": round(cell.chance, 6),
        "tied": cell.tied,
        "set_aside": sum(cell.set_aside.values()),
        "warning": cell.warning,
    }


def accuracy_table(cells: Sequence[Cell], dimensions: Sequence[str]) -> Table:
    """One line a cell: n, accuracy with its interval, the constant answer's and chance accuracy, and a warning.

    A line whose accuracy can't be told from chance is dim, so that the eye stays with what is known.
    """
    table = Table(box=None, pad_edge=False)
    for name in dimensions:
        table.add_column(name.replace("_", " "), overflow="fold")
    table.add_column("n", justify="right")
    table.add_column("right", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("constant", justify="right", no_wrap=True)
    table.add_column("chance", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for cell in cells:
        e = cell.accuracy
        note = [SHORT.get(cell.warning, cell.warning)] if cell.warning else []
        note.extend(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(cell.set_aside.items()))
        table.add_row(
            *(Text(printable(cell.place[name])) for name in dimensions),
            str(e.n),
            percent(e.value),
            f"{percent(e.low)} - {percent(e.high)}" if e.n else "",
            percent(cell.constant) if e.n else "",
            percent(cell.chance) if e.n else "",
            Text("; ".join(note), style="yellow" if cell.warning else ""),
            style="dim" if cell.warning else "",
        )
    return table


def matrix(cells: Sequence[Cell], rows: str, columns: str) -> Table:
    """Accuracy in per cent, one dimension down and one across; dim where it can't be told from chance."""
    across = sorted({c.place[columns] for c in cells}, key=lambda v: (v != "en", v))
    table = Table(box=None, pad_edge=False)
    table.add_column(rows, overflow="fold")
    for name in across:
        table.add_column(name, justify="right", no_wrap=True)
    places = {(c.place[rows], c.place[columns]): c for c in cells}
    for name in sorted({c.place[rows] for c in cells}):
        line: list[Text] = []
        for other in across:
            cell = places.get((name, other))
            if cell is None or not cell.accuracy.n:
                line.append(Text("-", style="dim"))
                continue
            style = "dim" if cell.warning or cell.accuracy.n < ENOUGH else "green"
            line.append(Text(f"{100 * cell.accuracy.value:.0f}", style=style))
        table.add_row(Text(printable(name)), *line)
    return table


def percent(share: float) -> str:
    """A share as '63 %'; '' when there is none."""
    return "" if math.isnan(share) else f"{100 * share:.0f} %"
