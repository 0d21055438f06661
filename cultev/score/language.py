"""Which language is this text in? Asked of reasonings and replies: another language than the asked one is an outcome.

What a text is written in is decided in two steps.

1. Script. Each letter's Unicode script is exact: Thai, Hangul, Tamil, Ethiopic or kana say what the language is, and
   Arabic, Devanagari, Bengali, Cyrillic, Han or Latin letters say what it can't be. A text in several scripts is split.
2. Words. Where a script has several languages, each sentence goes to py3langid (naive Bayes over byte n-grams, 139
   languages, offline; Lui & Baldwin 2011, Cross-domain Feature Selection for Language Identification), restricted to
   the languages of that script that are asked about and those they are usually taken for.

Short texts can't be told: ``is_language`` answers None for them, which must never become an outcome.
``tools/measure_language.py`` measures how often it is right; the figures stand in its docstring.
"""

from __future__ import annotations

import copy
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

LEAST_WEIGHT = 20.0
"""Letters (see ``WEIGHTS``) below which no text's language can be told: 'No.' is a word of many languages."""

SURE = 0.5
"""Share of a text that has to be in the language for the text to be."""

CLEAR = 0.8
"""Probability below which a sentence is nobody's: its words are some other language's almost as well."""

OF_SCRIPT = {
    "THAI": ("th",),
    "LAO": ("lo",),
    "ETHIOPIC": ("am",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "KANNADA": ("kn",),
    "MALAYALAM": ("ml",),
    "GUJARATI": ("gu",),
    "GURMUKHI": ("pa",),
    "ORIYA": ("or",),
    "SINHALA": ("si",),
    "MYANMAR": ("my",),
    "KHMER": ("km",),
    "HANGUL": ("ko",),
    "HEBREW": ("he",),
    "GREEK": ("el",),
    "ARMENIAN": ("hy",),
    "GEORGIAN": ("ka",),
    "BENGALI": ("bn", "as"),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "ARABIC": ("ar", "fa", "ur", "ps", "ug", "sdh"),
    "CYRILLIC": ("ru", "uk", "be", "bg", "mk", "sr", "kk", "ky", "mn", "tg", "tt"),
    "CJK": ("zh", "ja"),
    "LATIN": (
        "en", "fr", "es", "pt", "de", "it", "vi", "tr", "sw", "id", "pcm",
        "ca", "gl", "ro", "nl", "da", "sv", "no", "fi", "et", "lv", "lt", "pl", "cs", "sk", "sl", "hr", "hu", "sq",
        "az", "uz", "ku", "tl", "jv", "ha", "yo", "ig", "so", "om", "rw", "zu", "xh", "sn", "af", "eu", "ga", "cy",
    ),
}  # fmt: skip
"""Languages that are told apart, by script, as the first word of their letters' Unicode names has it."""

SAME = {"ms": "id", "yue": "zh", "wuu": "zh", "arz": "ar", "ary": "ar", "nn": "no", "bs": "hr", "sr-Latn": "hr"}
"""Varieties that count as one language here: written forms that their readers share, and that no short text parts."""

TAKEN_FOR = {
    "pt": ("es", "gl"),
    "es": ("pt", "ca", "gl"),
    "it": ("es", "ro"),
    "fr": ("ca",),
    "en": ("pcm",),
    "pcm": ("en",),
    "de": ("nl",),
    "id": ("jv", "tl"),
    "sw": ("rw",),
    "tr": ("az",),
    "fa": ("ar", "ur", "ps"),
    "ar": ("fa", "ur"),
    "ur": ("ar", "fa", "ps"),
    "hi": ("mr", "ne"),
    "ru": ("uk", "bg"),
    "bn": ("as",),
    "zh": ("ja",),
    "ja": ("zh",),
}
"""Languages that a language's texts are usually taken for: always asked beside it, so that none wins unopposed."""

WEIGHTS = {"CJK": 3.0, "HANGUL": 2.0, "HIRAGANA": 1.5, "KATAKANA": 1.0, "ETHIOPIC": 1.5}
"""What a letter of a script counts, in Latin letters: about what the same text takes."""

ONLY_HERE = {
    "fa": "پچژگ",
    "ur": "ٹڈڑںےھہ",
    "ps": "ټډړښڼځڅېۍ",
}
"""Letters that Arabic lacks: Persian's (Urdu has them too), Urdu's and Pashto's."""

_SENTENCE = re.compile(r"[^.!?。！？।॥؟۔።\n]+[.!?。！？।॥؟۔።\n]*")
_NO_WORDS = re.compile(r"https?://\S+|[\w.+-]+@[\w-]+\.\w+|<[^<>\n]{0,80}>|\\[nt\"]")


@dataclass(frozen=True, slots=True)
class Detected:
    """A language code, '' where none can be told, and the share of the text that is in it, by weight of letters."""

    code: str
    p: float


def detect(text: str, among: Collection[str] | None = None) -> Detected:
    """The language that most of a text is in.

    Args:
        text: any; markup, numbers and addresses don't count.
        among: codes to choose from, beside those they are usually taken for; None: all of OF_SCRIPT's.
    """
    total = 0.0
    found: defaultdict[str, float] = defaultdict(float)
    for size, ranked in _judged(text, among):
        total += size
        for code, p in ranked.items():
            found[code] += size * p
    best = max(sorted(found), key=lambda code: found[code], default="")
    return Detected(best, found[best] / total) if best else Detected("", 0.0)


def is_language(text: str, code: str, among: Collection[str] | None = None) -> bool | None:
    """Whether a text is in a language; None where that can't be told, which is never an outcome.

    True if at least half of the text is, by weight of letters; False if at least half is in others; None for texts of
    less than ``LEAST_WEIGHT`` letters and for what lies between. 'ms' is 'id', see SAME.

    Args:
        text: any.
        code: the language asked for. Of a code with a subtag ('zh-Hant', 'pt-BR') the language alone is looked at.
        among: other languages that it may be in; None: any.

    Raises:
        ValueError: a language that can't be detected (see ``detectable``).
    """
    wanted = base(code)
    if wanted not in detectable():
        raise ValueError(f"the language {code!r} can't be detected")
    if weight(text) < LEAST_WEIGHT:
        return None
    found = shares(text, None if among is None else {*among, wanted})
    if found.get(wanted, 0.0) >= SURE:
        return True
    return False if sum(found.values()) - found.get(wanted, 0.0) >= SURE else None


def shares(text: str, among: Collection[str] | None = None) -> dict[str, float]:
    """How much of a text is in which language, by weight of letters; what can't be told is left out.

    Sentences are judged one by one where they are long enough, so that a reply that starts in one language and goes on
    in another is seen to. The values add up to at most 1.
    """
    total = 0.0
    found: defaultdict[str, float] = defaultdict(float)
    for size, ranked in _judged(text, among):
        total += size
        code = max(sorted(ranked), key=lambda c: ranked[c], default="")
        if code and ranked[code] >= CLEAR:
            found[code] += size
    return {code: share / total for code, share in found.items()}


def weight(text: str) -> float:
    """How much there is to tell a language by: letters, those of denser scripts counting more."""
    return sum(WEIGHTS.get(script, 1.0) for script in map(_script, text) if script)


@lru_cache
def detectable() -> frozenset[str]:
    """All codes that ``is_language`` can be asked about."""
    return frozenset(base(code) for codes in OF_SCRIPT.values() for code in codes)


def base(code: str) -> str:
    """The language of a BCP-47 code as it is told apart here: 'zh-Hant' is 'zh', 'ms' is 'id'."""
    language = code.split("-")[0].lower()
    return SAME.get(language, language)


def _judged(text: str, among: Collection[str] | None) -> Iterator[tuple[float, Mapping[str, float]]]:
    """Each sentence's weight and the probabilities of its languages; none where its script has no known ones."""
    allowed = None if among is None else {base(code) for code in among}
    for script, part in _by_script(text):
        candidates = _candidates(script, allowed)
        if len(candidates) < 2:
            yield weight(part), dict.fromkeys(candidates, 1.0)
            continue
        for sentence in _pieces(part):
            yield weight(sentence), _words(sentence, script, candidates)


def _candidates(script: str, allowed: Collection[str] | None) -> tuple[str, ...]:
    """The languages of a script that a text may be in."""
    of_script = OF_SCRIPT.get(script, ())
    if allowed is None or len(of_script) == 1:
        return of_script
    near = {other for code in allowed for other in TAKEN_FOR.get(code, ())}
    # A script that none of the allowed languages is written in says that it is none of them: all its own are asked.
    return tuple(c for c in of_script if c in allowed or c in near) or of_script


def _by_script(text: str) -> Iterator[tuple[str, str]]:
    """The text of each script, with the spaces and stops that belong to it. Han and kana are one."""
    parts: dict[str, list[str]] = {}
    current = ""
    for char in _NO_WORDS.sub(" ", unicodedata.normalize("NFC", text)):
        script = _script(char)
        if script:
            script = "CJK" if script in ("HIRAGANA", "KATAKANA") else script
            if current and script != current:
                parts.setdefault(current, []).append(" ")
            current = script
        if current and not char.isdigit():
            parts.setdefault(current, []).append(char)
    for script, chars in parts.items():
        yield script, "".join(chars)


def _pieces(text: str) -> Iterator[str]:
    """Sentences, short ones together with what follows."""
    held = ""
    pieces: list[str] = []
    for match in _SENTENCE.finditer(text):
        held += match.group()
        if weight(held) >= 2 * LEAST_WEIGHT:
            pieces.append(held)
            held = ""
    if held and pieces and weight(held) < LEAST_WEIGHT:
        pieces[-1] += held
    elif held:
        pieces.append(held)
    yield from pieces


def _words(text: str, script: str, candidates: tuple[str, ...]) -> Mapping[str, float]:
    """The probabilities of several languages of one script."""
    if script == "CJK":
        kana = sum(1 for char in text if _script(char) in ("HIRAGANA", "KATAKANA"))
        share = kana / max(sum(1 for char in text if _script(char)), 1)
        # Japanese prose is half kana; a Chinese text has none but a quoted word's. Between them nothing is clear.
        japanese = min(max((share - 0.05) / 0.25, 0.0), 1.0)
        return {"ja": japanese, "zh": 1.0 - japanese}
    ranked: defaultdict[str, float] = defaultdict(float)
    for code, p in _identifier(candidates).rank(text):
        ranked[base(code)] += p
    return _by_letters(text, ranked) if script == "ARABIC" else ranked


def _by_letters(text: str, ranked: Mapping[str, float]) -> Mapping[str, float]:
    """Rule out what a text's own letters rule out: Arabic has no پ, neither Arabic nor Persian has ٹ or ے."""
    letters = sum(1 for char in text if _script(char))
    share = {code: sum(text.count(char) for char in chars) / max(letters, 1) for code, chars in ONLY_HERE.items()}
    left = dict(ranked)
    if share["ur"] >= 0.02:
        for code in ("ar", "fa", "ps"):
            left.pop(code, None)
    elif share["fa"] >= 0.02 or share["ps"] >= 0.02:
        left.pop("ar", None)
    total = sum(left.values())
    return {code: p / total for code, p in left.items()} if total > 0 else ranked


@lru_cache(maxsize=4096)
def _script(char: str) -> str:
    """The script of a letter or vowel sign, as the first word of its Unicode name; '' for anything else."""
    if not (char.isalpha() or unicodedata.category(char) in ("Mn", "Mc")):
        return ""
    first = unicodedata.name(char, "").split(" ")[0].split("-")[0]
    return {"FULLWIDTH": "LATIN", "HALFWIDTH": "KATAKANA"}.get(first, first) if first != "COMBINING" else ""


@lru_cache(maxsize=1)
def _model() -> LanguageIdentifier:
    """py3langid with its own model: about half a second to load, and 100 MB, once a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@lru_cache(maxsize=64)
def _identifier(codes: tuple[str, ...]) -> LanguageIdentifier:
    """The model restricted to some languages and the varieties that count as them."""
    whole = _model()
    limited = copy.copy(whole)
    known = {*codes, *(variety for variety, code in SAME.items() if code in codes)} & set(whole.nb_classes)
    limited.set_languages(sorted(known))
    return limited
