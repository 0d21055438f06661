from __future__ import annotations

import pytest

from cultev.backend.fake import FakeBackend
from cultev.errors import EngineError, UsageError
from cultev.lsk.answer import Answer, agreement, answer_in, open_question
from cultev.lsk.words import table
from cultev.prompt.languages import codes, language


def never(text: str, code: str) -> bool | None:
    return None


def test_an_open_question_in_every_language() -> None:
    assert set(table("ask_words")) == set(codes())
    for code in codes():
        put = open_question("Warum?", code)
        content = put.messages[0]["content"]
        assert content.endswith("\n\nWarum?")
        assert language(code).answer_lead.strip() in content and "{" not in content


def test_a_choice_is_read_off_probabilities_after_the_reasoning() -> None:
    seen: list[str] = []

    def judge(prompt: str, continuation: str) -> float:
        seen.append(prompt)
        return -1.0 if continuation.strip() == "arroz" else -3.0

    backend = FakeBackend(judge, write=lambda prompt: "Se come arroz. Respuesta: pan")
    found = answer_in(backend, "What do they eat?", "es", ("pan", "arroz", "sopa"), 200, lambda text, code: True)
    assert found.text == "arroz" and found.reasoning == "Se come arroz." and found.in_language is True
    assert found.chance[1] > 0.75 and sum(found.chance) == pytest.approx(1.0)
    # The question stays as it was put; what stands around it is Spanish, and the answer's lead comes last.
    assert (
        "What do they eat?" in seen[0] and "en español" in seen[0] and seen[0].endswith("Se come arroz. \nRespuesta: ")
    )
    assert not found.cut


def test_an_open_answer_is_the_line_after_the_lead() -> None:
    def write(prompt: str) -> str:
        return " Reis.\nUnd mehr" if prompt.rstrip().endswith("Antwort:") else "Man isst dort viel. Antwort: egal"

    found = answer_in(FakeBackend(write=write), "Was isst man?", "de", (), 200, never)
    assert found == Answer("de", "Man isst dort viel.", "Reis.", (), None, False)


def test_a_reasoning_that_is_cut_and_one_in_another_language_are_said() -> None:
    backend = FakeBackend(write=lambda prompt: "x" * 500)
    found = answer_in(backend, "Why?", "fr", (), 40, lambda text, code: False)
    assert found.cut and found.in_language is False and len(found.reasoning) == 40


def test_too_long_and_died() -> None:
    with pytest.raises(UsageError, match="the context holds 64"):
        answer_in(FakeBackend(n_ctx=64), "Why? " * 20, "en", (), 40, never)

    class Dead(FakeBackend):
        def generate(self, requests, *, skip=()):  # type: ignore[no-untyped-def]
            return iter(())

    with pytest.raises(EngineError, match="no answer"):
        answer_in(Dead(), "Why?", "en", (), 40, never)


def said(text: str, code: str = "en") -> Answer:
    return Answer(code, "", text, (), None, False)


def test_agreement_claims_no_more_than_it_knows() -> None:
    assert agreement(said("rice"), said("rice", "es"), ("rice", "bread")) is True
    assert agreement(said("rice"), said("bread", "es"), ("rice", "bread")) is False
    assert agreement(said("Rice."), said("rice", "es"), ()) is True
    assert agreement(said("rice"), said("arroz", "es"), ()) is None
    assert agreement(said("In 1990"), said("सन् १९९१ में", "hi"), ()) is False
    assert agreement(said("In 1990"), said("सन् १९९० में", "hi"), ()) is None
    assert agreement(said(""), said("", "es"), ()) is None
