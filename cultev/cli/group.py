"""Groups of commands: listed in the order in which they are used, each with a line that fits."""

from __future__ import annotations

from collections.abc import Mapping

import click


class InOrder(click.Group):
    """Lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands; click would sort them by name."""
        return list(self.commands)


def add_commands(group: click.Group, commands: Mapping[click.Command, str]) -> None:
    """Add commands with what a list says of each: what it does, in 60 characters or so."""
    for command, text in commands.items():
        command.short_help = text
        group.add_command(command)
