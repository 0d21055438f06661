"""``cultev lsk fit``: learn which language suits which culture and topic."""

from __future__ import annotations

from pathlib import Path

import click

from cultev.cli.lsk_words import Words, table_words
from cultev.cli.options import db_option, table_options


@click.command()
@click.argument("model", required=False)
@table_words
@db_option
@table_options
def fit(model: str | None, words: Words, db: Path, as_json: bool, as_csv: bool) -> None:
    """Ask MODEL a suite in several languages and learn which one suits which culture and topic.

    MODEL is a .gguf file or an ONNX folder; nothing means the small reference model that checks cultev itself.
    Only the items that are not held out for the test are asked. Stop it whenever you like: the same command goes on
    from there, and asks nothing twice. The map goes into the results file.
    """  # fmt: skip
    from cultev.cli.lsk_session import session
    from cultev.cli.lsk_show import print_map
    from cultev.cli.output import output_form
    from cultev.lsk.keep import keep_map

    output_form(as_json, as_csv)
    with session(model, words, db) as at:
        table = at.learn()
        found = at.make_map(table, at.gate().fit(table))
        name = keep_map(at.journal, found)
    print_map(name, found, as_json=as_json, as_csv=as_csv)
