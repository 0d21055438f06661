"""Which option does a reply in the paper's JSON form choose? Read with care, and never guessed.

The answer is looked for where the form puts it, in ``final_answer``, and nowhere in the reasoning: what a reasoning
mentions it need not choose. JSON may be cut short, quoted in any way, or fenced. The answer itself may be the option's
text in the language, its letter (full-width, bracketed, or the language's own list letters), or its number in any
digits. Whatever says two things, or none, or turns an option around ('nicht richtig'), is unparsed: an outcome of its
own. ``paper_parse`` is the published parser, which knows no such outcome.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cultev.lsk.paper_form import ANSWER_KEY
from cultev.lsk.words import table
from cultev.prompt.languages import language
from cultev.prompt.render import LETTERS

WORDS_OF_ONE_LETTER = frozenset("AEIOUY")
"""Capitals that start a sentence as words: English A and I, Spanish and Portuguese A, O, E, Y, Italian I."""

_FOLDS = str.maketrans({
    **dict.fromkeys("أإآٱ", "ا"), "ی": "ي", "ى": "ي", "ک": "ك", "ـ": None,
    **dict.fromkeys("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", None), **dict.fromkeys("’‘ʼ`", "'"),
})  # fmt: skip
"""Ways to write the same letter, and characters without width."""

_VOWELS = re.compile("[\u064b-\u0652\u0670]")
_OPENING = "\"'«»“”„‚‹›「」『』*_`([{（【〈《<"
_CLOSING = "\"'«»“”„‚‹›「」『』*_`)]}）】〉》>.,;:!?。，、；：！？।॥۔؟،፡።፣፤"
_QUOTES = {'"': '"', "'": "'", "“": "”", "”": "”", "„": "“", "«": "»", "「": "」", "‘": "’"}
_LATIN = "A-Za-zÀ-ɏḀ-ỿ0-9"
_LETTER = re.compile(f"(?<![{_LATIN}])([A-Z])(?![{_LATIN}]|'[A-Za-z])")
_MARK = re.compile(r"^([A-Z](?=\s*(?:[).:、\]}\-–—]|$))|[a-z](?=[).:\]]))\s*[).:、\]}\-–—]*\s*")
_NUMBER = re.compile(r"^[(\[#]*(\d{1,2})\s*(?:[).:、\]\-–—]+|$)\s*")
_CLAUSE = re.compile(r"[,;.:!?。，、；：！？।॥۔؟،፣፤።\n]+")
_IS = re.compile(rf"\s+(?:(?:is|was|es|é|est|è|ist)\b|\w{{1,4}}\s+[A-Z](?![{_LATIN}]))")
"""After a capital that is no word: 'A is right', 'A or B'."""
_FOUND = "\0"
"""Stands where an option's text was found."""
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_COUNTED = "一二三四五六七八九"
_FENCE = re.compile(r"```\w*")


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a reply says.

    ``option`` indexes the options as they were shown; None is unparsed. ``how``: 'text', 'letter', 'number' or 'named'
    (an option's text within a sentence); or why there is none: 'no answer', 'unclear', 'two answers', 'negated'.
    ``reasoning`` and ``answer`` are the form's fields, '' where missing: the reasoning is what a language is told by.
    """

    option: int | None
    how: str
    reasoning: str
    answer: str


def parse(response: str, options: Sequence[str], code: str = "en") -> Parsed:
    """Read a reply.

    Args:
        response: what the model wrote, cut short or not.
        options: the options' texts without letters, in the order shown.
        code: the language it was asked in, for its list letters and its words for 'not'.
    """
    thought = "".join(_THOUGHT.findall(response))
    text = _FENCE.sub("", _THOUGHT.sub("", response)).strip()
    reasoning, answer, found = _fields(text)
    if not found:
        answer = _answer_without_form(text, options, code)
        reasoning = reasoning or (thought + text if answer != text else thought)
    if not answer:
        return Parsed(None, "no answer", reasoning or thought, "")
    option, how = _read(answer, options, code)
    return Parsed(option, how, reasoning or thought, answer)


def _fields(text: str) -> tuple[str, str, bool]:
    """The reasoning, the first answer that isn't the form's own placeholder, and whether the form's key was there."""
    keys = list(re.finditer(rf"[\"'“”„«「‘’]?\s*{ANSWER_KEY}\s*[\"'“”»」‘’]?\s*[:：=፦]\s*", text, re.IGNORECASE))
    answer = ""
    for key in keys:
        answer = _value(text[key.end() :])
        if answer and not re.fullmatch(r"<[^<>]*>", answer):
            break
        answer = ""
    start = re.search(r"reasoning(?:_in_\w+)?\s*[\"'“”»」‘’]?\s*[:：=፦]\s*", text, re.IGNORECASE)
    if start is None:
        return "", answer, bool(keys)
    after = [key.start() for key in keys if key.start() >= start.end()]
    body = text[start.end() : after[0]] if after else text[start.end() :]
    return (
        _unescape(body.strip().strip(",").strip().lstrip("\"'“„«「‘").rstrip("\"'“”»」’").strip()),
        answer,
        bool(keys),
    )


def _value(text: str) -> str:
    """A field's value at the start of a text: up to its closing quote, or to the line's end where there is none."""
    text = text.lstrip("[({ \t\r\n" if text[:1] in "[{(" else " \t\r\n")
    if text[:1] in _QUOTES:
        quote = _QUOTES[text[0]]
        # A quote closes where the value can end; an apostrophe within a word doesn't.
        end = re.search(rf"(?<!\\){re.escape(quote)}(?=\s*(?:[,}}\])]|$|\n))", text[1:])
        body = text[1 : end.start() + 1] if end else text[1:].split("\n")[0].rstrip("}] ")
    else:
        body = re.split(r"[}\n]", text, maxsplit=1)[0].rstrip(", ]")
    return _unescape(body).strip()


def _unescape(body: str) -> str:
    if "\\" not in body:
        return body
    try:
        return str(json.loads('"' + re.sub(r'(?<!\\)"', r"\"", body.replace("\n", "\\n")) + '"'))
    except ValueError:
        return body.replace('\\"', '"').replace("\\n", "\n")


def _answer_without_form(text: str, options: Sequence[str], code: str) -> str:
    """What stands for the answer where the form is missing: after 'Answer:', or the one line there is."""
    if "{" in text and re.search(r"reasoning_in_", text):
        return ""  # a form that was cut before its answer
    leads = {language(c).answer_lead.strip().rstrip(":：፦ \u00a0") for c in {code, "en"} & set(table("answer_words"))}
    found = [m for lead in leads for m in re.finditer(rf"{re.escape(lead)}\s*[:：፦]\s*([^\n]+)", text, re.IGNORECASE)]
    if found:
        return max(found, key=lambda m: m.start()).group(1).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) == 1:
        return lines[0]
    # Of several lines only one that is nothing but an answer counts: the last, else the first.
    for line in (lines[-1], lines[0]) if lines else ():
        if _exact(line, options, code) is not None:
            return line
    return ""


def _read(answer: str, options: Sequence[str], code: str) -> tuple[int | None, str]:
    """The option an answer names, and how, or why there is none."""
    exact = _exact(answer, options, code) or _led(answer, options, code)
    if exact is not None:
        return exact
    plain, texts = normalise(answer), [normalise(option) for option in options]
    named, rest = _named(plain, texts, code)
    lettered, negated_letter = _lettered(answer, options, code)
    if len(named) > 1 or len(lettered) > 1 or (named and lettered and named != lettered):
        return None, "two answers"
    if not named and not lettered:
        return None, "unclear"
    if _denied(rest, code):
        return None, "negated"
    if lettered and not named and negated_letter:
        return None, "negated"
    return (lettered.pop(), "letter") if lettered else (named.pop(), "named")


def _denied(rest: str, code: str) -> bool:
    """Whether a clause turns around an option that was found in it."""
    return any(_FOUND in clause and _negates(clause, code) for clause in _CLAUSE.split(rest))


def _led(answer: str, options: Sequence[str], code: str) -> tuple[int | None, str] | None:
    """An exact answer after words like 'option' and 'the answer is'; None where there is none."""
    tidy = unicodedata.normalize("NFKC", answer).translate(_FOLDS).strip().lstrip(_OPENING + " ")
    words = [word for c in (code, "en") for word in table("answer_words").get(c, {}).get("lead", ())]
    leads = "|".join(_whole(unicodedata.normalize("NFKC", word).translate(_FOLDS)) for word in words)
    match = re.match(rf"(?:(?:{leads})\s*[:：፦\-–—]*\s*){{1,2}}", tidy, re.IGNORECASE)
    if match is None:
        return None
    rest = tidy[match.end() :]
    if not any(set(option) & set(_COUNTED) for option in options):
        rest = re.sub(f"^[{_COUNTED}](?=[{re.escape(_CLOSING)}]*$)", lambda m: str(_COUNTED.index(m[0]) + 1), rest)
    return _exact(rest, options, code)


def _exact(answer: str, options: Sequence[str], code: str) -> tuple[int | None, str] | None:
    """An answer that is an option's text, or begins with its letter or number; None where it is neither."""
    plain, texts = normalise(answer), [normalise(option) for option in options]
    if texts.count(plain) > 1:  # told apart by what isn't compared, as Turkish ı and i
        return (options.index(answer), "text") if answer in options else (None, "two answers")
    if plain in texts:
        return texts.index(plain), "text"
    tidy = unicodedata.normalize("NFKC", answer).translate(_FOLDS).strip().lstrip(_OPENING + " ")
    marked = _by_mark(tidy, options, code)
    if marked is None:
        return None
    option, rest, how = marked
    rest = normalise(rest)
    if rest in texts and texts.index(rest) != option:
        return None, "two answers"
    if not 0 <= option < len(options):
        return None, "unclear"
    if rest and rest not in texts:
        named, left = _named(rest, texts, code)
        if named and option not in named:
            return None, "two answers"
        if option in named and _denied(left, code):
            return None, "negated"
    return option, how


def _by_mark(tidy: str, options: Sequence[str], code: str) -> tuple[int, str, str] | None:
    """The option by the mark that an answer begins with, what follows the mark, and 'letter' or 'number'."""
    bare = tidy.rstrip(_CLOSING + " ")
    if len(bare) == 1 and "a" <= bare <= "z":
        return LETTERS.index(bare.upper()), "", "letter"
    match = _MARK.match(tidy) or _MARK.match(bare)
    if match:
        return LETTERS.index(match.group(1).upper()), tidy[match.end() :], "letter"
    own = _own_letters(code)
    for letter in sorted(own, key=len, reverse=True):
        match = re.match(rf"{re.escape(letter)}\s*(?:[).:、\]\-–—]+|$)\s*", tidy) or (
            re.match(f"{re.escape(letter)}$", bare)
        )
        if match:
            return own[letter], tidy[match.end() :], "letter"
    match = _NUMBER.match(tidy) or _NUMBER.match(bare)
    # Where options are numbers themselves, a number is meant as one of them, and it is none: it says nothing.
    if match and not any(re.search(r"\d", unicodedata.normalize("NFKC", option)) for option in options):
        return int(match.group(1)) - 1, tidy[match.end() :], "number"
    return None


def _lettered(answer: str, options: Sequence[str], code: str) -> tuple[set[int], bool]:
    """Options whose letter stands by itself somewhere in an answer, and whether its clause turns it around."""
    found: set[int] = set()
    negated = False
    for clause in _CLAUSE.split(unicodedata.normalize("NFKC", answer).translate(_FOLDS)):
        for match in _LETTER.finditer(clause):
            after, before = clause[match.end() :], clause[: match.start()].rstrip()
            is_word = re.match(r"\s+[^\W\d_]", after) and not _IS.match(after) and before[-1:] not in tuple(_OPENING)
            if match.group(1) in WORDS_OF_ONE_LETTER and is_word:
                continue
            option = LETTERS.index(match.group(1))
            if option < len(options):
                found.add(option)
                negated = negated or _negates(normalise(clause), code)
    return found, negated


def _named(plain: str, texts: Sequence[str], code: str) -> tuple[set[int], str]:
    """Options whose text stands in a text, longest first so that none is found within another, and what is left."""
    found: set[int] = set()
    for i in sorted(range(len(texts)), key=lambda i: (-len(texts[i]), i)):
        if not texts[i]:
            continue
        pattern = _whole(texts[i], endings=True)
        if code == "ar":  # with the article or without
            bare = texts[i].removeprefix("ال")
            pattern = f"(?:{pattern}|{_whole('ال' + bare)}" + (f"|{_whole(bare)})" if len(bare) > 2 else ")")
        if re.search(pattern, plain):
            found.add(i)
            plain = re.sub(pattern, f" {_FOUND} ", plain)
    return found, plain


def _negates(plain: str, code: str) -> bool:
    """Whether a text has a word for 'not' or 'wrong', in the language or in English."""
    for words in (table("answer_words").get(code, {}), table("answer_words")["en"]):
        for harmless in words.get("but", ()):
            plain = plain.replace(normalise(harmless), " ")
        if any(re.search(_whole(normalise(word)), plain) for word in words.get("no", ())):
            return True
        if any(normalise(part) in plain for part in words.get("part", ())):
            return True
    return False


def _whole(text: str, *, endings: bool = False) -> str:
    """A pattern for a text that is no part of a longer word; where a script writes no spaces there is no such border.

    With ``endings`` a Bengali or Tamil text may have some: both put case and article at a word's end.
    """
    part = r"[^\W\d_]|[\u0900-\u0dff]"  # vowel signs are no letters to Python
    before = f"(?<!{part})" if _bordered(text[0], ()) else ""
    after = f"(?!{part})" if _bordered(text[-1], ("BENGALI", "TAMIL") if endings else ()) else ""
    return f"{before}{re.escape(text)}{after}"


def _bordered(char: str, but: tuple[str, ...]) -> bool:
    name = unicodedata.name(char, "")
    letter = char.isalnum() or "VOWEL SIGN" in name
    return letter and not name.startswith(("CJK", "HIRAGANA", "KATAKANA", "THAI", "HANGUL", *but))


@lru_cache
def _own_letters(code: str) -> Mapping[str, int]:
    letters = table("answer_words").get(code, {}).get("letters", "")
    pairs = letters.items() if isinstance(letters, Mapping) else ((letter, i) for i, letter in enumerate(letters))
    return {unicodedata.normalize("NFKC", letter).translate(_FOLDS): i for letter, i in pairs}


def normalise(text: str) -> str:
    """A text as it is compared: without case, Arabic vowel marks and outer punctuation; any digits are ASCII.

    Turkish dotted and dotless i are one letter: half of what writes Turkish capitals mixes them up.
    """
    text = unicodedata.normalize("NFKC", text).translate(_FOLDS)
    text = _VOWELS.sub("", text).casefold().replace("i\u0307", "i").replace("ı", "i")
    text = "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in text)
    return " ".join(text.split()).lstrip(_OPENING + " ").rstrip(_CLOSING + " ")
