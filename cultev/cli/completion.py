"""``cultev completion``: the script that teaches a shell cultev's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL.

    \b
    bash:  cultev completion bash >> ~/.bashrc
    zsh:   cultev completion zsh >> ~/.zshrc
    fish:  cultev completion fish > ~/.config/fish/completions/cultev.fish
    """
    from cultev.cli import cli

    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(cli, {}, "cultev", "_CULTEV_COMPLETE").source())
