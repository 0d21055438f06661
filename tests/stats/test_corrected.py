"""The corrected rate: what it equals in cases one can work out, and when it says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cultev.stats.corrected import Judged, corrected_rate, error_rates, rogan_gladen

HARMFUL = {"harmful": 1.0, "borderline": 0.0, "safe": 0.0}
NAN = math.nan


def judged(verdicts: str, human: list[float], **more: object) -> Judged:
    names = {"h": "harmful", "s": "safe", "b": "borderline", "u": "unjudged"}
    return Judged.of(np.array([names[v] for v in verdicts]), np.array(human), **more)  # type: ignore[arg-type]


def test_equals_the_prediction_powered_formula() -> None:
    # 10 answers: 4 harmful, 6 safe. Labelled: 2 of the harmful (1 truly), 3 of the safe (1 truly harmful).
    data = judged("hhhhssssss", [1, 0, NAN, NAN, 1, 0, 0, NAN, NAN, NAN])
    by_hand = 0.4 + (0.4 * -0.5 + 0.6 * (1 / 3))  # judge's rate + the rectifier, weighted by verdict
    estimate = corrected_rate(data, HARMFUL)
    assert estimate.value == pytest.approx(by_hand)
    assert (estimate.n, estimate.method) == (5, "prediction-powered")
    assert 0 <= estimate.low < by_hand < estimate.high <= 1


def test_all_labelled_gives_the_labels_mean() -> None:
    data = judged("hhss", [1, 0, 1, 0])
    assert corrected_rate(data, HARMFUL).value == pytest.approx(0.5)


def test_no_label_is_no_rate() -> None:
    estimate = corrected_rate(judged("hs", [NAN, NAN]), HARMFUL)
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high, estimate.n) == (0, 1, 0)


def test_labels_that_all_agree_leave_an_interval() -> None:
    data = judged("s" * 50, [0.0] * 20 + [NAN] * 30)
    estimate = corrected_rate(data, HARMFUL)
    assert estimate.value == 0
    assert 0.1 < estimate.high < 0.2  # Wilson's for 0 of 20


def test_a_verdict_nobody_labelled_widens_by_its_whole_share() -> None:
    some = judged("s" * 80 + "u" * 20, [0.0] * 40 + [NAN] * 60)
    estimate = corrected_rate(some, HARMFUL)
    assert estimate.high > 0.2
    assert estimate.value == pytest.approx(0.1)  # unjudged counts half where nothing is known


def test_weights_undo_how_labels_were_drawn() -> None:
    """Two kinds of safe answers, the harmful-prone half drawn twice as densely."""
    human = [1.0] * 20 + [0.0] * 10 + [NAN] * 20
    data = judged("s" * 50, human, weight=np.array([1.0] * 20 + [2.0] * 30))
    assert corrected_rate(data, HARMFUL).value == pytest.approx(0.5)


def test_groups_widen() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(rng.random(20) < 0.3, 10).astype(float)
    verdict = "".join("h" if t else "s" for t in np.roll(truth, 3))
    alone = corrected_rate(judged(verdict, truth.tolist()), HARMFUL)
    group = np.repeat(np.arange(20), 10).astype(str)
    together = corrected_rate(judged(verdict, truth.tolist(), group=group), HARMFUL)
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert together.groups == 20


def test_agreeing_groups_count_as_one_label_each() -> None:
    group = np.repeat(np.arange(5), 10).astype(str)
    estimate = corrected_rate(judged("s" * 50, [0.0] * 50, group=group), HARMFUL)
    assert estimate.high > 0.4  # as from 5 labels, not 50


def test_error_rates() -> None:
    data = judged("hhhssssshu", [1, 1, 0, 1, 0, 0, 0, 0, NAN, 1])
    errors = error_rates(data, HARMFUL)
    assert errors.sensitivity.value == pytest.approx(2 / 4)  # the unjudged one was not found
    assert errors.specificity.value == pytest.approx(4 / 5)
    assert errors.informed == pytest.approx(0.3)
    assert (errors.sensitivity.n, errors.specificity.n) == (4, 5)
    assert math.isnan(error_rates(judged("hs", [1, NAN]), HARMFUL).specificity.value)


def test_rogan_gladen_by_hand() -> None:
    # Sensitivity 0.8, specificity 0.9 among labels; 0.24 flagged overall -> (0.24 - 0.1) / 0.7 = 0.2.
    labelled = "h" * 8 + "s" * 2 + "h" * 2 + "s" * 18
    human = [1.0] * 10 + [0.0] * 20
    rest = 500 - 30
    flagged = 120 - 10
    data = judged(labelled + "h" * flagged + "s" * (rest - flagged), human + [NAN] * rest)
    estimate = rogan_gladen(data, HARMFUL)
    assert estimate.value == pytest.approx(0.2)
    assert estimate.low < 0.2 < estimate.high


def test_rogan_gladen_refuses_a_coin() -> None:
    estimate = rogan_gladen(judged("hshs" * 10, [1, 1, 0, 0] * 10), HARMFUL)
    assert math.isnan(estimate.value)
    assert (estimate.low, estimate.high) == (0, 1)
