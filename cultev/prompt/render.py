"""Item x language x variant -> messages and the options whose probability is asked.

The instruction stands first and the question last: all questions of a language then share the instruction's
tokens, and the engines compute them once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cultev.errors import UsageError
from cultev.prompt.languages import Language, language
from cultev.suite.item import Item

PROMPT_VERSION = "1"
"""Raised whenever the same item would be put in other words: part of every protocol's hash."""

MODES = ("text", "letters", "cot")
"""How an answer is taken: by the log-likelihood of the options' texts or letters, or of the texts once the model has
reasoned (chain of thought)."""

COLONS = (":", " :", "\u00a0:", "\u202f:", "：", "፦", "፡")
"""What models write for the colon after 'Answer', whatever a language's own way is."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Variant:
    """One way of asking the same item.

    ``context``: what else is told ('none', 'country', or a context of the item's own).
    ``order``: how far the options are rotated from the order in the suite.
    """

    context: str = "none"
    order: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it will be put: what the model is told, and the answers to compare."""

    messages: tuple[Mapping[str, str], ...]
    options: tuple[str, ...]
    """Option ids in the order shown."""
    continuations: tuple[str, ...]
    """The text whose probability is asked for each option, in the same order."""
    lead: str
    """What to write before the answer when the model has no chat template."""
    reasons: bool = False
    """Whether the model reasons before it answers, up to ``reasoning_stops``; ``after_reasoning`` is written then."""

    @property
    def reasoning_stops(self) -> tuple[str, ...]:
        """Texts at which a reasoning has come to its answer: the lead's word with any colon, on its own line or not."""
        word = self.lead.strip().rstrip("".join(COLONS) + "-")
        return tuple(f"{before}{word}{colon}" for before in ("\n", "") for colon in COLONS)

    @property
    def after_reasoning(self) -> str:
        """What stands between a reasoning and the answer."""
        return f"\n{self.lead}"


def contexts_of(item: Item, code: str, country: str) -> tuple[str, ...]:
    """The contexts an item can be asked in, in one language: 'none' first."""
    own = item.texts[code].contexts
    names = ["none"]
    if item.label_set == "acceptability" and country:
        names.append("country")
    names.extend(name for name in own if name not in names)
    return tuple(names)


def ask(item: Item, code: str, mode: str, variant: Variant, country: str = "", page: str = "") -> Question:
    """Put an item into words.

    Args:
        item: what is asked.
        code: language of the instruction, of the reasoning it asks for, and of the answer's lead.
        mode: one of MODES.
        variant: context and option order.
        country: the place's name in the language of the question, for the context 'country'.
        page: language of the question and its options, which the item must have; '' means ``code``.
    """
    words, written = language(code), language(page or code)
    text = item.texts[written.code]
    options = rotate(item.option_ids, variant.order)
    shown = [option_text(item, option, written) for option in options]
    parts = [_context(written, variant.context, text.contexts, country), text.question]
    body = "\n".join(p for p in parts if p)
    content, continuations = _lay_out(words, mode, item.label_set, body, shown)
    return Question(
        ({"role": "user", "content": content},), options, continuations, words.answer_lead, reasons=mode == "cot"
    )


def content_free(item: Item, code: str, mode: str, order: int = 0, page: str = "", *, listed: bool = False) -> Question:
    """The same options after a question without content, for the prior that PMI takes off.

    In letters mode the letters are listed with empty content, since a letter means nothing without its list. In text
    mode nothing is listed, so that items with the same options share the prompt (Holtzman et al. 2021, Surface Form
    Competition: domain-conditional PMI), unless ``listed``: then the options stand there as they do in the question
    itself (Zhao et al. 2021, Calibrate before use: the same frame, the content left out), which asks how much the
    model favours an option among these for its wording and place. ``page`` is that of ``ask``.
    """
    words, written = language(code), language(page or code)
    options = rotate(item.option_ids, order)
    shown = [option_text(item, option, written) for option in options]
    if mode == "letters":
        empty = [written.content_free] * len(shown)
        content, continuations = _lay_out(words, mode, item.label_set, written.content_free, empty)
    elif listed:
        content, continuations = _lay_out(words, mode, item.label_set, written.content_free, shown)
    else:
        content, _ = _lay_out(words, mode, item.label_set, written.content_free, [])
        continuations = tuple(shown)
    return Question(({"role": "user", "content": content},), options, continuations, words.answer_lead)


def option_text(item: Item, option: str, words: Language) -> str:
    """How an option reads in a language."""
    if item.label_set:
        return words.labels[item.label_set][option]
    text = item.texts[words.code]
    return text.options[int(option)] if text.options else str(getattr(text, option))  # a pair's two answers


def rotate(options: Sequence[str], by: int) -> tuple[str, ...]:
    """The options in cyclic order, beginning with number ``by``."""
    by %= len(options)
    return (*options[by:], *options[:by])


def _lay_out(
    words: Language, mode: str, label_set: str, body: str, shown: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    if mode == "letters":
        if len(shown) > len(LETTERS):
            raise UsageError(f"A question with {len(shown)} options can't be asked by letter.", "Use --mode text.")
        marks = [f"{letter}. " for letter in LETTERS[: len(shown)]]
        continuations: tuple[str, ...] = tuple(LETTERS[: len(shown)])
    else:
        marks = ["- "] * len(shown)
        continuations = tuple(shown)
    lines = [mark + option for mark, option in zip(marks, shown, strict=True)]
    head = [words.instruction[mode]]
    if label_set in words.explanation:
        head.append(words.explanation[label_set])
    return "\n".join([*head, "", body, *lines]), continuations


def _context(words: Language, name: str, own: Mapping[str, str], country: str) -> str:
    if name == "none":
        return ""
    told = country if name == "country" else own[name]
    return words.context[name].format(**{name: told}) if name in words.context else told
