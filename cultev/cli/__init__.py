"""The command line: the only package that prints or exits.

Commands are imported when they are called, so that ``cultev --help`` imports nothing heavy.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import click

from cultev import __version__
from cultev.errors import CultevError

COMMANDS = {
    "run": ("cultev.cli.run", "Ask a model the questions of suites and keep every answer."),
    "runs": ("cultev.cli.runs", "List and show the runs of a results file."),
    "harm": ("cultev.cli.harm", "Test what a model makes of loaded questions about cultures."),
    "suites": ("cultev.cli.suites", "List, show, build and check suites."),
    "lsk": ("cultev.cli.lsk", "Find the language a model thinks best in."),
    "models": ("cultev.cli.models", "Show, suggest, fetch, export and quantize models."),
    "doctor": ("cultev.cli.doctor", "Check engines, machine and a model before trusting them."),
    "bench": ("cultev.cli.bench", "Measure a model's speed and memory on this machine."),
    "guide": ("cultev.cli.guide", "Read the documentation, offline."),
    "completion": ("cultev.cli.completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """A group whose commands are modules, imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module and take the command of the same name from it."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)
        _name_variables(command, f"CULTEV_{cmd_name.upper()}")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands with their short help, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a mistyped command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"There is no command '{args[0]}'.{hint}")
        return super().resolve_command(ctx, args)


def _name_variables(command: click.Command, prefix: str) -> None:
    """Name each option's environment variable after the option as a user writes it: --suite is CULTEV_RUN_SUITE."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.envvar:
            longest = max(parameter.opts, key=len).lstrip("-")
            parameter.envvar = f"{prefix}_{longest.replace('-', '_').upper()}"
    for name, inner in getattr(command, "commands", {}).items():
        _name_variables(inner, f"{prefix}_{name.upper()}")


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with `cultev run`, or read `cultev guide`.",
)
@click.version_option(__version__, "--version", prog_name="cultev", message="%(prog)s %(version)s")
def cli() -> None:
    """Measure how small, quantized language models treat the world's cultures, offline."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever called: what is said there goes nowhere
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - for the whole process
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a Windows console's code page has no Bengali; never fail for that
            options: dict[str, Any] = {"errors": "replace"}
            if os.name == "nt":
                options["encoding"] = "utf-8"
            reconfigure(**options)
    stdout = sys.stdout
    try:
        code = cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except CultevError as error:
        _show(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = 130
    except BrokenPipeError:
        code = _unread()
    except SystemExit as error:
        code = error.code
    except OSError as error:
        _show(CultevError(f"Writing the output failed: {error.strerror or error}.", "Check where it goes."))
        code = 1
    if sys.stdout is not stdout:  # click's way with a broken pipe, of which it makes a failure
        code = _unread()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _unread()
    except OSError:
        pass  # said already, or nothing was written
    sys.exit(code if isinstance(code, int) else 0)


def _unread() -> int:
    """Whoever read our output has closed it (`| head`): not an error, but Python must not complain on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _show(error: CultevError) -> None:
    from cultev.cli.output import wrapped

    label = "Stopped" if error.exit_code == 130 else "Error"
    text = error.message if error.exit_code == 130 else f"{label}: {error.message}"
    for line in (text, error.next_step):
        if line:
            click.echo(wrapped(line), err=True)
