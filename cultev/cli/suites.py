"""``cultev suites``: list, show, build and check suites."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from cultev.cli.options import table_options
from cultev.cli.output import Column, emit_record, emit_table, note
from cultev.errors import SuiteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cultev.suite import Item, Suite

_COUNTED = ("culture", "region", "topic", "kind", "language", "status", "answer")
_NUMBER = Column("items", align="right", whole=True)


class SuiteName(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A built-in suite's name or a suite file's path; the shell completes both."""

    name = "suite"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Built-in names first, then files."""
        from cultev.suite import builtin_names

        names = [CompletionItem(name) for name in builtin_names() if name.startswith(incomplete)]
        return [*names, CompletionItem(incomplete, type="file")]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def suites() -> None:
    """List, show, build and check suites: the questions that a model is asked."""


@suites.command("list")
@table_options
def list_(as_json: bool, as_csv: bool) -> None:
    """List the built-in suites."""
    from cultev.suite import builtin_names, open_suite

    rows, notes, failed = [], dict[str, str](), None
    for name in builtin_names():
        try:
            with open_suite(name) as suite:
                rows.append(_overview(suite))
                if suite.content_note:
                    notes[name] = suite.content_note
        except SuiteError as error:
            failed = error
            note(f"{name}: {error}")
    for name, text in notes.items():
        note(f"{name}: {text}")
    columns = [
        Column("name", whole=True),
        Column("version", whole=True),
        _NUMBER,
        Column("n_languages", "languages", align="right", whole=True),
        Column("n_cultures", "cultures", align="right", whole=True),
        Column("license", "licence"),
        Column("status", show=_statuses),
        Column("languages", in_table=False),
        Column("title", in_table=False),
        Column("content_note", in_table=False),
        Column("content_hash", in_table=False),
        Column("path", in_table=False),
    ]
    emit_table(columns, rows, json=as_json, csv=as_csv)
    if failed:
        raise SuiteError("Not every built-in suite could be opened.", "The reasons stand above.") from failed


@suites.command()
@click.argument("name", type=SuiteName())
@click.option("--items", "list_items", is_flag=True, help="List the items instead, in the order they are asked.")
@table_options
def show(name: str, list_items: bool, as_json: bool, as_csv: bool) -> None:
    """Show what a suite holds. NAME is a built-in suite or a suite file."""
    from cultev.suite import open_suite

    with open_suite(name) as suite:
        note_content(suite)
        if list_items:
            _show_items(suite, as_json, as_csv)
        elif as_json and not as_csv:
            counts = {by: suite.count(by) for by in (*_COUNTED, "group")}
            emit_record({**_facts(suite), "counts": counts}, json=as_json, csv=as_csv)
        elif as_csv:
            rows = [
                {"by": by, "value": value, "items": count}
                for by in _COUNTED
                for value, count in suite.count(by).items()
            ]
            emit_table(["by", "value", "items"], rows, json=as_json, csv=as_csv)
        else:
            _show_tables(suite)


@suites.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The file to write; DIR's name with .db if left out.",
)
@table_options
def build(folder: Path, output: Path | None, as_json: bool, as_csv: bool) -> None:
    """Build a suite file from DIR, which holds suite.toml and items.jsonl."""
    from cultev.suite import build_suite, open_suite
    from cultev.suite.item import has_nested_options

    report = build_suite(folder, output or Path(f"{folder.resolve().name}.db"))
    if report.normalised:
        note(f"{report.normalised} texts were not in Unicode NFC and were brought into it.")
    with open_suite(report.path) as suite:
        nested = [item.id for item in suite.items() if has_nested_options(item)]
    if nested:
        some = ", ".join(sorted(nested)[:5]) + (", ..." if len(nested) > 5 else "")
        note(f"In {len(nested)} items an option begins another one ({some}): ask them with --mode letters.")
    facts = {
        "path": str(report.path),
        "name": report.name,
        "version": report.version,
        "items": report.n_items,
        "languages": report.languages,
        "cultures": report.n_cultures,
        "content_hash": report.content_hash,
    }
    emit_record(facts, json=as_json, csv=as_csv)


@suites.command()
@click.argument("file", type=SuiteName())
@table_options
def check(file: str, as_json: bool, as_csv: bool) -> None:
    """Check a suite file from end to end: its pages, its rows, its content hash, every item."""
    from cultev.suite import open_suite

    with open_suite(file) as suite:
        items = sum(1 for _ in suite.items())
        facts = {
            "ok": True,
            "path": str(suite.path),
            "name": suite.name,
            "version": suite.version,
            "items": items,
            "unsupported": suite.unsupported,
            "content_hash": suite.content_hash,
        }
    emit_record(facts, json=as_json, csv=as_csv)


def note_content(suite: Suite) -> None:
    """Warn, on stderr, of what a suite's items say, before any is shown or asked."""
    if suite.content_note:
        note(f"Content note ({suite.name}): {suite.content_note}")


def _overview(suite: Suite) -> dict[str, object]:
    return {
        "name": suite.name,
        "version": suite.version,
        "items": suite.n_items,
        "n_languages": len(suite.languages),
        "n_cultures": len(suite.cultures),
        "license": suite.license,
        "status": suite.count("status"),
        "languages": suite.languages,
        "title": suite.title,
        "content_note": suite.content_note,
        "content_hash": suite.content_hash,
        "path": str(suite.path),
    }


def _facts(suite: Suite) -> dict[str, object]:
    return {
        "name": suite.name,
        "version": suite.version,
        "title": suite.title,
        "description": suite.description,
        "license": suite.license,
        "authors": suite.authors,
        "source": suite.source,
        "value_frame": suite.value_frame,
        "canary": suite.canary,
        "content_note": suite.content_note,
        "content_hash": suite.content_hash,
        "path": str(suite.path),
        "languages": suite.languages,
        "items": suite.n_items,
        "unsupported": suite.unsupported,
        "groups": sum(suite.count("group").values()),
    }


def _show_tables(suite: Suite) -> None:
    facts = _facts(suite)
    del facts["content_note"]  # it was given before anything was shown
    if not suite.unsupported:
        del facts["unsupported"]
    emit_record(facts)
    regions = {culture: suite.cultures[culture].region for culture in suite.cultures}
    counts = suite.count("culture")
    rows = [
        {"region": region, "culture": suite.cultures[culture].name(), "items": counts.get(culture, 0)}
        for culture, region in sorted(regions.items(), key=lambda entry: (entry[1], entry[0]))
    ]
    click.echo()
    emit_table([Column("region"), Column("culture"), _NUMBER], rows)
    for by in ("topic", "kind", "language", "answer", "status"):
        click.echo()
        emit_table([Column(by), _NUMBER], [{by: value, "items": count} for value, count in suite.count(by).items()])


def _show_items(suite: Suite, as_json: bool, as_csv: bool) -> None:
    columns = [
        Column("id"),
        Column("kind", in_table=False),
        Column("culture"),
        Column("topic", in_table=False),
        Column("group", in_table=False),
        Column("status", in_table=False),
        Column("languages", in_table=False),
        Column("answers"),
        Column("question"),
        Column("options", in_table=False),
        Column("before", in_table=False),
        Column("preferred", in_table=False),
        Column("dispreferred", in_table=False),
        Column("about", in_table=False),
    ]
    emit_table(columns, _item_rows(suite), json=as_json, csv=as_csv)


def _item_rows(suite: Suite) -> Iterator[dict[str, object]]:
    from cultev.suite.item import item_words

    for item in suite.items():
        text = item.texts.get("en") or next(iter(item.texts.values()))
        yield {
            "id": item.id,
            "kind": item.kind,
            "culture": item.culture,
            "topic": item.topic,
            "group": item.group,
            "status": item.status,
            "languages": list(item.texts),
            "answers": _answers(item, text.options),
            "question": text.question,
            "options": text.options,
            "before": text.before,
            "preferred": text.preferred,
            "dispreferred": text.dispreferred,
            "about": item_words(item),
        }


def _answers(item: Item, options: tuple[str, ...]) -> list[str]:
    """The right options in words; of a dialogue what a good reply does."""
    return [options[int(answer)] for answer in item.answers] if options else list(item.answers)


def _statuses(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in counts.items())
