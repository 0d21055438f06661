from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len
from rich.console import Console

from cultev.report.heatmap import BLUE, GREY, ORANGE, PALE, HeatCell, HeatMap, heat_lines, ink, mix
from cultev.report.heatmap_svg import heat_svg, width_of, wrap

LANGUAGES = ("en", "zh", "hi", "ar", "es", "ru", "bn", "ja", "sw", "fa", "ur", "th", "ta", "am")
ROWS = (
    "kelmori / food",
    "العربية / الطعام",
    "中国 / 节日",
    "a <b>bold</b> & long name that must be broken somewhere / x",
)


def a_map(cells: Mapping[tuple[str, str], HeatCell] | None = None, **more: Any) -> HeatMap:
    filled = {
        (row, code): HeatCell(float(i - j), 10 * i + 15, evidence=j != 2, mark=i == j)
        for j, row in enumerate(ROWS)
        for i, code in enumerate(LANGUAGES)
    }
    settings: dict[str, Any] = {"title": "Gain & loss", "unit": "points", "marked": "ships", "notes": ("n < 20",)}
    return HeatMap(rows=ROWS, columns=LANGUAGES, cells=filled if cells is None else cells, **settings | more)


def printed(heat: HeatMap, width: int, colour: bool) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="truecolor" if colour else None,
        legacy_windows=False,
    )  # fmt: skip
    console.print(heat_lines(heat, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_terminal_lines_fit_and_say_everything_without_colour(width: int) -> None:
    text = printed(a_map(), width, colour=False)
    assert "\x1b" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= width
    for code in LANGUAGES:
        assert re.search(rf"\b{code}\b", text)
    assert len(re.findall(r" 0\*", text)) == 2 and text.count("(0)*") == 2  # too few answers, and no evidence
    assert "(+1)" in text or "(\u22121)" in text


def test_colour_only_on_cells_that_say_something() -> None:
    lines = printed(a_map(), 80, colour=True)
    assert "\x1b[" in lines
    for figure in re.findall(r"(\x1b\[[0-9;]*m)\s*(\([^)]*\))", lines):
        assert "48;2" not in figure[0]  # no background behind a bracket


def test_nothing_in_a_name_steers_a_terminal() -> None:
    heat = a_map(title="\x1b[31mred", row_title="\u202erow", names={"en": "\x07en"})
    text = printed(heat, 80, colour=False)
    assert not set(text) & set("\x1b\x07\u202e")


def test_few_answers_or_no_evidence_are_grey() -> None:
    assert HeatCell(5.0, 19).grey and not HeatCell(5.0, 20).grey
    assert HeatCell(5.0, 200, evidence=False).grey
    assert HeatCell(None, 200).grey and HeatCell(float("nan"), 200).grey
    heat = a_map({("kelmori / food", "en"): HeatCell(9.0, 5)})
    assert heat.colour(heat.cell("kelmori / food", "en")) == GREY
    # A grey figure doesn't stretch the scale either.
    assert heat.ends() == (-1.0, 1.0)


def test_colours_and_ends() -> None:
    heat = a_map({(ROWS[0], "en"): HeatCell(4.0, 50), (ROWS[1], "en"): HeatCell(-2.0, 50)})
    assert heat.ends() == (-4.0, 4.0)
    assert heat.colour(HeatCell(4.0, 50)) == ORANGE
    assert heat.colour(HeatCell(-9.0, 50)) == BLUE
    assert heat.colour(HeatCell(0.0, 50)) == PALE
    shares = a_map({(ROWS[0], "en"): HeatCell(40.0, 50)}, middle=None, low=0.0)
    assert shares.ends() == (0.0, 40.0)
    assert shares.colour(HeatCell(40.0, 50)) == BLUE
    assert mix(PALE, BLUE, 0.0) == PALE and mix(PALE, BLUE, 7.0) == BLUE


def test_figures_have_a_sign_only_where_there_is_a_middle() -> None:
    assert a_map().figure(3.2) == "+3"
    assert a_map(decimals=1).figure(-3.25) == "\u22123.2"
    assert a_map().figure(-0.2) == a_map().figure(0.2) == "0"
    assert a_map(middle=None).figure(3.2) == "3"


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("end", [BLUE, ORANGE, GREY])
def test_ink_is_readable_on_every_colour(share: float, end: tuple[int, int, int]) -> None:
    colour = mix(PALE, end, share)

    def luminance(rgb: tuple[int, ...]) -> float:
        linear = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    one, other = sorted([luminance(colour), 0.0 if ink(colour) == "#000000" else 1.0])
    assert (other + 0.05) / (one + 0.05) >= 4.5


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{name}"))


@pytest.mark.parametrize("heat", [
    a_map(),
    a_map(names={code: f"a language of the name {code} with & more words" for code in LANGUAGES}),
    a_map(middle=None, decimals=1, unit="a unit that takes many words to say, so many that a line is too short " * 3),
    a_map({}, title="", notes=()),
])  # fmt: skip
def test_svg_is_whole_and_nothing_sticks_out(heat: HeatMap) -> None:
    svg = heat_svg(heat)
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for text in elements(svg, "text"):
        size, written = float(text.attrib["font-size"]), text.text or ""
        long = width_of(written, size)
        if "transform" in text.attrib:
            x, y = map(float, re.findall(r"[\d.]+", text.attrib["transform"])[:2])
            x, y = x + long * 0.7071, y - long * 0.7071
            assert x <= width and y >= 0, written
            continue
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        start = {"start": x, "middle": x - long / 2, "end": x - long}[text.attrib["text-anchor"]]
        assert start >= -0.5 and start + long <= width + 0.5, written
        assert size <= y <= height, written
    for rect in elements(svg, "rect"):
        assert float(rect.get("x", "0")) + float(rect.attrib["width"]) <= width


def test_svg_holds_every_figure_and_its_count_and_names_are_escaped() -> None:
    heat = a_map()
    svg = heat_svg(heat)
    assert "<b>bold</b>" not in svg and "&lt;b&gt;bold&lt;/b&gt;" in svg
    written = [text.text for text in elements(svg, "text")]
    for (row, code), cell in heat.cells.items():
        assert f"n {cell.n}" in written
        tip = f"{row}, {code}: {heat.figure(cell.value or 0.0)} (n {cell.n}"
        assert any((title.text or "").startswith(tip) for title in elements(svg, "title")), tip
    assert "Gain & loss" in written and "n < 20" in written
    assert "العربية / الطعام" in written


def test_svg_stands_alone_and_runs_nothing() -> None:
    svg = heat_svg(a_map(title="<script>alert(1)</script>", names={"en": "\x00\x1ben\u202e"}))
    assert not elements(svg, "script")
    assert not re.search(r"\bon\w+=|href", svg)
    assert re.findall(r"https?://[^\"']+", svg) == ["http://www.w3.org/2000/svg"]
    assert "\u202e" not in svg and "\x00" not in svg


def test_wrap() -> None:
    assert wrap("one two", 1000, 13) == ["one two"]
    assert wrap("", 100, 13) == [""]
    parts = wrap("extremely-long-unbroken-identifier-for-something", 150, 13)
    assert "".join(parts) == "extremely-long-unbroken-identifier-for-something"
    assert all(part.endswith("-") for part in parts[:-1])
    assert all(width_of(part, 13) <= 150 for part in wrap("汉" * 40, 150, 13))
    assert wrap("x", 1, 13) == ["x"]
