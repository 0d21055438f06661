"""A fake model that knows the planted world as the reference model was taught it, in microseconds a question."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from cultev.backend.fake import FakeBackend
from cultev.locate import reference_file
from cultev.lsk.ask import Design, Filler
from cultev.run.journal import Journal
from cultev.suite import Item, Suite

LANGUAGES = ("en", "es", "ru", "ja")


def experts() -> dict[tuple[str, str], str]:
    """(culture, topic) -> language, 'all' or 'none'."""
    data = json.loads(reference_file("truth.json").read_text(encoding="utf-8"))
    return {(cell["culture"], cell["topic"]): cell["expert"] for cell in data["cells"]}


def beliefs(items: Sequence[Item]) -> dict[str, str]:
    """Question text -> the option text that is believed in its language."""
    data = json.loads(reference_file("truth.json").read_text(encoding="utf-8"))
    facts, expert = {fact["id"]: fact for fact in data["items"]}, experts()
    found = {}
    for item in items:
        for code, text in item.texts.items():
            knows = expert[item.culture, item.topic] in (code, "all")
            found[text.question] = text.options[facts[item.id]["right" if knows else "believed_wrong"]]
    return found


def knowing(items: Sequence[Item], first: float = 0.0) -> FakeBackend:
    """The model. It adds ``first`` nats to whatever option is listed first, whatever is asked."""
    believed = beliefs(items)

    def judge(prompt: str, option: str) -> float:
        lines = prompt.splitlines()
        listed = [line.removeprefix("- ") for line in lines if line.startswith("- ")]
        question = next((line for line in lines if line in believed), "")
        value = 0.0 if believed.get(question) == option else -4.0
        return value - 10.0 + (first if listed and listed[0] == option else 0.0)

    return FakeBackend(judge, name="knowing")


def filler(
    path: Journal,
    suite: Suite,
    items: Sequence[Item],
    backend: FakeBackend,
    design: Design | None = None,
    stop: Callable[[], bool] = lambda: False,
    is_language: Callable[[str, str], bool | None] = lambda text, code: None,
) -> Filler:
    """A filler without progress."""
    return Filler(backend, suite, design or Design(LANGUAGES, orders=1), path, items, is_language, stop=stop)


def results(path: Path) -> Journal:
    """A results file."""
    return Journal(path / "results.db")
