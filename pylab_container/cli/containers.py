"""Containers: create, start, stop, kill, wait, ps, commit, rm."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from pylab_container.cli import tables
from pylab_container.cli.command import Command, each, open_engine
from pylab_container.cli.options import Creation, creation_options
from pylab_container.cli.run import require_terminal, start_in_foreground
from pylab_container.errors import ContainerNotFound, InvalidInput, NotFound
from pylab_container.formats.lifecycle import State

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container

_NAMES = click.argument("containers", metavar="CONTAINER...", nargs=-1, required=True)


@click.command(cls=Command, context_settings={"allow_interspersed_args": False})
@creation_options
def create(creation: Creation) -> None:
    """Create a container from IMAGE without starting it."""
    click.echo(creation.create(open_engine(), attached=creation.stdin, remove=False).id)


@click.command(cls=Command)
@_NAMES
@click.option("-a", "--attach", is_flag=True, help="Show its output and wait for its end.")
@click.option("-i", "--interactive", "stdin", is_flag=True, help="Pass standard input on, too.")
def start(containers: tuple[str, ...], attach: bool, stdin: bool) -> int:  # noqa: FBT001 (click calls it)
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
    return start_in_foreground(container, stdin=connected, tty=tty)


def _start(container: Container) -> None:
    """Docker's start is content with a container that runs already."""
    if container.record.state is not State.RUNNING:
        container.start()


@click.command(cls=Command)
@_NAMES
@click.option("-t", "--time", "seconds", type=float, default=10, metavar="SECONDS", help="Then kill it.  [default: 10]")
def stop(containers: tuple[str, ...], seconds: float) -> int:
    """Stop containers: ask, and after a while kill."""
    engine = open_engine()
    return each(containers, lambda name: engine.containers.get(name).stop(seconds))


@click.command(cls=Command)
@_NAMES
@click.option("-t", "--time", "seconds", type=float, default=10, metavar="SECONDS", help="Then kill it.  [default: 10]")
def restart(containers: tuple[str, ...], seconds: float) -> int:
    """Stop containers and start them again."""
    engine = open_engine()

    def act(name: str) -> str:
        container = engine.containers.get(name)
        container.stop(seconds)
        container.start()
        return name

    return each(containers, act)


@click.command(cls=Command)
@_NAMES
@click.option("-s", "--signal", "signal_", default="KILL", metavar="SIGNAL", help="[default: KILL]")
def kill(containers: tuple[str, ...], signal_: str) -> int:
    """Send a signal to containers."""
    engine = open_engine()
    return each(containers, lambda name: engine.containers.get(name).kill(signal_))


@click.command(cls=Command)
@_NAMES
def wait(containers: tuple[str, ...]) -> int:
    """Wait until containers end, and print their exit statuses."""
    engine = open_engine()
    return each(containers, lambda name: str(engine.containers.get(name).wait()))


@click.command(cls=Command)
@_NAMES
@click.option("-f", "--force", is_flag=True, help="Kill what runs.")
@click.option("-v", "--volumes", is_flag=True, help="Also remove their unnamed volumes.")
def remove_containers(containers: tuple[str, ...], force: bool, volumes: bool) -> int:  # noqa: FBT001
    """Remove containers."""
    engine = open_engine()
    return each(containers, lambda name: engine.containers.get(name).remove(force=force, v=volumes))


@click.command(cls=Command, hidden=True)
@click.argument("container")
def settle(container: str) -> None:
    """Note down that a container has ended; its monitor calls this."""
    open_engine().containers.settle(container)


@click.command(cls=Command)
@click.argument("container")
@click.argument("name", metavar="[REPOSITORY[:TAG]]", required=False)
@click.option("-a", "--author", default="", metavar="NAME", help="Who made the image.")
@click.option("-c", "--change", "changes", multiple=True, metavar="TEXT", help="A Dockerfile instruction: 'CMD sh'.")
@click.option("-m", "--message", default="", metavar="TEXT", help="A comment in the image's history.")
@click.option("-p", "--pause/--no-pause", default=True, help="Freeze the container meanwhile.  [default: --pause]")
def commit(
    container: str,
    name: str | None,
    author: str,
    changes: tuple[str, ...],
    message: str,
    pause: bool,  # noqa: FBT001
) -> None:
    """Make an image out of a container: its image, and what it has changed since."""
    committed = open_engine().containers.get(container)
    click.echo(committed.commit(name, message=message, author=author, changes=changes, pause=pause).id)


# ---- ps ----------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.option("-a", "--all", "show_all", is_flag=True, help="Also those that do not run.")
@click.option("-q", "--quiet", is_flag=True, help="Only ids.")
@click.option("-l", "--latest", is_flag=True, help="The one created last, whatever its state.")
@click.option("-n", "--last", type=int, default=-1, metavar="N", help="The N created last, whatever their state.")
@click.option("--no-trunc", "full", is_flag=True, help="Do not shorten anything.")
def list_containers(show_all: bool, quiet: bool, latest: bool, last: int, full: bool) -> None:  # noqa: FBT001
    """List containers."""
    engine = open_engine()
    count = 1 if latest else last
    found = engine.containers.list(all=show_all or count >= 0)
    rows = []
    for container in found[:count] if count >= 0 else found:
        with contextlib.suppress(ContainerNotFound):  # it was removed since the list was made
            rows.append(_row(engine, container, full=full))
    if quiet:
        click.echo("".join(f"{row[0]}\n" for row in rows), nl=False)
    else:
        click.echo(tables.render(["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"], rows))


def _row(engine: Engine, container: Container, *, full: bool) -> tuple[str, ...]:
    record = container.record
    exposed = record.config.get("ExposedPorts") or {} if record.network.get("IPAddress") else {}
    return (
        record.id if full else record.short_id,
        _image(engine, str(record.config.get("Image")), record.image, full=full),
        tables.command([record.path, *record.args], full=full),
        tables.created(record.created),
        tables.status(
            record.state,
            exit_code=record.exit_code,
            started_at=record.started_at,
            finished_at=record.finished_at,
        ),
        tables.ports(exposed),
        record.name,
    )


def _image(engine: Engine, name: str, image_id: str, *, full: bool) -> str:
    """The image's name as it was given, or its id where the name is another image's by now."""
    try:
        known = engine.images.get(name).id == image_id
    except (NotFound, InvalidInput):
        known = False
    if known and not name.startswith("sha256:"):
        return name
    return image_id if full else tables.short_id(image_id)
