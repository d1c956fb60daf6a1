"""What takes space, and freeing it: system df, and the prunes of system, image, container and builder."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from pylab_container.cli import tables
from pylab_container.cli.command import Command, open_engine
from pylab_container.errors import InvalidInput
from pylab_container.formats.reference import parse
from pylab_container.formats.sizes import human, human_precise

if TYPE_CHECKING:
    from pylab_container.engine.pruning import Pruned
    from pylab_container.engine.usage import DiskUsage

_CONTAINERS = "all stopped containers"
_VOLUMES = "all anonymous volumes not used by at least one container"
_DANGLING = "all dangling images"
_ALL_IMAGES = "all images without at least one container associated to them"
_DANGLING_CACHE = "all dangling build cache"
_CACHE = "all build cache"
_DELETED_CACHE = "Deleted build cache objects"


def _pruning(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command -f and --filter; it gets the filters parsed."""

    @functools.wraps(function)
    def wrapper(*, conditions: tuple[str, ...], **values: Any) -> Any:
        return function(filters=_filters(conditions), **values)

    decorated: Callable[..., Any] = wrapper
    decorated = click.option(
        "--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="until=24h, label=NAME[=VALUE], label!=…"
    )(decorated)
    return click.option("-f", "--force", is_flag=True, help="Do not ask.")(decorated)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Also those with a name that no container uses.")
@_pruning
def prune_images(every: bool, force: bool, filters: Mapping[str, Sequence[str]]) -> None:  # noqa: FBT001
    """Remove images that nobody needs."""
    if force or _confirmed(f"This will remove {_ALL_IMAGES if every else _DANGLING}."):
        pruned = open_engine().images.prune({"dangling": not every, **filters})
        _show("Deleted Images", _image_lines(pruned))
        _total(pruned)


@click.command(cls=Command)
@_pruning
def prune_containers(force: bool, filters: Mapping[str, Sequence[str]]) -> None:  # noqa: FBT001
    """Remove containers that do not run."""
    if force or _confirmed(f"This will remove {_CONTAINERS}."):
        pruned = open_engine().containers.prune(filters)
        _show("Deleted Containers", [removal.name for removal in pruned.deleted])
        _total(pruned)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Also the steps on the way to images with a name.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--filter", "conditions", multiple=True, metavar="NAME=VALUE", help="until=24h")
def prune_builder(every: bool, force: bool, conditions: tuple[str, ...]) -> None:  # noqa: FBT001
    """Remove the build cache.

    These are the steps that lead to no image with a name and to no container, the roots of steps that failed, and the
    files of RUN --mount=type=cache, unless a build is using them. With -a the steps on the way to images with a name
    go, too: the images stay whole, but the next build begins from nothing.
    """
    filters = _filters(conditions)
    if force or _confirmed(f"This will remove {_CACHE if every else _DANGLING_CACHE}."):
        pruned = open_engine().prune_builds(all=every, filters=filters)
        _show(_DELETED_CACHE, [removal.name for removal in pruned.deleted])
        _total(pruned)


@click.command(cls=Command)
@click.option("-a", "--all", "every", is_flag=True, help="Also images with a name that no container uses.")
@click.option("--volumes", is_flag=True, help="Also volumes without a name that no container uses.")
@_pruning
def prune_system(every: bool, volumes: bool, force: bool, filters: Mapping[str, Sequence[str]]) -> None:  # noqa: FBT001
    """Remove everything that nobody needs: containers, images, build cache."""
    if volumes and "until" in filters:
        raise InvalidInput(
            'The "until" filter is not supported with "--volumes"', hint="volumes have no time; prune them on their own"
        )
    kinds = [_CONTAINERS, *([_VOLUMES] if volumes else []), _ALL_IMAGES if every else _DANGLING]
    with_cache = filters.keys() <= {"until"}  # build cache has no labels
    kinds += [_CACHE if every else _DANGLING_CACHE] if with_cache else []
    if not force and not _confirmed("This will remove:\n" + "".join(f"  - {kind}\n" for kind in kinds)):
        return
    engine = open_engine()
    done = [engine.containers.prune(filters)]
    _show("Deleted Containers", [removal.name for removal in done[0].deleted])
    if volumes:
        done.append(engine.volumes.prune())
        _show("Deleted Volumes", [removal.name for removal in done[1].deleted])
    done.append(engine.images.prune({"dangling": not every, **filters}))
    _show("Deleted Images", _image_lines(done[-1]))
    if with_cache:
        done.append(engine.prune_builds(all=every, filters=filters))
        _show(_DELETED_CACHE, [removal.name for removal in done[-1].deleted])
    _total(*done)


def _confirmed(warning: str) -> bool:
    click.echo(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ", nl=False)
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("y", "yes")


def _filters(conditions: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise InvalidInput(f"invalid argument {condition!r}: bad format of filter", hint="write NAME=VALUE")
        found.setdefault(name, []).append(value)
    return found


def _image_lines(pruned: Pruned) -> list[str]:
    return [f"{removal.action.lower()}: {removal.name}" for removal in pruned.deleted]


def _show(heading: str, lines: Sequence[str]) -> None:
    if lines:
        click.echo(f"{heading}:\n" + "".join(f"{line}\n" for line in lines))


def _total(*pruned: Pruned) -> None:
    click.echo(f"Total reclaimed space: {human_precise(sum(one.space_reclaimed for one in pruned))}")


# ---- df ----------------------------------------------------------------------------------------


@click.command(cls=Command)
@click.option("-v", "--verbose", is_flag=True, help="Each image, container and volume.")
def df(verbose: bool) -> None:  # noqa: FBT001
    """Show what takes how much space."""
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
    click.echo(tables.render(["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"], rows))


def _row(kind: str, total: int, active: int, size: int, reclaimable: int) -> tuple[str, ...]:
    share = f" ({reclaimable * 100 // size}%)" if size else ""
    return kind, str(total), str(active), human_precise(size), human_precise(reclaimable) + share


def _details(usage: DiskUsage) -> None:
    click.echo("Images space usage:\n")
    images = []
    for one in usage.images:
        names = [(name.repository, name.tag or "<none>") for name in map(parse, one.image.tags)]
        sizes = human(one.size), human_precise(one.shared), human_precise(one.size - one.shared), str(one.containers)
        when = tables.created(one.image.config.created)
        images += [(*name, tables.short_id(one.image.id), when, *sizes) for name in names or [("<none>", "<none>")]]
    columns = "REPOSITORY,TAG,IMAGE ID,CREATED,SIZE,SHARED SIZE,UNIQUE SIZE,CONTAINERS"
    click.echo(tables.render(columns.split(","), images))
    click.echo("\nContainers space usage:\n")
    containers = [_container_row(one.container.record, one.size) for one in usage.containers]
    columns = "CONTAINER ID,IMAGE,COMMAND,LOCAL VOLUMES,SIZE,CREATED,STATUS,NAMES"
    click.echo(tables.render(columns.split(","), containers))
    click.echo("\nLocal Volumes space usage:\n")
    volumes = [(one.volume.name, str(one.links), human_precise(one.size)) for one in usage.volumes]
    click.echo(tables.render(["VOLUME NAME", "LINKS", "SIZE"], volumes))
    click.echo(f"\nBuild cache usage: {human_precise(usage.build_cache_size)}\n")
    cache = [
        (
            tables.short_id(one.id),
            one.kind,
            human_precise(one.size),
            tables.created(one.when),
            str(one.active).lower(),
            str(one.shared).lower(),
        )
        for one in usage.build_cache
    ]
    click.echo(tables.render(["CACHE ID", "CACHE TYPE", "SIZE", "LAST USED", "ACTIVE", "SHARED"], cache))


def _container_row(record: Any, size: int) -> tuple[str, ...]:
    status = tables.status(
        record.state, exit_code=record.exit_code, started_at=record.started_at, finished_at=record.finished_at
    )
    return (
        record.short_id,
        str(record.config.get("Image")),
        tables.command([record.path, *record.args]),
        str(sum(mount["Type"] == "volume" for mount in record.mounts)),
        human_precise(size),
        tables.created(record.created),
        status,
        record.name,
    )
