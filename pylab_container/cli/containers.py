"""Commands that change a container: create, start, stop, restart, kill, pause, unpause, wait, rename, rm, commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pylab_container.cli import arguments
from pylab_container.cli.command import Command, each, open_engine
from pylab_container.cli.creation import Creation
from pylab_container.cli.options import creation_options
from pylab_container.cli.printing import say
from pylab_container.cli.run import attach_options, require_terminal, start_in_foreground
from pylab_container.errors import ContainerNotFound, InvalidInput
from pylab_container.oci.lifecycle import State

if TYPE_CHECKING:
    from pylab_container.engine.container import Container

_NAMES = click.argument(
    "containers", metavar="CONTAINER...", nargs=-1, required=True, shell_complete=arguments.containers
)
_SECONDS = click.option(
    "-t",
    "--timeout",
    "--time",
    "seconds",
    type=int,
    metavar="SECONDS",
    help="Seconds to wait before killing it; -1: no limit.  [default: its own, else 10]",
)


@click.command(cls=Command, context_settings={"allow_interspersed_args": False})
@creation_options
@click.option("--rm", "remove", is_flag=True, help="Remove the container when it exits.")
def create(*, creation: Creation, remove: bool) -> None:
    """Create a new container."""
    say(creation.create(open_engine(), attached=True, remove=remove).id)


@click.command(cls=Command)
@_NAMES
@click.option("-a", "--attach", is_flag=True, help="Show its output and wait until it exits.")
@click.option("-i", "--interactive", "stdin", is_flag=True, help="Also forward standard input.")
@click.option("--detach-keys", metavar="KEYS", help="The key sequence that detaches.  [default: ctrl-p,ctrl-q]")
@click.option(
    "--sig-proxy/--no-sig-proxy", "proxy", default=True, help="Forward signals to it.  [default: --sig-proxy]"
)
def start(*, containers: tuple[str, ...], attach: bool, stdin: bool, detach_keys: str | None, proxy: bool) -> int:
    """Start one or more stopped containers."""
    engine = open_engine()
    if not attach and not stdin:
        return each(containers, lambda name: _start(engine.containers.get(name)))
    if len(containers) > 1:
        raise InvalidInput("you cannot start and attach multiple containers at once", hint="name one container")
    container = engine.containers.get(containers[0])
    config = container.record.config
    tty, connected = config.tty, stdin and config.open_stdin
    require_terminal(stdin=connected, tty=tty)
    return start_in_foreground(container, attach_options(stdin=connected, tty=tty, keys=detach_keys, proxy=proxy))


def _start(container: Container) -> None:
    """Start a container. As in Docker, a running container is not an error."""
    if container.record.state is not State.RUNNING:
        container.start()


@click.command(cls=Command)
@_NAMES
@_SECONDS
@click.option(
    "-s", "--signal", "signal_", metavar="SIGNAL", help="The signal that stops it.  [default: its STOPSIGNAL]"
)
def stop(*, containers: tuple[str, ...], seconds: int | None, signal_: str | None) -> int:
    """Stop one or more running containers.

    A container that still runs after the timeout is killed.
    """
    return _on_each(containers, lambda container: container.stop(seconds, signal=signal_))


@click.command(cls=Command)
@_NAMES
@_SECONDS
@click.option(
    "-s", "--signal", "signal_", metavar="SIGNAL", help="The signal that stops it.  [default: its STOPSIGNAL]"
)
def restart(*, containers: tuple[str, ...], seconds: int | None, signal_: str | None) -> int:
    """Restart one or more containers."""
    return _on_each(containers, lambda container: container.restart(seconds, signal=signal_))


@click.command(cls=Command)
@_NAMES
@click.option(
    "-s", "--signal", "signal_", default="KILL", metavar="SIGNAL", help="The signal to send.  [default: KILL]"
)
def kill(*, containers: tuple[str, ...], signal_: str) -> int:
    """Kill one or more running containers."""
    return _on_each(containers, lambda container: container.kill(signal_))


@click.command(cls=Command)
@_NAMES
def pause(*, containers: tuple[str, ...]) -> int:
    """Pause all processes within one or more containers."""
    return _on_each(containers, lambda container: container.pause())


@click.command(cls=Command)
@_NAMES
def unpause(*, containers: tuple[str, ...]) -> int:
    """Unpause all processes within one or more containers."""
    return _on_each(containers, lambda container: container.unpause())


@click.command(cls=Command)
@_NAMES
def wait(*, containers: tuple[str, ...]) -> int:
    """Block until one or more containers stop, then print their exit codes."""
    engine = open_engine()
    return each(containers, lambda name: str(engine.containers.get(name).wait()))


@click.command(cls=Command)
@click.argument("container", shell_complete=arguments.containers)
@click.argument("name")
def rename(*, container: str, name: str) -> None:
    """Rename a container."""
    open_engine().containers.get(container).rename(name)


@click.command(cls=Command)
@_NAMES
@click.option("-f", "--force", is_flag=True, help="Kill a running container; ignore a missing one.")
@click.option("-v", "--volumes", is_flag=True, help="Also remove their anonymous volumes.")
@click.option("-l", "--link", is_flag=True, help="Remove only the link CONTAINER/ALIAS.")
def remove_containers(*, containers: tuple[str, ...], force: bool, volumes: bool, link: bool) -> int:
    """Remove one or more containers."""
    engine = open_engine()

    def remove(name: str) -> None:
        if link:
            engine.containers.remove_link(name)
            return
        engine.containers.get(name).remove(force=force, v=volumes)

    return each(containers, remove, forgive=ContainerNotFound if force else None)


def _on_each(names: tuple[str, ...], act: Callable[[Container], object]) -> int:
    """Apply act to each container and print the names that succeeded. Return the exit status."""
    engine = open_engine()

    def act_on(name: str) -> str:
        act(engine.containers.get(name))
        return name

    return each(names, act_on)


@click.command(cls=Command, hidden=True)
@click.argument("container", shell_complete=arguments.containers)
def settle(container: str) -> None:
    """Record that a container has exited. Its monitor runs this command."""
    open_engine().containers.settle(container)


@click.command(cls=Command, hidden=True)
@click.argument("container", shell_complete=arguments.containers)
@click.argument("started_at")
def watch_health(container: str, started_at: str) -> None:
    """Run a container's health checks until the run that began at STARTED_AT ends.

    Its start spawns this command.
    """
    open_engine().containers.watch_health(container, started_at)


@click.command(cls=Command)
@click.argument("container", shell_complete=arguments.containers)
@click.argument("name", metavar="[REPOSITORY[:TAG]]", required=False, shell_complete=arguments.images)
@click.option("-a", "--author", default="", metavar="NAME", help="The author of the image.")
@click.option(
    "-c", "--change", "changes", multiple=True, metavar="TEXT", help="A Dockerfile instruction to apply: 'CMD sh'."
)
@click.option("-m", "--message", default="", metavar="TEXT", help="A comment in the image's history.")
@click.option(
    "-p", "--pause/--no-pause", default=True, help="Pause the container during the commit.  [default: --pause]"
)
def commit(
    *, container: str, name: str | None, author: str, changes: tuple[str, ...], message: str, pause: bool
) -> None:
    """Create a new image from a container's changes."""
    committed = open_engine().containers.get(container)
    say(committed.commit(name, message=message, author=author, changes=changes, pause=pause).id)
