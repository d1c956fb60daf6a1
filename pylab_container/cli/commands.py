"""The commands: in which group each is, where its code is, and the summary that `labctr --help` shows.

The summaries are docker's words where the command does what docker's does. tests/unit/test_cli_help.py compares them
with `docker --help` and lists the differences with their reasons.
"""

from __future__ import annotations

import click

from pylab_container.cli.arguments import directories
from pylab_container.cli.command import remember_globals
from pylab_container.cli.group import Entry, Group

COMPLETION = "_LABCTR_COMPLETE"
"""The variable by which a completion script asks for an answer: "bash_complete" or "zsh_complete"."""

_ON_CONTAINERS: dict[str, Entry] = {
    "attach": ("run:attach", "Attach local standard input, output, and error streams to a running container"),
    "commit": ("containers:commit", "Create a new image from a container's changes"),
    "cp": ("files:cp", "Copy files/folders between a container and the local filesystem"),
    "create": ("containers:create", "Create a new container"),
    "diff": ("files:diff", "Inspect changes to files or directories on a container's filesystem"),
    "exec": ("run:execute", "Execute a command in a running container"),
    "export": ("archives:export", "Export a container's filesystem as a tar archive"),
    "kill": ("containers:kill", "Kill one or more running containers"),
    "logs": ("output:logs", "Fetch the logs of a container"),
    "pause": ("containers:pause", "Pause all processes within one or more containers"),
    "port": ("running:port", "List port mappings or a specific mapping for the container"),
    "rename": ("containers:rename", "Rename a container"),
    "restart": ("containers:restart", "Restart one or more containers"),
    "rm": ("containers:remove_containers", "Remove one or more containers"),
    "run": ("run:run", "Create and run a new container from an image"),
    "start": ("containers:start", "Start one or more stopped containers"),
    "stats": ("stats:stats", "Display a live stream of container(s) resource usage statistics"),
    "stop": ("containers:stop", "Stop one or more running containers"),
    "top": ("running:top", "Display the running processes of a container"),
    "unpause": ("containers:unpause", "Unpause all processes within one or more containers"),
    "update": ("running:update", "Update configuration of one or more containers"),
    "wait": ("containers:wait", "Block until one or more containers stop, then print their exit codes"),
}
_ON_IMAGES: dict[str, Entry] = {
    "build": ("building:build", "Build an image from a Dockerfile"),
    "history": ("images:history", "Show the history of an image"),
    "import": ("images:import_image", "Import the contents from a tarball to create a filesystem image"),
    "load": ("archives:load", "Load an image from a tar archive or STDIN"),
    "pull": ("registries:pull", "Download an image from a registry"),
    "push": ("registries:push", "Upload an image to a registry"),
    "save": ("archives:save", "Save one or more images to a tar archive (streamed to STDOUT by default)"),
    "tag": ("images:tag", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
}
_ON_ALL: dict[str, Entry] = {
    "completion": ("commands:completion_group", "Generate the autocompletion script for the specified shell"),
    "daemon": ("daemon:daemon", "Serve the Docker Engine API to docker and other clients"),
    "events": ("events:events", "Get real time events from the engine"),
    "images": ("images:list_images", "List images"),
    "info": ("system:info", "Display system-wide information"),
    "inspect": ("inspection:inspect", "Return low-level information on containers, images, networks, and volumes"),
    "login": ("registries:login", "Authenticate to a registry"),
    "logout": ("registries:logout", "Log out from a registry"),
    "ps": ("ps:list_containers", "List containers"),
    "rmi": ("images:remove_images", "Remove one or more images"),
    "search": ("registries:search", "Explain why registries cannot be searched for images"),
    "version": ("system:version", "Show the labctr version information"),
}
_TOP = {**_ON_ALL, **_ON_CONTAINERS, **_ON_IMAGES}
_COMMON = "run exec ps build pull push images login logout search version info".split()
"""docker's order: from the most frequent to the rarest."""


def _group(name: str, summary: str, entries: dict[str, Entry]) -> Group:
    return Group(name, help=summary, sections={"Commands": dict(sorted(entries.items()))})


builder_group = _group(
    "builder",
    "Manage builds",
    {"build": _ON_IMAGES["build"], "prune": ("pruning:prune_builder", "Remove build cache")},
)
completion_group = _group(
    "completion",
    "Generate the autocompletion script for the specified shell",
    {
        "bash": ("completion:bash", "Generate the autocompletion script for bash"),
        "zsh": ("completion:zsh", "Generate the autocompletion script for zsh"),
    },
)
container_group = _group(
    "container",
    "Manage containers",
    {
        **_ON_CONTAINERS,
        "inspect": ("inspection:inspect_container", "Display detailed information on one or more containers"),
        "list": ("ps:list_containers", ""),
        "ls": ("ps:list_containers", "List containers"),
        "prune": ("pruning:prune_containers", "Remove all stopped containers"),
        "settle": ("containers:settle", ""),
        "watch-health": ("containers:watch_health", ""),
    },
)
image_group = _group(
    "image",
    "Manage images",
    {
        **_ON_IMAGES,
        "inspect": ("inspection:inspect_image", "Display detailed information on one or more images"),
        "list": ("images:list_images", ""),
        "ls": ("images:list_images", "List images"),
        "prune": ("pruning:prune_images", "Remove unused images"),
        "rm": ("images:remove_images", "Remove one or more images"),
    },
)
network_group = _group(
    "network",
    "Manage networks",
    {
        "connect": ("networks:connect", "Connect a container to a network"),
        "create": ("networks:create_network", "Create a network"),
        "disconnect": ("networks:disconnect", "Disconnect a container from a network"),
        "inspect": ("inspection:inspect_network", "Display detailed information on one or more networks"),
        "list": ("networks:list_networks", ""),
        "ls": ("networks:list_networks", "List networks"),
        "prune": ("networks:prune_networks", "Remove all unused networks"),
        "rm": ("networks:remove_networks", "Remove one or more networks"),
    },
)
registry_group = _group(
    "registry",
    "Manage a local registry",
    {"serve": ("registries:serve", "Serve local images from a registry on this machine")},
)
system_group = _group(
    "system",
    "Manage the engine",
    {
        "check": ("system:check", "Show what this machine supports and how to add what is missing"),
        "df": ("pruning:df", "Show disk usage"),
        "down": ("system:down", "Remove the unused bridges and their firewall rules"),
        "events": _ON_ALL["events"],
        "fsck": ("system:fsck", "Check and repair the data root"),
        "info": _ON_ALL["info"],
        "prune": ("pruning:prune_system", "Remove unused data"),
    },
)
volume_group = _group(
    "volume",
    "Manage volumes",
    {
        "create": ("volumes:create_volume", "Create a volume"),
        "inspect": ("inspection:inspect_volume", "Display detailed information on one or more volumes"),
        "list": ("volumes:list_volumes", ""),
        "ls": ("volumes:list_volumes", "List volumes"),
        "prune": ("volumes:prune_volumes", "Remove unused local volumes"),
        "rm": ("volumes:remove_volumes", "Remove one or more volumes"),
    },
)

_GLOBAL_OPTIONS: list[click.Parameter] = [
    click.Option(
        ["--root"],
        shell_complete=directories,
        metavar="DIR",
        help="The data root.  [default: $LABCTR_ROOT, else /var/lib/pylab-container]",
    ),
    click.Option(
        ["--storage-driver"],
        metavar="NAME",
        help="overlay2, overlay or vfs.  [default: $LABCTR_DRIVER, else the driver of the data root, else overlay2]",
    ),
    click.Option(
        ["--registry-mirror", "registry_mirrors"],
        multiple=True,
        metavar="URL",
        help="A mirror to try before Docker's registry.  [default: $LABCTR_REGISTRY_MIRRORS] Repeatable.",
    ),
    click.Option(
        ["--insecure-registry", "insecure_registries"],
        multiple=True,
        metavar="HOST[:PORT]|NETWORK",
        help="Allow plain HTTP to this registry.  [default: $LABCTR_INSECURE_REGISTRIES] Repeatable.",
    ),
]

labctr = Group(
    "labctr",
    help="A container engine to learn from, with the commands of docker",
    params=_GLOBAL_OPTIONS,
    callback=remember_globals,
    sections={
        "Common Commands": {name: _TOP[name] for name in _COMMON},
        "Management Commands": {
            "builder": ("commands:builder_group", "Manage builds"),
            "container": ("commands:container_group", "Manage containers"),
            "image": ("commands:image_group", "Manage images"),
            "network": ("commands:network_group", "Manage networks"),
            "registry": ("commands:registry_group", "Manage a local registry"),
            "system": ("commands:system_group", "Manage the engine"),
            "volume": ("commands:volume_group", "Manage volumes"),
        },
        "Commands": {name: entry for name, entry in sorted(_TOP.items()) if name not in _COMMON},
    },
)
