"""What takes space, and freeing it: system df, system prune, image prune, container prune."""

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
@click.option("-a", "--all", "every", is_flag=True, help="Also images with a name that no container uses.")
@click.option("--volumes", is_flag=True, help="Also volumes without a name that no container uses.")
@_pruning
def prune_system(every: bool, volumes: bool, force: bool, filters: Mapping[str, Sequence[str]]) -> None:  # noqa: FBT001
    """Remove everything that nobody needs."""
    if volumes and "until" in filters:
        raise InvalidInput(
            'The "until" filter is not supported with "--volumes"', hint="volumes have no time; prune them on their own"
        )
    kinds = [_CONTAINERS, *([_VOLUMES] if volumes else []), _ALL_IMAGES if every else _DANGLING]
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
