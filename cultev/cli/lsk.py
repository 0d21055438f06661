"""``cultev lsk``: which language should this model think in?"""

from __future__ import annotations

import click

from cultev.cli.group import InOrder, add_commands
from cultev.cli.lsk_ask import ask
from cultev.cli.lsk_eval import evaluate
from cultev.cli.lsk_fit import fit
from cultev.cli.lsk_map import export_map, import_map
from cultev.cli.lsk_show import show


@click.group(cls=InOrder)
def lsk() -> None:
    """Find out in which language a model knows what best, and use it.

    Start with `cultev lsk fit MODEL --suite NAME`: it says which language suits which culture and topic. Then
    `cultev lsk eval MODEL --suite NAME` says what that is worth on questions it has not learned from.
    `cultev lsk ask "QUESTION"` puts a question of your own to the model in the language that suits it.
    More: cultev guide lsk
    """


add_commands(
    lsk,
    {
        fit: "Learn which language suits which culture and topic.",
        show: "Show what was learned: a model's map.",
        evaluate: "Compare ways of choosing a language, on other questions.",
        ask: "Ask a question of your own, in the language that suits it.",
        export_map: "Write a map into a file, to use or lend it elsewhere.",
        import_map: "Put such a file's map into the results file.",
    },
)
