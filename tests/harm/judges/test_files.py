"""People's labels from files: matched to the very text they are about, or set aside and counted."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cultev.errors import TableError
from cultev.harm.judges.files import Row, match, read_verdicts
from cultev.harm.replies import Reply


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def held(**texts: str) -> list[Reply]:
    return [
        cast("Reply", SimpleNamespace(key=key, response=text, response_sha256=digest(text)))
        for key, text in texts.items()
    ]


def rows(folder: Path, text: str, **given: Any) -> list[Row]:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return list(read_verdicts(path, **({"given": {}} | given)))


def test_labels_in_the_words_people_use(tmp_path: Path) -> None:
    found = rows(
        tmp_path,
        "response_key,Label,refused,score,weight,rater,comment\n"
        "a,Harmful,no,0.9,2.5,ann,why\nb,not harmful,yes,,,bob,\nc,,,,,,\nd,Cannot judge,,,,,\ne,1,,,,,\n",
    )
    assert [(r.key, r.label, r.refusal, r.p_unsafe, r.weight, r.annotator, r.note) for r in found] == [
        ("a", "harmful", False, 0.9, 2.5, "ann", "why"),
        ("b", "safe", True, None, 1.0, "bob", ""),
        ("d", "unjudged", None, None, 1.0, "", ""),
        ("e", "harmful", None, None, 1.0, "", ""),
    ]
    assert found[0].line == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("key,verdict\na,maybe\n", "'maybe' in line 2 of .* is no verdict"),
        ("key,verdict,refusal\na,safe,perhaps\n", "doesn't say whether it is a refusal"),
        ("key,verdict,weight\na,safe,0\n", "'0' in line 2 of .* is no weight"),
        ("key,verdict,p_unsafe\na,safe,7\n", "'7' in line 2 of .* is no p_unsafe"),
        ("key,verdict\n,safe\n", "line 2 .* doesn't say which reply"),
        ("verdict\nsafe\n", "doesn't say which reply each verdict is about"),
        ("key,judged\na,safe\n", "no column for the verdict"),
        ("key,verdict,wieght\na,safe,1\n", "columns that mean nothing here: 'wieght'"),
        ("key,verdict\na\n", "half a row"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(TableError, match=words):
        rows(tmp_path, text)


def test_columns_can_be_mapped_and_ignored(tmp_path: Path) -> None:
    text = "id,my word,junk\na,safe,x\n"
    found = rows(tmp_path, text, given={"key": "id", "verdict": "my word"}, ignored=("junk",))
    assert [(r.key, r.label) for r in found] == [("a", "safe")]


def test_matching(tmp_path: Path) -> None:
    text = (
        "key,response_sha256,verdict,annotator\n"
        f"a,{digest('A')},harmful,ann\n"  # right
        f"b,{digest('changed')},harmful,ann\n"  # the text is another one now
        "x,,safe,ann\n"  # of another run
        f",{digest('both')},safe,ann\n"  # a text that two replies share
        "a,,safe,bob\n"
        "a,,borderline,bob\n"  # changed their mind
    )
    matched = match(rows(tmp_path, text), held(a="A", b="B", c="both", d="both"))
    assert (matched.foreign, matched.changed, matched.repeated, matched.n) == (1, 1, 1, 4)
    ann = {v.key: (v.label, sha) for v, sha, _ in matched.verdicts["ann"]}
    assert ann == {"a": ("harmful", digest("A")), "c": ("safe", digest("both")), "d": ("safe", digest("both"))}
    assert [v.label for v, *_ in matched.verdicts["bob"]] == ["borderline"]


def test_by_the_text_itself(tmp_path: Path) -> None:
    matched = match(rows(tmp_path, "reply,verdict\nHello.,safe\nOther.,safe\n"), held(a="Hello."))
    assert (matched.n, matched.foreign) == (1, 1)


def test_a_text_edited_beside_its_hash_is_another_text(tmp_path: Path) -> None:
    texts = {"a": "=They are\nvermin.", "b": "Tea is a drink."}
    sheet = (
        "key,response_sha256,response,verdict\n"
        f'a,{digest(texts["a"])},"\'=They are\r\nvermin. ",harmful\n'  # as spreadsheets give it back
        f"b,{digest(texts['b'])},Tea is poison.,harmful\n"
        "b,,Tea is poison.,harmful\n"
        f",{digest(texts['b'])},Tea is poison.,harmful\n"
    )
    matched = match(rows(tmp_path, sheet), held(**texts))
    assert (matched.n, matched.changed, matched.foreign) == (1, 3, 0)
    assert [v.key for v, *_ in matched.verdicts[""]] == ["a"]
