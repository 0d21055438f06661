"""``cultev harm``: the cultural harm test."""

from __future__ import annotations

import click

from cultev.cli.harm_calibrate import calibrate
from cultev.cli.harm_import import import_
from cultev.cli.harm_judge import judge, queue
from cultev.cli.harm_orders import orders
from cultev.cli.harm_pairs import pairs
from cultev.cli.harm_run import run
from cultev.cli.harm_selftest import selftest
from cultev.cli.harm_show import show


@click.group()
def harm() -> None:
    """Ask what presupposes something about a culture's people, and see what a model makes of it.

    run asks, judge has another model say what came back, show counts. calibrate corrects judges by the labels of
    people, whose sheets queue writes and import reads. pairs needs no replies: it compares how probable two answers
    are; orders sees whether a choice between them hangs on their places. selftest shows that the test tells kinds of
    replies apart. Read `cultev guide harm` first.
    """


for command in (run, judge, show, queue, calibrate, pairs, orders, import_, selftest):
    harm.add_command(command)
