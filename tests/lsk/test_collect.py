"""From replies to entries: averages over orders, priors, and what a reasoning turned out to be."""

from __future__ import annotations

import math

import pytest

from cultev.backend.types import ContinuationScore
from cultev.lsk.collect import UNIFORM, entry_of, log_prior, values_of
from cultev.run.replies import Reply
from cultev.suite import Choice, Text

ITEM = Choice("i", "c", "t", "g", ("1",), {"en": Text("?", ("a", "b", "c"))})


def reply(
    logprobs: dict[str, float], prior: dict[str, float] | None = None, text: str | None = None, outcome: str = "correct"
) -> Reply:
    def scores(values: dict[str, float] | None) -> tuple[ContinuationScore, ...]:
        return tuple(ContinuationScore(value, 2, 5, 5) for value in (values or {}).values())

    return Reply("i", "hi", "none", 0, outcome, "", tuple(logprobs), scores(logprobs), scores(prior), text, "stop", 7)


def test_orders_are_averaged_whatever_their_order_of_options() -> None:
    values = values_of(ITEM, [reply({"0": -1, "1": -2, "2": -5}), reply({"1": -1, "2": -3, "0": -4})])
    assert values == {"0": -2.5, "1": -1.5, "2": -4.0}
    entry = entry_of(ITEM, "hi", [reply({"0": -1, "1": -2, "2": -5}), reply({"1": -1, "2": -3, "0": -4})], unsure)
    assert (entry.outcome, entry.picked, entry.tokens) == ("correct", 1, 14)
    assert entry.score == pytest.approx(math.exp(-1.5) / sum(math.exp(v) for v in values.values()))


def test_a_prior_is_taken_off() -> None:
    favoured = reply({"0": -1.0, "1": -1.5, "2": -3.0}, {"0": -1.0, "1": -3.0, "2": -3.0})
    assert entry_of(ITEM, "hi", [favoured], unsure).picked == 1
    assert entry_of(ITEM, "hi", [reply({"0": -1.0, "1": -1.5, "2": -3.0})], unsure).picked == 0


def test_a_prior_without_preference_changes_nothing_but_a_constant() -> None:
    assert log_prior([-7.0, -7.0, -7.0]) == pytest.approx([math.log(1 / 3)] * 3)


def test_no_option_is_credited_without_bound() -> None:
    assert log_prior([0.0, -500.0, -500.0]) == pytest.approx(
        [math.log(1 - UNIFORM + UNIFORM / 3), math.log(UNIFORM / 3), math.log(UNIFORM / 3)]
    )


def unsure(text: str, code: str) -> bool | None:
    return None


def english(text: str, code: str) -> bool | None:
    return code == "en"


def test_what_a_reasoning_turned_out_to_be() -> None:
    right = {"0": -5.0, "1": -1.0, "2": -5.0}
    said = "A reasoning in English."
    assert entry_of(ITEM, "hi", [reply(right, text=said)], english).outcome == "off_language"
    assert entry_of(ITEM, "en", [reply(right, text=said)], english).outcome == "correct"
    assert entry_of(ITEM, "hi", [reply(right, text=said)], unsure).outcome == "correct", "not told is no outcome"
    assert entry_of(ITEM, "en", [reply(right, text=" \n 12. ")], english).outcome == "degenerate"
    # Half of the reasonings are enough; what was picked stays beside the outcome.
    two = entry_of(ITEM, "hi", [reply(right, text=said), reply(right, text="...")], english)
    assert (two.outcome, two.picked) == ("degenerate", 1)


@pytest.mark.parametrize("failure", ["too_long", "engine_error"])
def test_an_order_without_an_answer(failure: str) -> None:
    lost = Reply("i", "hi", "none", 1, failure, "", ("1", "2", "0"), (), (), None, "", 0)
    entry = entry_of(ITEM, "hi", [reply({"0": -1, "1": -2, "2": -5}), lost], unsure)
    assert (entry.outcome, entry.score, entry.picked) == (failure, None, None)


def test_a_tie_with_a_wrong_option_is_wrong() -> None:
    assert entry_of(ITEM, "hi", [reply({"0": -1, "1": -1, "2": -5})], unsure).outcome == "incorrect"


def form(picked: str, text: str) -> Reply:
    return Reply(
        "i", "hi", "none", 0, "incorrect" if picked else "unparsed", picked, ("0", "1", "2"), (), (), text, "end", 5
    )


def test_what_forms_say() -> None:
    said = '{"reasoning_in_Hindi": "A reasoning in English.", "final_answer": "b"}'
    plain = '{"final_answer": "b"}'
    assert entry_of(ITEM, "hi", [form("1", plain)], english).outcome == "correct", "no reasoning is no other language"
    assert entry_of(ITEM, "hi", [form("1", said)], english).outcome == "off_language"
    assert entry_of(ITEM, "en", [form("1", plain), form("", "?")], english).outcome == "correct"
    assert entry_of(ITEM, "en", [form("1", plain), form("0", plain)], english).outcome == "incorrect", "a tie"
    none = entry_of(ITEM, "en", [form("", "?"), form("", "")], english)
    assert (none.outcome, none.picked, none.score, none.tokens) == ("unparsed", None, None, 10)
