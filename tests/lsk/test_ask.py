"""Filling the table by the run engine: the planted world's experts, halving, going on after a stop, budgets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cultev.errors import Interrupted, UsageError
from cultev.lsk import budgets
from cultev.lsk.ask import Design, expected_full, languages_for
from cultev.lsk.collect import items_of
from cultev.lsk.gate import Gated
from cultev.lsk.splits import held_out
from cultev.lsk.study import MAKERS, cells_before, planted_truth
from cultev.suite import Item, Suite, open_suite
from tests.lsk.planted_fake import LANGUAGES, experts, filler, knowing, results
from tests.run.test_engine import content
from tests.worlds import small_suite


@pytest.fixture(scope="module")
def suite() -> Iterator[Suite]:
    with open_suite("planted") as opened:
        yield opened


@pytest.fixture(scope="module")
def items(suite: Suite) -> list[Item]:
    return list(suite.items())


@pytest.fixture(scope="module")
def training(items: list[Item]) -> list[Item]:
    return [item for item, out in zip(items, held_out(items_of(items)), strict=True) if not out]


def test_the_planted_experts_are_found(suite: Suite, training: list[Item], tmp_path: Path) -> None:
    with results(tmp_path) as journal:
        at = filler(journal, suite, training, knowing(training))
        at.fill(training)
        table = at.table(training)
    truth = planted_truth("planted", suite.version)
    assert truth is not None
    assert truth.experts == experts()
    assert truth.recall(Gated().fit(table), LANGUAGES) == (1.0, 1.0)
    assert (table.tokens > 0).all()
    assert (table.picked >= 0).all()


def test_halving_finds_the_same_for_a_third(suite: Suite, training: list[Item], tmp_path: Path) -> None:
    """With four languages one item in all of them is a quarter of a cell of four: 40 % leaves room for a second."""
    truth = planted_truth("planted", suite.version)
    assert truth is not None
    cells = cells_before(items_of(training), LANGUAGES, MAKERS["topic"])
    with results(tmp_path) as journal:
        backend = knowing(training)
        at = filler(journal, suite, training, backend)
        table = at.halve(training, cells, 0.4)
        asked, full = backend.scored, expected_full(table, at.costs(training))
        again = at.halve(training, cells, 0.4)
        assert backend.scored == asked, "nothing is asked twice"
        at.fill(training)
        whole = at.table(training)
        after = at.halve(training, cells, 0.4)
    assert truth.recall(Gated().fit(table), LANGUAGES) == (1.0, 1.0)
    assert full == whole.tokens.sum()
    assert 0.2 < table.tokens.sum() / full <= 0.4
    for other in (again, after):
        assert (other.outcome == table.outcome).all(), "what else the file holds changes nothing"


def test_a_stopped_halving_goes_on(suite: Suite, training: list[Item], tmp_path: Path) -> None:
    some = training[:48]
    cells = cells_before(items_of(some), LANGUAGES, MAKERS["culture"])
    stops = 0

    def stop() -> bool:
        nonlocal stops
        stops += 1
        return stops % 3 == 0

    for _ in range(50):
        try:
            with results(tmp_path) as journal:
                filler(journal, suite, some, knowing(some), stop=stop).halve(some, cells, 0.5)
            break
        except Interrupted:
            pass
    else:
        raise AssertionError("it never ended")
    assert stops > 3
    (tmp_path / "whole").mkdir()
    with results(tmp_path / "whole") as journal:
        filler(journal, suite, some, knowing(some)).halve(some, cells, 0.5)
    assert content(tmp_path / "results.db") == content(tmp_path / "whole" / "results.db")


def test_a_part_of_a_run_is_partial_until_all_is_there(suite: Suite, items: list[Item], tmp_path: Path) -> None:
    design = Design(("en", "es"), orders=2, limit=8)
    some = items[:8]
    with results(tmp_path) as journal:
        at = filler(journal, suite, some, knowing(some), design)
        at.fill(some[:4])
        assert journal.status(at.run) == "partial"
        assert len(at.table(some).right()) == 8
        assert np.isnan(at.table(some).right()[4:]).all()
        at.fill(some)
        assert journal.status(at.run) == "done"


def test_what_is_listed_first_is_no_answer(suite: Suite, items: list[Item], tmp_path: Path) -> None:
    """A model that favours the first option by more than it knows: the content-free prior takes it off."""
    some = items[:40]
    with results(tmp_path) as journal:
        fair = filler(journal, suite, some, knowing(some))
        fair.fill(some)
        expected = fair.table(some)
    (tmp_path / "other").mkdir()
    with results(tmp_path / "other") as journal:
        at = filler(journal, suite, some, knowing(some, first=3.0))
        at.fill(some)
        assert (at.table(some).outcome == expected.outcome).all()
        raw = [reply for reply in at.journal.replies(at.run, suite) if reply.language == "en"]
    top = [int(np.argmax([s.logprob for s in reply.scores])) for reply in raw]
    assert 0 < top.count(0) <= len(top)


def test_only_the_reasonings_language_changes(suite: Suite, items: list[Item], tmp_path: Path) -> None:
    some = items[:3]
    design = Design(("en", "th", "fr"), mode="cot", translate="cot", orders=1, max_tokens=40)
    with results(tmp_path) as journal:
        at = filler(journal, suite, some, knowing(some), design)
        at.fill(some)
        assert not np.isnan(at.table(some).right()).any()
        prompts = journal.replies(at.run, suite)
    assert {reply.language for reply in prompts} == {"en", "th", "fr"}
    words = json.loads(at.protocol.canonical())
    assert words["translate"] == "cot"
    assert dict(words["budgets"])["en"] == 40
    assert dict(words["budgets"])["th"] > 80, "a byte-level tokenizer takes three tokens for a Thai letter"


def test_budgets_are_the_same_text(items: list[Item]) -> None:
    backend = knowing(items[:1])
    found = dict(budgets.budgets(backend, items, ("en", "ja", "hi"), 100, "full"))
    sizes = {
        code: sum(len("\n".join([i.texts[code].question, *i.texts[code].options]).encode()) for i in items[:48])
        for code in found
    }
    assert found["en"] == 100
    for code in ("ja", "hi"):
        assert found[code] == pytest.approx(100 * sizes[code] / sizes["en"], abs=1)
        assert found[code] <= budgets.most(items, [code], 100, "full")[code]


def test_languages(suite: Suite, tmp_path: Path) -> None:
    assert languages_for(suite, (), "full")[0] == "en"
    assert languages_for(suite, ("ja", "es"), "full") == ("en", "ja", "es")
    assert languages_for(suite, ("th",), "cot") == ("en", "th")
    cases: Sequence[tuple[tuple[str, ...], str, str]] = [
        (("en", "th"), "full", "no questions in 'th'"),
        (("en", "tlh"), "cot", "no instructions in the language 'tlh'"),
        (("en",), "full", "English alone"),
    ]
    for asked, translate, telling in cases:
        with pytest.raises(UsageError, match=telling):
            languages_for(suite, asked, translate)
    with small_suite(tmp_path) as small:
        assert languages_for(small, (), "full") == ("en", "es")


def test_the_papers_form_is_asked_and_read(suite: Suite, items: list[Item], tmp_path: Path) -> None:
    some = items[:6]

    def write(prompt: str) -> str:
        if "reasoning_in_Spanish" in prompt:
            return "No sé."
        choice = next(line for line in prompt.splitlines() if line.startswith("B. "))
        return '{"reasoning_in_English": "I think so.", "final_answer": "' + choice + '"}'

    backend = knowing(some)
    backend.write = write
    design = Design(("en", "es"), mode="cot", answer="json", orders=2, max_tokens=200)
    with results(tmp_path) as journal:
        at = filler(journal, suite, some, backend, design)
        at.fill(some)
        table = at.table(some)
        replies = journal.replies(at.run, suite)
        asked = len(backend_texts(tmp_path))
        at.fill(some)
        assert len(backend_texts(tmp_path)) == asked
    assert table.shares("unparsed") == {"en": 0.0, "es": 1.0}
    assert {r.picked for r in replies if r.language == "en" and r.order == 0} == {"1"}
    assert {r.picked for r in replies if r.language == "en" and r.order == 1} == {"2"}, "rotated by one"


def backend_texts(folder: Path) -> list[object]:
    with sqlite3.connect(folder / "results.db") as db:
        return db.execute("SELECT key FROM texts").fetchall()
