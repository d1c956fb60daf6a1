"""`labctr`: the docker command's words, options, columns and exit codes, on this package's engine.

    __init__.py     entry() and main(), and where each command is
    command.py      what all commands share: errors, exit codes, the engine
    images.py       import, images, tag, rmi, history
    archives.py     save, load, export
    building.py     build, and build_output.py what it prints
    containers.py   create, start, stop, ps, commit, rm, …
    run.py          run, attach, exec: the commands that connect the terminal
    output.py       logs
    files.py        cp, diff
    pruning.py      what takes space, and freeing it: system df, the prunes, builder prune
    options.py      the options that run and create share
    inspection.py   inspect and its templates
    system.py       info, version, system down, system fsck
    tables.py       columns and cells
    terminal.py     a person's terminal connected to a container's streams

A face translates and decides nothing: options into arguments of the engine, its answers
into text. Each command's module is imported when the command is given, and the engine
when a command asks for it: importing it takes longer than most commands.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from pylab_container.cli.command import Group

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

_ON_CONTAINERS = {
    "attach": "run:attach",
    "commit": "containers:commit",
    "cp": "files:cp",
    "create": "containers:create",
    "diff": "files:diff",
    "exec": "run:execute",
    "export": "archives:export",
    "kill": "containers:kill",
    "logs": "output:logs",
    "restart": "containers:restart",
    "rm": "containers:remove_containers",
    "run": "run:run",
    "start": "containers:start",
    "stop": "containers:stop",
    "wait": "containers:wait",
}
_ON_IMAGES = {
    "build": "building:build",
    "history": "images:history",
    "import": "images:import_image",
    "load": "archives:load",
    "save": "archives:save",
    "tag": "images:tag",
}

container_group = Group(
    "container",
    help="Manage containers.",
    places={
        **_ON_CONTAINERS,
        "inspect": "inspection:inspect_container",
        "ls": "containers:list_containers",
        "prune": "pruning:prune_containers",
        "settle": "containers:settle",
    },
)
image_group = Group(
    "image",
    help="Manage images.",
    places={
        **_ON_IMAGES,
        "inspect": "inspection:inspect_image",
        "ls": "images:list_images",
        "prune": "pruning:prune_images",
        "rm": "images:remove_images",
    },
)
builder_group = Group(
    "builder",
    help="Manage builds.",
    places={"build": "building:build", "prune": "pruning:prune_builder"},
)
system_group = Group(
    "system",
    help="Manage the engine.",
    places={
        "df": "pruning:df",
        "down": "system:down",
        "fsck": "system:fsck",
        "info": "system:info",
        "prune": "pruning:prune_system",
    },
)

labctr = Group(
    "labctr",
    help="A container engine to learn from, with the words of the docker command.",
    params=[
        click.Option(
            ["--root"], metavar="DIR", help="The data root.  [default: $LABCTR_ROOT, else /var/lib/pylab-container]"
        ),
        click.Option(
            ["--storage-driver"],
            metavar="NAME",
            help="overlay2, overlay or vfs.  [default: $LABCTR_DRIVER, else the one used before, else overlay2]",
        ),
    ],
    # docker's first words had no groups, and people still type those.
    places={
        **_ON_CONTAINERS,
        **_ON_IMAGES,
        "images": "images:list_images",
        "info": "system:info",
        "inspect": "inspection:inspect",
        "ps": "containers:list_containers",
        "rmi": "images:remove_images",
        "version": "system:version",
    },
    commands=[builder_group, container_group, image_group, system_group],
)


def entry() -> NoReturn:
    """`labctr` as a process: run the command that its arguments name, and end with its status.

    A short life: what is thrown away is not worth collecting while modules load, and taking the
    interpreter apart in the end would cost a tenth of `labctr run`.
    """
    gc.set_threshold(100_000)
    status = main()
    with contextlib.suppress(OSError, ValueError):  # who does not listen any more has been told by main()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; arguments as in sys.argv[1:]. Returns its exit status."""
    try:
        status = labctr.main(arguments, prog_name="labctr", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        context = error.ctx if isinstance(error, click.UsageError) else None
        return getattr(context.command, "usage_status", 1) if context else 1
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        if error.errno == errno.ENOSPC:  # the reader of a pipe that went away knows it
            click.echo(
                f"Error: {error.strerror}\nHint: free some space where the output goes, or the data root is", err=True
            )
        return 1
    return status if isinstance(status, int) else 0
