"""Reasoning first: texts are kept as they finish, found again, and asked for their options."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from cultev.backend.fake import FakeBackend
from cultev.backend.types import Continuation, FollowUp, GenerateRequest
from cultev.errors import Interrupted
from cultev.run.engine import run_suites
from cultev.run.journal import Journal
from cultev.run.plan import asks, encode_within, text_key
from cultev.run.protocol import Protocol
from cultev.suite import open_suite

COT = Protocol(mode="cot", languages=("en",), limit=6, max_tokens=40)


def write(prompt: str) -> str:
    return f"I recall {len(prompt)} things.\nAnswer: it is not read here"


def ask_all(path: Path, backend: FakeBackend, protocol: Protocol = COT, stop_after: int = 10**9) -> None:
    seen = 0

    def advance(answers: int, computed: int) -> None:
        nonlocal seen
        seen += computed

    with open_suite("planted") as suite, Journal(path) as journal:
        run_suites(backend, [suite], protocol, journal, n_planned=6, advance=advance, stop=lambda: seen >= stop_after)


def test_a_reasoning_ends_at_the_answer_and_the_options_follow_it(tmp_path: Path) -> None:
    heard: list[str] = []

    def judge(prompt: str, option: str) -> float:
        heard.append(prompt)
        return -float(len(option))

    ask_all(tmp_path / "r.db", FakeBackend(judge, write=write))
    with sqlite3.connect(tmp_path / "r.db") as db:
        rows = db.execute(
            "SELECT text, finish, n_tokens, max_tokens, temperature, seed, outcome FROM v_texts"
        ).fetchall()
        kept = db.execute("SELECT count(*) FROM scores").fetchone()[0]
    assert len(rows) == 6
    assert kept == 24
    for text, finish, n_tokens, max_tokens, temperature, seed, outcome in rows:
        assert text.startswith("I recall") and text.endswith("things.")
        assert (finish, max_tokens, temperature, seed) == ("stop", 40, 0.0, 0)
        assert len(text) < n_tokens <= 40
        assert outcome in ("correct", "incorrect")
    assert all(p.endswith("things.\nAnswer: ") for p in heard)


def test_an_interrupted_run_asks_only_what_is_left(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        ask_all(tmp_path / "r.db", FakeBackend(write=write), stop_after=2)
    prompts: list[str] = []

    def counting(prompt: str) -> str:
        prompts.append(prompt)
        return write(prompt)

    ask_all(tmp_path / "r.db", FakeBackend(write=counting))
    assert len(prompts) == 4
    ask_all(tmp_path / "whole.db", FakeBackend(write=write))
    rows = []
    for name in ("r.db", "whole.db"):
        with sqlite3.connect(tmp_path / name) as db:
            rows.append(db.execute("SELECT item, text, outcome, picked, key FROM v_texts ORDER BY item").fetchall())
    assert rows[0] == rows[1]


def test_temperature_and_seed_are_part_of_the_question() -> None:
    keys = set()
    with open_suite("planted") as suite:
        for more in ({}, {"temperature": 0.7}, {"temperature": 0.7, "seed": 1}, {"seed": 1}, {"max_tokens": 41}):
            protocol = Protocol(**{"mode": "cot", "languages": ("en",), "limit": 1, "max_tokens": 40, **more})
            (ask,) = asks(suite, protocol, FakeBackend())
            assert isinstance(ask.request, GenerateRequest)
            keys.add(ask.request.key)
    assert len(keys) == 4  # without a temperature a seed changes nothing


def test_text_modes_keep_their_protocol_hash() -> None:
    """What only a reasoning has doesn't make old runs another protocol."""
    assert Protocol().canonical() == Protocol(max_tokens=7).canonical()
    assert Protocol(mode="cot").canonical() != Protocol(mode="cot", max_tokens=7).canonical()


def test_a_text_within_another_has_no_space_put_before_it() -> None:
    class Spaced(FakeBackend):
        """Puts a space before every text and merges a newline with what follows."""

        def encode(self, text: str) -> list[int]:
            ids = [256, *(" " + text).encode()]
            return [300 if (a, b) == (10, 65) else a for a, b in zip(ids, [*ids[1:], 0], strict=True)]

    assert encode_within(Spaced(), "Answer") == list(b"Answer")


def test_a_text_s_key_is_of_all_that_decides_its_answers() -> None:
    options = (Continuation("a", (1,)), Continuation("b", (2, 3)))
    plain = GenerateRequest("", (1, 2), 8, ("x",), 0.5, 3, "root", FollowUp((5,), options))
    others = [
        replace(plain, prompt=(1, 3)), replace(plain, max_tokens=9), replace(plain, stop=("y",)),
        replace(plain, temperature=0.6), replace(plain, seed=4), replace(plain, grammar=""),
        replace(plain, follow_up=FollowUp((6,), options)), replace(plain, follow_up=FollowUp((), options)),
        replace(plain, follow_up=FollowUp((5,), options[:1])), replace(plain, follow_up=None),
        replace(plain, follow_up=FollowUp((5,), (Continuation("c", (1,)), options[1]))),
        replace(plain, follow_up=FollowUp((5,), (Continuation("a", (4,)), options[1]))),
    ]  # fmt: skip
    keys = {text_key("ab" * 32, r) for r in [plain, *others]}
    assert len(keys | {text_key("ab" * 32, plain, strict=True), text_key("cd" * 32, plain)}) == len(others) + 3
    cold = replace(plain, temperature=0.0)
    assert text_key("ab" * 32, cold) == text_key("ab" * 32, replace(cold, seed=9, key="other"))
