"""Agreement: published vectors and the cases in which it says nothing."""

from __future__ import annotations

import math

import pytest

from cultev.stats.agreement import bootstrap_interval, cohen_kappa, krippendorff_alpha, raw_agreement


def units() -> list[list[str]]:
    rows = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    table = [row.split() for row in rows]
    return [[row[i] for row in table if row[i] != "."] for i in range(12)]


def test_krippendorff_published_vector() -> None:
    assert krippendorff_alpha(units()) == pytest.approx(0.743, abs=5e-4)


def test_krippendorff_takes_a_distance() -> None:
    interval = krippendorff_alpha([[float(x) for x in unit] for unit in units()], lambda a, b: (a - b) ** 2)
    assert interval == pytest.approx(0.849, abs=5e-4)  # published for the same data


def test_krippendorff_undefined_without_variation() -> None:
    assert math.isnan(krippendorff_alpha([["a", "a"], ["a", "a"]]))
    assert math.isnan(krippendorff_alpha([["a"], ["b"]]))
    assert krippendorff_alpha([["a", "a"], ["b", "b"]]) == 1


def test_cohen_kappa_known_table() -> None:
    # 50 items: both yes 20, both no 15, only ours yes 5, only theirs 10: kappa 0.4 (Cohen's usual example).
    ours = ["y"] * 25 + ["n"] * 25
    theirs = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert raw_agreement(ours, theirs) == 0.7
    assert cohen_kappa(ours, theirs) == pytest.approx(0.4)
    assert math.isnan(cohen_kappa(["y"] * 3, ["y"] * 3))
    assert math.isnan(cohen_kappa([], []))


def test_cohen_kappa_weights_are_repetitions() -> None:
    assert cohen_kappa("yynn", "ynny", [2, 1, 1, 3]) == pytest.approx(cohen_kappa("yyynnnn", "yynnyyy"))


def test_bootstrap_interval_keeps_groups_together() -> None:
    values = [0.0] * 50 + [1.0] * 50
    alone = {str(i): [i] for i in range(100)}
    pairs = {str(i): list(range(10 * i, 10 * i + 10)) for i in range(10)}

    def mean(indices: list[int]) -> float:
        return sum(values[i] for i in indices) / len(indices)

    narrow, wide = bootstrap_interval(alone, mean), bootstrap_interval(pairs, mean)  # type: ignore[arg-type]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]
    assert all(math.isnan(x) for x in bootstrap_interval({"one": [0, 1]}, mean))  # type: ignore[arg-type]
