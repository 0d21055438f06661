"""``cultev guide``: the documentation, inside the package and offline."""

from __future__ import annotations

import difflib
import sys
from importlib import resources

import click


@click.command()
@click.argument("topic", required=False)
def guide(topic: str | None) -> None:
    """Read TOPIC; without one, list the topics."""
    from cultev.errors import UsageError

    pages = {
        entry.name.removesuffix(".md"): entry
        for entry in resources.files("cultev").joinpath("guide").iterdir()
        if entry.name.endswith(".md")
    }
    if topic is None:
        click.echo("Topics (read one with `cultev guide TOPIC`):\n")
        for name in sorted(pages):
            first = pages[name].read_text(encoding="utf-8").splitlines()[0]
            click.echo(f"  {name:<12} {first.lstrip('# ')}")
        return
    if topic not in pages:
        near = difflib.get_close_matches(topic, pages, 1)
        raise UsageError(
            f"There is no guide on '{topic}'.",
            f"Did you mean '{near[0]}'?" if near else f"Topics: {', '.join(sorted(pages))}",
        )
    text = pages[topic].read_text(encoding="utf-8")
    if not sys.stdout.isatty():
        click.echo(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
