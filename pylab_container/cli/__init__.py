"""`labctr`: the docker command's words, options, columns and exit codes, on this package's engine.

    __init__.py     entry() and main(), and where each command is
    command.py      what all commands share: errors, exit codes, the engine
    images.py       import, images, tag, rmi, history
    archives.py     save, load, export
    registries.py   pull, push, login, logout, search, registry serve, and transfer_output.py how they look
    building.py     build, and build_output.py what it prints
    containers.py   create, start, stop, restart, kill, pause, wait, rename, rm, commit
    run.py          run, attach, exec: the commands that connect the terminal
    ps.py           ps
    running.py      port, top, update
    stats.py        stats
    events.py       events
    output.py       logs
    files.py        cp, diff
    volumes.py      volume create, ls, rm, prune
    networks.py     network create, ls, connect, disconnect, rm, prune
    inspection.py   inspect of all of them
    pruning.py      what takes space, and freeing it: system df, the prunes, builder prune
    daemon.py       daemon
    system.py       info, version, system check, system down, system fsck

    options.py      the options that run and create share; creation.py, mounting.py and
                    entries.py put them into the engine's words
    listing.py      listings: --format, --filter, -q
    tables.py       columns and cells
    confirming.py   the question before a prune, and its answer
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

from pylab_container.host.extras import extra

with extra("cli"):
    import click

    from pylab_container.cli.command import Group
    from pylab_container.cli.printing import say

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

BAD_OPTION = 125
"""docker's exit status after an option that there is not, or whose value makes no sense."""

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
    "pause": "containers:pause",
    "port": "running:port",
    "ps": "ps:list_containers",
    "rename": "containers:rename",
    "restart": "containers:restart",
    "rm": "containers:remove_containers",
    "run": "run:run",
    "start": "containers:start",
    "stats": "stats:stats",
    "stop": "containers:stop",
    "top": "running:top",
    "unpause": "containers:unpause",
    "update": "running:update",
    "wait": "containers:wait",
}
_ON_IMAGES = {
    "build": "building:build",
    "history": "images:history",
    "import": "images:import_image",
    "load": "archives:load",
    "pull": "registries:pull",
    "push": "registries:push",
    "save": "archives:save",
    "tag": "images:tag",
}

container_group = Group(
    "container",
    help="Manage containers.",
    places={
        **_ON_CONTAINERS,
        "inspect": "inspection:inspect_container",
        "list": "ps:list_containers",
        "ls": "ps:list_containers",
        "prune": "pruning:prune_containers",
        "settle": "containers:settle",
        "watch-health": "containers:watch_health",
    },
)
image_group = Group(
    "image",
    help="Manage images.",
    places={
        **_ON_IMAGES,
        "inspect": "inspection:inspect_image",
        "list": "images:list_images",
        "ls": "images:list_images",
        "prune": "pruning:prune_images",
        "rm": "images:remove_images",
    },
)
volume_group = Group(
    "volume",
    help="Manage volumes.",
    places={
        "create": "volumes:create_volume",
        "inspect": "inspection:inspect_volume",
        "list": "volumes:list_volumes",
        "ls": "volumes:list_volumes",
        "prune": "volumes:prune_volumes",
        "rm": "volumes:remove_volumes",
    },
)
network_group = Group(
    "network",
    help="Manage networks.",
    places={
        "connect": "networks:connect",
        "create": "networks:create_network",
        "disconnect": "networks:disconnect",
        "inspect": "inspection:inspect_network",
        "list": "networks:list_networks",
        "ls": "networks:list_networks",
        "prune": "networks:prune_networks",
        "rm": "networks:remove_networks",
    },
)
builder_group = Group(
    "builder",
    help="Manage builds.",
    places={"build": "building:build", "prune": "pruning:prune_builder"},
)
registry_group = Group(
    "registry",
    help="Be a registry for others.",
    places={"serve": "registries:serve"},
)
system_group = Group(
    "system",
    help="Manage the engine.",
    places={
        "df": "pruning:df",
        "check": "system:check",
        "down": "system:down",
        "events": "events:events",
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
        click.Option(
            ["--registry-mirror", "registry_mirrors"],
            multiple=True,
            metavar="URL",
            help="Ask here first for images of Docker's registry.  [default: $LABCTR_REGISTRY_MIRRORS] Repeatable.",
        ),
        click.Option(
            ["--insecure-registry", "insecure_registries"],
            multiple=True,
            metavar="HOST[:PORT]|NETWORK",
            help="Plain http will do there.  [default: $LABCTR_INSECURE_REGISTRIES] Repeatable.",
        ),
    ],
    # docker's first words had no groups, and people still type those.
    places={
        **_ON_CONTAINERS,
        **_ON_IMAGES,
        "daemon": "daemon:daemon",
        "events": "events:events",
        "images": "images:list_images",
        "info": "system:info",
        "inspect": "inspection:inspect",
        "login": "registries:login",
        "logout": "registries:logout",
        "rmi": "images:remove_images",
        "search": "registries:search",
        "version": "system:version",
    },
    commands=[builder_group, container_group, image_group, network_group, registry_group, system_group, volume_group],
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
        return BAD_OPTION if _is_about_an_option(error) else 1
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        if error.errno == errno.ENOSPC:  # the reader of a pipe that went away knows it
            say(f"Error: {error.strerror}\nHint: free some space where the output goes, or the data root is", err=True)
        return 1
    return status if isinstance(status, int) else 0


def _is_about_an_option(error: click.ClickException) -> bool:
    """Rather than about arguments that are missing, or too many, or a command that there is not."""
    if isinstance(error, click.NoSuchOption | click.BadOptionUsage):
        return True
    return isinstance(error, click.BadParameter) and isinstance(error.param, click.Option)
