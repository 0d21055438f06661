"""``cultev lsk ask``: a question of one's own, in the language that a map knows for it."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cultev.cli.lsk_words import REASONING
from cultev.cli.options import db_option, engine_options, max_tokens_option, suite_option

if TYPE_CHECKING:
    from cultev.backend.types import Backend, EngineSettings
    from cultev.lsk.answer import Answer
    from cultev.lsk.languagemap import CellPick, LanguageMap
    from cultev.lsk.place import Placed
    from cultev.suite.store import Suite

SPARE_TOKENS = 300
"""For the chat template, the instruction and the answer, beside question and reasoning."""


@click.command()
@click.argument("question")
@click.argument("model", required=False)
@click.option("--option", "-o", "options", multiple=True, metavar="TEXT", help="An answer to choose from; repeat it.")
@click.option("--culture", metavar="ID", help="Whose culture the question is about. [default: told from its words]")
@click.option("--topic", metavar="ID", help="What it is about. [default: told from its likeness to the suite's items]")
@click.option("--question-language", metavar="CODE", help="What it is written in. [default: detected]")
@click.option("--think-in", metavar="CODE", help="Think in this language instead of the map's.")
@click.option("--map", "map_word", metavar="FILE|ID", help="Use this exported map, or this one of the results file.")
@suite_option("The suite the map was learned from.")
@click.option("--embedder", metavar="MODEL", help="The embedding model, for a map whose clusters rest on one.")
@max_tokens_option(REASONING)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
@engine_options
@db_option
def ask(
    question: str, model: str | None, options: tuple[str, ...], culture: str | None, topic: str | None,
    question_language: str | None, think_in: str | None, map_word: str | None, suite_name: str | None,
    embedder: str | None, max_tokens: int, as_json: bool, settings: EngineSettings, db: Path,
) -> None:  # fmt: skip
    """Ask MODEL a QUESTION of your own, in the language in which its map says that it knows such things best.

    The question may be in any language. The model thinks in the map's language and, as a check, in English; you see
    both answers, and whether they agree. The map is the results file's, or an exported one (--map FILE).
    """
    from cultev.backend.fit import fit
    from cultev.backend.load import find_model, identify
    from cultev.cli.engine import check_template, open_engine
    from cultev.cli.output import emit_record
    from cultev.lsk import budgets
    from cultev.lsk.answer import agreement, answer_in
    from cultev.prompt.languages import language
    from cultev.score.language import is_language

    _check_question(question, options)
    path = find_model(model)
    found = _the_map(map_word, db, identify(path), suite_name)
    code, sure = _language_of(question, question_language, found)
    longest = budgets.most([], [*found.languages, *([language(think_in).code] if think_in else [])], max_tokens, "cot")
    needs = functools.partial(_needs, question, options, max(longest.values()))
    with (
        _the_suite(found, suite_name) as suite,
        open_engine(path, fit(path, settings, generate=True, needs=needs, longer="")) as backend,
    ):
        check_template(backend)
        placed, pick = _the_cell(found, question, code, suite, culture, topic, backend, embedder, settings)
        chosen = _thinks_in(found, pick, think_in)
        budget = dict(budgets.budgets(backend, [], sorted({chosen, "en"}), max_tokens, "cot"))
        answers = [
            answer_in(backend, question, c, options, budget[c], is_language) for c in dict.fromkeys((chosen, "en"))
        ]
    agree = agreement(answers[0], answers[1], options) if len(answers) > 1 else None
    facts = {
        "question_language": code, "question_language_share": sure,
        "cell": pick.cell if pick else None, "culture": placed.culture or None, "topic": placed.topic or None,
        "placed": placed.how, "likeness": round(placed.likeness, 4),
        "nearest_item": placed.nearest.id if placed.nearest else None,
        "think_in": chosen, "why": _why(found, pick, chosen, think_in), "shipped": found.shipped,
        "answers": [_plain(answer, options) for answer in answers], "agree": agree,
    }  # fmt: skip
    if as_json:
        emit_record(facts, json=True)
    else:
        _tell(facts, placed, answers, options)


def _check_question(question: str, options: tuple[str, ...]) -> None:
    """Refuse what could only fail once the model is loaded.

    Raises:
        UsageError: nothing is asked, or the options are no choice.
    """
    from cultev.errors import UsageError

    if not question.strip():
        raise UsageError("There is no question.", 'Put it in quotes: cultev lsk ask "QUESTION"')
    if len(options) == 1 or len(set(options)) != len(options) or not all(text.strip() for text in options):
        raise UsageError("A choice needs two different options or more.", "Repeat it: --option TEXT --option TEXT")


def _needs(question: str, options: tuple[str, ...], budget: int) -> int:
    """Tokens that suffice: no tokenizer makes more of a text than it has bytes."""
    return len(question.encode()) + 2 * sum(len(text.encode()) + 2 for text in options) + budget + 2 * SPARE_TOKENS


def _the_map(word: str | None, db: Path, sha256: str, suite_name: str | None) -> LanguageMap:
    """The exported map, or the results file's, of this model; a word that could be an ID is one unless a file is so
    called.
    """
    from cultev.cli.lsk_show import kept_map
    from cultev.lsk.mapfile import check_fits, read_map_file

    if word is None or (re.fullmatch("[0-9a-f]{4,12}", word) and not Path(word).exists()):
        return kept_map(db, sha256, suite_name, word)[1]
    found = read_map_file(Path(word))
    check_fits(found, sha256)
    return found


def _the_suite(found: LanguageMap, suite_name: str | None) -> Suite:
    """The suite that the map was learned from, in that very version.

    Raises:
        ResultsError: another version is there.
        SuiteError: it isn't there at all.
    """
    from cultev.lsk.mapfile import check_fits
    from cultev.suite.store import open_suite

    suite = open_suite(suite_name or found.suite["name"])
    try:
        check_fits(found, found.model["sha256"], suite.content_hash, suite.name)
    except BaseException:
        suite.close()
        raise
    return suite


def _language_of(question: str, told: str | None, found: LanguageMap) -> tuple[str, float | None]:
    """What the question is written in, and how sure that is; None where it was told.

    Of a few words only the map's own languages are believed, English where it is none of them.
    """
    from cultev.score.language import LEAST_WEIGHT, detect, weight

    if told:
        return told, None
    if weight(question) >= LEAST_WEIGHT:
        seen = detect(question)
        return seen.code or "en", round(seen.p, 4)
    seen = detect(question, found.languages)
    return (seen.code, round(seen.p, 4)) if seen.code in found.languages else ("en", 0.0)


def _the_cell(
    found: LanguageMap, question: str, code: str, suite: Suite, culture: str | None, topic: str | None,
    backend: Backend, embedder: str | None, settings: EngineSettings,
) -> tuple[Placed, CellPick | None]:  # fmt: skip
    """Where the question belongs, and the map's cell for it; None where it is in none.

    Raises:
        UsageError: a culture or topic that the suite lacks, or another embedder than the map's.
    """
    import numpy as np

    from cultev.lsk.place import place
    from cultev.lsk.table import Items

    for word, known, what in ((culture, suite.cultures, "culture"), (topic, suite.topics, "topic")):
        _check_word(word, list(known), what)
    placed = place(question, code, suite, culture or "", topic or "")
    one = np.array(["asked"])
    items = Items(one, one, np.array([placed.culture]), np.array([placed.topic]))
    if found.cells["by"] == "clusters":
        # A question that isn't English stands where the suite's item most like it stands: clusters are of English ones.
        text = question
        if code != "en":
            if placed.nearest is None:
                return placed, None
            text = placed.nearest.texts["en"].question
        items = Items(one, one, items.cultures, items.topics, _vector(found, text, backend, embedder, settings))
    return placed, found.pick_of(items)[0]


def _vector(found: LanguageMap, text: str, backend: Backend, embedder: str | None, settings: EngineSettings) -> Any:
    """The text's vector from the embedder that the map's clusters rest on."""
    from cultev.errors import UsageError
    from cultev.lsk.embed import NGRAMS, SELF, open_embedder

    name = found.cells["embedder"]
    word = "ngrams" if name == NGRAMS else SELF if name == backend.info.sha256 else embedder
    if word is None:
        raise UsageError("This map's clusters rest on an embedding model.", "Say where it is: --embedder MODEL")
    with open_embedder(word, backend, settings) as opened:
        if opened.name != name:
            raise UsageError(f"{word} is not the embedding model that this map's clusters rest on.", "Name the other.")
        return opened.embed([text])


def _check_word(word: str | None, known: list[str], what: str) -> None:
    import difflib

    from cultev.errors import UsageError

    if word is not None and word not in known:
        near = difflib.get_close_matches(word, known, 1)
        raise UsageError(
            f"The suite has no {what} '{word}'.", f"Did you mean '{near[0]}'?" if near else f"It has: {' '.join(known)}"
        )


def _thinks_in(found: LanguageMap, pick: CellPick | None, told: str | None) -> str:
    from cultev.prompt.languages import language

    return language(told).code if told else pick.language if pick else found.unseen


def _why(found: LanguageMap, pick: CellPick | None, chosen: str, told: str | None) -> str:
    """What the choice of the language rests on, in a sentence."""
    if told:
        return "it was asked for"
    if pick is None:
        return "the map knows no cell for this question"
    if found.shipped != "cells":
        return found.reason
    at = found.languages.index(chosen if chosen != "en" else pick.best)
    gain, sure = 100 * pick.gain[at], 100 * pick.chance[at]
    about = f"{min(pick.asked[at], pick.asked[0])} items of {found.suite['name']}"
    if chosen == "en":
        return f"of the others {pick.best} looks best there, with {gain:+.0f} points ({sure:.0f} % sure), from {about}"
    return f"{gain:+.0f} points over English expected there ({sure:.0f} % sure), from {about}"


def _plain(answer: Answer, options: tuple[str, ...]) -> dict[str, object]:
    return {
        "language": answer.language, "answer": answer.text, "reasoning": answer.reasoning,
        "in_language": answer.in_language, "cut": answer.cut,
        "chances": {text: round(p, 4) for text, p in zip(options, answer.chance, strict=False)},
    }  # fmt: skip


def _tell(facts: dict[str, Any], placed: Placed, answers: list[Answer], options: tuple[str, ...]) -> None:
    """All of it for a person: data on stdout, how it came about on stderr."""
    from cultev.cli.output import note
    from cultev.report.text import printable

    share = facts["question_language_share"]
    read = "as told" if share is None else f"{100 * share:.0f} %"
    note(f"Question in {_named(facts['question_language'])} ({read}).")
    how = {
        "told": "as told", "named": "it names the culture", "alike": "by its likeness to the suite's items",
        "unlike": "it is like nothing in the suite",
    }[placed.how]  # fmt: skip
    note(f"Cell: {facts['cell'] or 'none'} ({how}; likeness {placed.likeness:.2f}).")
    note(f"Thinks in {_named(facts['think_in'])}: {facts['why']}.")
    for answer in answers:
        click.echo(click.style(f"\n{_named(answer.language)}", bold=True))
        if answer.reasoning:
            click.echo(click.style(printable(answer.reasoning), dim=True))
        chance = f" ({100 * answer.chance[options.index(answer.text)]:.0f} %)" if options else ""
        click.echo(f"=> {printable(answer.text) or '(nothing)'}{chance}")
        if answer.in_language is False:
            note(f"It was to think in {_named(answer.language)}, and wrote in another language.")
        if answer.cut:
            note("Its reasoning was cut short: --max-tokens gives it more room.")
    click.echo("")
    if len(answers) == 1:
        click.echo("Asked in English alone: the map sends such questions nowhere else.")
    else:
        told = {
            True: "Both say the same.",
            False: "THEY DISAGREE.",
            None: "Read both: whether they agree can't be told.",
        }
        click.echo(told[facts["agree"]])


def _named(code: str) -> str:
    from cultev.prompt.languages import codes, language

    return f"{language(code).name} ({code})" if code in codes() else code
