"""Commands on volumes: create, ls, rm, prune."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pylab_container.cli import arguments, listing
from pylab_container.cli.command import Command, each, open_engine
from pylab_container.cli.confirming import confirmed, show_deleted, show_total
from pylab_container.cli.entries import pair
from pylab_container.cli.printing import say
from pylab_container.docker.template_values import Row

if TYPE_CHECKING:
    from pylab_container.engine.volumes import Volume

_HEADINGS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}
_LISTING = listing.Listing(_HEADINGS, ("Driver", "Name"), "Name")
_UNKNOWN = "N/A"  # as docker shows values that only `system df` computes


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("-d", "--driver", default="local", metavar="NAME", help="The volume driver.  [default: local]")
@click.option("--label", "labels", multiple=True, metavar="NAME[=VALUE]", help="A label. Repeatable.")
@click.option(
    "-o",
    "--opt",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="A file system to mount while the volume is in use: type=tmpfs, device=tmpfs, o=size=64m. Repeatable.",
)
def create_volume(*, name: str | None, driver: str, labels: tuple[str, ...], options: tuple[str, ...]) -> None:
    """Create a volume.

    Without NAME its name is 64 random hexadecimal digits.
    """
    created = open_engine().volumes.create(
        name,
        driver=driver,
        driver_opts=dict(pair(option) for option in options),
        labels=dict(pair(label) for label in labels),
    )
    say(created.name)


@click.command(cls=Command)
@listing.filter_option
@listing.format_option
@listing.quiet_option
def list_volumes(*, conditions: tuple[str, ...], format_: str | None, quiet: bool) -> None:
    """List volumes.

    Filters: name, label, dangling, driver.
    """
    volumes = open_engine().volumes.list(filters=listing.filters(conditions))
    _LISTING.show([_row(volume) for volume in volumes], format_, quiet=quiet)


def _row(volume: Volume) -> Row:
    labels = volume.labels
    columns = dict.fromkeys(("Links", "Size", "Availability", "Group", "Status"), _UNKNOWN)
    columns |= {
        "Driver": "local",
        "Name": volume.name,
        "Scope": "local",
        "Mountpoint": str(volume.path),
        "Labels": listing.labels_text(labels),
    }
    return Row(columns, {"Label": lambda name: str(labels.get(name, ""))})


@click.command(cls=Command)
@click.argument("names", metavar="VOLUME...", nargs=-1, required=True, shell_complete=arguments.volumes)
@click.option("-f", "--force", is_flag=True, help="Ignore a missing volume.")
def remove_volumes(*, names: tuple[str, ...], force: bool) -> int:
    """Remove one or more volumes.

    Their files are deleted.
    """
    engine = open_engine()

    def remove(name: str) -> None:
        engine.volumes.remove(name, force=force)

    return each(names, remove)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Also remove named volumes.")
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation.")
@click.option("--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="label=NAME[=VALUE], label!=…")
def prune_volumes(*, every: bool, force: bool, conditions: tuple[str, ...]) -> None:
    """Remove unused local volumes.

    Without -a only anonymous volumes are removed.
    """
    filters = listing.filters(conditions)
    kind = "all" if every or filters.get("all") else "anonymous"
    if force or confirmed(f"This will remove {kind} local volumes not used by at least one container."):
        pruned = open_engine().volumes.prune({**filters, **({"all": ["true"]} if every else {})})
        show_deleted("Deleted Volumes", [removal.name for removal in pruned.deleted])
        show_total(pruned)
