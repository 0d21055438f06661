"""Items put into words: instruction first, options in the order asked, contexts where they belong."""

from __future__ import annotations

import pytest

from cultev.errors import UsageError
from cultev.prompt.languages import codes, language
from cultev.prompt.render import Question, Variant, ask, content_free, contexts_of, rotate
from cultev.suite.item import Choice, Item, Label, Text, TrueFalse

COMMON = {"culture": "alpha", "topic": "food", "group": "g"}
BREAD = Choice(
    id="bread", answers=("1",), texts={"en": Text("Which bread?", ("rye", "oat", "corn"))}, **COMMON
)  # fmt: skip
GIFT = Label(
    id="gift", answers=("no",),
    texts={"en": Text("Kim brings clocks.", contexts={"value": "Kindness.", "rule": "No clocks."})}, **COMMON,
)  # fmt: skip


def content(question: Question) -> str:
    (message,) = question.messages
    assert message["role"] == "user"
    return message["content"]


def test_text_mode_lists_the_options_and_compares_their_texts() -> None:
    question = ask(BREAD, "en", "text", Variant())
    assert content(question) == f"{language('en').instruction['text']}\n\nWhich bread?\n- rye\n- oat\n- corn"
    assert question.continuations == ("rye", "oat", "corn")


def test_letters_mode_compares_letters() -> None:
    question = ask(BREAD, "en", "letters", Variant(order=1))
    assert content(question).endswith("Which bread?\nA. oat\nB. corn\nC. rye")
    assert question.options == ("1", "2", "0")
    assert question.continuations == ("A", "B", "C")


def test_the_instruction_is_shared_by_all_questions() -> None:
    other = Choice(id="o", answers=("0",), texts={"en": Text("Other?", ("a", "b"))}, **COMMON)
    first, second = (content(ask(item, "en", "text", Variant())) for item in (BREAD, other))
    instruction = language("en").instruction["text"]
    assert first.startswith(instruction) and second.startswith(instruction)


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ("none", "Kim brings"), ("country", "Country: Alphaland"), ("value", "Value: Kindness."),
        ("rule", "Rule of thumb: No clocks."),
    ],
)  # fmt: skip
def test_contexts(context: str, line: str) -> None:
    text = content(ask(GIFT, "en", "text", Variant(context), "Alphaland"))
    assert text.split("\n\n")[1].startswith(line)
    assert text.endswith("Kim brings clocks.\n- Yes\n- No\n- Neither")


def test_labels_are_explained() -> None:
    assert language("en").explanation["acceptability"] in content(ask(GIFT, "en", "text", Variant()))


def test_a_culture_without_a_country_is_not_asked_with_one() -> None:
    assert contexts_of(GIFT, "en", "") == ("none", "value", "rule")
    assert contexts_of(GIFT, "en", "Alphaland") == ("none", "country", "value", "rule")
    assert contexts_of(BREAD, "en", "Alphaland") == ("none",)


@pytest.mark.parametrize("code", codes())
@pytest.mark.parametrize("mode", ["text", "letters"])
def test_every_language_asks_every_kind(code: str, mode: str) -> None:
    texts = {code: Text("?", ("a", "b"))}
    items: list[Item] = [
        Choice(id="c", answers=("0",), texts=texts, **COMMON),
        Label(id="l", answers=("yes",), texts={code: Text("?")}, **COMMON),
        TrueFalse(id="t", answers=("true",), texts={code: Text("?")}, **COMMON),
    ]
    for item in items:
        question = ask(item, code, mode, Variant())
        assert len(question.options) == len(question.continuations) == len(item.option_ids)
        assert "{" not in content(question)


def test_the_prior_shows_no_question() -> None:
    for mode in ("text", "letters"):
        question = content_free(BREAD, "en", mode, 1)
        assert "bread" not in content(question)
        assert "N/A" in content(question)
        assert question.options == ("1", "2", "0")


def test_items_with_the_same_options_share_their_prior() -> None:
    other = Choice(id="o", answers=("0",), texts={"en": Text("Other?", ("rye", "oat", "corn"))}, **COMMON)
    assert content_free(BREAD, "en", "text") == content_free(other, "en", "text")


def test_more_options_than_letters() -> None:
    item = Choice(id="c", answers=("0",), texts={"en": Text("?", tuple(map(str, range(27))))}, **COMMON)
    with pytest.raises(UsageError, match="--mode text"):
        ask(item, "en", "letters", Variant())


def test_rotation_is_cyclic() -> None:
    assert [rotate("abc", k) for k in range(4)] == [tuple("abc"), tuple("bca"), tuple("cab"), tuple("abc")]


@pytest.mark.parametrize("code", codes())
def test_a_reasoning_stops_at_the_answer_however_its_colon_is_written(code: str) -> None:
    lead = language(code).answer_lead
    question = Question((), (), (), lead, reasons=True)
    assert "\n" + lead.strip() in question.reasoning_stops
    word = lead.strip().rstrip(":：፦ \u00a0")
    assert word
    assert all(f"{word}{colon}" in question.reasoning_stops for colon in (":", "：", " :"))
    assert question.after_reasoning == "\n" + lead
