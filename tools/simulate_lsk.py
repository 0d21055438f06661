"""Does the gate keep its promises? Worlds whose truth is known, many times over.

    python tools/simulate_lsk.py [--worlds demanded] [--repetitions 200] [--halving] [--json FILE]

A world has 12 cells of unequal size and 16 languages. The probability of a right answer in a cell and language is

    cell (mean 55 %, sd 10) + language (sd ``main``) + cell x language (sd ``interaction``) - ``lead`` unless English

English has no language effect of its own: it leads the mean of the others by ``lead``. Truths are drawn anew in every
repetition, then answers: an item's answers in two languages correlate (0.5 on the probit scale), as those of real
items do. Each policy learns from the answers; its gain is the true accuracy of the languages it routes to minus that of
English, in points, exactly, without test items. A gain's standard error is over repetitions; policies share them.

What is promised, per world. A promise missed by more than the standard error of its figure is BROKEN (exit code 1); one
missed by less is printed as CLOSE, and more repetitions tell:

- ``gated`` loses at most 0.5 points to English;
- ``gated`` is not worse than ``paper``;
- ``gated`` keeps 70 % (under 600 items) or 80 % of the gain of the best of English, best-single, paper and shrunk,
  where that is 0.5 points or more (below, the first promise says more than a ratio of two small numbers);
- with shuffled cells, the policy that routes by cell scores within 0.5 points of itself with one cell;
- in null worlds, where no language differs from any other, at most 5 % of repetitions route by cell.

Worlds: ``demanded`` has leads of 0 to 8 points and interactions of 0 to 5 points with languages that differ by 3
points overall, and null worlds; ``flat`` languages that differ by cell only; ``siblings`` items in groups of four that
are answered much alike; ``all``.

``flat`` worlds break promises, and must: there ``paper`` gains by trusting any difference, and with 200 items (or 600
and differences of 2 points) no test that keeps quiet in 95 % of null worlds can see most of these differences. Nor
are 200 answers in 50 groups of siblings enough to promise anything.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cultev.lsk.cells import ByMetadata, Everything
from cultev.lsk.gate import RUNGS, Gated, GatedRouter
from cultev.lsk.halving import halve_table
from cultev.lsk.policies import BestSingle, Paper, Policy, Shrunk, Shuffled
from cultev.lsk.router import Constant, Router
from cultev.lsk.table import Items, OutcomeTable

CELLS, LANGUAGES = 12, 16
CONCORDANCE = 0.5
CODES = ("en", *(f"l{i}" for i in range(1, LANGUAGES)))
POLICIES: tuple[Policy, ...] = (
    BestSingle(),
    Paper(),
    Shrunk(),
    Gated(),
    Shrunk(confidence=0.0, least=0.005, name="bold"),
    Shrunk(Everything(), 0.0, 0.005, name="bold-one-cell"),
    Shuffled(Shrunk(confidence=0.0, least=0.005), name="bold-shuffled"),
    Shuffled(Paper(), name="paper-shuffled"),
)
RIVALS = ("best-single", "paper", "shrunk")
MUCH = 0.5
"""Points that count: what the gate may lose to English, and the least gain of which a share is asked."""


@dataclass(frozen=True, slots=True)
class World:
    """Points are hundredths: lead 0.04 is 4 points. ``siblings`` is the size of a group of items."""

    items: int
    lead: float
    interaction: float
    main: float = 0.03
    siblings: int = 1

    @property
    def name(self) -> str:
        """Short, for the table."""
        group = f" x{self.siblings}" if self.siblings > 1 else ""
        return f"{self.items}{group}, +{self.lead * 100:g}, {self.main * 100:g}/{self.interaction * 100:g}"

    @property
    def null(self) -> bool:
        """No language differs from any other."""
        return self.lead == self.interaction == self.main == 0


@dataclass(frozen=True, slots=True)
class ValidationAlone:
    """What the gate would be without its evidence: the simplest rung within one standard error of validation's best."""

    name: str = "validation-alone"

    def fit(self, table: OutcomeTable) -> Router:
        """Cross-validate all three rungs and apply the one-standard-error rule (Breiman et al. 1984)."""
        checks = {(c.policy, c.against): c for c in Gated().checks(table, 2)}
        gain = {"english": 0.0} | {high: c.gain for (high, low), c in checks.items() if low == "english"}
        best = max(RUNGS, key=lambda rung: gain[rung])
        for rung in RUNGS[: RUNGS.index(best)]:
            if checks[best, rung].gain <= checks[best, rung].error:
                best = rung
                break
        if best == "english":
            return Constant(0)
        return Shrunk(Everything() if best == "single" else ByMetadata(), 0.0, Gated().least).fit(table)


@dataclass(frozen=True, slots=True)
class Halved:
    """The gate on what halving leaves of a table."""

    name: str = "gated-halved"

    def fit(self, table: OutcomeTable) -> GatedRouter:
        """Play halving, then learn from what it asked."""
        return Gated().fit(halve_table(table, ByMetadata().make(table)).table)


MORE = {"validation-alone": "validation", "gated-halved": "halved"}
"""Policies that are only tried when asked for, and what heads their column."""

SIZES = (200, 600, 2000, 8000)
WORLDS = {
    "demanded": [World(n, lead, r) for n, lead, r in product(SIZES, (0, 0.02, 0.04, 0.08), (0, 0.02, 0.05))]
    + [World(n, 0, 0, main=0) for n in SIZES],
    "flat": [World(n, lead, r, main=0) for n, lead, r in product(SIZES[:3], (0, 0.02, 0.04, 0.08), (0.02, 0.05))],
    "siblings": [
        World(n, lead, r, main, siblings=4)
        for n, (lead, r, main) in product(SIZES[:3], ((0, 0, 0), (0, 0.05, 0.03), (0.04, 0.02, 0.03), (0.08, 0, 0.03)))
    ],
}


def make_items(world: World) -> tuple[Items, NDArray[np.intp]]:
    """Items of a world and their cells: the largest four times the smallest, siblings in one cell."""
    groups = world.items // world.siblings
    share = np.linspace(0.4, 1.6, CELLS) / CELLS
    sizes = np.floor(share * groups).astype(int)
    sizes[: groups - sizes.sum()] += 1
    cell = np.repeat(np.arange(CELLS), sizes * world.siblings)
    ids = np.array([f"i{i}" for i in range(len(cell))])
    group = np.array([f"g{i // world.siblings}" for i in range(len(cell))])
    return Items(ids, group, *names_of(cell)), cell


def names_of(cell: NDArray[np.intp]) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """Culture and topic of each cell number."""
    return np.array([f"c{c // 3}" for c in cell]), np.array([f"t{c % 3}" for c in cell])


def truth_of(world: World, generator: np.random.Generator) -> NDArray[np.float64]:
    """Probability of a right answer, shape (CELLS, LANGUAGES)."""
    p = generator.normal(0.55, 0.1, (CELLS, 1)).clip(0.25, 0.85) + generator.normal(
        0, world.interaction, (CELLS, LANGUAGES)
    )
    p[:, 1:] += generator.normal(0, world.main, LANGUAGES - 1) - world.lead
    return p.clip(0.02, 0.98)


def answers_of(
    world: World, truth: NDArray[np.float64], cell: NDArray[np.intp], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Right or not, shape (items, LANGUAGES)."""
    from scipy.special import ndtri

    n = len(cell)
    own = generator.standard_normal((n, LANGUAGES))
    item = generator.standard_normal((n, 1))
    if world.siblings > 1:
        groups = n // world.siblings
        item = np.repeat(generator.standard_normal((groups, 1)), world.siblings, axis=0)
        shared = np.repeat(generator.standard_normal((groups, LANGUAGES)), world.siblings, axis=0)
        own = np.sqrt(0.7) * shared + np.sqrt(0.3) * own
    latent = np.sqrt(CONCORDANCE) * item + np.sqrt(1 - CONCORDANCE) * own
    right: NDArray[np.bool_] = latent < ndtri(truth)[cell]
    return right


@dataclass(frozen=True, slots=True)
class Result:
    """One world's figures. Gains and errors in points over English; shares of repetitions."""

    world: World
    repetitions: int
    gain: dict[str, float]
    error: dict[str, float]
    ceiling: float
    behind_paper: float
    behind_paper_error: float
    best: str
    kept: float
    kept_error: float
    routed: float
    single: float
    shuffled_gap: float
    shuffled_gap_error: float
    halved_routed: float
    seconds: float


def simulate(world: World, repetitions: int, seed: int, policies: Sequence[Policy] = POLICIES) -> Result:
    """Draw truths and answers, let every policy learn, and sum up what it would gain."""
    began = time.perf_counter()
    generator = np.random.default_rng([seed, world.items, world.siblings])
    items, cell = make_items(world)
    weight = np.bincount(cell, minlength=CELLS) / len(cell)
    cells = np.arange(CELLS)
    probe = Items(cells.astype(str), cells.astype(str), *names_of(cells))
    gains = np.zeros((repetitions, len(policies) + 1))
    shipped: dict[str, list[str]] = {}
    for repetition in range(repetitions):
        truth = truth_of(world, generator)
        table = OutcomeTable.of_right(items, CODES, answers_of(world, truth, cell, generator))
        gain = truth - truth[:, :1]
        for column, policy in enumerate(policies):
            router = policy.fit(table)
            gains[repetition, column] = weight @ gain[cells, router.route(probe)]
            if isinstance(router, GatedRouter):
                shipped.setdefault(policy.name, []).append(router.shipped)
        gains[repetition, -1] = weight @ gain.max(axis=1)
    return summarise(world, 100 * gains, [p.name for p in policies], shipped, time.perf_counter() - began)


def summarise(
    world: World, gains: NDArray[np.float64], names: Sequence[str], shipped: Mapping[str, Sequence[str]], seconds: float
) -> Result:
    """Means and standard errors. ``gains`` are points, (repetitions, policies + the ceiling); ``shipped`` rungs."""
    column = {name: gains[:, i] for i, name in enumerate(names)}
    gated = column["gated"]
    best = max(RIVALS, key=lambda name: float(column[name].mean()))
    top = float(column[best].mean())
    asked = share_asked(world)
    gap = column["bold-shuffled"] - column["bold-one-cell"]
    return Result(
        world,
        len(gains),
        {name: float(values.mean()) for name, values in column.items()},
        {name: error_of(values) for name, values in column.items()},
        float(gains[:, -1].mean()),
        float((gated - column["paper"]).mean()),
        error_of(gated - column["paper"]),
        best if top > 0 else "english",
        float(gated.mean()) / top if top >= MUCH else float("nan"),
        error_of(gated - asked * column[best]) / top if top >= MUCH else float("nan"),
        _share(shipped["gated"], "cells"),
        _share(shipped["gated"], "single"),
        float(gap.mean()),
        error_of(gap),
        _share(shipped.get(Halved().name, ()), "cells"),
        seconds,
    )


def _share(shipped: Sequence[str], rung: str) -> float:
    return shipped.count(rung) / len(shipped) if shipped else float("nan")


def error_of(values: NDArray[np.float64]) -> float:
    """Standard error of the mean."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def share_asked(world: World) -> float:
    """Share of the best rival's gain that the gate is to keep."""
    return 0.7 if world.items < 600 else 0.8


def broken(result: Result, slack: float = 1.0) -> list[str]:
    """The promises that a world misses by more than ``slack`` standard errors, in words."""
    world, found = result.world, []
    loss, error = -result.gain["gated"], result.error["gated"]
    if loss > MUCH + slack * error:
        found.append(f"loses {loss:.2f} +- {error:.2f} points to English")
    if result.behind_paper < -slack * result.behind_paper_error:
        found.append(f"is {-result.behind_paper:.2f} +- {result.behind_paper_error:.2f} points behind paper")
    if result.kept + slack * result.kept_error < share_asked(world):
        found.append(f"keeps {result.kept:.0%} +- {result.kept_error:.0%} of what {result.best} gains")
    if abs(result.shuffled_gap) > MUCH + slack * result.shuffled_gap_error:
        gap = f"{result.shuffled_gap:+.2f} +- {result.shuffled_gap_error:.2f}"
        found.append(f"with shuffled cells is {gap} points from one cell")
    if world.null and result.routed > 0.05 + slack * np.sqrt(0.05 * 0.95 / result.repetitions):
        found.append(f"routes by cell in {result.routed:.1%} of repetitions although no language differs")
    return found


def line(result: Result) -> str:
    """One line of the table."""
    shown = ["best-single", "paper", "shrunk", "gated", "bold-one-cell", "bold-shuffled", "paper-shuffled"]
    shown += [name for name in MORE if name in result.gain]
    cells = "  ".join(f"{result.gain[name]:+6.2f} ({result.error[name]:.2f})" for name in shown)
    kept = f"{result.kept:4.0%}" if result.kept == result.kept else "   -"
    halved = f"  {result.halved_routed:4.0%}" if result.halved_routed == result.halved_routed else ""
    return (
        f"{result.world.name:22}  {cells}  {result.ceiling:+6.2f}  {result.behind_paper:+6.2f} "
        f"({result.behind_paper_error:.2f})  {kept}  {result.routed:4.0%}  {result.single:4.0%}  "
        f"{result.seconds:4.0f}{halved}"
    )


HEADER = (
    f"{'items, lead, sd':22}  {'best single':>13}  {'paper':>13}  {'shrunk':>13}  {'GATED':>13}  {'one cell':>13}"
    f"  {'shuffled':>13}  {'paper shuffl.':>13}  {'ceiling':>6}  {'vs paper':>13}  kept  cells  one  seconds"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the worlds, print the table, say what is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", choices=[*WORLDS, "all"], default="demanded")
    parser.add_argument("--items", type=int, nargs="*", help="only worlds of these sizes")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2505)
    parser.add_argument(
        "--validation-alone", action="store_true", help="also try a gate of validation and nothing else"
    )
    parser.add_argument(
        "--halving", action="store_true", help="also try the gate on halved tables; the last column: how often by cell"
    )
    parser.add_argument("--json", type=Path, help="also write the figures into this file")
    options = parser.parse_args(arguments)
    worlds = [w for name in WORLDS if options.worlds in (name, "all") for w in WORLDS[name]]
    worlds = [w for w in worlds if not options.items or w.items in options.items]

    print("Gain over English in points (standard error). sd: between languages / by cell and language, in points.")
    print("kept: of the best of English, best single, paper, shrunk. cells, one: how often the gate ships which.")
    more = [p for p, wanted in ((ValidationAlone(), options.validation_alone), (Halved(), options.halving)) if wanted]
    policies: tuple[Policy, ...] = (*POLICIES, *more)
    print(HEADER.replace("ceiling", "".join(f"{MORE[p.name]:>13}  " for p in more) + "ceiling"))
    results, failures, close = [], [], []
    for world in worlds:
        result = simulate(world, options.repetitions, options.seed, policies)
        results.append(result)
        print(line(result), flush=True)
        failures += [f"{world.name}: gated {what}" for what in broken(result)]
        close += [f"{world.name}: gated {what}" for what in broken(result, 0.0) if what not in broken(result)]
    nulls = [r for r in results if r.world.null]
    if nulls:
        quiet = 1 - float(np.mean([r.routed for r in nulls]))
        english = quiet - float(np.mean([r.single for r in nulls]))
        print(f"Null worlds: no router in {quiet:.1%} of repetitions; plain English in {english:.1%}.")
    if options.json:
        rows = [asdict(r) | {"broken": broken(r)} for r in results]
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    for what in close:
        print(f"CLOSE   {what}")
    print("\n".join(f"BROKEN  {f}" for f in failures) or "Every promise holds.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
