"""``cultev harm``: the cultural harm test."""

from __future__ import annotations

import click

from cultev.cli.harm_run import run
from cultev.cli.harm_selftest import selftest
from cultev.cli.harm_show import show


@click.group()
def harm() -> None:
    """Ask what presupposes something about a culture's people, and see what a model makes of it.

    run asks, judge has a judge model or people's labels say what came back, show counts. selftest shows on planted
    respondents that the test tells kinds of replies apart. Read `cultev guide harm` first.
    """


for command in (run, show, selftest):
    harm.add_command(command)
