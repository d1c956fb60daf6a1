"""The records of writable layers: layerdb/mounts/<container id>/.

A record names a container's directories, and the layer below them.

The files of a record are redundant, so one that is damaged can be restored from the others: init-id is mount-id with
"-init"; the directories exist, and no other container has them; the layer below the init layer is the one that parent
names, and the top layer of the container's image.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pylab_container.errors import CorruptStore, LabError
from pylab_container.host.removal import discard_below
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.maintenance.fsck.salvage import salvage
from pylab_container.oci.ids import ContainerId, Digest, EntryName, MountId, ShortName
from pylab_container.store.data_root import DataRoot
from pylab_container.store.init_layer import fill_init_layer
from pylab_container.store.reading import peek, read_bytes


def check_mounts(data: DataRoot, report: Report) -> None:
    """Check the record of every container's layer.

    This precedes the removal of directories that seem to be orphans.
    """
    for container_id in sorted(data.records.ids()):
        if data.records.exists(container_id) and _is_on_this_driver(data, container_id):
            _check_directories(data, report, container_id)
            _check_parent(data, report, container_id)


def _is_on_this_driver(data: DataRoot, container_id: ContainerId) -> bool:
    """Return whether a container uses the driver; with a damaged record, whether it has a layer there."""
    try:
        record = data.records.load(container_id)
    except CorruptStore:
        return container_id in data.layers.mounts()
    return record is not None and record.driver == data.driver.name


# -- mount-id and init-id ------------------------------------------------------------------------


def _check_directories(data: DataRoot, report: Report, container_id: ContainerId) -> None:
    directory = data.layers.root / "mounts" / container_id
    name = f"the container {_name(data, container_id)}"
    recorded = [peek(directory / file).strip() for file in ("mount-id", "init-id")]
    mount_id = MountId.match(recorded[0])
    if mount_id and recorded[1] == mount_id.init and mount_id not in _mount_ids(data, without=container_id):
        return
    if right := _find_mount_id(data, container_id, recorded):
        sentence = f"{name} does not say in {directory.name[:12]} which directories it has; repair finds them"
        report.add("container", sentence, _damaged_file(directory, right), partial(_write_ids, directory, right))
    elif _has_no_orphans(data):
        sentence = f"{name} has lost its writable layer; repair gives it a new, empty one"
        report.add("container", sentence, directory, partial(_create_layer, data, container_id))
    else:
        sentence = f"{name} does not say which directories it has, and several may be its own"
        sentence = f"{sentence}; write the right id into mount-id, and with -init into init-id"
        report.add("container", sentence, directory)


def _damaged_file(directory: Path, mount_id: MountId) -> Path:
    """Return the first file of a record that does not agree with mount_id."""
    return directory / ("mount-id" if peek(directory / "mount-id").strip() != mount_id else "init-id")


def _find_mount_id(data: DataRoot, container_id: ContainerId, recorded: list[str]) -> MountId | None:
    """Return a container's mount id: one that mount-id or init-id names, else the only one without an owner."""
    orphans = [mount_id for mount_id in _pairs(data) if mount_id not in _mount_ids(data, without=container_id)]
    image = _chain_of_image(data, container_id)
    orphans = [mount_id for mount_id in orphans if image is None or _chain_below(data, mount_id) in (None, image)]
    named = [mount_id for mount_id in orphans if mount_id in recorded or mount_id.init in recorded]
    if len(named) == 1:
        return named[0]
    others = [other for other in data.records.ids() if other != container_id and _is_uncertain(data, other)]
    return orphans[0] if len(orphans) == 1 and not named and not others else None


def _is_uncertain(data: DataRoot, container_id: ContainerId) -> bool:
    """Return whether the record of a container's layer is damaged."""
    try:
        data.layers.writable(container_id)
    except CorruptStore:
        return _is_on_this_driver(data, container_id)
    return False


def _has_no_orphans(data: DataRoot) -> bool:
    """Return whether every pair of directories has an owner: then a container without one has lost its own."""
    return not set(_pairs(data)) - _mount_ids(data)


def _pairs(data: DataRoot) -> Iterator[MountId]:
    """Yield the driver's directories that belong to containers: those that have an init layer."""
    present = set(data.driver.cache_ids())
    mount_ids = filter(None, map(MountId.match, sorted(present)))
    yield from (mount_id for mount_id in mount_ids if mount_id.init in present)


def _mount_ids(data: DataRoot, *, without: ContainerId | None = None) -> set[str]:
    """Return the mount ids in all intact records, except that of one container."""
    return {layer.mount_id for layer in data.layers.writable_layers() if layer.container_id != without}


def _write_ids(directory: Path, mount_id: MountId) -> None:
    directory.mkdir(exist_ok=True)
    for name, value in (("mount-id", mount_id), ("init-id", mount_id.init)):
        if peek(directory / name).strip() != value:
            replace_file(directory / name, value)


def _create_layer(data: DataRoot, container_id: ContainerId) -> None:
    """Create an empty writable layer. The files of the old record are kept beside the new ones as "<name>.damaged"."""
    directory = data.layers.root / "mounts" / container_id
    old = {name: content for name in ("mount-id", "init-id", "parent") if (content := _content(directory / name))}
    chain = _chain_of_image(data, container_id) or ""
    discard_below(directory.parent, container_id)
    discard_below(data.layers.root / "tmp", EntryName(f"mount-{container_id}"))
    data.layers.create_writable(container_id, chain, fill_init_layer)
    for name, content in old.items():
        (directory / f"{name}.damaged").write_bytes(content)


def _content(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except (CorruptStore, OSError):
        return b""


# -- parent --------------------------------------------------------------------------------------


def _check_parent(data: DataRoot, report: Report, container_id: ContainerId) -> None:
    """Check that parent, the image and the layer below the init layer agree; two equal ones overrule the third."""
    path = data.layers.root / "mounts" / container_id / "parent"
    mount_id = MountId.match(peek(path.parent / "mount-id").strip())
    if mount_id is None:
        return
    recorded, image, below = peek(path).strip(), _chain_of_image(data, container_id), _chain_below(data, mount_id)
    right = image if image is not None else below
    if right is None:
        if recorded and not Digest.match(recorded):
            sentence = f"the container {_name(data, container_id)} does not name the layer below it"
            sentence = f"{sentence}; take its files out of the driver's directory, and remove it with rm -f"
            report.add("container", sentence, path)
    elif recorded != right and not (Digest.match(recorded) and below != right):
        sentence = f"the container {_name(data, container_id)} does not name in parent the layer below it"
        report.add("container", sentence, path, partial(_write_parent, path, right))


def _write_parent(path: Path, chain: str) -> None:
    set_aside(path)
    if chain:
        path.write_text(chain)


def _chain_of_image(data: DataRoot, container_id: ContainerId) -> str | None:
    """Return the chain id of a container's image: "" for FROM scratch, None if it is unknown."""
    try:
        record = data.records.load(container_id)
        image_id = record.image if record else None
    except CorruptStore:  # the damage may be in another field
        path = data.records.directory(container_id) / "config.v2.json"
        image_id = salvage(path, {"Image": None}, lambda field: Digest(field["Image"]), fields=["Image"])["Image"]
    with contextlib.suppress(LabError, KeyError):
        if image_id is not None:
            return data.images.get(image_id).chain_id if image_id else ""
    return None


def _chain_below(data: DataRoot, mount_id: MountId) -> str | None:
    """Return the chain id of the layer below a container's init layer according to the driver; None if unknown."""
    directory = data.driver.root / mount_id.init
    if data.driver.name == "overlay2":
        link = ShortName.match(peek(directory / "lower").partition(":")[0].removeprefix("l/"))
        try:
            target = os.readlink(data.driver.root / "l" / link) if link else ""
        except OSError:
            return None
        cache_id = target.removeprefix("../").removesuffix("/diff")
    else:
        cache_id = peek(directory / "lower-id").strip()
    for chain in data.layers.chains():
        with contextlib.suppress(CorruptStore):
            if cache_id and data.layers.get(chain).cache_id == cache_id:
                return chain
    return None


def _name(data: DataRoot, container_id: ContainerId) -> str:
    try:
        record = data.records.load(container_id)
    except CorruptStore:
        record = None
    return record.name if record else container_id[:12]
