"""Showing a map: ``cultev lsk show``, and what ``cultev lsk fit`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import db_option, suite_option, table_options

ALIKE = 0.005
"""Share of answers below which a gain is none, the gate's ``least``."""

TOLD = {
    "off_language": "Reasoned in another language than asked", "degenerate": "Reasoned nothing",
    "unparsed": "Named no option in the form", "too_long": "Too long for the context",
    "engine_error": "The engine died of it",
}  # fmt: skip
"""Outcomes other than right and wrong, in words."""

SURE = 0.9
"""P(gain > 0) from which a language counts as better than English in the heat map, and 1 - SURE as worse."""

if TYPE_CHECKING:
    from cultev.lsk.languagemap import CellPick, LanguageMap
    from cultev.report.heatmap import HeatMap


@click.command()
@click.argument("model", required=False)
@suite_option("The suite it was learned from.")
@click.option(
    "--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write the heat map into FILE."
)
@click.option("--map", "map_id", metavar="ID", help="This map, where there are several. [default: of the most items]")
@db_option
@table_options
def show(
    model: str | None, suite_name: str | None, svg: Path | None, map_id: str | None, db: Path, as_json: bool,
    as_csv: bool,
) -> None:  # fmt: skip
    """Show the map of MODEL: which language for which culture and topic, and what that rests on.

    Without MODEL and --suite, the results file must hold the maps of one model and suite only.
    """
    from cultev.backend.load import find_model, identify
    from cultev.cli.output import output_form

    output_form(as_json, as_csv)
    sha256 = identify(find_model(model)) if model else ""
    name, found = kept_map(db, sha256, suite_name, map_id)
    heat = heat_map(found)
    if svg is not None:
        from cultev.report.heatmap_svg import heat_svg

        svg.write_text(heat_svg(heat), encoding="utf-8")
    print_map(name, found, as_json=as_json, as_csv=as_csv)
    if not (as_json or as_csv):
        from rich.console import Console

        from cultev.report.heatmap import heat_lines

        click.echo()
        console = Console(highlight=False, markup=False, emoji=False)
        console.print(heat_lines(heat, console.width))


def kept_map(db: Path, sha256: str, suite_name: str | None, map_id: str | None) -> tuple[str, LanguageMap]:
    """A map of the results file and its id; where it is one of several and wasn't named, a note says which it is."""
    from contextlib import closing

    from cultev.cli.output import note
    from cultev.lsk.keep import find_map
    from cultev.run.store import open_results
    from cultev.suite.store import open_suite

    content = ""
    if suite_name:
        with open_suite(suite_name) as suite:
            content = suite.content_hash
    with closing(open_results(db, write=False)) as connection:
        name, found, others = find_map(connection, db, sha256, content, map_id or "")
    if others and not map_id:
        maps = "another map" if len(others) == 1 else f"{len(others)} other maps"
        how = f"{found.training} items{' by halving' if found.halving else ''} in {' '.join(found.languages)}"
        note(f"Map {name}: learned from {how}; {maps} of this model and suite: --map {' | '.join(others)}")
    return name, found


def heat_map(found: LanguageMap) -> HeatMap:
    """Every language's expected gain in every cell, in points; grey where the data don't say that there is one."""
    from cultev.report.heatmap import HeatCell, HeatMap

    cells = {}
    for pick in found.picks:
        for at, code in enumerate(found.languages):
            if code == "en" or not pick.asked[at]:
                continue
            sure = pick.chance[at]
            cells[pick.cell, code] = HeatCell(
                100 * pick.gain[at],
                pick.asked[at],
                evidence=not 1 - SURE < sure < SURE,
                mark=pick.language == code,
                note=f"{_count(pick.right[at], pick.asked[at])} right; any gain is {100 * sure:.0f} % sure",
                enough=1,
            )
    return HeatMap(
        f"{found.model['name']} {found.model['quantization']} on {found.suite['name']}: gain over English, in points",
        tuple(pick.cell for pick in found.picks),
        tuple(code for code in found.languages if code != "en"),
        cells,
        "points that a language is expected to gain over English",
        marked="asked in this language",
        row_title="cell",
    )


def print_map(name: str, found: LanguageMap, *, as_json: bool = False, as_csv: bool = False) -> None:
    """A map as a table for people, or its cells as data."""
    from cultev.cli.output import Column, emit_record, emit_table

    rows = [cell_row(found, pick) for pick in found.picks]
    if found.halving and not (as_json or as_csv):  # a cell's items, of which halving asks few
        rows = [row | {"n": f"{pick.asked[0]} of {pick.n}"} for row, pick in zip(rows, found.picks, strict=True)]
    if as_json:
        emit_record(map_facts(name, found) | {"cells": rows}, json=True)
        return
    columns = [
        Column("cell"),
        Column("n", align="right", whole=True),
        Column("language", title="ask in", whole=True),
        Column("best", title="other", whole=True),
        Column("best_right", title="right", align="right", whole=True),
        Column("english_right", title="en", align="right", whole=True),
        Column("gain", title="gain", align="right", show=lambda v: "" if v is None else f"{100 * v:+.0f}"),
        Column("error", title="+-", align="right", show=lambda v: "" if v is None else f"{100 * v:.0f}"),
        Column("chance", title="sure", align="right", show=lambda v: "" if v is None else f"{100 * v:.0f} %"),
        Column("why"),
    ]
    title = f"{found.model['name']} {found.model['quantization']} ({found.model['format']}) on {found.suite['name']}"
    emit_table(columns, rows, csv=as_csv, title=title)
    if as_csv:
        return
    click.echo()
    for line in summary(found):
        click.echo(line)


def map_facts(name: str, found: LanguageMap) -> dict[str, object]:
    """A map's facts, cells aside."""
    return {
        "map": name, "run": found.run, "model": found.model, "suite": found.suite, "languages": found.languages,
        "shipped": found.shipped, "reason": found.reason, "p_any": found.p_any, "p_cells": found.p_cells,
        "training": found.training, "held_out": found.held_out, "halving": found.halving,
        "tokens_spent": found.tokens_spent, "tokens_full": found.tokens_full, "unseen": found.unseen,
        "budgets": budgets_of(found), "outcomes": found.outcomes,
    }  # fmt: skip


def budgets_of(found: LanguageMap) -> dict[str, int]:
    """Longest reasoning by language, in tokens; empty where nothing was reasoned."""
    import json

    return {code: int(tokens) for code, tokens in json.loads(found.protocol).get("budgets", [])}


def learned(found: LanguageMap) -> str:
    """How many items a map was learned from, in words; after halving, how many of them were asked."""
    totals = [sum(pick.asked[at] for pick in found.picks) for at in range(len(found.languages))]
    if not found.halving or len(totals) < 2:
        return f"Learned from {found.training} items"
    low, high = min(totals[1:]), max(totals[1:])
    others = f"{low}" if low == high else f"{low} to {high}"
    return (
        f"Learned from {totals[0]} of {found.training} items, those asked in English by halving; in another language"
        f" {others} were"
    )


def cell_row(found: LanguageMap, pick: CellPick) -> dict[str, object]:
    """One cell as plain values; gains are shares of answers."""
    at = found.languages.index(pick.best)
    return {
        "cell": pick.cell, "n": pick.n, "language": pick.language, "best": pick.best, "gain": pick.gain[at],
        "error": pick.error[at], "chance": pick.chance[at], "why": why(found, pick),
        "best_right": _count(pick.right[at], pick.asked[at]), "english_right": _count(pick.right[0], pick.asked[0]),
        "right": dict(zip(found.languages, pick.right, strict=True)),
        "gains": dict(zip(found.languages, pick.gain, strict=True)),
        "asked": dict(zip(found.languages, pick.asked, strict=True)),
    }  # fmt: skip


def why(found: LanguageMap, pick: CellPick) -> str:
    """What a cell's recommendation rests on, in a few words."""
    at = found.languages.index(pick.best)
    if found.shipped == "english":
        return "no evidence"
    if found.shipped == "single":
        return "one language for all"
    if pick.language != "en":
        return f"{pick.best} is ahead"
    if pick.gain[at] <= -ALIKE:
        return "English is ahead"
    if None in (pick.right[at], pick.right[0]):
        return "nothing was asked here"
    return "nothing is known" if not any(pick.right) else "no language is ahead"


def _share(p: float) -> str:
    return f"{100 * p:.0f} %" if p >= 0.095 else f"{100 * p:.1f} %" if p >= 0.001 else "less than 0.1 %"


def _count(share: float | None, n: int) -> str:
    return "" if share is None else f"{round(share * n)}/{n}"


def budget_lines(found: LanguageMap) -> list[str]:
    """How long a reasoning could be, and in which languages how many were no reasoning in that language."""
    budgets = budgets_of(found)
    if not budgets:
        return outcome_lines(found.outcomes)
    sizes = ", ".join(f"{code} {budgets[code]}" for code in found.languages)
    lines = outcome_lines(found.outcomes) or ["Every reasoning that could be told was in the language asked for."]
    return [f"Longest reasoning, in tokens of each language: {sizes}.", *lines]


def outcome_lines(outcomes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """How many answers in which language were neither right nor wrong; nothing where all were."""
    lines = []
    for outcome, told in TOLD.items():
        shares = {code: found.get(outcome, 0.0) for code, found in outcomes.items()}
        named = ", ".join(f"{code} {100 * share:.0f} %" for code, share in shares.items() if share > 0)
        if named:
            lines.append(f"{told}: {named}.")
    return lines


def summary(found: LanguageMap) -> list[str]:
    """What holds for the whole map, a sentence a line."""
    shipped = {
        "english": "Ask everything in English",
        "single": f"Ask everything in {found.unseen}",
        "cells": "Ask each cell in its own language",
    }[found.shipped]
    share = found.tokens_spent / max(1, found.tokens_full)
    return [
        f"{shipped}: {found.reason}.",
        f"Were all languages alike, they would look as different as here in {_share(found.p_any)} of tables by chance"
        f" (and as different from cell to cell in {_share(found.p_cells)}).",
        f"{learned(found)}; {100 * found.held_out:.0f} % of the items are kept for the test (cultev lsk eval).",
        f"Tokens: {found.tokens_spent:,} of the full table's {found.tokens_full:,} ({100 * share:.0f} %).",
        *([f"Leans on {found.prior}, as far as this model's own answers bear it out."] if found.prior else []),
        *budget_lines(found),
        "other: the best language beside English, and how many it had right; gain: points it is expected to have over"
        " English, and by how much that may be off; sure: how probable it is that there is any gain."
        " More: cultev guide lsk",
    ]
