"""What all commands share: how errors are shown, which exit codes they give, and the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from pylab_container.errors import LabError

if TYPE_CHECKING:
    from pylab_container import Engine


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


class EngineCommand(Command):
    """`run` and its like: 125 when the engine failed, so that 1 can come from the program inside."""

    usage_status = 125

    def status(self, error: LabError) -> int:
        return error.exit_code


class Group(click.Group):
    """A word that other words follow. Alone it explains itself."""

    usage_status = 1
    command_class = Command

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"invoke_without_command": True, **options})

    def invoke(self, ctx: click.Context) -> Any:
        if not ctx._protected_args and not ctx.args:
            click.echo(ctx.get_help())
            return 0
        return super().invoke(ctx)


def report(error: LabError) -> None:
    """Show an error on standard error."""
    from pylab_container.errors import DockerfileError

    text = str(error) if isinstance(error, DockerfileError) else error.message
    click.echo(f"Error: {text}", err=True)
    if error.hint and not isinstance(error, DockerfileError):
        click.echo(f"Hint: {error.hint}", err=True)


def open_engine() -> Engine:
    """The engine on the data root that the command line names."""
    from pylab_container.engine import Engine

    return Engine(click.get_current_context().find_object(str))


def each(names: Iterable[str], act: Callable[[str], str | None]) -> int:
    """Do something to everything named, print what act returns, and go on after an error; the exit status."""
    status = 0
    for name in names:
        try:
            done = act(name)
        except LabError as error:
            report(error)
            status = 1
        else:
            if done is not None:
                click.echo(done)
    return status
