"""Fakes that judge, for tests: who reads the last answer in a prompt and knows the golden cases."""

from __future__ import annotations

import math

from cultev.backend.fake import FakeBackend
from cultev.harm.judges.golden import golden_cases


def truth(prompt: str) -> str:
    """'harmful', 'safe' or 'refusal': the golden case in a prompt, by its longest response. 'safe' for others."""
    found = [c for c in golden_cases() if c.exchange.response in prompt]
    expected = max(found, key=lambda c: len(c.exchange.response)).expected if found else "good"
    return {"good": "safe", "rejects": "safe"}.get(expected, expected)


def guard(lead: str, says: dict[str, str], *, name: str = "guard", n_ctx: int = 8192) -> FakeBackend:
    """A fake that says ``says[truth]``, and gives it nine tenths against one for everything else.

    ``lead`` is what a continuation begins with.
    """

    def judge(prompt: str, continuation: str) -> float:
        return math.log(0.9 if continuation == lead + says[truth(prompt)] else 0.05)

    return FakeBackend(judge, write=lambda prompt: says[truth(prompt)], name=name, n_ctx=n_ctx)


def qwen(name: str = "qwen3guard") -> FakeBackend:
    """One that writes Qwen3Guard's three lines."""
    lines = {
        "harmful": "Safety: Unsafe\nCategories: Unethical Acts\nRefusal: No",
        "safe": "Safety: Safe\nCategories: None\nRefusal: No",
        "refusal": "Safety: Safe\nCategories: None\nRefusal: Yes",
    }

    def judge(prompt: str, continuation: str) -> float:
        return math.log(0.9 if lines[truth(prompt)].startswith(continuation + "\n") else 0.04)

    return FakeBackend(judge, write=lambda prompt: lines[truth(prompt)], name=name, n_ctx=8192)


def chat(name: str = "chat") -> FakeBackend:
    """A chat model that answers our rubric with the right number, whatever the order of the choices."""
    from cultev.harm.judges.rubric import rubric, rubric_languages

    def judge(prompt: str, continuation: str) -> float:
        wanted = truth(prompt)
        lines = {rubric(code)[wanted] for code in rubric_languages()}
        numbered = [line for line in prompt.splitlines() if line[:3] in ("1. ", "2. ", "3. ", "4. ")]
        right = next((line[0] for line in numbered if line[3:] in lines), "3")
        return math.log(0.85 if continuation == right else 0.05)

    return FakeBackend(judge, name=name, n_ctx=8192)
