"""Figures of how often the language is right: tools/measure_language.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cultev.prompt.languages import codes
from cultev.score import language
from cultev.score.language import LEAST_WEIGHT, base, detect, detectable, is_language, shares, weight

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXTS: dict[str, str] = tomllib.loads(Path(__file__).with_name("language_texts.toml").read_text(encoding="utf-8"))


def test_texts_cover_all_languages() -> None:
    assert set(TEXTS) == set(codes())
    assert set(TEXTS) <= detectable()


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_every_text_is_in_its_language_and_in_no_other(code: str) -> None:
    assert detect(TEXTS[code]).code == code
    assert detect(TEXTS[code], among=TEXTS).code == code
    assert detect(TEXTS[code]).p > 0.7
    assert {other for other in TEXTS if is_language(TEXTS[code], other) is not False} == {code}
    assert is_language(TEXTS[code], code) is True


@pytest.mark.parametrize("code", sorted(TEXTS))
def test_a_sentence_is_never_denied_its_own_language(code: str) -> None:
    for sentence in TEXTS[code].replace("。", ". ").replace("।", ". ").replace("።", ". ").split(". "):
        if weight(sentence) >= LEAST_WEIGHT:
            assert is_language(sentence, code) is not False, sentence


def test_what_is_too_short_is_never_said() -> None:
    for text in ("", "No.", "42", "A", "はい", "नहीं", "...", "{}", "C. 3,5 %", "\x00"):
        assert is_language(text, "en") is None
        assert is_language(text, "ja") is None
    assert detect("") == language.Detected("", 0.0)
    assert detect("1 2 3 !").code == ""


def test_a_reply_that_goes_on_in_another_language_is_what_most_of_it_is() -> None:
    mixed = "Sure! Let me think about this in German.\n" + TEXTS["de"]
    assert is_language(mixed, "de") is True
    assert is_language(mixed, "en") is False
    half = shares(TEXTS["hi"] + "\n" + TEXTS["en"])
    assert set(half) == {"hi", "en"}
    assert 0.3 < half["hi"] < 0.7
    assert sum(half.values()) <= 1.0 + 1e-9


def test_foreign_words_in_a_text_of_another_script_change_little() -> None:
    text = TEXTS["th"] + " (A) cendol, (B) khao niao mamuang"
    assert is_language(text, "th") is True


def test_script_decides_chinese_and_japanese() -> None:
    assert detect("客人一般會帶一些甜食，因為空手上門被認為沒有禮貌。").code == "zh"
    assert detect("題目問的是日本的「おにぎり」通常在什麼時候吃，所以答案是第一個選項。").code == "zh"
    assert detect("回答は一番目です。").code == "ja"
    assert is_language(TEXTS["zh"], "ja") is False


def test_malay_counts_as_indonesian() -> None:
    malay = "Soalan ini bertanya apa yang biasanya dibawa oleh orang apabila melawat sebuah keluarga buat kali pertama."
    assert base("ms") == "id"
    assert is_language(malay, "id") is True


def test_arabic_letters_part_persian_urdu_and_arabic() -> None:
    assert detect("گزینه چهارم پاسخ درست است چون مردم در خانه چای می‌نوشند", ["ar", "fa"]).code == "fa"
    assert detect("یہ جواب ٹھیک ہے کیونکہ لوگ گھر میں چائے پیتے ہیں", ["ar", "fa", "ur"]).code == "ur"
    assert detect("الجواب الصحيح هو الشاي لأن الناس يشربونه في البيت", ["ar", "fa", "ur"]).code == "ar"


def test_among_leaves_no_language_unopposed() -> None:
    # Spanish, asked about Portuguese alone.
    assert is_language(TEXTS["es"], "pt", among=["pt"]) is False
    # A script that no asked language has.
    assert is_language(TEXTS["ko"], "en", among=["en", "de"]) is False


def test_subtags_and_unknown_codes() -> None:
    assert is_language(TEXTS["pt"], "pt-BR") is True
    assert is_language(TEXTS["zh"], "zh-Hans") is True
    with pytest.raises(ValueError, match="can't be detected"):
        is_language("whatever", "tlh")


def test_markup_and_addresses_say_nothing() -> None:
    assert is_language("<b>https://example.org/the/answer/is/the/first/of/these</b> 12", "de") is None
    assert is_language(f"<p>{TEXTS['tr']}</p> https://example.org/these/are/english/words/in/a/path", "tr") is True


def test_a_language_that_nobody_asked_about_is_none_of_those_asked() -> None:
    dutch = "De vraag is wat mensen meestal meenemen als ze voor het eerst bij een familie op bezoek gaan."
    assert detect(dutch).code == "nl"
    assert is_language(dutch, "de") is False
    assert is_language(dutch, "en") is False


def test_help_loads_no_model() -> None:
    import subprocess

    code = "import sys, cultev.score.language as l; l.detect('คำถาม'); sys.exit('py3langid' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
