"""The records of writable layers, layerdb/mounts/<container id>/: which directories a container has, and what is below.

The three files prove each other: init-id is mount-id with "-init", the directories exist and no other container has
them, and the layer below the init layer is the one that parent names, which is the top of the container's image.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pylab_container.errors import CorruptStore, LabError
from pylab_container.host.removal import discard_below
from pylab_container.maintenance.fsck.report import Report, replace_file, set_aside
from pylab_container.maintenance.fsck.salvage import salvage
from pylab_container.oci.ids import ContainerId, Digest, EntryName, MountId, ShortName
from pylab_container.store.init_layer import fill_init_layer
from pylab_container.store.reading import peek, read_bytes

if TYPE_CHECKING:
    from pylab_container.engine import Engine


def check_mounts(engine: Engine, report: Report) -> None:
    """Check every container's record of its layer, before what looks ownerless is removed."""
    for container_id in sorted(engine.data.records.ids()):
        if engine.data.records.exists(container_id) and _is_ours(engine, container_id):
            _check_directories(engine, report, container_id)
            _check_parent(engine, report, container_id)


def _is_ours(engine: Engine, container_id: ContainerId) -> bool:
    """Whether a container is on this storage driver; one whose record cannot be read is, if it has a layer here."""
    try:
        record = engine.data.records.load(container_id)
    except CorruptStore:
        return container_id in engine.data.layers.mounts()
    return record is not None and record.driver == engine.data.driver.name


def _check_directories(engine: Engine, report: Report, container_id: ContainerId) -> None:
    directory = engine.data.layers.root / "mounts" / container_id
    name = f"the container {_name(engine, container_id)}"
    names = [peek(directory / file).strip() for file in ("mount-id", "init-id")]
    mount_id = MountId.match(names[0])
    if mount_id and names[1] == mount_id.init and mount_id not in _claimed(engine, without=container_id):
        return
    found = _find_pair(engine, container_id, names)
    if found:
        sentence = f"{name} does not say in {directory.name[:12]} which directories it has; repair finds them"
        report.add("container", sentence, _damaged(directory, found), partial(_write_ids, directory, found))
    elif _is_lost(engine):
        sentence = f"{name} has lost its writable layer; repair gives it a new, empty one"
        report.add("container", sentence, directory, partial(_new_layer, engine, container_id))
    else:
        sentence = f"{name} does not say which directories it has, and several may be its own"
        sentence = f"{sentence}; write the right id into mount-id, and with -init into init-id"
        report.add("container", sentence, directory)


def _damaged(directory: Path, found: MountId) -> Path:
    """The first file of a record that does not say what it should."""
    return directory / ("mount-id" if peek(directory / "mount-id").strip() != found else "init-id")


def _find_pair(engine: Engine, container_id: ContainerId, names: list[str]) -> MountId | None:
    """The directory of a container's layer: one that its record names half, else the only one that has no owner."""
    free = [one for one in _pairs(engine) if one not in _claimed(engine, without=container_id)]
    image = _chain_of_image(engine, container_id)
    free = [one for one in free if image is None or _chain_below(engine, one) in (None, image)]
    named = [one for one in free if one in names or one.init in names]
    if len(named) == 1:
        return named[0]
    others = [one for one in engine.data.records.ids() if one != container_id and _is_uncertain(engine, one)]
    return free[0] if len(free) == 1 and not named and not others else None


def _is_uncertain(engine: Engine, container_id: ContainerId) -> bool:
    try:
        engine.data.layers.writable(container_id)
    except CorruptStore:
        return _is_ours(engine, container_id)
    return False


def _is_lost(engine: Engine) -> bool:
    """Whether every pair of directories has an owner, so that a container without one has lost its own."""
    return not set(_pairs(engine)) - _claimed(engine)


def _pairs(engine: Engine) -> Iterator[MountId]:
    """The layers of containers among the driver's directories: each has an init layer."""
    present = set(engine.data.driver.cache_ids())
    yield from (one for one in map(MountId.match, sorted(present)) if one and one.init in present)


def _claimed(engine: Engine, *, without: ContainerId | None = None) -> set[str]:
    """The directories that records which are whole name."""
    return {one.mount_id for one in engine.data.layers.writable_layers() if one.container_id != without}


def _write_ids(directory: Path, mount_id: MountId) -> None:
    directory.mkdir(exist_ok=True)
    for name, wanted in (("mount-id", mount_id), ("init-id", mount_id.init)):
        if peek(directory / name).strip() != wanted:
            replace_file(directory / name, wanted)


def _new_layer(engine: Engine, container_id: ContainerId) -> None:
    """An empty layer; what was left of the old record is kept beside the new one."""
    directory = engine.data.layers.root / "mounts" / container_id
    kept = {name: text for name in ("mount-id", "init-id", "parent") if (text := _kept(directory / name))}
    chain = _chain_of_image(engine, container_id) or ""
    discard_below(directory.parent, container_id)
    discard_below(engine.data.layers.root / "tmp", EntryName(f"mount-{container_id}"))
    engine.data.layers.create_writable(container_id, chain, fill_init_layer)
    for name, content in kept.items():
        (directory / f"{name}.damaged").write_bytes(content)


def _check_parent(engine: Engine, report: Report, container_id: ContainerId) -> None:
    """parent, the image and the layer below the init layer must agree; two of them overrule the third."""
    path = engine.data.layers.root / "mounts" / container_id / "parent"
    mount_id = MountId.match(peek(path.parent / "mount-id").strip())
    if mount_id is None:
        return
    said, image, below = peek(path).strip(), _chain_of_image(engine, container_id), _chain_below(engine, mount_id)
    wanted = image if image is not None else below
    if said == wanted or wanted is None or (Digest.match(said) and below != wanted):
        if wanted is None and said and not Digest.match(said):
            sentence = f"the container {_name(engine, container_id)} does not name the layer below it"
            sentence = f"{sentence}; take its files out of the driver's directory, and remove it with rm -f"
            report.add("container", sentence, path)
        return
    sentence = f"the container {_name(engine, container_id)} does not name in parent the layer below it"
    report.add("container", sentence, path, partial(_write_parent, path, wanted))


def _write_parent(path: Path, chain: str) -> None:
    set_aside(path)
    if chain:
        path.write_text(chain)


def _chain_of_image(engine: Engine, container_id: ContainerId) -> str | None:
    """The chain id of the image that a container was made of; None if it is unknown now."""
    try:
        record = engine.data.records.load(container_id)
        image_id = record.image if record else None
    except CorruptStore:  # perhaps in another place
        path = engine.data.records.directory(container_id) / "config.v2.json"
        image_id = salvage(path, {"Image": None}, lambda found: Digest(found["Image"]), fields=["Image"])["Image"]
    with contextlib.suppress(LabError):
        if image_id is not None:
            return engine.images.config(image_id).chain_id if image_id else ""
    return None


def _chain_below(engine: Engine, mount_id: MountId) -> str | None:
    """The chain id of the layer below a container's init layer, as the driver's own files name it."""
    directory = engine.data.driver.root / mount_id.init
    if engine.data.driver.name == "overlay2":
        link = ShortName.match(peek(directory / "lower").partition(":")[0].removeprefix("l/"))
        try:
            below = os.readlink(engine.data.driver.root / "l" / link) if link else ""
        except OSError:
            return None
        cache_id = below.removeprefix("../").removesuffix("/diff")
    else:
        cache_id = peek(directory / "lower-id").strip()
    for chain in engine.data.layers.chains():
        with contextlib.suppress(CorruptStore):
            if cache_id and engine.data.layers.get(chain).cache_id == cache_id:
                return chain
    return None


def _name(engine: Engine, container_id: ContainerId) -> str:
    try:
        record = engine.data.records.load(container_id)
    except CorruptStore:
        record = None
    return record.name if record else container_id[:12]


def _kept(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except (CorruptStore, OSError):
        return b""
