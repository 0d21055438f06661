"""A whole study: every policy on the same test items, halving played, the planted truth, what is left out and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cultev.lsk.cells import Clusters
from cultev.lsk.collect import items_of
from cultev.lsk.cultures import culture_languages
from cultev.lsk.picked import ask_picked, picked_question
from cultev.lsk.splits import held_out
from cultev.lsk.study import MAKERS, cells_before, join, planted_truth, silent_languages, study
from cultev.lsk.study import test_mask as mask_of
from cultev.lsk.table import OUTCOMES
from cultev.suite import open_suite
from tests.lsk.planted_fake import filler, knowing, results
from tests.lsk.tables import drawn, planted

TABLE = drawn(planted(12), 8)


def test_every_policy_on_the_same_items() -> None:
    test = held_out(TABLE.items)
    found = study(TABLE, test, MAKERS["topic"], {}, {}, 0.4, halved_already=False)
    got = {s.policy: s.accuracy.value for s in found.evaluation.standings}
    assert {s.accuracy.n for s in found.evaluation.standings} == {int(test.sum())}
    assert got["gated"] == got["paper-cells"] == found.ceiling.oracle == 1.0
    assert got["shuffled-labels"] <= got["best-single"] + 0.1
    assert set(found.left_out) == {"culture-language", "model-picked", "equal-vote", "paper-top3"}
    assert found.halved is not None
    assert found.halved.same == 1.0
    assert found.halved.tokens_full == TABLE.take(~test).tokens.sum()


def test_a_culture_with_a_language_and_a_model_with_an_opinion() -> None:
    spoken = {str(culture): "es" for culture in TABLE.items.cultures}
    picked = {str(name): "es" for name in TABLE.items.ids}
    found = study(TABLE, held_out(TABLE.items), MAKERS["topic"], spoken, picked, 0.4, halved_already=True)
    got = {s.policy: s.accuracy.value for s in found.evaluation.standings}
    assert got["culture-language"] == got["model-picked"]
    assert found.halved is None
    assert "culture-language" not in found.left_out


def test_parts_are_joined_by_id() -> None:
    test = held_out(TABLE.items)
    shuffled = np.random.default_rng(0).permutation(int(test.sum()))
    whole, mask = join(TABLE.items, TABLE.take(~test), TABLE.take(test).take(shuffled))
    assert (mask == test).all()
    assert (whole.outcome == TABLE.outcome).all()


def test_nothing_held_out() -> None:
    assert not mask_of(TABLE.items, 0).any()
    assert 0.4 < mask_of(TABLE.items, 0.5).mean() < 0.6


def test_languages_without_an_answer() -> None:
    outcome = TABLE.outcome.copy()
    outcome[:, 2] = OUTCOMES.index("degenerate")
    outcome[:, 3] = OUTCOMES.index("not_asked")
    assert silent_languages(replace(TABLE, outcome=outcome)) == {TABLE.languages[2]: "degenerate"}


def test_halving_races_in_clusters_fixed_beforehand() -> None:
    items = replace(TABLE.items, embeddings=np.eye(12)[np.repeat(np.arange(12), 8)])
    cells = cells_before(items, TABLE.languages, MAKERS["clusters"])
    assert isinstance(cells, Clusters)
    assert len(cells.names) == 12


def test_the_truth_is_that_of_one_version() -> None:
    assert planted_truth("planted", "0.0.9") is None
    assert planted_truth("norms-core", "0.1.0") is None


def test_the_model_names_a_language(tmp_path: Path) -> None:
    with open_suite("planted") as suite, results(tmp_path) as journal:
        items = list(suite.items(limit=6))
        backend = knowing(items)
        at = filler(journal, suite, items, backend)
        at.fill(items)
        backend.judge = lambda prompt, option: -1.0 if option == "Russian" else -5.0
        words = (backend, suite, items, at.design.languages, at.protocol, journal, at.run)
        assert ask_picked(*words) == {item.id: "ru" for item in items}
        asked = backend.scored
        assert ask_picked(*words) == {item.id: "ru" for item in items}
        assert backend.scored == asked
        question = picked_question(items[0], ("en", "hi"))
    assert question.continuations == ("English", "Hindi")
    assert items[0].texts["en"].question in question.messages[0]["content"]


@pytest.mark.parametrize(("culture", "code"), [("japanese", "ja"), ("north-indian", "hi"), ("zulu", "zu")])
def test_cultures_have_languages(culture: str, code: str) -> None:
    with open_suite("norms-core") as suite:
        assert culture_languages(suite)[culture] == code


def test_every_culture_of_the_planted_world_is_invented() -> None:
    with open_suite("planted") as suite:
        assert culture_languages(suite) == {}
        assert len(items_of(list(suite.items(limit=3)))) == 3
