"""Containers and their lives: create, start, stop, restart, kill, pause, unpause, wait, rename, rm, commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pylab_container.cli.command import Command, each, open_engine
from pylab_container.cli.creation import Creation
from pylab_container.cli.options import creation_options
from pylab_container.cli.printing import say
from pylab_container.cli.run import connection, require_terminal, start_in_foreground
from pylab_container.errors import ContainerNotFound, InvalidInput
from pylab_container.oci.lifecycle import State

if TYPE_CHECKING:
    from pylab_container.engine.container import Container

_NAMES = click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)
_SECONDS = click.option(
    "-t",
    "--timeout",
    "--time",
    "seconds",
    type=int,
    metavar="SECONDS",
    help="Then kill it; -1: never.  [default: its own, else 10]",
)


@click.command(cls=Command, context_settings={"allow_interspersed_args": False})
@creation_options
@click.option("--rm", "remove", is_flag=True, help="Remove the container when it has ended.")
def create(*, creation: Creation, remove: bool) -> None:
    """Create a container from IMAGE without starting it."""
    say(creation.create(open_engine(), attached=True, remove=remove).id)


@click.command(cls=Command)
@_NAMES
@click.option("-a", "--attach", is_flag=True, help="Show its output and wait for its end.")
@click.option("-i", "--interactive", "stdin", is_flag=True, help="Pass standard input on, too.")
@click.option("--detach-keys", metavar="KEYS", help="What to type to leave it running.  [default: ctrl-p,ctrl-q]")
@click.option(
    "--sig-proxy/--no-sig-proxy", "proxy", default=True, help="Pass signals on to it.  [default: --sig-proxy]"
)
def start(*, containers: tuple[str, ...], attach: bool, stdin: bool, detach_keys: str | None, proxy: bool) -> int:
    """Start containers."""
    engine = open_engine()
    if not attach and not stdin:
        return each(containers, lambda name: _start(engine.containers.get(name)))
    if len(containers) > 1:
        raise InvalidInput("you cannot start and attach multiple containers at once", hint="name one")
    container = engine.containers.get(containers[0])
    config = container.record.config
    tty, connected = bool(config.get("Tty")), stdin and bool(config.get("OpenStdin"))
    require_terminal(stdin=connected, tty=tty)
    return start_in_foreground(container, connection(stdin=connected, tty=tty, keys=detach_keys, proxy=proxy))


def _start(container: Container) -> None:
    """Docker's start is content with a container that runs already."""
    if container.record.state is not State.RUNNING:
        container.start()


@click.command(cls=Command)
@_NAMES
@_SECONDS
@click.option("-s", "--signal", "signal_", metavar="SIGNAL", help="What asks it.  [default: its STOPSIGNAL]")
def stop(*, containers: tuple[str, ...], seconds: int | None, signal_: str | None) -> int:
    """Stop containers: ask, and after a while kill."""
    return _on_each(containers, lambda container: container.stop(seconds, signal=signal_))


@click.command(cls=Command)
@_NAMES
@_SECONDS
@click.option("-s", "--signal", "signal_", metavar="SIGNAL", help="What asks it.  [default: its STOPSIGNAL]")
def restart(*, containers: tuple[str, ...], seconds: int | None, signal_: str | None) -> int:
    """Stop containers and start them again."""
    return _on_each(containers, lambda container: container.restart(seconds, signal=signal_))


@click.command(cls=Command)
@_NAMES
@click.option("-s", "--signal", "signal_", default="KILL", metavar="SIGNAL", help="[default: KILL]")
def kill(*, containers: tuple[str, ...], signal_: str) -> int:
    """Send a signal to containers."""
    return _on_each(containers, lambda container: container.kill(signal_))


@click.command(cls=Command)
@_NAMES
def pause(*, containers: tuple[str, ...]) -> int:
    """Freeze all processes of containers."""
    return _on_each(containers, lambda container: container.pause())


@click.command(cls=Command)
@_NAMES
def unpause(*, containers: tuple[str, ...]) -> int:
    """Let the processes of paused containers go on."""
    return _on_each(containers, lambda container: container.unpause())


@click.command(cls=Command)
@_NAMES
def wait(*, containers: tuple[str, ...]) -> int:
    """Wait until containers end, and print their exit statuses."""
    engine = open_engine()
    return each(containers, lambda name: str(engine.containers.get(name).wait()))


@click.command(cls=Command)
@click.argument("container")
@click.argument("name")
def rename(*, container: str, name: str) -> None:
    """Give CONTAINER another NAME."""
    open_engine().containers.get(container).rename(name)


@click.command(cls=Command)
@_NAMES
@click.option("-f", "--force", is_flag=True, help="Kill what runs; one that is not there is no failure.")
@click.option("-v", "--volumes", is_flag=True, help="Also remove their unnamed volumes.")
@click.option("-l", "--link", is_flag=True, help="Remove only the link CONTAINER/ALIAS.")
def remove_containers(*, containers: tuple[str, ...], force: bool, volumes: bool, link: bool) -> int:
    """Remove containers."""
    engine = open_engine()

    def remove(name: str) -> None:
        if link:
            engine.containers.remove_link(name)
            return
        engine.containers.get(name).remove(force=force, v=volumes)

    return each(containers, remove, forgive=ContainerNotFound if force else None)


def _on_each(names: tuple[str, ...], act: Callable[[Container], object]) -> int:
    """Do something to every container named, and print the names of those it worked on; the exit status."""
    engine = open_engine()

    def on_one(name: str) -> str:
        act(engine.containers.get(name))
        return name

    return each(names, on_one)


@click.command(cls=Command, hidden=True)
@click.argument("container")
def settle(container: str) -> None:
    """Note down that a container has ended; its monitor calls this."""
    open_engine().containers.settle(container)


@click.command(cls=Command, hidden=True)
@click.argument("container")
@click.argument("started_at")
def watch_health(container: str, started_at: str) -> None:
    """Do a container's health checks until the run that began at STARTED_AT ends; its start leaves this behind."""
    open_engine().containers.watch_health(container, started_at)


@click.command(cls=Command)
@click.argument("container")
@click.argument("name", metavar="[REPOSITORY[:TAG]]", required=False)
@click.option("-a", "--author", default="", metavar="NAME", help="Who made the image.")
@click.option("-c", "--change", "changes", multiple=True, metavar="TEXT", help="A Dockerfile instruction: 'CMD sh'.")
@click.option("-m", "--message", default="", metavar="TEXT", help="A comment in the image's history.")
@click.option("-p", "--pause/--no-pause", default=True, help="Freeze the container meanwhile.  [default: --pause]")
def commit(
    *, container: str, name: str | None, author: str, changes: tuple[str, ...], message: str, pause: bool
) -> None:
    """Make an image out of a container: its image, and what it has changed since."""
    committed = open_engine().containers.get(container)
    say(committed.commit(name, message=message, author=author, changes=changes, pause=pause).id)
