from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from cultev.errors import UsageError
from cultev.lsk.cells import ByMetadata, Everything
from cultev.lsk.effects import Model, gains
from cultev.lsk.gate import Gated
from cultev.lsk.languagemap import LanguageMap
from cultev.lsk.policies import fit_gains, table_sums
from cultev.lsk.prior import BEFORE, WEIGHTS, Prior, gains_with, prior_of, weights
from cultev.lsk.table import OutcomeTable
from tests.lsk.tables import CODES, drawn
from tests.lsk.test_mapfile import SUITE, a_map

CELLS, PER_CELL = 12, 10


def world(seed: int, spread: float = 0.2) -> NDArray[np.float64]:
    """Probabilities of being right, (cells, languages), languages differing by cell."""
    effects = np.random.default_rng(seed).normal(0.0, spread, (CELLS, len(CODES)))
    return np.clip(0.5 + effects, 0.02, 0.98)


def lent(truth: NDArray[np.float64], error: float = 0.03, keep: float = 1.0) -> Prior:
    """A lender that knows a truth, to the given error."""
    names = Everything().names if len(truth) == 1 else [f"c{c // 2} / t{c % 2}" for c in range(len(truth))]
    gain = keep * (truth - truth[:, :1])
    cells = {name: {code: (float(gain[c, i]), error) for i, code in enumerate(CODES)} for c, name in enumerate(names)}
    mean, sd = gain.mean(axis=0), gain.std(axis=0)
    return Prior("lender", cells, {code: (float(mean[i]), float(sd[i])) for i, code in enumerate(CODES)})


def model_of(table: OutcomeTable) -> Model:
    return Model(table_sums(table, ByMetadata().make(table)))


def expected(prior: Prior, table: OutcomeTable):  # type: ignore[no-untyped-def]
    return prior.expects(ByMetadata().make(table).names, table.languages)


def test_a_good_lender_is_heard_and_a_bad_one_is_not() -> None:
    truth = world(1)
    table = drawn(truth, PER_CELL, seed=2)
    good = weights(model_of(table), expected(lent(truth), table))
    bad = weights(model_of(table), expected(lent(world(7)), table))
    against = weights(model_of(table), expected(lent(1.0 - truth), table))
    assert good @ WEIGHTS > 0.7
    assert bad[0] > 0.9 and against[0] > 0.98
    assert good.sum() == pytest.approx(1.0)
    assert sum(BEFORE) == 1.0


def test_what_a_lender_is_worth() -> None:
    """Mean squared error of the gains, over worlds: less with a good lender, hardly more with one of another world."""
    errors = np.zeros((6, 3))
    for seed in range(6):
        truth = world(seed)
        table = drawn(truth, PER_CELL, seed=seed + 50)
        gain = truth - truth[:, :1]
        for column, prior in enumerate((None, lent(truth), lent(world(seed + 20)))):
            found = fit_gains(table, ByMetadata(), prior).gains
            errors[seed, column] = ((found.mean - gain)[:, 1:] ** 2).mean()
    plain, good, bad = errors.mean(axis=0)
    assert good < 0.6 * plain
    assert bad < 1.05 * plain


def test_the_prior_fades_as_data_come_in() -> None:
    truth, other = world(3), world(4)
    few, many = (drawn(truth, n, seed=1) for n in (4, 400))
    for table, close in ((few, False), (many, True)):
        with_bad = fit_gains(table, ByMetadata(), lent(other)).gains.mean
        without = fit_gains(table, ByMetadata()).gains.mean
        assert np.allclose(with_bad, without, atol=0.02) or not close


def test_a_lender_that_expects_nothing_changes_next_to_nothing() -> None:
    table = drawn(world(1), PER_CELL)
    silent = Prior("lender", {}, {code: (0.0, 0.0) for code in CODES})
    with_it, without = fit_gains(table, ByMetadata(), silent).gains, fit_gains(table, ByMetadata()).gains
    for name in ("mean", "sd", "chance", "unseen_mean", "unseen_chance"):
        assert np.allclose(getattr(with_it, name), getattr(without, name), atol=1e-9), name


def test_a_lenders_uncertainty_is_added() -> None:
    truth = world(1)
    table = drawn(truth, 6)
    sure, unsure = (fit_gains(table, ByMetadata(), lent(truth, error)).gains for error in (0.0, 0.3))
    assert (unsure.sd[:, 1:] > sure.sd[:, 1:]).all()
    assert (unsure.sd[:, 0] == 0).all() and (unsure.mean[:, 0] == 0).all() and (unsure.chance[:, 0] == 0).all()
    assert np.allclose(unsure.mean, sure.mean)


def test_missing_entries_and_full_tables_agree() -> None:
    """The two branches of ``gains`` compute the same posterior, targets included."""
    table = drawn(world(2), PER_CELL)
    model = model_of(table)
    general = model_of(table)
    object.__setattr__(general, "sums", replace(model.sums, balanced=False))
    target = expected(lent(world(3), 0.1), table).weighed(0.75)
    one, other = gains(model, target), gains(general, target)
    assert np.allclose(one.mean, other.mean) and np.allclose(one.sd, other.sd) and np.allclose(one.chance, other.chance)


def test_cells_and_languages_that_the_lender_does_not_know() -> None:
    prior = lent(world(1))
    found = prior.expects(["c0 / t0", "new / cell"], ["en", "es", "tlh"])
    assert found.mean.shape == found.variance.shape == (2, 3)
    assert (found.mean[:, 0] == 0).all() and (found.variance[:, 0] == 0).all()
    assert found.mean[0, 1] == prior.cells["c0 / t0"]["es"][0]
    assert found.mean[1, 1] == prior.overall["es"][0]
    others = [prior.cells["c0 / t0"][code][0] for code in CODES[1:]]
    assert found.mean[0, 2] == pytest.approx(np.mean(others))


def test_a_lender_is_no_evidence() -> None:
    """Answers that are noise ship English, however sure the lender is."""
    table = drawn(np.full((CELLS, len(CODES)), 0.5), PER_CELL, seed=5)
    plain, with_it = Gated().fit(table), Gated(prior=lent(world(1, 0.4), 0.0)).fit(table)
    assert plain.p == with_it.p
    assert with_it.shipped == plain.shipped == "english"


def test_the_gate_with_a_good_lender_sends_more_cells_right() -> None:
    truth = world(1, 0.25)
    table = drawn(truth, 8, seed=3)
    best = truth.argmax(axis=1)

    def hits(gate: Gated) -> int:
        return int((gate.fit(table).fitted.router(0.0, 0.005).languages == best).sum())

    assert hits(Gated(prior=lent(truth))) > hits(Gated())


def test_from_a_map() -> None:
    lender = a_map()
    prior = prior_of(lender, SUITE, 0.5)
    assert set(prior.cells) == {pick.cell for pick in lender.picks}
    assert prior.cells[lender.picks[1].cell][lender.languages[1]] == (lender.picks[1].gain[1], lender.picks[1].error[1])
    assert not prior.notes and "small (Q4_0)" in prior.lender
    clustered = replace(lender, cells={"by": "clusters", "embedder": "ngrams/1", "centres": []})
    assert not prior_of(clustered, SUITE, 0.5).cells
    assert prior_of(clustered, SUITE, 0.5).overall == prior.overall


def test_a_lender_that_saw_the_test_items_is_refused() -> None:
    lender: LanguageMap = a_map()
    with pytest.raises(UsageError, match="kept for the test"):
        prior_of(replace(lender, held_out=0.0), SUITE, 0.5)
    with pytest.raises(UsageError, match="kept for the test"):
        prior_of(lender, SUITE, 0.5, limit=30)
    assert prior_of(lender, SUITE, 0.0, limit=30).cells  # nothing is tested
    other = SUITE | {"content_hash": "ee" * 32, "version": "0.2.0"}
    assert "may have seen" in prior_of(lender, other, 0.5).notes[0]
    assert not prior_of(lender, other | {"name": "else"}, 0.5).notes


def test_one_cell_takes_what_holds_overall() -> None:
    truth = world(1)
    table = drawn(truth, PER_CELL)
    model = Model(table_sums(table, Everything()))
    found = gains_with(model, lent(truth).expects(("all",), table.languages))
    assert found.mean.shape == (1, len(CODES)) and np.isfinite(found.mean).all() and np.isfinite(found.sd).all()
