"""The self-test lets sound judges pass and stops those that are not."""

from __future__ import annotations

import math

import pytest

from cultev.backend.fake import FakeBackend
from cultev.errors import JudgeError
from cultev.harm.judges import kind_of, model_judge
from cultev.harm.judges.base import Exchange
from cultev.harm.judges.contrast import contrast_languages
from cultev.harm.judges.golden import golden_cases, require_sane
from cultev.harm.judges.rubric import CHOICES, rubric, rubric_languages
from tests.harm.judges.judging import chat, guard, qwen

YES_NO = {"harmful": "Yes", "safe": "No", "refusal": "No"}
SOUND = {
    "qwen3guard": qwen(),
    "llama-guard-1b": guard("\n\n", {"harmful": "unsafe", "safe": "safe", "refusal": "safe"}),
    "llama-guard-8b": guard("\n\n", {"harmful": "unsafe", "safe": "safe", "refusal": "safe"}),
    "shieldgemma": guard("", YES_NO),
    "granite-guardian-3.1": guard("", YES_NO),
    "granite-guardian-3.2": guard("", YES_NO),
    "granite-guardian-3.3": guard(
        "", {"harmful": "<score> yes </score>", "safe": "<score> no </score>", "refusal": "<score> no </score>"}
    ),
    "rubric": chat(),
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_judge_passes(kind: str) -> None:
    done = require_sane(model_judge(kind, SOUND[kind]))
    assert [(s.language, s.sensitivity, s.specificity) for s in done.scores] == [
        (code, 1, 1) for code in contrast_languages()
    ]


@pytest.mark.parametrize("kind", SOUND)
def test_a_model_that_answers_at_random_is_stopped(kind: str) -> None:
    with pytest.raises(JudgeError, match=f"'{kind}' fails its self-test"):
        require_sane(model_judge(kind, FakeBackend(n_ctx=8192)))


@pytest.mark.parametrize("always", ["Yes", "No"])
def test_always_the_same_answer_is_stopped(always: str) -> None:
    backend = FakeBackend(lambda p, c: math.log(0.9 if c == always else 0.05), n_ctx=8192)
    with pytest.raises(JudgeError, match="for example '"):
        require_sane(model_judge("granite-guardian-3.1", backend))


def test_an_english_model_is_believed_in_english() -> None:
    """What a judge was made for doesn't matter: it is asked in the languages of the replies."""
    spanish = {c.exchange.response for c in golden_cases() if c.exchange.language == "es"}

    backend = guard("", YES_NO)
    inner = backend.judge

    def deaf(prompt: str, continuation: str) -> float:
        if any(text in prompt for text in spanish):
            return math.log(0.9 if continuation == "No" else 0.05)
        return inner(prompt, continuation)

    backend.judge = deaf
    done = require_sane(model_judge("granite-guardian-3.1", backend), ["en", "es"])
    assert done.trusts("en")
    assert not done.trusts("es")


def test_kind_by_the_models_name() -> None:
    for name, kind in {
        "Qwen3Guard-Gen-0.6B-Q8_0": "qwen3guard",
        "Llama-Guard-3-1B.Q8_0.gguf": "llama-guard-1b",
        "Llama_Guard_3_8B": "llama-guard-8b",
        "shieldgemma-2b-it": "shieldgemma",
        "granite-guardian-3.1-2b": "granite-guardian-3.1",
        "granite-guardian-3.2-5b": "granite-guardian-3.2",
        "granite-guardian-3.3-8b": "granite-guardian-3.3",
        "granite-guardian-3-8b": "granite-guardian-3.1",
        "Qwen2.5 0.5B Instruct": "rubric",
    }.items():
        assert kind_of(name) == kind, name


def test_rubric_in_every_suite_language() -> None:
    assert set(rubric_languages()) == set(
        ["en", "ar", "bn", "zh", "hi", "ja", "ru", "de", "ko", "es", "pt", "id", "sw", "fa", "tr", "pcm"]
    )
    keys = set(rubric("en"))
    for code in rubric_languages():
        words = rubric(code)
        assert set(words) == keys, code
        assert len({words[choice] for choice in CHOICES}) == 4
        assert len(words["rules"]) == len(rubric("en")["rules"])
        if code != "en":
            assert words["task"] != rubric("en")["task"]
    assert rubric("pt-BR") == rubric("pt")
    assert rubric("xx") == rubric("en")


def test_rubric_averages_both_orders() -> None:
    """A model that always likes '1' best says nothing: the two orders cancel out and the disagreement is noted."""
    backend = FakeBackend(lambda p, c: math.log({"1": 0.7, "2": 0.1, "3": 0.1, "4": 0.1}[c]), n_ctx=8192)
    (verdict,) = model_judge("rubric", backend).judge([Exchange("k", ("q",), "a", language="fr")])
    assert verdict.p_unsafe == pytest.approx(0.4)
    assert "the two orders differ" in verdict.raw
