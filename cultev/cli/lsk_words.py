"""What ``cultev lsk fit`` and ``eval`` are asked on the command line: which table is made, and how."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from cultev.cli.options import engine_options, limit_option, max_tokens_option, retry_option, suite_option

if TYPE_CHECKING:
    from cultev.backend.types import EngineSettings
    from cultev.lsk.ask import Design
    from cultev.suite.store import Suite

F = TypeVar("F", bound=Callable[..., Any])

REASONING = "Longest reasoning in English, in tokens; other languages get what the same text takes there."
"""Help of --max-tokens."""


@dataclass(frozen=True, slots=True)
class Words:
    """What fit and eval are asked on the command line, model and files aside."""

    suite_name: str
    languages: tuple[str, ...]
    mode: str
    answer: str
    translate: str
    orders: int
    cells: str
    embedder: str
    max_tokens: int
    limit: int | None
    halving: bool
    share: float
    held_out: float
    retry: bool
    prior: Path | None
    settings: EngineSettings

    def design(self, suite: Suite) -> Design:
        """As the table knows it.

        Raises:
            UsageError: the suite lacks a language; or letters after a reasoning.
        """
        from cultev.errors import UsageError
        from cultev.lsk.ask import Design, languages_for

        if self.answer == {"cot": "letters", "direct": "json"}[self.mode]:
            raise UsageError(
                f"--answer {self.answer} and --mode {self.mode} can't go together: letters are compared at once, and"
                " the JSON form holds a reasoning.",
                "Leave --answer out, or change --mode.",
            )
        codes = [code.strip() for word in self.languages for code in word.split(",") if code.strip()]
        return Design(
            languages_for(suite, codes, self.translate), self.mode, self.answer, self.translate, self.orders,
            self.max_tokens, self.limit, self.settings.n_ctx, self.settings.strict,
        )  # fmt: skip


def table_words(function: F) -> F:
    """The options that decide what is asked and how cells are made, as one ``Words`` called ``words``."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        own = {name: kwargs.pop(name) for name in Words.__dataclass_fields__}
        return function(*args, words=Words(**own), **kwargs)

    wrapped: Any = engine_options(command)
    for option in (
        retry_option,
        click.option(
            "--prior", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
            help="Another model's exported map, to lean on as far as this model's answers bear it out.",
        ),
        click.option(
            "--held-out", type=click.FloatRange(0.0, 0.9), default=0.5, show_default=True, metavar="SHARE",
            help="Share of the items kept for the test; no choice is made on them.",
        ),
        click.option(
            "--share", type=click.FloatRange(0.01, 1.0), default=0.3, show_default=True,
            help="With --halving: most tokens to spend, as a share of the full table's.",
        ),
        click.option(
            "--halving/--full-table", default=False, show_default=True,
            help="Ask round by round, fewer languages each time; or every item in every language.",
        ),
        limit_option("items"),
        max_tokens_option(REASONING),
        click.option(
            "--embedder", default="ngrams", show_default=True, metavar="ngrams|self|MODEL",
            help="What tells which questions are alike: character n-grams, MODEL's own states, an embedding model.",
        ),
        click.option(
            "--cells", type=click.Choice(["topic", "culture", "clusters", "one"]), default="topic", show_default=True,
            help="What may have its own language: culture and topic, culture, clusters of questions, or all as one.",
        ),
        click.option(
            "--orders", type=click.IntRange(1, 26), default=2, show_default=True, help="Option orders to average over.",
        ),
        click.option(
            "--translate", type=click.Choice(["full", "cot"]), default="full", show_default=True,
            help="Put the whole item into the language, or only instruction and reasoning (cot).",
        ),
        click.option(
            "--answer", type=click.Choice(["text", "letters", "json"]), default="text", show_default=True,
            help="Compare the options' texts; their letters (direct); or read the paper's JSON form (cot).",
        ),
        click.option(
            "--mode", type=click.Choice(["direct", "cot"]), default="direct", show_default=True,
            help="Answer at once, or reason first in the language (cot).",
        ),
        click.option(
            "--languages", "--language", "-l", "languages", multiple=True, metavar="CODES",
            help="Such as en,zh,hi; may be repeated. [default: all that the suite has]",
        ),
        suite_option("The suite to learn from.", required=True),
    ):  # fmt: skip
        wrapped = option(wrapped)
    return cast("F", wrapped)
