"""What all commands share: how errors are shown, which exit codes they give, and the engine."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pylab_container.errors import LabError

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_STORAGE_DRIVER = f"{__package__}.storage_driver"
"""Where a context, and those below it, keep the name that --storage-driver gave."""


class Command(click.Command):
    """A command whose failures are those of the docker command: one sentence, a hint, and status 1."""

    usage_status = 1
    """Exit status after a mistake in the options; main() reads it."""

    def status(self, error: LabError) -> int:
        """The exit status after error."""
        return 1

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LabError as error:
            report(error)
            return self.status(error)


class Group(click.Group):
    """A word that other words follow. Alone it explains itself.

    places    command → "module:name" in this package; imported when the command is given
    commands  groups in this one
    """

    usage_status = 1

    def __init__(
        self,
        name: str,
        *,
        help: str,
        places: Mapping[str, str],
        commands: Sequence[click.Command] = (),
        params: list[click.Parameter] | None = None,
    ) -> None:
        super().__init__(name, list(commands), help=help, params=params, callback=_explain, invoke_without_command=True)
        self._places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*self._places, *super().list_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = self._places.get(cmd_name)
        if place is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = place.partition(":")
        found: click.Command = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        return found


@click.pass_context
def _explain(context: click.Context, root: str | None = None, storage_driver: str | None = None) -> None:
    if root is not None:
        context.obj = root
    if storage_driver is not None:
        context.meta[_STORAGE_DRIVER] = storage_driver
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def report(error: LabError) -> None:
    """Show an error on standard error."""
    text = f"Error: {error}"  # with its hint; a mistake in a Dockerfile also with the line and a caret
    click.echo(text.encode(errors="surrogateescape"), err=True)


def open_engine(*, recover: bool = True) -> Engine:
    """The engine on the data root that the command line names; recover as Engine has it."""
    from pylab_container.engine import Engine

    context = click.get_current_context()
    return Engine(context.find_object(str), storage_driver=context.meta.get(_STORAGE_DRIVER), recover=recover)


def each(names: Iterable[str], act: Callable[[str], str | None]) -> int:
    """Do something to everything named, and go on after an error. Returns the exit status.

    act's answer is printed; None stands for the name itself.
    """
    status = 0
    for name in names:
        try:
            answer = act(name)
        except LabError as error:
            report(error)
            status = 1
        else:
            click.echo(name if answer is None else answer)
    return status
