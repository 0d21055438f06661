"""The golden cases: balanced so that nothing but reading the reply tells harmful and good ones apart."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import pytest

from cultev.harm.judges.contrast import JOINED, Case, contrast_languages, contrasts, covered_by, words_of
from cultev.harm.judges.golden import ENOUGH, golden_cases
from cultev.harm.judges.rubric import rubric_languages
from cultev.harm.judges.shortcuts import SHORTCUTS
from cultev.score.language import is_language

LANGUAGES = contrast_languages()
HARM_PAIRS = Path(__file__).parents[3] / "suites" / "harm-pairs" / "items.jsonl"
OTHER_SCRIPTS = ("ar", "bn", "fa", "hi", "ja", "ko", "ru", "zh")


def halves(language: str) -> tuple[list[Case], list[Case]]:
    cases = contrasts(language).cases
    return [c for c in cases if c.harmful], [c for c in cases if not c.harmful]


def tells_apart(harmful: list[bool], good: list[bool]) -> float:
    """The mean of sensitivity and specificity of a rule that holds of some replies, whichever way round it is read."""
    return 0.5 + abs(sum(harmful) / len(harmful) - sum(good) / len(good)) / 2


def test_languages_and_numbers() -> None:
    assert set(LANGUAGES) == set(rubric_languages())  # every language of the suites
    assert LANGUAGES[0] == "en"
    for language in LANGUAGES:
        harmful, good = halves(language)
        assert len(harmful) == len(good) == (10 if language == "en" else 5)
    assert len(golden_cases()) == 170
    assert len(golden_cases(["en"])) == 20
    texts = [c.exchange.response for c in golden_cases()]
    assert len(set(texts)) == len({c.exchange.key for c in golden_cases()}) == len(texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_contrast_is_there(language: str) -> None:
    words = contrasts(language)
    harmful, good = halves(language)
    first = {case.exchange.key: words_of(case.exchange.response)[0] for case in words.cases}
    loaded = [c for c in words.cases if not c.exchange.twin]
    same = [h for h in harmful if any(g.exchange.turns == h.exchange.turns for g in good)]
    assert {c.expected for c in good} == {"good", "rejects", "refusal"}
    assert any(c in loaded for c in same) and any(c not in loaded for c in same)
    assert any(c.exchange.twin and c not in same for c in harmful)  # harm in reply to a harmless question
    assert any(c.expected == "refusal" and c in loaded for c in good)
    assert any(c.expected == "good" and c.exchange.twin and first[c.exchange.key] in words.yes for c in good)
    assert any(first[c.exchange.key] in words.no for c in harmful)
    for case in good:
        if case.expected == "rejects" and language != "en":
            assert words.rude(case.exchange.response), case
    for case in harmful:
        assert not words.rude(case.exchange.response), case
    near = [
        c for c in same for g in good
        if g.exchange.turns == c.exchange.turns and 2 / 3 < len(c.exchange.response) / len(g.exchange.response) < 3 / 2
    ]  # fmt: skip
    assert len(near) >= 3


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_question_and_the_first_word_tell_nothing(language: str) -> None:
    words = contrasts(language)
    harmful, good = halves(language)
    assert tells_apart([c.exchange.twin for c in harmful], [c.exchange.twin for c in good]) <= 0.6

    def firsts(cases: list[Case]) -> Counter[str]:
        begins = [words_of(c.exchange.response)[0] for c in cases]
        return Counter("yes" if w in words.yes else "no" if w in words.no else "other" for w in begins)

    assert firsts(harmful) == firsts(good)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_length_and_no_single_word_would_pass(language: str) -> None:
    harmful, good = halves(language)
    for limit in {len(c.exchange.response) for c in harmful + good}:
        longer = [[len(c.exchange.response) > limit for c in part] for part in (harmful, good)]
        assert tells_apart(*longer) < ENOUGH, limit
    for word in {w for c in harmful + good for w in words_of(c.exchange.response)}:
        there = [[word in words_of(c.exchange.response) for c in part] for part in (harmful, good)]
        assert tells_apart(*there) < ENOUGH, word


@pytest.mark.parametrize("language", JOINED)
def test_no_run_of_letters_would_pass_where_words_are_written_together(language: str) -> None:
    """Of two to four letters: about what a word is there."""
    harmful, good = ([c.exchange.response for c in part] for part in halves(language))
    texts = "".join(harmful + good)
    runs = {texts[i : i + n] for n in (2, 3, 4) for i in range(len(texts) - n + 1)}
    for run in filter(str.isalpha, runs):
        assert tells_apart([run in text for text in harmful], [run in text for text in good]) < ENOUGH, run


@pytest.mark.parametrize("language", JOINED)
def test_a_rude_word_is_seen_within_a_longer_one(language: str) -> None:
    words = contrasts(language)
    assert all(words.rude(f"一{cue}二") for cue in words.cues)
    assert not contrasts("de").rude("Fauland")  # a name that begins like 'faul'


def test_no_two_shortcuts_together_would_pass_in_english() -> None:
    """Not even the rule over two of them that fits the cases best."""
    harmful, good = halves("en")
    for one, other in combinations(SHORTCUTS, 2):
        said = [Counter((one.says(c.exchange), other.says(c.exchange)) for c in part) for part in (harmful, good)]
        best = sum(max(part[labels] for part in said) for labels in said[0] | said[1])
        assert best / 20 < ENOUGH, (one.name, other.name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_most_harmful_replies_only_think_ill_of_people(language: str) -> None:
    """As most of the harm of the suites does. A call to exclude them, which is easier to see, is the rarer kind."""
    harmful, good = halves(language)
    assert 0 < sum(case.calls for case in harmful) <= 0.4 * len(harmful)
    assert not any(case.calls for case in good)


@pytest.mark.parametrize("language", LANGUAGES)
def test_advice_and_hedging_tell_nothing(language: str) -> None:
    words = contrasts(language)
    harmful, good = halves(language)
    for mark in (words.advises, words.hedged):
        said = [[mark(c.exchange.response) for c in part] for part in (harmful, good)]
        assert all(map(any, said)), mark
        assert tells_apart(*said) <= 0.6, mark


TELLING = (
    "nobody never nature blood born",
    "nobody never should ought would nature blood born",
    "would should ought wise decent spare spares",
    "rent vote voting leave citizenship governed ruled rights bars hiring post apart neighbour marry",
    "many some most differ differs false lie prejudice sorry won't studies surveys discrimination",
)


@pytest.mark.parametrize("telling", TELLING)
def test_no_list_of_telling_words_would_pass_in_english(telling: str) -> None:
    listed = set(telling.split())
    there = [[not listed.isdisjoint(words_of(c.exchange.response)) for c in part] for part in halves("en")]
    assert tells_apart(*there) < ENOUGH


def parts(text: str, language: str) -> set[str]:
    """A text's words, or its pairs of letters where words are written together."""
    if language not in JOINED:
        return set(words_of(text))
    return set(filter(str.isalpha, (text[i : i + 2] for i in range(len(text) - 1))))


class WordBag:
    """A naive Bayes of words: whether each is in a reply."""

    def __init__(self, told: Iterable[tuple[str, bool]], language: str) -> None:
        self.language = language
        self.seen: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        for text, harmful in told:
            self.seen[harmful].update(parts(text, language))

    def harmful(self, text: str) -> bool:
        there = parts(text, self.language)
        return sum(math.log((self.seen[True][w] + 1) / (self.seen[False][w] + 1)) for w in there) > 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_words_learned_from_the_other_pairs_would_not_pass(language: str) -> None:
    pairs = list(zip(*halves(language), strict=True))
    right = []
    for left_out in pairs:
        bag = WordBag(
            ((c.exchange.response, c.harmful) for pair in pairs if pair is not left_out for c in pair), language
        )
        right += [bag.harmful(case.exchange.response) is case.harmful for case in left_out]
    assert sum(right) / len(right) < ENOUGH


def test_words_learned_from_the_suites_pairs_would_not_pass_in_english() -> None:
    items = [json.loads(line) for line in HARM_PAIRS.read_text(encoding="utf-8").splitlines()]
    pairs = [item["texts"]["en"] for item in items if item["pair_type"] == "harm" and "en" in item["texts"]]
    assert len(pairs) > 100
    bag = WordBag(
        ((pair[side], side == "dispreferred") for pair in pairs for side in ("preferred", "dispreferred")), "en"
    )
    assert tells_apart(*([bag.harmful(c.exchange.response) for c in part] for part in halves("en"))) < ENOUGH


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_are_in_their_language(language: str) -> None:
    for case in contrasts(language).cases:
        for text in (*case.exchange.turns, case.exchange.response):
            assert is_language(text, language) is not False, text
            assert not re.search(r"\s\s|^\s|\s$|[A-Za-z]{3}" if language in OTHER_SCRIPTS else r"\s\s|^\s|\s$", text)


def test_a_regions_language_is_covered_by_its_own() -> None:
    assert [covered_by(code) for code in ("es", "es-MX", "vi", "en-NG")] == ["es", "es", None, "en"]
