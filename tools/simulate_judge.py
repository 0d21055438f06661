"""How often the corrected rate's 95 % interval covers the truth, for judges whose error rates are known.

A world is a true harm rate, a judge's sensitivity and specificity, and how many answers are judged by it and labelled
by people. Each repetition draws answers, verdicts and labels anew; a sound interval covers the truth in 93 to 97 % of
500.

    python tools/simulate_judge.py [--repetitions 500] [--seed 1]
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cultev.stats.corrected import Judged, corrected_rate, rogan_gladen
from cultev.stats.estimate import Z95, Estimate, wilson

HARMFUL = {"harmful": 1.0, "safe": 0.0}


@dataclass(frozen=True)
class World:
    """What is true. With ``group`` > 1 answers come in groups of that size that share a leaning towards harm."""

    name: str
    rate: float
    sensitivity: float
    specificity: float
    judged: int
    labelled: int
    group: int = 1
    doubled: bool = False
    """Whether what the judge calls harmful is drawn for labelling four times as often."""


WORLDS = (
    World("good judge", 0.15, 0.8, 0.95, 2000, 200),
    World("usual judge", 0.15, 0.7, 0.9, 2000, 200),
    World("few labels", 0.15, 0.7, 0.9, 2000, 50),
    World("rare harm", 0.02, 0.7, 0.95, 2000, 100),
    World("rarer harm", 0.01, 0.8, 0.99, 2000, 100),
    World("weak judge", 0.05, 0.5, 0.97, 1000, 60),
    World("blind judge", 0.2, 0.3, 0.85, 2000, 200),
    World("alarmist", 0.05, 0.9, 0.6, 2000, 200),
    World("common harm", 0.4, 0.8, 0.8, 500, 100),
    World("drawn by verdict", 0.1, 0.7, 0.9, 2000, 200, doubled=True),
    World("groups of 16", 0.15, 0.7, 0.9, 1600, 200, group=16),
    World("groups, all labelled", 0.15, 0.7, 0.9, 800, 800, group=16),
)


@dataclass
class Tally:
    """Coverage and width over repetitions."""

    covered: int = 0
    width: float = 0.0
    n: int = 0

    def add(self, low: float, high: float, truth: float) -> None:
        """One interval."""
        self.covered += low <= truth <= high
        self.width += high - low
        self.n += 1

    def __str__(self) -> str:
        return f"{self.covered / self.n:6.1%} ({self.width / self.n:.3f})"


def draw(world: World, generator: np.random.Generator) -> Judged:
    """One set of answers with verdicts and labels."""
    count = math.ceil(world.judged / world.group)
    leaning = np.full(count, world.rate)
    if world.group > 1:  # beta with a correlation of 0.1 within groups
        leaning = generator.beta(world.rate * 9, (1 - world.rate) * 9, count)
    member = np.repeat(np.arange(count), world.group)[: world.judged]
    harmful = generator.random(world.judged) < leaning[member]
    flagged = generator.random(world.judged) < np.where(harmful, world.sensitivity, 1 - world.specificity)
    chance = np.where(flagged & world.doubled, 4.0, 1.0)
    labelled = generator.choice(world.judged, world.labelled, replace=False, p=chance / chance.sum())
    human = np.full(world.judged, np.nan)
    human[labelled] = harmful[labelled]
    verdict: NDArray[np.str_] = np.where(flagged, "harmful", "safe")
    return Judged.of(verdict, human, member.astype(np.str_), 1 / chance)


def raw(data: Judged) -> tuple[float, float]:
    """The judge's own rate with Wilson's interval, as if its word were true."""
    share = float((data.verdict == "harmful").mean())
    return wilson(share, len(data.verdict))


def normal(data: Judged) -> tuple[float, float]:
    """The prediction-powered estimate with a normal interval, as it is usually written (weights 1)."""
    said, known = (data.verdict == "harmful").astype(float), data.labelled
    off = data.human[known] - said[known]
    weight = data.weight[known] / data.weight[known].sum()
    middle = said.mean() + weight @ off
    spread = said.var() / len(said) + float(weight**2 @ (off - weight @ off) ** 2)
    return middle - Z95 * math.sqrt(spread), middle + Z95 * math.sqrt(spread)


def simulate(world: World, repetitions: int, seed: int, *, beside: bool = True) -> dict[str, Tally]:
    """Coverage of the judge's raw rate and of the corrected ones."""
    generator = np.random.default_rng(seed)
    tallies = {"raw": Tally(), "corrected": Tally(), "normal": Tally()} | ({"rogan-gladen": Tally()} if beside else {})
    for _ in range(repetitions):
        data = draw(world, generator)
        tallies["raw"].add(*raw(data), world.rate)
        tallies["normal"].add(*normal(data), world.rate)
        estimates: dict[str, Estimate] = {"corrected": corrected_rate(data, HARMFUL)}
        if beside:
            estimates["rogan-gladen"] = rogan_gladen(data, HARMFUL)
        for name, estimate in estimates.items():
            tallies[name].add(estimate.low, estimate.high, world.rate)
    return tallies


def main() -> None:
    """Print the table: coverage, and the mean width of the interval in brackets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="Leave Rogan-Gladen's bootstrap out.")
    words = parser.parse_args()
    columns = ("raw", "corrected", "normal", *(() if words.quick else ("rogan-gladen",)))
    print("world                  rate  sens  spec  judged labels  " + " ".join(f"{name:<15}" for name in columns))
    for world in WORLDS:
        tallies = simulate(world, words.repetitions, words.seed, beside=not words.quick)
        print(
            f"{world.name:<21} {world.rate:5.2f} {world.sensitivity:5.2f} {world.specificity:5.2f} {world.judged:7d}"
            f" {world.labelled:6d}  " + " ".join(f"{tally!s:<15}" for tally in tallies.values()),
            flush=True,
        )


if __name__ == "__main__":
    main()
