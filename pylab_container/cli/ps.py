"""ps: list containers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from pylab_container.cli import listing, tables
from pylab_container.cli.command import Command, open_engine
from pylab_container.docker.template_values import Row
from pylab_container.errors import ContainerNotFound, InvalidInput, NotFound
from pylab_container.oci.image import Json
from pylab_container.text import sizes
from pylab_container.text.timestamps import parse_rfc3339

if TYPE_CHECKING:
    from pylab_container.engine import Engine
    from pylab_container.engine.container import Container
    from pylab_container.oci.mounts import MountPoint

_HEADINGS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Names": "NAMES",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
    "Platform": "PLATFORM",
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


@click.command(cls=Command)
@click.option("-a", "--all", "show_all", is_flag=True, help="Also list containers that do not run.")
@listing.filter_option
@listing.format_option
@click.option(
    "-n", "--last", type=int, default=-1, metavar="N", help="Only the last N created containers, in any state."
)
@click.option("-l", "--latest", is_flag=True, help="Only the last created container, in any state.")
@listing.full_option
@listing.quiet_option
@click.option("-s", "--size", is_flag=True, help="Also show the size of each writable layer.")
def list_containers(
    *,
    show_all: bool,
    conditions: tuple[str, ...],
    format_: str | None,
    last: int,
    latest: bool,
    full: bool,
    quiet: bool,
    size: bool,
) -> None:
    """List containers.

    Filters: id, name, label, status, exited, health, ancestor, volume, network, before, since, expose, publish.
    """
    engine = open_engine()
    filters = listing.filters(conditions)
    count = 1 if latest else last
    containers = engine.containers.list(all=show_all, filters=filters, limit=count if count > 0 else None)
    with_size = size or listing.mentions(format_, "Size")
    rows = _rows(engine, containers, full=full, with_size=with_size)
    columns = (*_COLUMNS, "Size") if size else _COLUMNS
    listing.Listing(_HEADINGS, columns, "ID").show(rows, format_, quiet=quiet)


def _rows(engine: Engine, containers: list[Container], *, full: bool, with_size: bool) -> Iterator[Row]:
    for container in containers:
        with contextlib.suppress(ContainerNotFound):  # removed since the list was read
            yield _row(engine, container, full=full, with_size=with_size)


def _row(engine: Engine, container: Container, *, full: bool, with_size: bool) -> Row:
    record = container.record
    labels = record.config.labels
    state = record.state_document()
    columns = {
        "ID": record.id if full else record.short_id,
        "Image": lambda: _image(engine, record.config.image, record.image, full=full),
        "Command": tables.command([record.path, *record.args], full=full),
        "CreatedAt": moment_text(record.created),
        "RunningFor": tables.created(record.created),
        "Ports": tables.ports(published_ports(container)),
        "State": state["Status"],
        "Status": tables.status(state),
        "Size": lambda: _size(engine, container) if with_size else "0B",
        "Names": record.name,
        "Labels": listing.labels_text(labels),
        "Mounts": ",".join(_mount(mount, full=full) for mount in record.mounts if mount.type != "tmpfs"),
        "LocalVolumes": str(sum(mount.type == "volume" for mount in record.mounts)),
        "Networks": ",".join(sorted(record.network.networks or [record.host_config.network_mode])),
        "Platform": "linux",
    }
    return Row(columns, {"Label": lambda name: str(labels.get(name, ""))})


def moment_text(moment: str, *, exact: bool = False) -> str:
    """Format a time as Go does: "2026-11-24 12:58:34 +0000 UTC".

    exact  add the fraction of the second
    """
    seconds, nanoseconds = divmod(parse_rfc3339(moment), 10**9)
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".") if exact else ""
    return datetime.fromtimestamp(seconds, UTC).strftime(f"%Y-%m-%d %H:%M:%S{fraction} +0000 UTC")


def published_ports(container: Container) -> Json:
    """Return NetworkSettings.Ports of a running container, {} for one that does not run."""
    record = container.record
    if record.state_document()["Status"] not in ("running", "paused"):
        return {}
    return dict(record.network.ports)


def _mount(mount: MountPoint, *, full: bool) -> str:
    text = str(mount.name or mount.source)
    return text if full else tables.shortened(text, 15)


def _size(engine: Engine, container: Container) -> str:
    from pylab_container.maintenance import usage

    written, whole = usage.container_sizes(engine.data, container.record)
    return f"{sizes.human(written)} (virtual {sizes.human(whole)})"


def _image(engine: Engine, name: str, image_id: str, *, full: bool) -> str:
    """Return the name of the image at the container's creation.

    If the name now belongs to another image, return the id.
    """
    try:
        known = engine.images.get(name).id == image_id
    except (NotFound, InvalidInput):
        known = False
    if known and not name.startswith("sha256:"):
        return name
    return image_id if full else tables.short_id(image_id)
