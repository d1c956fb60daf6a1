"""`labctr`: the docker command's words, options, columns and exit codes, on this package's engine.

    __init__.py     main(), and which command is where
    command.py      what all commands share: errors, exit codes, the engine
    images.py       import, images, build, tag, rmi, history, …
    containers.py   create, start, stop, ps, logs, rm, …
    run.py          run, attach, exec: the commands that connect the terminal
    system.py       info, version, system down
    inspection.py   inspect and its templates
    tables.py       columns
    terminal.py     a person's terminal connected to a container's streams

A face translates and decides nothing: options into arguments of the engine, its answers
into text. The engine is imported when a command asks for it, because importing it takes
longer than most commands.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from pylab_container.cli.command import Group
from pylab_container.cli.containers import (
    commit,
    create,
    kill,
    list_containers,
    logs,
    remove_containers,
    restart,
    settle,
    start,
    stop,
    wait,
)
from pylab_container.cli.images import build, history, import_image, list_images, remove_images, tag
from pylab_container.cli.inspection import inspect, inspect_container, inspect_image
from pylab_container.cli.run import attach, execute, run
from pylab_container.cli.system import down, info, version

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""


@click.group(cls=Group)
@click.option("--root", metavar="DIR", help="The data root.  [default: $LABCTR_ROOT, else /var/lib/pylab-container]")
@click.pass_context
def labctr(context: click.Context, root: str | None) -> None:
    """A container engine to learn from, with the words of the docker command."""
    context.obj = root


@click.group("container", cls=Group)
def container_group() -> None:
    """Manage containers."""


@click.group("image", cls=Group)
def image_group() -> None:
    """Manage images."""


@click.group("system", cls=Group)
def system_group() -> None:
    """Manage the engine."""


ON_CONTAINERS: dict[str, click.Command] = {
    "attach": attach,
    "commit": commit,
    "create": create,
    "exec": execute,
    "kill": kill,
    "logs": logs,
    "restart": restart,
    "rm": remove_containers,
    "run": run,
    "start": start,
    "stop": stop,
    "wait": wait,
}
ON_IMAGES: dict[str, click.Command] = {
    "build": build,
    "history": history,
    "import": import_image,
    "tag": tag,
}
ON_THE_ENGINE: dict[str, click.Command] = {"info": info}

# docker's first words were without groups, and people still type those.
for group, commands in (
    (
        labctr,
        {
            **ON_CONTAINERS,
            **ON_IMAGES,
            **ON_THE_ENGINE,
            "images": list_images,
            "inspect": inspect,
            "ps": list_containers,
            "rmi": remove_images,
            "version": version,
            "container": container_group,
            "image": image_group,
            "system": system_group,
        },
    ),
    (container_group, {**ON_CONTAINERS, "inspect": inspect_container, "ls": list_containers, "settle": settle}),
    (image_group, {**ON_IMAGES, "inspect": inspect_image, "ls": list_images, "rm": remove_images}),
    (system_group, {**ON_THE_ENGINE, "down": down}),
):
    for name, command in commands.items():
        group.add_command(command, name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; arguments as in sys.argv[1:]. Returns its exit status."""
    try:
        status = labctr.main(arguments, prog_name="labctr", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return getattr(error.ctx.command, "usage_status", 1) if error.ctx else 1
    except click.ClickException as error:
        error.show()
        return 1
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return status if isinstance(status, int) else 0
