"""A heat map as one SVG file that needs nothing beside it: no font, no script, no network.

The size of labels can't be known without their font. It is estimated on the wide side, and margins follow from it, so
that a label of any script has room; what is still too long is broken into lines.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from cultev.report.heatmap import BLUE, GREY, ORANGE, PALE, HeatCell, HeatMap, ink

SIZE = 13.0
"""Font size of labels and figures, in pixels; titles are larger, counts smaller."""

CELL_WIDTH, CELL_HEIGHT = 58.0, 38.0
GAP = 2.0
MARGIN = 16.0
LONGEST_ROW = 240.0
"""Pixels after which a row's name is broken."""
LONGEST_COLUMN = 250.0

FONTS = "system-ui, 'Noto Sans', 'Segoe UI', 'DejaVu Sans', 'Noto Sans CJK SC', sans-serif"


def heat_svg(heat: HeatMap) -> str:
    """The map as an SVG document. Every text of the map is escaped; control characters are left out."""
    row_lines = [wrap(heat.name(row), LONGEST_ROW, SIZE) for row in heat.rows]
    column_lines = [wrap(heat.name(column), LONGEST_COLUMN, SIZE) for column in heat.columns]
    left = MARGIN + max([width_of(line, SIZE) for lines in row_lines for line in lines] + [60.0]) + 10
    longest = max([width_of(line, SIZE) for lines in column_lines for line in lines], default=0.0)
    most_lines = max((len(lines) for lines in column_lines), default=1)
    tilted = longest > CELL_WIDTH + 6 or most_lines > 1
    grid_width = len(heat.columns) * CELL_WIDTH
    # Tilted names lean to the right, over the last column's edge.
    lean = (longest + most_lines * SIZE * 1.2) * math.sqrt(0.5) + 6 if tilted else 0.0
    right = max(lean - CELL_WIDTH / 2, 0.0) + MARGIN
    width = max(left + grid_width + right, 470.0)
    title_lines = wrap(heat.title, width - 2 * MARGIN, 17)
    top = MARGIN + 24 * len(title_lines) + 8 + (lean if tilted else SIZE * 1.2) + 8
    row_heights = [max(CELL_HEIGHT, len(lines) * SIZE * 1.2 + 8) for lines in row_lines]
    bottom = top + sum(row_heights)

    out: list[str] = []
    for i, line in enumerate(title_lines):
        out.append(_text(MARGIN, MARGIN + 17 + 24 * i, line, size=17, weight="600"))
    if heat.row_title:
        out.append(_text(left - 10, top - 8, heat.row_title, anchor="end", fill="#555"))
    for i, lines in enumerate(column_lines):
        x = left + (i + 0.5) * CELL_WIDTH
        if tilted:
            for j, line in enumerate(lines):
                shift = (j - len(lines) + 1) * SIZE * 1.15 + SIZE * 0.3
                place = f"translate({x:.1f},{top - 10:.1f}) rotate(-45) translate(0,{shift:.1f})"
                out.append(_text(0, 0, line, transform=place))
        else:
            out.append(_text(x, top - 8, lines[0] if lines else "", anchor="middle"))
    y = top
    for row, lines, height in zip(heat.rows, row_lines, row_heights, strict=True):
        for j, line in enumerate(lines):
            shift = (j - (len(lines) - 1) / 2) * SIZE * 1.2
            out.append(_text(left - 10, y + height / 2 + shift + SIZE * 0.35, line, anchor="end"))
        for i, column in enumerate(heat.columns):
            out.append(_cell(heat, row, column, left + i * CELL_WIDTH, y, height))
        y += height
    legend, height = _legend(heat, width, bottom + 22)
    out.extend(legend)
    total = bottom + 22 + height + MARGIN
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {total:.0f}" width="{width:.0f}" '
        f'height="{total:.0f}" role="img" font-family="{FONTS}" font-size="{SIZE:g}">'
    )
    about = f"<title>{_clean(heat.title)}</title>\n<desc>{_clean(heat.legend)}</desc>"
    hatch = (
        '<defs><pattern id="none" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<rect width="6" height="6" fill="{_hex(GREY)}"/><rect width="2" height="6" fill="#d4d4d4"/></pattern>'
        f'<linearGradient id="scale">{_stops(heat)}</linearGradient></defs>'
    )
    ground = f'<rect width="{width:.0f}" height="{total:.0f}" fill="#ffffff"/>'
    return "\n".join([head, about, hatch, ground, *out, "</svg>", ""])


def width_of(text: str, size: float) -> float:
    """About how wide a text is, in pixels: rather too wide than too narrow."""
    total = 0.0
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf"):
            continue
        name = unicodedata.name(char, "")
        if unicodedata.east_asian_width(char) in ("W", "F"):
            total += 1.05
        elif name.startswith(("DEVANAGARI", "BENGALI", "TAMIL", "ETHIOPIC")):
            total += 0.85
        elif char in "MWmw@%—…":
            total += 0.95
        else:
            total += 0.7 if char.isupper() else 0.34 if char in " .,;:'|ijlt" else 0.62
    return total * size


def wrap(text: str, longest: float, size: float) -> list[str]:
    """Lines of at most ``longest`` pixels, broken at spaces; a word that is longer by itself is broken anywhere."""
    lines: list[str] = []
    line = ""
    for word in _printable(text).split():
        tried = f"{line} {word}" if line else word
        if width_of(tried, size) <= longest:
            line = tried
            continue
        if line:
            lines.append(line)
        while width_of(word, size) > longest and len(word) > 1:
            cut = next(i for i in range(len(word), 0, -1) if i == 1 or width_of(word[:i], size) <= longest)
            cut = max((i + 1 for i, char in enumerate(word[:cut]) if char in "-_/" and i > 2), default=cut)
            # A vowel sign stays with its letter.
            while cut < len(word) and unicodedata.category(word[cut]).startswith("M"):
                cut += 1
            lines.append(word[:cut])
            word = word[cut:]
        line = word
    return [*lines, line] if line else lines or [""]


def _cell(heat: HeatMap, row: str, column: str, x: float, y: float, height: float) -> str:
    cell = heat.cell(row, column)
    empty = cell.value is None or math.isnan(cell.value)
    colour = heat.colour(cell)
    fill = "#ffffff" if empty else "url(#none)" if cell.grey else _hex(colour)
    parts = [
        f'<rect x="{x + GAP / 2:.1f}" y="{y + GAP / 2:.1f}" width="{CELL_WIDTH - GAP:.1f}" '
        f'height="{height - GAP:.1f}" rx="3" fill="{fill}" stroke="{"#222222" if cell.mark else "#e3e3e3"}" '
        f'stroke-width="{2 if cell.mark else 1}"/>'
    ]
    middle, centre = x + CELL_WIDTH / 2, y + height / 2
    text = "#666666" if cell.grey else ink(colour)
    if empty or cell.value is None:
        parts.append(_text(middle, centre + 4, "\u00b7", anchor="middle", fill="#999999"))
    else:
        figure = heat.figure(cell.value)
        figure = f"({figure})" if cell.grey else figure
        parts.append(_text(middle, centre, figure + ("\u2605" if cell.mark else ""), anchor="middle", fill=text))
        parts.append(_text(middle, centre + 13, f"n {cell.n}", anchor="middle", fill=text, size=9.5))
    return f"<g><title>{_clean(_tooltip(heat, row, column, cell))}</title>{''.join(parts)}</g>"


def _tooltip(heat: HeatMap, row: str, column: str, cell: HeatCell) -> str:
    where = f"{heat.name(row)}, {heat.name(column)}"
    if cell.value is None or math.isnan(cell.value):
        return f"{where}: nothing known"
    why = "" if not cell.grey else "; too few answers" if cell.n < cell.enough else "; no evidence"
    mark = f"; {heat.marked}" if cell.mark and heat.marked else ""
    return f"{where}: {heat.figure(cell.value)} (n {cell.n}{why}{mark}) {cell.note}".strip()


def _legend(heat: HeatMap, width: float, y: float) -> tuple[list[str], float]:
    """The scale, what grey and a star mean, the notes; and how high all of it is."""
    out: list[str] = []
    start = y
    low, high = heat.ends()
    for line in wrap(heat.unit, width - 2 * MARGIN, SIZE):
        out.append(_text(MARGIN, y, line, fill="#333333"))
        y += SIZE * 1.3
    bar = min(240.0, width - 2 * MARGIN)
    out.append(f'<rect x="{MARGIN}" y="{y - 6:.1f}" width="{bar:.0f}" height="12" rx="2" fill="url(#scale)"/>')
    ticks = [(0.0, low, "start"), (1.0, high, "end")]
    if heat.middle is not None and low < heat.middle < high:
        ticks.insert(1, ((heat.middle - low) / (high - low), heat.middle, "middle"))
    for share, value, anchor in ticks:
        out.append(_text(MARGIN + share * bar, y + 20, heat.figure(value), anchor=anchor, size=11, fill="#333333"))
    y += 38
    entries = [("url(#none)", "#e3e3e3", 1, f"{heat.doubt}: read nothing off it")]
    if heat.marked:
        entries.append(("#ffffff", "#222222", 2, f"\u2605 {heat.marked}"))
    for fill, stroke, thick, meaning in entries:
        out.append(
            f'<rect x="{MARGIN}" y="{y - 10:.1f}" width="18" height="12" rx="2" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="{thick}"/>'
        )
        for line in wrap(meaning, width - 2 * MARGIN - 26, 12):
            out.append(_text(MARGIN + 26, y, line, size=12, fill="#333333"))
            y += 18
    for note in heat.notes:
        for line in wrap(note, width - 2 * MARGIN, 12):
            out.append(_text(MARGIN, y, line, size=12, fill="#555555"))
            y += 17
    return out, y - start


def _stops(heat: HeatMap) -> str:
    low, high = heat.ends()
    if heat.middle is None:
        stops: Sequence[tuple[float, tuple[int, int, int]]] = [(0.0, PALE), (1.0, BLUE)]
    else:
        share = min(max((heat.middle - low) / (high - low), 0.0), 1.0)
        stops = [(0.0, BLUE), (share, PALE), (1.0, ORANGE)]
    return "".join(f'<stop offset="{share:.3f}" stop-color="{_hex(colour)}"/>' for share, colour in stops)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: float = SIZE,
    fill: str = "#222222",
    weight: str = "400",
    transform: str = "",
) -> str:
    more = f" transform={quoteattr(transform)}" if transform else ""
    # plaintext: a name in Arabic reads from the right, and the anchor's side stays where it is.
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size:g}" font-weight="{weight}" '
        f'fill="{fill}" style="unicode-bidi:plaintext"{more}>{_clean(text)}</text>'
    )


def _clean(text: str) -> str:
    return escape(_printable(text))


def _printable(text: str) -> str:
    """Without the characters that XML has no room for or that reorder what surrounds them."""
    return "".join(
        char
        for char in text
        if (char in "\t\n" or unicodedata.category(char) not in ("Cc", "Cs", "Cn"))
        and char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufffe\uffff"
    )


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
