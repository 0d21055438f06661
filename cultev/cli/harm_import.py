"""``cultev harm import``: published sets as suites, and verdicts from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from cultev.cli.options import db_option


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "kind",
    type=click.Choice(["single", "dialogue", "pairs", "verdicts"]),
    required=True,
    help="Single questions, dialogues, pairs of answers, or verdicts on a run's replies.",
)
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="Which column a field is in; repeat.")
@click.option("--sheet", default="", help="Sheet of an .xlsx file. [default: the first]")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Suite file to write. [default: FILE's name, .db]"
)
@click.option("--culture", default="", help="Culture of all questions, where no column says it.")
@click.option("--language", default="en", show_default=True, help="Language of the texts, where no column says it.")
@click.option(
    "--scope",
    type=click.Choice(["global", "local"]),
    default="local",
    show_default=True,
    help="Of all questions, where no column says it.",
)
@click.option(
    "--license", "license_", default="LicenseRef-unknown", show_default=True, help="The set's licence (SPDX)."
)
@click.option("--run", "run", metavar="RUN", help="Verdicts: the harm run they are on. [default: the last one]")
@click.option("--name", default="", help="Verdicts: who judged. [default: FILE's name]")
@click.option("--machine", is_flag=True, help="Verdicts: a machine judged, so that outcomes rest on them.")
@click.option("--ignore", multiple=True, metavar="COLUMN", help="Verdicts: a column to leave unread; repeat.")
@db_option
def import_(
    file: Path, kind: str, maps: tuple[str, ...], sheet: str, output: Path | None, culture: str, language: str,
    scope: str, license_: str, run: str | None, name: str, machine: bool, ignore: tuple[str, ...], db: Path,
) -> None:  # fmt: skip
    """Read FILE (CSV or XLSX): a published set, which becomes a suite file, or verdicts on replies.

    Columns are found by their usual names; --map says the others. Verdicts belong to a reply by its key or by its text,
    and those on other texts are set aside and counted.
    """
    from cultev.harm.tables import parse_map

    given = parse_map(maps)
    if kind == "verdicts":
        _import_verdicts(file, given, sheet, ignore, run, name, machine, db)
    else:
        _import_set(file, kind, given, sheet, output, culture, language, scope, license_)


def _import_set(
    file: Path, kind: str, given: Mapping[str, str], sheet: str, output: Path | None, culture: str, language: str,
    scope: str, license_: str,
) -> None:  # fmt: skip
    import re
    import tempfile

    from cultev.cli.output import note
    from cultev.harm.published import read_published, write_source
    from cultev.suite import build_suite

    target = output or Path(file.stem + ".db")
    found = read_published(file, kind, given, culture=culture, language=language, scope=scope, sheet=sheet)
    name = re.sub(r"[^a-z0-9]+", "-", target.stem.lower()).strip("-") or "imported"
    with tempfile.TemporaryDirectory() as folder:
        write_source(found, Path(folder), name=name, title=f"{file.name}", license_=license_, origin=file.name)
        report = build_suite(folder, target)
    click.echo(f"{report.path}: {report.n_items:,} items, {report.n_cultures} cultures, {' '.join(report.languages)}")
    if found.unread:
        names = ", ".join(f"'{column}'" for column in found.unread)
        note(f"Not read, since no field has that name: {names}. Say what a column is: --map FIELD=COLUMN")
    if found.repeated:
        note(f"{found.repeated} rows say what an earlier one said: left out.")
    if found.mended:
        note(f"{found.mended} texts held characters that no text needs, or braces: mended.")
    note("Keep to the set's own terms; cultev neither ships nor shares it.")


def _import_verdicts(
    file: Path, given: Mapping[str, str], sheet: str, ignore: Sequence[str], run: str | None, name: str, machine: bool,
    db: Path,
) -> None:  # fmt: skip
    from cultev.cli.harm_judge import harm_run, require_results
    from cultev.cli.output import note
    from cultev.errors import TableError
    from cultev.harm.judges.files import match, read_verdicts
    from cultev.harm.replies import replies
    from cultev.harm.verdicts import JudgeId, VerdictJournal

    rows = list(read_verdicts(file, given, ignore, sheet))
    if not rows:
        raise TableError(f"{file} holds no verdict.", "Fill in the column 'verdict'.")
    require_results(db)
    with VerdictJournal(db) as journal:
        head = harm_run(journal.connection, run)
        matched = match(rows, replies(journal.connection, head["id"], ended_early=False))
        aside = [
            (matched.changed, "on a reply that has another text now"),
            (matched.foreign, f"on replies that run {head['id']} doesn't hold"),
            (matched.repeated, "replaced by a later one of the same person"),
        ]
        for count, what in aside:
            if count:
                note(f"Set aside: {count:,} verdicts {what}.")
        if not matched.n:
            raise TableError(
                f"None of the {len(rows):,} verdicts in {file} is on a reply of run {head['id']}.",
                "Name the run they are on: --run RUN (see cultev runs list)",
            )
        for annotator, said in matched.verdicts.items():
            label = " ".join(filter(None, (name or ("" if annotator else file.stem), annotator)))
            who = JudgeId.file(label) if machine else JudgeId.people(label)
            journal.add_judge(who)
            journal.keep_verdicts(who, said)
            click.echo(f"{label}: {len(said):,} verdicts on run {head['id']}")
