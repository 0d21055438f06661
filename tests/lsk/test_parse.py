"""The parser table: replies in each of the paper's 16 languages, and where the paper's own parser errs."""

from __future__ import annotations

import numpy as np
import pytest

from cultev.lsk.paper_form import paper_form, reasoning_key
from cultev.lsk.paper_parse import paper_parse
from cultev.lsk.parse import normalise, parse
from cultev.prompt.languages import codes
from cultev.suite.item import Choice, Text, TrueFalse

PAPER = ("zh", "en", "fr", "es", "pt", "de", "it", "ru", "ja", "ko", "vi", "th", "ar", "hi", "tr", "bn")

# Options, a reasoning that begins with "A" as a word where the language has it and else names option A, a sentence that
# names the second option, one that denies it, and the number two in the language's digits.
WORDS = {
    "en": (("bread", "rice", "soup", "rice cake"), "A guest brings A dish, but bread is not it.",
           "The right answer is rice.", "It is not rice.", "2"),
    "zh": (("面包", "米饭", "汤", "年糕"), "A 选项是面包，但客人不送面包。", "正确答案是米饭。", "不是米饭。", "２"),
    "fr": (("pain", "riz", "soupe", "gâteau de riz"), "A priori, on n'offre pas de pain.",
           "La bonne réponse est le riz.", "Ce n'est pas le riz.", "2"),
    "es": (("pan", "arroz", "sopa", "pastel de arroz"), "A un huésped no se le da pan.",
           "La respuesta correcta es el arroz.", "La respuesta no es arroz.", "2"),
    "pt": (("pão", "arroz", "sopa", "bolo de arroz"), "A resposta não é pão. A visita leva outra coisa.",
           "A resposta certa é arroz.", "A resposta não é arroz.", "2"),
    "de": (("Brot", "Reis", "Suppe", "Reiskuchen"), "A wäre Brot, aber das passt nicht.",
           "Die richtige Antwort ist Reis.", "Reis ist nicht richtig.", "2"),
    "it": (("pane", "riso", "zuppa", "torta di riso"), "A casa non si porta il pane.",
           "La risposta giusta è riso.", "La risposta non è riso.", "2"),
    "ru": (("хлеб", "рис", "суп", "рисовый пирог"), "A гости хлеб не приносят.",
           "Правильный ответ: рис.", "Это не рис.", "2"),
    "ja": (("パン", "ご飯", "スープ", "餅菓子"), "A のパンは持って行かない。",
           "正解はご飯です。", "ご飯ではありません。", "２"),
    "ko": (("빵", "밥", "국", "떡케이크"), "A 빵은 가져가지 않는다.", "정답은 밥입니다.", "밥이 아닙니다.", "2"),
    "vi": (("bánh mì", "cơm", "canh", "bánh gạo"), "A là bánh mì, nhưng khách không mang.",
           "Câu trả lời đúng là cơm.", "Không phải cơm.", "2"),
    "th": (("ขนมปัง", "ข้าวสวย", "แกงจืด", "ขนมเค้ก"), "A คือขนมปัง แต่ไม่ใช่", "คำตอบที่ถูกต้องคือข้าวสวย", "ไม่ใช่ข้าวสวย", "๒"),
    "ar": (("خبز", "أرز", "حساء", "كعكة الأرز"), "A هو الخبز لكنه لا يناسب.", "الجواب الصحيح هو: أَرُزّ", "ليس أرز", "٢"),
    "hi": (("रोटी", "चावल", "सूप", "चावल का केक"), "A रोटी है, पर वह ठीक नहीं।",
           "सही उत्तर चावल है।", "उत्तर चावल नहीं है।", "२"),
    "tr": (("ekmek", "pilav", "çorba", "pirinç keki"), "A ekmek ama misafir onu getirmez.",
           "Doğru yanıt pilav.", "Yanıt pilav değil.", "2"),
    "bn": (("রুটি", "ভাত", "স্যুপ", "চালের পিঠা"), "A হলো রুটি, কিন্তু তা ঠিক নয়।", "সঠিক উত্তর ভাত।", "উত্তর ভাত নয়।", "২"),
}  # fmt: skip

OWN_LETTERS = {"zh": "乙", "ru": "Б", "ja": "イ", "ko": "나", "th": "ข", "ar": "ب", "hi": "ख", "bn": "খ"}


def form(code: str, answer: str, reasoning: str | None = None) -> str:
    told = WORDS[code][1] if reasoning is None else reasoning
    return f'{{\n    "{reasoning_key(code)}": "{told}",\n    "final_answer": "{answer}"\n}}'


def cases(code: str) -> list[tuple[str, int | None]]:
    options, reasoning, names, denies, two = WORDS[code]
    key = reasoning_key(code)
    return [
        (form(code, "B"), 1),
        (form(code, f"B. {options[1]}"), 1),
        (form(code, options[1]), 1),
        (form(code, f"{options[3]}."), 3),  # holds another option's text in most languages
        (form(code, "Ｂ"), 1),
        (form(code, "（Ｃ）"), 2),
        (form(code, f"(D) {options[3]}"), 3),
        (form(code, two), 1),
        (form(code, f"{two}. {options[1]}"), 1),
        (form(code, names), 1),
        (form(code, denies), None),
        (form(code, f"A. {options[1]}"), None),  # letter and text disagree
        (form(code, "A / B"), None),
        (form(code, ""), None),
        (form(code, "E"), None),
        (f'{{"{key}": "{reasoning} {options[1]}', None),  # cut short within the reasoning
        (f'{{"{key}": "{reasoning}", "final_ans', None),
        (f'{{"{key}": "{reasoning}", "final_answer": "B. {options[1][:-1]}', 1),  # cut short within the answer
        (f'{{"{key}": "{reasoning}", "final_answer": "{options[1]}', 1),
        (f"```json\n{{'{key}': '{reasoning}', 'final_answer': 'C'}}\n```", 2),
        (f'{{"{key}": "{reasoning}", "final_answer": ["B"]}}', 1),
        (form(code, "**B**"), 1),
        (
            form(code, "B") + "\n\nQuestion: ...\n" + form(code, "C"),
            1,
        ),  # a base model goes on with questions of its own
    ]


@pytest.mark.parametrize("code", PAPER)
def test_table(code: str) -> None:
    for reply, wanted in cases(code):
        found = parse(reply, WORDS[code][0], code)
        assert found.option == wanted, (reply, found)


@pytest.mark.parametrize("code", PAPER)
def test_the_reasoning_is_handed_back_for_its_language_to_be_told(code: str) -> None:
    assert parse(form(code, "B"), WORDS[code][0], code).reasoning == WORDS[code][1]
    cut = f'{{"{reasoning_key(code)}": "{WORDS[code][1]} '
    assert parse(cut, WORDS[code][0], code).reasoning == WORDS[code][1]


@pytest.mark.parametrize(("code", "letter"), OWN_LETTERS.items())
def test_a_languages_own_list_letters(code: str, letter: str) -> None:
    options = WORDS[code][0]
    assert parse(form(code, letter), options, code).option == 1
    assert parse(form(code, f"{letter}) {options[1]}"), options, code).option == 1


def test_a_letter_of_two_alphabets_says_nothing_without_its_text() -> None:
    assert parse(form("ru", "В"), WORDS["ru"][0], "ru").option is None  # Cyrillic: third there, second by its looks
    assert parse(form("ru", "В. рис"), WORDS["ru"][0], "ru").option == 1


@pytest.mark.parametrize("code", ["en", "fr", "es", "pt", "it"])
def test_a_as_a_word_is_no_answer_here_and_one_to_the_papers_parser(code: str) -> None:
    options = WORDS[code][0]
    choices = [f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True)]
    reply = form(code, options[1])
    assert parse(reply, options, code).option == 1
    assert paper_parse(reply, choices) == 0
    sentence = {"en": "A guest gets rice", "fr": "A midi du riz", "es": "A ellos arroz", "pt": "A visita leva arroz",
                "it": "A loro riso"}[code]  # fmt: skip
    assert parse(form(code, sentence), options, code).option == 1


@pytest.mark.parametrize("code", ["zh", "ar"])
def test_the_same_reply_is_read_rightly_by_both_in_other_scripts(code: str) -> None:
    """The case that the reference measured: 'False' after a reasoning with a capital article."""
    options = {"zh": ("正确", "错误"), "ar": ("صحيح", "خطأ")}[code]
    choices = [f"{letter}. {option}" for letter, option in zip("AB", options, strict=True)]
    reply = form(code, options[1], {"zh": "题目说的不符合事实。", "ar": "هذا القول مخالف للواقع."}[code])
    assert parse(reply, options, code).option == paper_parse(reply, choices) == 1


@pytest.mark.parametrize(("code", "options", "reasoning"), [
    ("en", ("True", "False"), "A statement like this is wrong."),
    ("pt", ("Verdadeiro", "Falso"), "A afirmação não confere."),
    ("es", ("Verdadero", "Falso"), "A decir de todos, no es así."),
])  # fmt: skip
def test_true_and_false(code: str, options: tuple[str, str], reasoning: str) -> None:
    choices = [f"{letter}. {option}" for letter, option in zip("AB", options, strict=True)]
    reply = form(code, options[1], reasoning)
    assert parse(reply, options, code).option == 1
    assert paper_parse(reply, choices) == 0


def test_negation_is_not_guessed() -> None:
    options = ("Richtig", "Falsch")
    assert parse(form("de", "nicht richtig"), options, "de").how == "negated"
    assert parse(form("de", "Falsch"), options, "de").option == 1
    assert parse(form("en", "B, because the others are not sweet"), WORDS["en"][0]).option == 1
    assert parse(form("en", "Rice, since they do not eat meat"), WORDS["en"][0]).option == 1
    assert parse(form("en", "not B"), WORDS["en"][0]).how == "negated"
    # An option may itself have such a word.
    assert parse(form("es", "no comen nada"), ("comen pan", "no comen nada"), "es").option == 1
    assert parse(form("en", "Neither"), ("Yes", "No", "Neither")).option == 2


WRONG = {
    "en": "{} is wrong", "zh": "{}是错的", "fr": "{} est incorrecte", "es": "{} es incorrecto", "pt": "{} está errado",
    "de": "{} ist falsch", "it": "{} è sbagliato", "ru": "{} неправильно", "ja": "{}は間違いです",
    "ko": "{} 틀렸습니다", "vi": "{} là sai", "th": "{} ผิด",
    "ar": "{} خطأ", "hi": "{} गलत है", "tr": "{} yanlıştır", "bn": "{} ভুল",
}  # fmt: skip


@pytest.mark.parametrize(("code", "sentence"), WRONG.items())
def test_an_option_that_is_called_wrong_is_not_chosen(code: str, sentence: str) -> None:
    options = WORDS[code][0]
    for what in (options[1], "B", f"B. {options[1]}"):
        found = parse(form(code, sentence.format(what)), options, code)
        assert (found.option, found.how) == (None, "negated"), what


def test_wrong_as_an_option_is_chosen() -> None:
    for code, options, answer in (
        ("de", ("Richtig", "Falsch"), "Die Aussage ist falsch."), ("fr", ("Vrai", "Faux"), "C'est faux"),
        ("en", ("True", "False"), "The statement is false"), ("zh", ("正确", "错误"), "这个说法是错误"),
        ("en", ("a wrong note", "a drum"), "It is a wrong note"), ("ar", ("صحيح", "خطأ"), "هذا القول خطأ"),
        ("de", ("Richtig", "Falsch"), "B ist falsch"),
    ):  # fmt: skip
        assert parse(form(code, answer), options, code).option == (0 if "note" in answer else 1), answer
    assert parse(form("en", "la figue est fausse"), ("figue", "poire"), "fr").how == "negated"
    assert parse("Jawaban: nasi adalah salah satu makanan di sana", ("roti", "nasi"), "id").option == 1
    assert parse("ご飯で間違いない", WORDS["ja"][0], "ja").option == 1


def test_turkish_i_with_and_without_a_dot() -> None:
    options = ("İncir", "ayva", "IHLAMUR", "kiraz")
    for answer, wanted in {
        "incir": 0, "INCIR": 0, "i\u0307ncir": 0, "Yanıt: İNCİR": 0, "ıhlamur": 2, "ihlamur": 2, "Doğru yanıt KİRAZ": 3,
        "İncir yanlış": None, "İNCİR YANLIŞ": None,
    }.items():  # fmt: skip
        assert parse(form("tr", answer), options, "tr").option == wanted, answer
    assert parse(form("tr", "ılık"), ("ilik", "ılık"), "tr").option == 1
    assert parse(form("tr", "ILIK"), ("ilik", "ılık"), "tr").option is None


@pytest.mark.parametrize(("code", "answer"), [
    ("en", "Option 2"), ("en", "Answer: option 2."), ("zh", "选项二"), ("zh", "答案：选项二。"), ("zh", "选乙"),
    ("fr", "Option 2"), ("es", "Opción 2"), ("pt", "Alternativa 2"), ("de", "Antwort 2"), ("it", "Opzione 2"),
    ("ru", "Ответ Б"), ("ru", "Ответ: вариант Б"), ("ja", "選択肢２"), ("ja", "答えはイ"), ("ko", "정답: 나"),
    ("vi", "Đáp án 2"), ("th", "ข้อ ข"), ("th", "ตัวเลือก ๒"), ("ar", "الإجابة: ب"), ("ar", "الخيار ٢"), ("hi", "विकल्प ख"),
    ("hi", "उत्तर: २"), ("tr", "Seçenek 2"), ("bn", "বিকল্প খ"),
])  # fmt: skip
def test_a_letter_or_number_after_a_word_for_option(code: str, answer: str) -> None:
    assert parse(form(code, answer), WORDS[code][0], code).option == 1


def test_a_number_after_a_word_for_option_stays_a_text_where_options_are_numbers() -> None:
    assert parse(form("zh", "答案是二"), ("三", "四"), "zh").option is None
    assert parse(form("en", "Answer: 2"), ("3", "4")).option is None
    assert parse(form("en", "Option 7"), WORDS["en"][0]).option is None


def test_the_arabic_article() -> None:
    options = WORDS["ar"][0]
    for answer, wanted in {"الأرز": 1, "هو الأرز": 1, "كعكة الأرز": 3, "الخبز هو الجواب": 0, "ليس الأرز": None}.items():
        assert parse(form("ar", answer), options, "ar").option == wanted, answer
    assert parse(form("ar", "الجواب هو أرز"), ("الخبز", "الأرز"), "ar").option == 1
    assert parse(form("fa", "آن البوم است", "x"), ("بوم", "نان"), "fa").option is None


def test_letters_in_sentences() -> None:
    options = WORDS["en"][0]
    for answer, wanted in {
        "The answer is B": 1, "Option C is correct": 2, "A is correct": 0, "Answer: (B)": 1, "b": 1, "b) rice": 1,
        "A": 0, "A.": 0, "I think it is D": 3, "A or B": None, "none of them": None, "It's A's": None,
    }.items():  # fmt: skip
        assert parse(form("en", answer), options).option == wanted, answer
    assert parse(form("pt", "A resposta é B"), WORDS["pt"][0], "pt").option == 1
    assert parse(form("pt", "A resposta é A"), WORDS["pt"][0], "pt").option == 0
    assert parse(form("zh", "答案是B选项"), WORDS["zh"][0], "zh").option == 1
    assert parse(form("vi", "Đáp án B"), WORDS["vi"][0], "vi").option == 1


def test_numbers() -> None:
    assert parse(form("en", "7"), WORDS["en"][0]).option is None
    assert parse(form("en", "0"), WORDS["en"][0]).option is None
    years = ("1990", "2", "12", "3")
    assert parse(form("en", "2"), years).option == 1  # its text, not its place
    assert parse(form("en", "4"), years).option is None
    assert parse(form("fa", "۲", "نان نیست."), ("نان", "برنج"), "fa").option == 1
    assert parse(form("hi", "१९९०"), ("1990", "2000"), "hi").option == 0


def test_json_in_all_its_states() -> None:
    options = WORDS["en"][0]
    for reply, wanted in {
        '{"reasoning_in_English": "They say \\"rice\\" is \\u0041 gift", "final_answer": "B"}': 1,
        '{reasoning_in_English: guests bring it, final_answer: B}': 1,
        '{"final_answer" : "soup",}': 2,
        '{"final_answer": "<your answer>"}\n{"final_answer": "B"}': 1,  # the form repeated, then filled in
        '{"final_answer": "<your answer>"}': None,
        "“final_answer”： “B”": 1,
        "{'final_answer': 'the guest's rice'}": 1,
        '{"final_answer": {"letter": "B"}}': 1,
        '{"final_answer": null}': None,
        '{"FINAL_ANSWER": "B"}': 1,
        "<think>maybe {\"final_answer\": \"A\"}</think>\n{\"final_answer\": \"B\"}": 1,
        "<think>I never come to an end, B": None,
        "Answer: C": 2,
        "B": 1,
        "rice": 1,
        "They bring it as a gift.\nIt is sweet.\nB. rice": 1,
        "B\nbecause A is bread and C is soup": 1,
        "They bring A or B.\nWho knows.": None,
        "": None,
        "{": None,
        "\x00\ufffd": None,
    }.items():  # fmt: skip
        found = parse(reply, options)
        assert found.option == wanted, (reply, found)
    assert parse("Réponse : C", WORDS["fr"][0], "fr").option == 2


def test_no_reply_breaks_it() -> None:
    generator = np.random.default_rng(1)
    pieces = ['"', "'", "{", "}", "[", "final_answer", ":", "\\", "\\u12", "A", "B.", "rice", "\n", "不", "<", ">",
              "```", "reasoning_in_English", "<think>", "２", "ً", "."]  # fmt: skip
    for _ in range(3000):
        reply = "".join(generator.choice(pieces, size=int(generator.integers(0, 14))).tolist())
        found = parse(reply, WORDS["en"][0])
        assert (found.option is None) == (found.how in ("no answer", "unclear", "two answers", "negated"))
        paper_parse(reply, ["A. bread", "B. rice"])


def test_paper_parser_step_by_step() -> None:
    choices = ["A. bread", "B. rice", "C. soup"]
    assert paper_parse("I say B. rice", choices) == 1  # a
    assert paper_parse("I say B now", choices) == 1  # b
    assert paper_parse("RICE", choices) == 1  # c
    assert paper_parse("A. bread, B. rice\nfinal_answer: rice", choices) == 1  # two by a and c, one in the tail
    assert paper_parse("bread or rice? final_answer: rice\nnot soup", choices) == 1  # one in the tail's first line
    assert paper_parse("nothing at all", choices) is None

    def embed(texts: object) -> np.ndarray:
        return np.array([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8], [0.8, 0.6]], dtype=np.float32)

    assert paper_parse("nothing at all", choices, embed) == 1  # d


def test_pidgin_turns_answers_around_in_its_own_words() -> None:
    options = ("bread", "rice", "soup")
    assert parse(form("en", "The answer na B"), options, "pcm").option == 1
    assert parse(form("en", "No wahala, na rice"), options, "pcm").option == 1
    assert parse(form("en", "No be lie say na rice"), options, "pcm").option == 1
    for denied in ("E no be rice", "E nor be rice", "Na lie say na rice"):
        assert parse(form("en", denied), options, "pcm").how == "negated"


def test_the_form_in_every_language() -> None:
    for code in codes():
        item = Choice("x", "c", "t", "x", ("1",), {c: Text(f"Q {c}?", ("one", "two", "three")) for c in ("en", code)})
        ours = paper_form(item, code, order=1)
        content = ours.messages[0]["content"]
        assert ours.options == ("1", "2", "0")
        assert ours.choices == ("A. two", "B. three", "C. one")
        assert ours.texts == ("two", "three", "one")
        assert content.endswith(f"Q {code}?\n{content.splitlines()[-4]}\nA. two\nB. three\nC. one")
        # All questions of a language begin alike, up to the question.
        other = Choice("y", "c", "t", "y", ("0",), {code: Text("Other?", ("four", "five"))})
        begins = paper_form(other, code).messages[0]["content"].split("Other?")[0]
        assert content.startswith(begins)
        assert f'"{reasoning_key(code)}": "<' in begins
        papers = paper_form(item, code, question_first=True).messages[0]["content"]
        assert papers.endswith("}")
        assert sorted(papers.split()) == sorted(paper_form(item, code).messages[0]["content"].split())
        assert reasoning_key(code) not in paper_form(item, code, reasoning=False).messages[0]["content"]
        # The form itself, given back, is no answer.
        assert parse(content, ours.texts, code).option is None
        # Only the instruction changes language in the paper's first version.
        assert "Q en?" in paper_form(item, code, asked_in="en").messages[0]["content"]


def test_the_form_of_a_statement() -> None:
    item = TrueFalse("x", "c", "t", "x", ("true",), {"de": Text("Es regnet.")})
    assert paper_form(item, "de").texts == ("Richtig", "Falsch")


def test_keys_are_the_papers() -> None:
    names = ["Chinese", "English", "French", "Spanish", "Portuguese", "German", "Italian", "Russian", "Japanese"]
    names += ["Korean", "Vietnamese", "Thai", "Arabic", "Hindi", "Turkish", "Bengali"]
    assert [reasoning_key(code) for code in PAPER] == [f"reasoning_in_{name}" for name in names]


def test_normalise() -> None:
    assert normalise(" «Ｒｉｃｅ» . ") == "rice"
    assert normalise("١٩٩٠") == "1990"
    assert normalise("أَرُزّ") == normalise("ارز")
