"""Disk usage and its cleanup: system df, and the prune commands of system, image, container and builder."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pylab_container.cli import listing, tables
from pylab_container.cli.command import Command, open_engine
from pylab_container.cli.confirming import confirmed, show_deleted, show_total
from pylab_container.cli.printing import say
from pylab_container.docker.template_values import Row
from pylab_container.errors import InvalidInput
from pylab_container.oci.reference import parse
from pylab_container.text.sizes import human, human_precise

if TYPE_CHECKING:
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.maintenance.usage import DiskUsage

_CONTAINERS = "all stopped containers"
_NETWORKS = "all networks not used by at least one container"
_VOLUMES = "all anonymous volumes not used by at least one container"
_DANGLING = "all dangling images"
_ALL_IMAGES = "all images without at least one container associated to them"
_DANGLING_CACHE = "all dangling build cache"
_CACHE = "all build cache"
_DELETED_CACHE = "Deleted build cache objects"


def _pruning(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add -f and --filter to a command, which receives the parsed filters."""

    @functools.wraps(function)
    def wrapper(*, conditions: tuple[str, ...], **values: Any) -> Any:
        return function(filters=listing.filters(conditions), **values)

    decorated: Callable[..., Any] = wrapper
    decorated = click.option(
        "--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="until=24h, label=NAME[=VALUE], label!=…"
    )(decorated)
    return click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation.")(decorated)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Also remove named images that no container uses.")
@_pruning
def prune_images(every: bool, force: bool, filters: Mapping[str, Sequence[str]]) -> None:  # noqa: FBT001
    """Remove unused images.

    Without -a only images without a name are removed.
    """
    if force or confirmed(f"This will remove {_ALL_IMAGES if every else _DANGLING}."):
        pruned = open_engine().images.prune({"dangling": not every, **filters})
        show_deleted("Deleted Images", _image_lines(pruned))
        show_total(pruned)


@click.command(cls=Command)
@_pruning
def prune_containers(force: bool, filters: Mapping[str, Sequence[str]]) -> None:  # noqa: FBT001
    """Remove all stopped containers."""
    if force or confirmed(f"This will remove {_CONTAINERS}."):
        pruned = open_engine().containers.prune(filters)
        show_deleted("Deleted Containers", [removal.name for removal in pruned.deleted])
        show_total(pruned)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Also remove the steps that lead to named images.")
@click.option("-f", "--force", is_flag=True, help="Do not prompt for confirmation.")
@click.option("--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="until=24h")
def prune_builder(every: bool, force: bool, conditions: tuple[str, ...]) -> None:  # noqa: FBT001
    """Remove build cache.

    The cache consists of the steps that lead to no named image and no container, the root file systems of failed steps,
    and the files of RUN --mount=type=cache that no build is using. -a also removes the steps that lead to named images:
    the images stay complete, but the next build starts without a cache.
    """
    filters = listing.filters(conditions)
    if force or confirmed(f"This will remove {_CACHE if every else _DANGLING_CACHE}."):
        pruned = open_engine().prune_builds(all=every, filters=filters)
        show_deleted(_DELETED_CACHE, [removal.name for removal in pruned.deleted])
        show_total(pruned)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Also remove named images that no container uses.")
@click.option("--volumes", is_flag=True, help="Also remove anonymous volumes that no container uses.")
@_pruning
def prune_system(every: bool, volumes: bool, force: bool, filters: Mapping[str, Sequence[str]]) -> None:  # noqa: FBT001
    """Remove unused data.

    This includes stopped containers, networks, images and build cache.
    """
    if volumes and "until" in filters:
        raise InvalidInput(
            'The "until" filter is not supported with "--volumes"',
            hint="volumes have no creation time to compare: labctr volume prune",
        )
    kinds = [_CONTAINERS, _NETWORKS, *([_VOLUMES] if volumes else []), _ALL_IMAGES if every else _DANGLING]
    with_cache = filters.keys() <= {"until"}  # the build cache has no labels
    kinds += [_CACHE if every else _DANGLING_CACHE] if with_cache else []
    if not force and not confirmed("This will remove:\n" + "".join(f"  - {kind}\n" for kind in kinds)):
        return
    engine = open_engine()
    done = [engine.containers.prune(filters)]
    show_deleted("Deleted Containers", [removal.name for removal in done[0].deleted])
    done.append(engine.networks.prune(filters))
    show_deleted("Deleted Networks", [removal.name for removal in done[-1].deleted])
    if volumes:
        done.append(engine.volumes.prune())
        show_deleted("Deleted Volumes", [removal.name for removal in done[-1].deleted])
    done.append(engine.images.prune({"dangling": not every, **filters}))
    show_deleted("Deleted Images", _image_lines(done[-1]))
    if with_cache:
        done.append(engine.prune_builds(all=every, filters=filters))
        show_deleted(_DELETED_CACHE, [removal.name for removal in done[-1].deleted])
    show_total(*done)


def _image_lines(pruned: Pruned) -> list[str]:
    return [f"{removal.action.lower()}: {removal.name}" for removal in pruned.deleted]


# ---- df ----------------------------------------------------------------------------------------

_DF_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_DF = listing.Listing(_DF_HEADINGS, tuple(_DF_HEADINGS), "Type")


@click.command(cls=Command)
@click.option("-v", "--verbose", is_flag=True, help="Show each image, container and volume.")
@listing.format_option
def df(*, verbose: bool, format_: str | None) -> None:
    """Show disk usage."""
    if verbose and format_:
        raise InvalidInput("the verbose and the format options conflict", hint="give one of them")
    usage = open_engine().df()
    if verbose:
        _details(usage)
        return
    rows = [
        _row(
            "Images",
            len(usage.images),
            sum(1 for image in usage.images if image.containers),
            usage.layers_size,
            usage.reclaimable_images,
        ),
        _row(
            "Containers",
            len(usage.containers),
            sum(container.active for container in usage.containers),
            usage.containers_size,
            usage.reclaimable_containers,
        ),
        _row(
            "Local Volumes",
            len(usage.volumes),
            sum(1 for volume in usage.volumes if volume.links),
            usage.volumes_size,
            usage.reclaimable_volumes,
        ),
        _row(
            "Build Cache",
            len(usage.build_cache),
            sum(cache.active for cache in usage.build_cache),
            usage.build_cache_size,
            usage.reclaimable_build_cache,
        ),
    ]
    _DF.show([Row(dict(zip(_DF.headings, row, strict=True))) for row in rows], format_)


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> tuple[str, ...]:
    share = f" ({reclaimable * 100 // size}%)" if size else ""
    return kind, str(total), str(active), human_precise(size), human_precise(reclaimable) + share


def _details(usage: DiskUsage) -> None:
    say("Images space usage:\n")
    images = []
    for entry in usage.images:
        names = [(name.repository, name.tag or "<none>") for name in map(parse, entry.image.tags)]
        unique = human_precise(entry.size - entry.shared)
        sizes = human(entry.size), human_precise(entry.shared), unique, str(entry.containers)
        created = tables.created(entry.image.config.created)
        image_id = tables.short_id(entry.image.id)
        images += [(*name, image_id, created, *sizes) for name in names or [("<none>", "<none>")]]
    columns = "REPOSITORY,TAG,IMAGE ID,CREATED,SIZE,SHARED SIZE,UNIQUE SIZE,CONTAINERS"
    say(tables.render(columns.split(","), images))
    say("\nContainers space usage:\n")
    containers = [_container_row(entry.record, entry.size) for entry in usage.containers]
    columns = "CONTAINER ID,IMAGE,COMMAND,LOCAL VOLUMES,SIZE,CREATED,STATUS,NAMES"
    say(tables.render(columns.split(","), containers))
    say("\nLocal Volumes space usage:\n")
    volumes = [(entry.volume.name, str(entry.links), human_precise(entry.size)) for entry in usage.volumes]
    say(tables.render(["VOLUME NAME", "LINKS", "SIZE"], volumes))
    say(f"\nBuild cache usage: {human_precise(usage.build_cache_size)}\n")
    cache = [
        (
            tables.short_id(entry.id),
            entry.kind,
            human_precise(entry.size),
            tables.created(entry.when),
            str(entry.active).lower(),
            str(entry.shared).lower(),
        )
        for entry in usage.build_cache
    ]
    say(tables.render(["CACHE ID", "CACHE TYPE", "SIZE", "LAST USED", "ACTIVE", "SHARED"], cache))


def _container_row(record: Any, size: int) -> tuple[str, ...]:
    status = tables.status(record.state_document())
    return (
        record.short_id,
        record.config.image,
        tables.command([record.path, *record.args]),
        str(sum(mount.type == "volume" for mount in record.mounts)),
        human_precise(size),
        tables.created(record.created),
        status,
        record.name,
    )
