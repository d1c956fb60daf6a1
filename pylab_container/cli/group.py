"""Groups of commands: a table of summaries to show and complete, and modules that are imported when a command runs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import click

from pylab_container.cli.printing import say

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Entry = tuple[str, str]
"""Where a command is, as "module:name" in this package, and its summary. The help leaves out an empty summary."""


class Group(click.Group):
    """A command that has commands. Alone it shows its help.

    sections  heading → command → Entry, in the order of the help
    callback  called before each command of the group with the values of params

    Neither the help nor the completion of a name imports a command's module.
    """

    def __init__(
        self,
        name: str,
        *,
        help: str,
        sections: Mapping[str, Mapping[str, Entry]],
        callback: Callable[..., object] | None = None,
        params: list[click.Parameter] | None = None,
    ) -> None:
        super().__init__(
            name,
            help=help,
            params=params,
            callback=callback,
            invoke_without_command=True,
            subcommand_metavar="COMMAND",
            options_metavar="[OPTIONS]" if params else "",
        )
        self._sections = sections
        self._entries = {name: entry for entries in sections.values() for name, entry in entries.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._entries:
            return None
        module, _, name = self._entries[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib  # late: only a misspelt command needs it

            if similar := difflib.get_close_matches(args[0], self.list_commands(ctx), n=1):
                ctx.fail(f"{error.message} (Did you mean {similar[0]!r}?)")
            raise

    def invoke(self, ctx: click.Context) -> object:
        result = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            say(ctx.get_help())
        return result

    def summaries(self) -> dict[str, dict[str, str]]:
        """Map each heading of the help to its commands and their summaries."""
        return {
            heading: {name: summary for name, (_, summary) in entries.items() if summary}
            for heading, entries in self._sections.items()
        }

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        shown = {name: summary for commands in self.summaries().values() for name, summary in commands.items()}
        names = [CompletionItem(name, help=shown[name]) for name in sorted(shown) if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and then the options, in the order of `docker --help`."""
        sections = self.summaries()
        width = max(len(name) for commands in sections.values() for name in commands)
        for heading, commands in sections.items():
            with formatter.section(heading):
                for name, summary in commands.items():  # one line each, however narrow the terminal is
                    formatter.write(f"  {name:<{width}}  {summary}\n")
        if records := [record for option in self.params if (record := option.get_help_record(ctx))]:
            with formatter.section("Global Options"):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\nRun '{ctx.command_path} COMMAND --help' for more information on a command.\n")
