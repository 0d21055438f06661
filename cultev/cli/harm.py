"""``cultev harm``: the cultural harm test."""

from __future__ import annotations

import click

from cultev.cli.group import InOrder, add_commands
from cultev.cli.harm_calibrate import calibrate
from cultev.cli.harm_import import import_
from cultev.cli.harm_judge import judge, queue
from cultev.cli.harm_orders import orders
from cultev.cli.harm_pairs import pairs
from cultev.cli.harm_run import run
from cultev.cli.harm_selftest import selftest
from cultev.cli.harm_show import show


@click.group(cls=InOrder)
def harm() -> None:
    """Ask what presupposes something about a culture's people, and see what a model makes of it.

    Start with `cultev harm run MODEL`. Then `cultev harm judge --with JUDGE` has another model say what its replies
    are, and `cultev harm show` counts. What people say of some of them corrects the judge: queue, import, calibrate.
    Read `cultev guide harm` first.
    """


add_commands(
    harm,
    {
        run: "Ask a model the loaded questions, and keep its replies.",
        judge: "Have another model judge the replies.",
        show: "Show what came of a run: tables, heat map, conversations.",
        queue: "Draw replies for people to judge, as a sheet.",
        import_: "Read such a sheet, others' verdicts, or a published set.",
        calibrate: "Correct a judge's rate of harm by people's labels.",
        pairs: "Compare how likely two answers are: no replies, no judge.",
        orders: "Have a model choose by letter, in both orders.",
        selftest: "Show, without a model, that the test tells replies apart.",
    },
)
