"""The paper's way to ask: think in a language, then fill in a JSON form (LSKExtractor, arXiv 2505.14990).

Like the paper's, a form tells the question, the lettered choices, what to do, and the JSON to fill in, all in the
language except the two keys, ``reasoning_in_<Language>`` and ``final_answer``. What differs, and why:

- The words are cultev's own, in 22 languages (``paper_form.toml``), not the paper's.
- Instruction and form come first and the question last, so that all questions of a language share their beginning and
  it is computed once. ``question_first=True`` puts the paper's order: question, choices, instruction, form.
- No full stop is put behind the choices: it would become part of the last one.
- The options may be rotated; the paper never does.
- The form goes through the model's chat template, where the paper sends bare text to models made for chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cultev.errors import UsageError
from cultev.lsk.words import table
from cultev.prompt.languages import codes, language
from cultev.prompt.render import LETTERS, option_text, rotate
from cultev.suite.item import Item

FORM_VERSION = "1"
"""Raised whenever the same item would be put in other words: part of every protocol's hash."""

ANSWER_KEY = "final_answer"


@dataclass(frozen=True, slots=True)
class PaperForm:
    """A question as the paper's form puts it.

    ``options`` are ids in the order shown; ``choices`` their lines ('A. rice'), and ``texts`` these without letters:
    what ``parse`` and ``paper_parse`` compare a reply with.
    """

    messages: tuple[Mapping[str, str], ...]
    options: tuple[str, ...]
    choices: tuple[str, ...]
    texts: tuple[str, ...]


def paper_form(
    item: Item,
    code: str,
    *,
    order: int = 0,
    reasoning: bool = True,
    question_first: bool = False,
    asked_in: str | None = None,
) -> PaperForm:
    """Put an item into the paper's form.

    Args:
        item: what is asked.
        code: the language of instruction and reasoning.
        order: how far the options are rotated.
        reasoning: False gives the paper's form without reasoning, which has ``final_answer`` alone.
        question_first: the paper's order.
        asked_in: language of question and choices; None: ``code``. English here is the paper's first version, in which
            only the instruction and the reasoning change language.

    Raises:
        UsageError: more options than letters, or a language without a form.
    """
    words = form_words(code)
    told = language(asked_in or code)
    options = rotate(item.option_ids, order)
    if len(options) > len(LETTERS):
        raise UsageError(f"A question with {len(options)} options can't be asked by letter.", "Use --mode text.")
    texts = tuple(option_text(item, option, told) for option in options)
    choices = tuple(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False))
    question = "\n".join([f"{words['question']}{item.texts[told.code].question}", words["choices"], *choices])
    lines = [f'    "{reasoning_key(code)}": "<{words["steps"]}>",'] if reasoning else []
    form = "\n".join(["{", *lines, f'    "{ANSWER_KEY}": "<{words["answer"]}>"', "}"])
    task = f"{words['think' if reasoning else 'pick']}\n{form}"
    content = f"{question}\n{task}" if question_first else f"{task}\n\n{question}"
    return PaperForm(({"role": "user", "content": content},), options, choices, texts)


def reasoning_key(code: str) -> str:
    """The form's key for the reasoning: the language's English name is part of it."""
    return f"reasoning_in_{language(code).name.split(' ')[0]}"


def form_words(code: str) -> Mapping[str, str]:
    """The form's texts in a language.

    Raises:
        UsageError: there is none.
    """
    words: Mapping[str, str] | None = table("paper_form").get(code)
    if words is None:
        raise UsageError(f"There is no form in the language '{code}' yet.", f"There is one in: {' '.join(codes())}")
    return words
