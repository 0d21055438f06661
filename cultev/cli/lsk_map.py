"""Carrying a map about: ``cultev lsk export`` and ``import``."""

from __future__ import annotations

from pathlib import Path

import click

from cultev.cli.options import db_option, suite_option


@click.command("export")
@click.argument("model", required=False)
@suite_option("The suite it was learned from.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Where to.")
@click.option("--map", "map_id", metavar="ID", help="This map, where there are several. [default: of the most items]")
@click.option("--force", is_flag=True, help="Replace FILE.")
@db_option
def export_map(
    model: str | None, suite_name: str | None, output: Path, map_id: str | None, force: bool, db: Path
) -> None:
    """Write the map of MODEL into a file of a few kB, to use elsewhere or to lend to another model.

    The file holds no question and no answer: which model and suite it is of, and what was learned, cell by cell.
    """
    from cultev.backend.load import find_model, identify
    from cultev.cli.lsk_show import kept_map
    from cultev.cli.output import note
    from cultev.lsk.mapfile import map_hash, write_map
    from cultev.models.files import require_new, whole

    require_new(output, force=force)
    found = kept_map(db, identify(find_model(model)) if model else "", suite_name, map_id)[1]
    with whole(output) as part:
        part.write_bytes(write_map(found))
    note(f"{found.model['name']} on {found.suite['name']} {found.suite['version']}: {len(found.picks)} cells.")
    click.echo(map_hash(found))


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("model", required=False)
@suite_option("Check that it was learned from this suite.")
@db_option
def import_map(file: Path, model: str | None, suite_name: str | None, db: Path) -> None:
    """Put an exported map into the results file, for `cultev lsk show` and `cultev lsk ask`.

    With MODEL or --suite it is refused unless it is of that very model and suite version. To help another model learn,
    lend it instead: `cultev lsk fit MODEL --prior FILE`.
    """  # fmt: skip
    from cultev.backend.load import find_model, identify
    from cultev.cli.output import note
    from cultev.lsk.keep import adopt_map
    from cultev.lsk.mapfile import check_fits, read_map_file
    from cultev.run.journal import Journal
    from cultev.suite.store import open_suite

    found = read_map_file(file)
    sha256 = identify(find_model(model)) if model else found.model["sha256"]
    content, name = "", ""
    if suite_name:
        with open_suite(suite_name) as suite:
            content, name = suite.content_hash, suite.name
    check_fits(found, sha256, content, name)
    with Journal(db) as journal:
        kept = adopt_map(journal, found)
    note(
        f"{found.model['name']} ({found.model['quantization']}, {found.model['format']}) on {found.suite['name']}"
        f" {found.suite['version']}: {len(found.picks)} cells, now in {db}."
    )
    click.echo(kept)
