"""``cultev harm judge`` and ``cultev harm queue``: verdicts on stored replies, by models and by people."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cultev.cli.options import db_option, engine_options, table_options

if TYPE_CHECKING:
    from cultev.backend.types import EngineSettings, ModelInfo
    from cultev.harm.judges.asking import ModelJudge
    from cultev.harm.judges.classifier import Classifier
    from cultev.harm.judges.golden import SelfTest
    from cultev.harm.replies import Reply
    from cultev.harm.verdicts import JudgeId, VerdictJournal

GENERATING = ("qwen3guard", "granite-guardian-3.3")
"""Judges that write their verdict instead of only being asked for probabilities."""

KIND_NAMES = (
    "qwen3guard",
    "llama-guard-1b",
    "llama-guard-8b",
    "shieldgemma",
    "granite-guardian-3.1",
    "granite-guardian-3.2",
    "granite-guardian-3.3",
    "rubric",
    "classifier",
)
"""``cultev.harm.judges.KINDS``, which a test compares: help must not import it."""


def require_results(db: Path) -> None:
    """Refuse a results file that isn't there, before one is made for nothing.

    Raises:
        ResultsError: there is none, or it is something else.
    """
    from cultev.run.store import open_results

    open_results(db, write=False).close()


def harm_run(connection: sqlite3.Connection, run: str | None) -> dict[str, str]:
    """A harm run's row: by the beginning of its id, or the last one there is.

    Raises:
        UsageError: none, or several.
    """
    from cultev.cli.show import run_head
    from cultev.errors import UsageError

    if run is None:
        row = connection.execute(
            "SELECT id FROM runs WHERE mode = 'harm' ORDER BY started_at DESC, id LIMIT 1"
        ).fetchone()
        if row is None:
            raise UsageError("There is no harm run in this file yet.", "Make one: cultev harm run MODEL")
        run = str(row[0])
    head = run_head(connection, run)
    if head["mode"] != "harm":
        raise UsageError(f"Run {head['id']} is not a harm run.", "See them: cultev runs list")
    return head


@click.command("judge")
@click.argument("run", required=False)
@click.option("--with", "model", metavar="MODEL", required=True, help="The judge: a .gguf file or an ONNX folder.")
@click.option(
    "--as",
    "kind",
    type=click.Choice(KIND_NAMES),
    metavar="KIND",
    help=f"What kind of judge it is: {', '.join(KIND_NAMES)}. [default: by the model's name; any other chat model gets"
    " our rubric]",
)
@click.option("--rubric", "language", metavar="CODE", default="", help="Our rubric in this language, not the reply's.")
@click.option(
    "--harm-label", "harm_labels", multiple=True, metavar="LABEL", help="A classifier's label for harm; repeat."
)
@click.option("--all", "everything", is_flag=True, help="Also judge what the rules call broken or off-language.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Judge N replies, then stop.")
@click.option("--again", is_flag=True, help="Ask again where this judge gave no verdict.")
@click.option("--same-model", is_flag=True, help="Let the model that was tested judge its own replies.")
@click.option(
    "--unproven", is_flag=True, help="Believe a judge that fails its self-test; every figure of its is marked."
)
@engine_options
@db_option
def judge(
    run: str | None, model: str, kind: str | None, language: str, harm_labels: tuple[str, ...], everything: bool,
    limit: int | None, again: bool, same_model: bool, unproven: bool, settings: EngineSettings, db: Path,
) -> None:  # fmt: skip
    """Judge the stored replies of RUN (a harm run; the last one unless named) with a model.

    No judge comes with cultev: take a guard model, such as Qwen3Guard or Llama Guard, or a capable chat model. It
    first has to get clear cases right, in English and in the languages of most replies; where it can't, it is
    not asked. Verdicts are kept one by one: stop it whenever you like, and judge the same replies again with another
    judge later.
    """
    from cultev.backend.load import find_model, identify
    from cultev.cli.output import note
    from cultev.harm.verdicts import VerdictJournal

    path = find_model(model)
    digest = "" if kind == "classifier" else identify(path)
    require_results(db)
    with VerdictJournal(db) as journal:
        head = harm_run(journal.connection, run)
        _check_self(head, digest, same_model)
        with _loaded(path, settings, kind, language, harm_labels) as (asker, shortened):
            _note_kin(head, getattr(asker, "info", None), digest)
            who, todo = _prepare(journal, head["id"], asker, everything=everything, again=again, unproven=unproven)
            if not todo:
                note(f"Nothing is left for {asker.name} to judge in run {head['id']}.")
                return
            _judge_all(journal, asker, who, todo[:limit] if limit else todo, shortened=shortened)


def _check_self(head: dict[str, str], digest: str, allowed: bool) -> None:
    from cultev.cli.output import note
    from cultev.errors import UsageError

    if head["model"] != digest:
        return
    if not allowed:
        raise UsageError(
            "The judge is the very model whose replies it would judge: it likes its own and shares their blind spots.",
            "Use another model, or say so: --same-model",
        )
    note("A model judges its own replies: read every number as its own opinion of itself.")


def _note_kin(head: dict[str, str], info: ModelInfo | None, digest: str) -> None:
    """Say that the judge is the tested model in another file: quantized otherwise, or in another format."""
    from cultev.cli.output import note
    from cultev.report.text import printable

    if info is None or head["model"] == digest or info.architecture != head["architecture"]:
        return
    if info.name.casefold() == head["model_name"].casefold():
        note(
            f"The judge has the name and architecture of the model that was tested ({printable(info.name)}): it may be"
            " the same one in another file, and likes its own replies. Better ask another model."
        )


@contextlib.contextmanager
def _loaded(
    path: Path, settings: EngineSettings, kind: str | None, language: str, harm_labels: Sequence[str]
) -> Iterator[tuple[ModelJudge | Classifier, bool]]:
    """The judge, its model in a process of its own for as long as the block lasts, and whether memory has shortened
    its context.
    """
    from cultev.backend.fit import fit
    from cultev.cli.engine import open_engine
    from cultev.errors import UsageError
    from cultev.harm.judges import kind_of, model_judge

    if kind == "classifier":
        from cultev.harm.judges.classifier import Classifier

        yield Classifier(path, harm_labels, settings.threads), False
        return
    chosen = kind or kind_of(path.name)
    if language and chosen != "rubric":
        raise UsageError(f"{chosen} has a format of its own, no rubric.", "Leave --rubric out, or say --as rubric.")
    fitted = fit(
        path, settings, generate=chosen in GENERATING, longer="Longer replies stay unjudged until memory allows."
    )
    with open_engine(path, fitted) as backend:
        if kind is None and chosen == "rubric":
            chosen = kind_of(backend.info.name)
        yield model_judge(chosen, backend, language), fitted.shortened


def _prepare(
    journal: VerdictJournal,
    run: str,
    asker: ModelJudge | Classifier,
    *,
    everything: bool,
    again: bool,
    unproven: bool,
) -> tuple[JudgeId, list[Reply]]:
    """The judge's row, and the replies that it is to judge; tests the judge when there are any."""
    from cultev.cli.output import note
    from cultev.harm.verdicts import FAILED, JudgeId
    from cultev.report.text import printable

    info = getattr(asker, "info", None)
    what = "model" if info else "classifier"
    who = JudgeId.of(asker, what, info)
    if again and (n := journal.forget_unjudged(who)):
        note(f"{n} replies without a verdict are asked about again.")
    todo = journal.unjudged(run, who, everything=everything)
    if not todo:
        return who, todo
    done, todo = _believed(asker, todo, stopped=info is not None and not unproven)
    who = JudgeId.of(asker, what, info, f"{FAILED}: {done}" if info and unproven and done.failed else str(done))
    name = f"{printable(info.name)} ({info.quantization})" if info else "A classifier"
    note(f"{name} judges {len(todo):,} replies as {asker.name}; its self-test, right: {done}.")
    made_for = set(asker.languages)
    foreign = sorted({r.language for r in todo} - made_for) if made_for else []
    if foreign:
        note(f"{asker.name} was not made for {' '.join(foreign)}: its verdicts there need calibration most.")
    journal.add_judge(who)
    return who, todo


def _believed(asker: ModelJudge | Classifier, todo: list[Reply], *, stopped: bool) -> tuple[SelfTest, list[Reply]]:
    """Test a judge in the languages of most replies; those in which it fails are left out, and so stay unjudged.

    ``stopped``: whether a failure has consequences. It has none for a classifier, on which no outcome rests, nor for a
    judge that is asked unproven: it is only said what it can't do.

    Raises:
        JudgeError: it fails in English, or in every language of the replies.
    """
    from collections import Counter

    from cultev.cli.output import note
    from cultev.harm.judges.golden import require_sane, self_test

    replies = Counter(reply.language for reply in todo)
    most_first = sorted(replies, key=lambda language: (-replies[language], language))
    if not stopped:
        done = self_test(asker, most_first)
        for failed in done.failed:
            note(f"{asker.name} fails its self-test in {failed.language}: it {failed.looks} ({failed}).")
        return done, todo
    done = require_sane(asker, most_first)
    refused: dict[str, list[str]] = {}
    for language in sorted(replies):
        score = done.score(language)
        if not done.trusts(language):
            why = f"it {score.looks} there ({score})" if score else "not tested, and it fails in most that were"
            refused.setdefault(why, []).append(language)
    for why, languages in refused.items():
        n = sum(replies[language] for language in languages)
        note(f"{asker.name} is not asked in {' '.join(languages)}: {why}. {n:,} replies stay without a verdict.")
    for why, languages in _untested(done, replies).items():
        note(f"No self-test in {' '.join(languages)}, {why}: what {asker.name} does in other languages speaks for it.")
    return done, [reply for reply in todo if done.trusts(reply.language)]


def _untested(done: SelfTest, languages: Iterable[str]) -> dict[str, list[str]]:
    """The languages in which a judge is believed without having been asked, by why it wasn't."""
    from cultev.harm.judges.contrast import covered_by

    found: dict[str, list[str]] = {}
    for language in sorted(languages):
        if done.trusts(language) and done.score(language) is None:
            why = "where replies are fewest" if covered_by(language) else "for which there are no cases"
            found.setdefault(why, []).append(language)
    return found


def _judge_all(
    journal: VerdictJournal, asker: ModelJudge | Classifier, who: JudgeId, todo: Sequence[Reply], *, shortened: bool
) -> None:
    from collections import Counter

    from cultev.cli.output import note
    from cultev.cli.progress import progress, stop_on_interrupt
    from cultev.errors import Interrupted
    from cultev.harm.judges.rubric import ORDERS_DIFFER
    from cultev.harm.verdicts import judge_run

    labels: Counter[str] = Counter()
    flips = left = 0
    with stop_on_interrupt() as stop, progress(len(todo), "Judging") as advance:
        for verdict in judge_run(journal, asker, who, todo, shortened=shortened):
            left += shortened and verdict.too_long
            labels[verdict.label] += 1
            flips += ORDERS_DIFFER in verdict.raw
            advance(1, 1)
            if stop():
                raise Interrupted("Stopped. Every verdict so far is kept.", "The same command goes on from there.")
    said = ", ".join(f"{n:,} {label}" for label, n in labels.most_common())
    unread = labels["unjudged"] / sum(labels.values())
    note(f"{asker.name}: {said}. Without a verdict: {unread:.1%}.")
    if left:
        note(f"{left:,} of them are too long for the context that memory leaves just now; they stay to be judged.")
    if flips:
        note(f"In {flips / sum(labels.values()):.1%} its answer changes with the order of the rubric's choices.")
    note("Until people have labelled some, these are one machine's opinions: cultev harm queue")


@click.command("queue")
@click.argument("run", required=False)
@click.option("-n", "n", type=click.IntRange(min=1), default=100, show_default=True, help="How many replies.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, another sample.")
@click.option("--twins", is_flag=True, help="Replies to the harmless twins instead of the loaded questions.")
@db_option
@table_options
def queue(run: str | None, n: int, seed: int, twins: bool, db: Path, as_json: bool, as_csv: bool) -> None:
    """Draw replies of RUN for people to judge, as a CSV sheet: fill in the column 'verdict' and import it again.

    Drawn by culture and verdict; what judges differ on comes first. The verdicts are not on the sheet. Draw again for
    more: labels of all rounds count together.
    """
    from cultev.cli.output import emit_table, note
    from cultev.cli.show import note_contents
    from cultev.harm.queue import COLUMNS, draw
    from cultev.run.store import explained, open_results

    connection = open_results(db, write=False)
    try:
        with explained(db):
            head = harm_run(connection, run)
            note_contents(connection, head["id"])
            drawn = draw(connection, head["id"], n, seed, loaded=not twins)
    finally:
        connection.close()
    emit_table(COLUMNS, [d.row() for d in drawn], json=as_json, csv=as_csv or not as_json)
    note(
        f"{len(drawn)} replies. Write harmful, borderline, safe or cannot_judge into 'verdict', and yes or no into"
        " 'refusal' (without it good replies can't be corrected), then:"
        " cultev harm import SHEET --as verdicts --name WHO"
    )
